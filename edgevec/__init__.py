"""Vector search that goes wherever Python goes: one C core, SIMD chosen at run time, from servers to the browser."""

from __future__ import annotations

import importlib
import importlib.util
import os
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

from edgevec import samples
from edgevec._native import SimdInfo, simd_info, version
from edgevec._types import CheckReport, KeepVectors, Metric, Progress, Quantization, SearchResult, SearchStats
from edgevec.calibration import Calibration
from edgevec.errors import *  # noqa: F403
from edgevec.errors import SimdError, SimdWarning
from edgevec.errors import __all__ as _errors
from edgevec.evaluation import recall
from edgevec.index import IdFilter, Index, SearchContext
from edgevec.readers import Dataset, read_vectors

if TYPE_CHECKING:
    from edgevec.collection import Collection, Hit, Hits, Record
    from edgevec.collection import open as open

__version__ = version()
# Not open(): `from edgevec import *` must leave the builtin of that name alone.
__all__ = [
    "Calibration",
    "CheckReport",
    "Collection",
    "Dataset",
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
    "__version__",
    "read_vectors",
    "recall",
    "samples",
    "simd_info",
]
__all__ += _errors


_OF_COLLECTIONS = ("Collection", "Hit", "Hits", "Record", "open")


def __getattr__(name: str) -> Any:
    """Collections come with the first use of one: Pyodide has SQLite as a package of its own."""
    if name not in _OF_COLLECTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("edgevec.collection"), name)


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
