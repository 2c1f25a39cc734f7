"""Ctrl-C where Python can raise nothing.

In a finalizer, the callback of a weak reference or a generator that is being closed, Python reports what is raised as
ignored, and goes on: Ctrl-C in that moment would end nothing.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time

__all__ = ["repeat_ignored"]

_SECONDS = 0.001
"""Between two attempts to raise it elsewhere."""


def repeat_ignored() -> None:
    """Raise KeyboardInterrupt once more, a moment later, each time that Python has ignored it."""
    report = sys.unraisablehook

    def hook(ignored: sys.UnraisableHookArgs) -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            # Not from here: it would be ignored again.
            _thread.start_new_thread(_interrupt, ())
        else:
            report(ignored)

    sys.unraisablehook = hook


def _interrupt() -> None:
    time.sleep(_SECONDS)
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:  # ends what the system does for the main thread, too
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
