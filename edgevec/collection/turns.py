"""A lock for many readers or one writer; a waiting writer goes before new readers."""

from __future__ import annotations

import threading

__all__ = ["Turns"]


class Turns:
    """Not reentrant: a thread that reads must not ask again before it is done."""

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
