"""A thread that lets the graph of a reader take in what lies beside it, a few milliseconds at a time."""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import time
import weakref
from collections.abc import Callable

from ..errors import ClosedError

__all__ = ["Follower"]

log = logging.getLogger("edgevec")

_SLICE_SECONDS = 0.002
"""Of processor time: so long searches wait for the graph."""
_FIRST_ROWS, _MAX_ROWS = 2, 256
"""Of a slice."""
_IDLE_SECONDS = 10.0
"""Without a search: then it ends, and whoever writes on does not keep this process busy."""
_END_SECONDS = 30.0
"""To wait for the end of a slice, at most."""

_all: weakref.WeakSet[Follower] = weakref.WeakSet()


class Follower:
    """At most one thread, there while it has something to do. It is no thread that Python would wait for.

    Started by a call that a signal may end at any line: that it runs is told by a lock that it holds itself.
    """

    def __init__(self, follow: Callable[[int], int]) -> None:
        """follow: let the graph take in so many rows; how many are left. A method, whose object is not kept alive."""
        self._follow = weakref.WeakMethod(follow)
        self._running = _thread.allocate_lock()
        self._ending = False
        self._asked = 0.0
        self._process = os.getpid()
        _all.add(self)

    def wake(self) -> None:
        """Somebody searches, and there is something to take in."""
        self._asked = time.monotonic()
        if not (self._ending or self._running.locked()):
            try:
                _thread.start_new_thread(self._run, ())
            except RuntimeError as error:  # no more threads, or Python is ending
                log.debug("the graph does not follow: %s", error)

    def end(self) -> None:
        """Let the thread end, and wait for that."""
        self._ending = True
        if self._process == os.getpid() and self._running.acquire(timeout=_END_SECONDS):
            self._running.release()

    def _run(self) -> None:
        if not self._running.acquire(blocking=False):
            return
        try:
            rows, pause = _FIRST_ROWS, 0.0
            while not self._ending and time.monotonic() - self._asked < _IDLE_SECONDS:
                follow = self._follow()
                if follow is None:
                    return
                began, used = time.monotonic(), time.thread_time()
                left = follow(rows)
                del follow  # nobody else may have it any longer
                used, pause = time.thread_time() - used, time.monotonic() - began
                if not left:
                    return
                rows = max(1, min(_MAX_ROWS, int(rows * min(2.0, _SLICE_SECONDS / max(used, 1e-6)))))
                time.sleep(min(pause, 20 * _SLICE_SECONDS))
        except ClosedError:
            pass
        except Exception as error:  # what is left lies beside the graph; the next search tries again
            log.debug("the graph has stopped following: %s", error)
        finally:
            self._running.release()


def _end_all() -> None:
    for follower in list(_all):
        follower.end()


atexit.register(_end_all)
