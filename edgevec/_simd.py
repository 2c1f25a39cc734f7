"""The version of the C core, and the instruction sets that its kernels run on. Without NumPy."""

from __future__ import annotations

from typing import NamedTuple

import edgevec._core as _core
from edgevec import errors

__all__ = ["SimdInfo", "simd_info", "text", "version"]

ffi, lib = _core.ffi, _core.lib


def text(chars: _core.CData) -> str:
    return ffi.string(chars).decode("utf-8", "replace")


def version() -> str:
    return text(lib.ev_version())


class SimdInfo(NamedTuple):
    """The instruction sets that the kernels run on: see simd_info().

    Example:
        >>> import edgevec
        >>> active, available, compiled, forced = edgevec.simd_info()
        >>> set(available) <= set(compiled)
        True
    """

    active: str
    """The one in use: "scalar", "avx2", "avx512", "neon" or "wasm128"."""
    available: tuple[str, ...]
    """Those that this machine can run."""
    compiled: tuple[str, ...]
    """Those that this build holds."""
    forced: str | None
    """What EDGEVEC_SIMD asked for, or None."""


def simd_info() -> SimdInfo:
    """Which SIMD path is in use and which there are.

    Raises:
        SimdError: EDGEVEC_SIMD names one that is unavailable

    Example:
        >>> import edgevec
        >>> info = edgevec.simd_info()
        >>> info.active in info.available
        True
    """
    available, compiled = (tuple(text(f()).split()) for f in (lib.ev_simd_available, lib.ev_simd_compiled))
    forced = text(lib.ev_simd_forced()) or None
    active = lib.ev_simd_active()
    if active == ffi.NULL:
        raise errors.SimdError(f"EDGEVEC_SIMD={forced}, but this machine and build offer: {', '.join(available)}")
    return SimdInfo(text(active), available, compiled, forced)
