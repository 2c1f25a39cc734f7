"""Vector search that goes wherever Python goes: one C core, SIMD chosen at run time, from servers to the browser."""

from __future__ import annotations

import warnings

from edgevec import samples
from edgevec._native import SimdInfo, simd_info, version
from edgevec.errors import *  # noqa: F403
from edgevec.errors import SimdError, SimdWarning
from edgevec.errors import __all__ as _errors
from edgevec.index import (
    CheckReport,
    IdFilter,
    Index,
    SearchContext,
    SearchResult,
    SearchStats,
)
from edgevec.measure import recall
from edgevec.reading import Dataset, read_vectors

__version__ = version()
__all__ = [
    "CheckReport",
    "Dataset",
    "IdFilter",
    "Index",
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
