"""The only module that sees the C library: buffers in, return codes checked, progress and Ctrl-C carried across."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy.typing as npt

from edgevec import _core, errors

__all__ = ["Progress", "SimdInfo", "allocates", "bridge", "check", "ffi", "lib", "pointer", "simd_info", "version"]

ffi: Any = _core.ffi
lib: Any = _core.lib

Progress = Callable[[int, int], object]
"""Called now and then as progress(done, total); returning False stops the call."""

_ERRORS: dict[int, type[errors.EdgevecError]] = {
    lib.EV_E_PARAM: errors.ParameterError,
    lib.EV_E_NOT_FINITE: errors.NotFiniteError,
    lib.EV_E_ZERO: errors.ZeroVectorError,
    lib.EV_E_DUPLICATE: errors.DuplicateIdError,
    lib.EV_E_NO_ID: errors.UnknownIdError,
    lib.EV_E_NO_VECTORS: errors.NoVectorsError,
    lib.EV_E_NOMEM: errors.OutOfMemoryError,
    lib.EV_E_FULL: errors.OutOfMemoryError,
    lib.EV_E_SIMD: errors.SimdError,
    lib.EV_E_IO: errors.StorageError,
    lib.EV_E_CORRUPT: errors.CorruptIndexError,
    lib.EV_E_VERSION: errors.FormatVersionError,
    lib.EV_E_NOT_FOUND: errors.IndexNotFoundError,
    lib.EV_E_REENTRANT: errors.BusyError,
    lib.EV_E_BUSY: errors.BusyError,
}
_OF_FILES = (errors.StorageError, errors.IndexNotFoundError)


def _text(chars: Any) -> str:
    return str(ffi.string(chars).decode("utf-8", "replace"))


def check(code: int, path: str | os.PathLike[str] | None = None) -> None:
    """Raise what a return code stands for; path: the file that the call was about."""
    if code == 0:
        return
    kind = _ERRORS.get(code, errors.EdgevecError)
    parts = ("" if path is None else str(path), _text(lib.ev_strerror(code)), _text(lib.ev_error_detail()))
    message = ": ".join(part for part in parts if part)
    # under no name: an error that its own frame holds would keep the caller's buffers exported
    if issubclass(kind, _OF_FILES):
        raise errors.about_file(kind(message), path, int(lib.ev_error_errno()) or None)
    raise kind(message)


_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


def allocates(call: Callable[_Given, _Returned]) -> Callable[_Given, _Returned]:
    """A call that makes arrays: what NumPy, cffi and Python raise for want of memory is an OutOfMemoryError too."""

    @functools.wraps(call)
    def checked(*args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
        try:
            return call(*args, **kwargs)
        except MemoryError as error:
            if isinstance(error, errors.EdgevecError):
                raise
            raise errors.OutOfMemoryError(f"{call.__name__}: {error or 'out of memory'}") from error

    return checked


def pointer(array: npt.NDArray[Any], kind: str) -> Any:
    """A C pointer into an array's own memory; the array must outlive its use."""
    return ffi.from_buffer(kind, array)


def version() -> str:
    return _text(lib.ev_version())


class SimdInfo(NamedTuple):
    """The instruction sets that the kernels run on."""

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

    SimdError when EDGEVEC_SIMD asks for one that is not to be had.
    """
    available, compiled = (tuple(_text(f()).split()) for f in (lib.ev_simd_available, lib.ev_simd_compiled))
    forced = _text(lib.ev_simd_forced()) or None
    active = lib.ev_simd_active()
    if active == ffi.NULL:
        raise errors.SimdError(f"EDGEVEC_SIMD={forced}, but this machine and build offer: {', '.join(available)}")
    return SimdInfo(_text(active), available, compiled, forced)


_raised = threading.local()
"""What a progress callback raised on this thread (KeyboardInterrupt too), until the C call has come back."""


def _remember(kind: object, error: BaseException, traceback: object) -> None:
    _raised.error = error


@ffi.def_extern(error=0, onerror=_remember)  # type: ignore[untyped-decorator]
def ev__progress_py(user: Any, done: int, total: int) -> int:
    callback = ffi.from_handle(user)
    return 0 if callback is not None and callback(done, total) is False else 1


@contextmanager
def bridge(callback: Progress | None) -> Iterator[tuple[Any, Any]]:
    """The C callback and its argument for a long call.

    Also with no callback of the user's: Python gets to see Ctrl-C ten times a second. What is raised inside is raised
    here.
    """
    handle = ffi.new_handle(callback)
    _raised.error = None
    yield lib.ev__progress_py, handle
    error, _raised.error = _raised.error, None
    if error is not None:
        raise error
