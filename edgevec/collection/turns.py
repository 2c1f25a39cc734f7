"""A lock for many readers or one writer, and the threads that are in a progress function of who holds it."""

from __future__ import annotations

import threading

from .._native import Progress
from ..errors import BusyError

__all__ = ["Callbacks", "Turns"]


class Callbacks:
    """A thread in a progress function has the turn already, or the open batch, and must not wait for another."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def telling(self, progress: Progress | None) -> Progress | None:
        """The same function, known to be running while it runs."""
        if progress is None:
            return None

        def tell(done: int, total: int) -> object:
            thread = threading.get_ident()
            self._threads.add(thread)
            try:
                return progress(done, total)
            finally:
                self._threads.discard(thread)

        return tell

    def running(self) -> bool:
        """In the calling thread."""
        return bool(self._threads) and threading.get_ident() in self._threads

    def refuse(self) -> None:
        """BusyError in a progress function: what it is called for has the graph, and is not done."""
        if self.running():
            raise BusyError("a progress function may read records, but not search by vector, write or maintain")


class Turns:
    """Many readers or one writer; a waiting writer goes before new readers.

    Not reentrant: a thread that reads must not ask again before it is done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._readers = 0
        self._waiting = 0
        self._writing = False

    def begin_read(self) -> None:
        with self._lock:
            while self._writing or self._waiting:
                self._changed.wait()
            self._readers += 1

    def end_read(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._waiting and not self._readers:
                self._changed.notify_all()

    def begin_write(self) -> None:
        with self._lock:
            self._waiting += 1
            try:
                while self._writing or self._readers:
                    self._changed.wait()
                self._writing = True
            finally:
                self._waiting -= 1
                if not self._writing:  # interrupted while waiting
                    self._changed.notify_all()

    def end_write(self) -> None:
        with self._lock:
            self._writing = False
            self._changed.notify_all()
