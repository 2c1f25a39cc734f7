"""Callbacks from the C core into Python: progress and Ctrl-C. Without NumPy: signals are heard once it is imported."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import edgevec._core as _core
from edgevec.kept_error import KeptError
from edgevec.progress import says_stop

if TYPE_CHECKING:
    from edgevec._types import Progress

__all__ = ["bridge", "ensure_heard", "raised"]

ffi, lib = _core.ffi, _core.lib

raised = KeptError()
"""What a callback raised (KeyboardInterrupt too), until the C call has come back."""


def _keep(kind: object, error: BaseException, traceback: object) -> None:
    raised.keep(error)


@ffi.def_extern(error=0, onerror=_keep)
def ev__progress_py(user: _core.CData, done: int, total: int) -> int:
    return 0 if says_stop(ffi.from_handle(user)(done, total)) else 1


@ffi.def_extern(error=0, onerror=_keep)
def ev__interrupt_py(user: _core.CData) -> int:
    """Called by the main thread's calls while they run long: on the way in, Python runs the handlers of signals."""
    return 1


def hear_signals() -> None:
    """Let the calls of the main thread ask whether there was Ctrl-C; signals are for no other."""
    global _are_heard
    if threading.current_thread() is threading.main_thread():
        lib.ev_set_interrupt(lib.ev__interrupt_py, ffi.NULL)
        _are_heard = True


def ensure_heard() -> None:
    """As hear_signals(), where another thread has imported the package."""
    if not _are_heard:
        hear_signals()


_are_heard = False
hear_signals()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=hear_signals)  # the thread that forked is the main one there


@contextmanager
def bridge(callback: Progress | None) -> Iterator[tuple[_core.CData, _core.CData]]:
    """The C callback and its argument for a call that tells of its progress.

    What the callback raises, and a signal's handler where it came too late to stop the call, is raised here.
    """
    if callback is None:
        yield ffi.NULL, ffi.NULL
    else:
        handle = ffi.new_handle(callback)
        yield lib.ev__progress_py, handle
    raised.reraise()
