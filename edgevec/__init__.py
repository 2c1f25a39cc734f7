"""Vector search that goes wherever Python goes: one C core, SIMD chosen at run time, from servers to the browser."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

try:
    from edgevec import _core as _core
except ImportError as error:
    if importlib.util.find_spec("edgevec._core") is not None:  # there, and it says itself why it cannot be loaded
        raise
    raise ImportError(
        f"the C core of edgevec is not built in {os.path.dirname(os.path.abspath(__file__))}: a source tree is "
        "imported. Run `pip install .` (or `pip install -e .` to work on it), or start Python in another folder.",
        name="edgevec._core",
    ) from error

from edgevec import _callbacks as _callbacks
from edgevec._simd import SimdInfo, simd_info, version
from edgevec.errors import *  # noqa: F403
from edgevec.errors import SimdError, SimdWarning
from edgevec.errors import __all__ as _errors

if TYPE_CHECKING:
    from edgevec import samples
    from edgevec._types import (
        CheckReport,
        KeepVectors,
        Metric,
        Progress,
        Quantization,
        SearchResult,
        SearchStats,
        Storage,
    )
    from edgevec.calibration import Calibration
    from edgevec.collection import Collection, Hit, Hits, Record
    from edgevec.collection import open as open
    from edgevec.disk_index import DiskIndex
    from edgevec.evaluation import recall
    from edgevec.index import IdFilter, Index, SearchContext
    from edgevec.readers import Dataset, read_vectors
    from edgevec.sharded import ShardedIndex
    from edgevec.sharded_collection import ShardedCollection

__version__ = version()
# Not open(): `from edgevec import *` must leave the builtin of that name alone.
__all__ = [
    "Calibration",
    "CheckReport",
    "Collection",
    "Dataset",
    "DiskIndex",
    "Hit",
    "Hits",
    "IdFilter",
    "Index",
    "KeepVectors",
    "Metric",
    "Progress",
    "Quantization",
    "Record",
    "SearchContext",
    "SearchResult",
    "SearchStats",
    "SimdInfo",
    "Storage",
    "__version__",
    "read_vectors",
    "recall",
    "samples",
    "simd_info",
]
__all__ += _errors

_PLACES: dict[str, tuple[str, ...]] = {
    "_types": (
        "CheckReport",
        "KeepVectors",
        "Metric",
        "Progress",
        "Quantization",
        "SearchResult",
        "SearchStats",
        "Storage",
    ),
    "calibration": ("Calibration",),
    "collection": ("Collection", "Hit", "Hits", "Record", "open"),
    "disk_index": ("DiskIndex",),
    "evaluation": ("recall",),
    "index": ("IdFilter", "Index", "SearchContext"),
    "readers": ("Dataset", "read_vectors"),
}
"""Names by their module, which is imported when one of them is first used: NumPy comes with nearly all, and SQLite, in
Pyodide a package of its own, with collections."""
_MODULES = [
    "browser",
    "collection",
    "encoders",
    "evaluation",
    "file_kind",
    "files",
    "index",
    "plot",
    "printable",
    "readers",
    "samples",
]
if sys.platform != "emscripten":  # whose wheel goes without: there are no threads
    __all__ += ["ShardedCollection", "ShardedIndex"]
    _PLACES["sharded"] = ("ShardedIndex",)
    _PLACES["sharded_collection"] = ("ShardedCollection",)
    _MODULES += ["sharded", "sharded_collection"]
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"edgevec.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"edgevec.{_MODULE_OF[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULES})


def _warn_when_scalar() -> None:
    try:
        info = simd_info()
    except SimdError:
        return  # raised again, where it can be caught, by the first index
    if info.active == "scalar" and info.forced is None:
        warnings.warn(
            f"edgevec runs several times slower here: no SIMD path of this build ({', '.join(info.compiled)}) fits",
            SimdWarning,
            stacklevel=3,
        )


_warn_when_scalar()
