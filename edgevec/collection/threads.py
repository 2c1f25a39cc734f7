"""Threads that share a collection: the lock, progress functions, and which thread is in one."""

from __future__ import annotations

import sys
import threading
from threading import get_ident

from .._types import Progress
from ..errors import BusyError, CancelledError
from ..progress import says_stop

__all__ = ["ProgressGuard", "ReadWriteLock", "cancelling"]


_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
"""Python without the GIL, which does not say in what order other threads see what one has done without a lock."""


def cancelling(progress: Progress | None) -> Progress | None:
    """The function, which raises CancelledError where it would return False."""
    if progress is None:
        return None

    def call(done: int, total: int) -> None:
        if says_stop(progress(done, total)):
            raise CancelledError("stopped by its progress function: everything is as it was")

    return call


class ProgressGuard:
    """A thread in a progress function has the lock already, or the open batch, and must not wait for another."""

    def __init__(self) -> None:
        self._threads: set[int] = set()

    def is_used(self) -> bool:
        """Whether any thread is in a progress function."""
        return bool(self._threads)

    def wrap(self, progress: Progress | None) -> Progress | None:
        """As cancelling(), with its thread registered while it runs."""
        watched = cancelling(progress)
        if watched is None:
            return None

        def call(done: int, total: int) -> object:
            thread = threading.get_ident()
            self._threads.add(thread)
            try:
                return watched(done, total)
            finally:
                self._threads.discard(thread)

        return call

    def is_inside(self) -> bool:
        """Whether the calling thread is in a progress function."""
        return bool(self._threads) and threading.get_ident() in self._threads

    def check_outside(self) -> None:
        """BusyError in a progress function: the call that reports progress is using the graph."""
        if self.is_inside():
            raise BusyError("a progress function may read records, but not search by vector, write or maintain")


# Who holds what. The lock of the Snapshots is acquired before the Store's `_batch_lock`, and that before the
# ReadWriteLock:
#
# | state of the store              | _batch_lock | ReadWriteLock | SQLite                    | file lock     |
# |---------------------------------|-------------|---------------|---------------------------|---------------|
# | idle, open for writing          |             |               |                           | from open()   |
# | reading, n threads              |             | shared        | a read transaction each   |               |
# | batch open, by one thread       | held        |               | BEGIN IMMEDIATE           | from open()   |
# | the graph takes it in, hidden   | held        |               | the same                  | from open()   |
# |   it is committed               | held        |               | COMMIT                    | from open()   |
# |   the graph shows it            | held        | exclusive     | none                      | from open()   |
# |   and is mended                 | held        |               | none                      | from open()   |
# | a batch that searches itself    | held        | exclusive     | the same, then COMMIT     | from open()   |
# | maintenance                     | held        | exclusive     | none, or one of its own   | from open()   |
# | a snapshot is written           |             | frozen        | none                      | from open()   |
# |   and takes the old one's place | held        |               | a short one               | from open()   |
# | the log is copied back          | held        |               | none                      | from open()   |
# | a reader catches up             |             | exclusive     | a read transaction        |               |
# | its graph follows               |             | shared        | a read transaction        |               |
# | closing                         | held        | exclusive     | connections are closed    | released last |
#
# Others may read while a batch is open, and see what was committed before it. The thread of the batch reads through
# the batch's own connection and takes no lock. A thread in a progress function takes none either: it has them already.
#
# While a batch is committed, which is when the disk is waited for, readers begin with a transaction: it sees what was
# there before, as the graph does, or what is there now; then the first of them has the graph show what the batch
# brought, if its thread has not come to that. A batch whose own thread searches in it cannot be hidden: others wait
# from that search to its end. So they do where the graph has to be built first.
class ReadWriteLock:
    """Many readers or one writer; a waiting writer goes before new readers. While it is frozen nobody writes.

    A reader that meets no writer takes no turn at the lock inside: it registers first and looks for writers then, and
    who writes announces that first and looks for readers then.

    Not reentrant: a thread that holds it must not acquire it again. Who releases what it does not hold does nothing, so
    that a call that a signal has ended, at whatever line, can release to be sure; and what such a call has left behind
    does not stand in the way of its own thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._readers: set[int] = set()
        self._waiting = 0
        self._writer: int | None = None
        self._frozen_by: int | None = None

    def acquire_read(self) -> None:
        thread = get_ident()
        self._readers.add(thread)
        # In this order: a writer that waits sees this reader, or this reader sees it, first waiting and then writing.
        if self._waiting or self._writer is not None or _FREE_THREADED:
            self._acquire_read_in_turn(thread)

    def _acquire_read_in_turn(self, thread: int) -> None:
        with self._lock:
            self._leave(thread)
            while (self._writer is not None and self._writer != thread) or self._waiting:
                self._changed.wait()
            self._writer = None
            self._readers.add(thread)

    def release_read(self) -> None:
        self._readers.discard(get_ident())
        if self._waiting or _FREE_THREADED:
            with self._lock:
                self._leave(get_ident())

    def _leave(self, thread: int) -> None:
        """With the lock: no longer a reader."""
        self._readers.discard(thread)
        if self._waiting and not self._readers:
            self._changed.notify_all()

    def acquire_write(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._readers.discard(thread)
            while self._frozen_by is not None and self._frozen_by != thread:
                self._changed.wait()  # without holding up new readers
            self._waiting += 1
            try:
                while (self._writer is not None and self._writer != thread) or self._readers:
                    self._changed.wait()
                self._frozen_by, self._writer = None, thread
            finally:
                self._waiting -= 1
                if self._writer != thread:  # interrupted while waiting
                    self._changed.notify_all()

    def release_write(self) -> None:
        with self._lock:
            if self._writer == threading.get_ident():
                self._writer = None
                self._changed.notify_all()

    def freeze(self) -> None:
        """Keep writers out, without being in the way of readers."""
        thread = threading.get_ident()
        with self._lock:
            others = (None, thread)
            while self._writer not in others or self._frozen_by not in others or self._waiting:
                self._changed.wait()
            self._frozen_by = thread

    def unfreeze(self) -> None:
        with self._lock:
            if self._frozen_by == threading.get_ident():
                self._frozen_by = None
                self._changed.notify_all()
