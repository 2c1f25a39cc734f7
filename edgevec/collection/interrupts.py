"""Ctrl-C in the midst of a statement of SQLite.

SQLite calls a handler every so many steps of a statement, and the exception of a signal (KeyboardInterrupt, as a rule)
can be raised there. Python's sqlite3 swallows what a handler raises. So the handler keeps it and lets the statement
fail; the statement's error is then raised as what was kept.
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Iterator

__all__ = ["raise_pending", "run", "watch"]

_STEPS = 50_000
"""Steps of SQLite's virtual machine between two calls: some milliseconds."""
_POLL_SECONDS = 0.05

_pending = threading.local()


def watch(connection: sqlite3.Connection) -> None:
    """Let signals be seen while the connection executes a long statement."""
    # The method of a generator, which is resumed inside its `try`: a function would raise before it gets there.
    handler = _handler()
    next(handler)
    connection.set_progress_handler(handler.__next__, _STEPS)


def _handler() -> Iterator[int]:
    stop = 0
    while True:
        try:
            while True:
                yield stop
                stop = 0
        except GeneratorExit:
            raise
        except BaseException as error:
            _pending.error = error
            stop = 1


def raise_pending() -> None:
    """Raise what a handler has kept in this thread, if anything: the cause of a statement that was interrupted."""
    error = getattr(_pending, "error", None)
    if error is not None:
        _pending.error = None
        raise error


def run(connection: sqlite3.Connection, sql: str) -> list[tuple[int, ...]]:
    """The result of a statement that works in one step, such as a checkpoint, where no handler is called.

    In the main thread, which sees signals, it runs in another thread, and is interrupted when one of them raises.
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "emscripten":
        return connection.execute(sql).fetchall()
    result: list[tuple[int, ...]] = []
    errors: list[BaseException] = []
    done = threading.Event()  # Thread.join() takes a thread for ended once a signal has raised in it (CPython 3.11)

    def work() -> None:
        try:
            result.extend(connection.execute(sql))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="edgevec-statement").start()
    signaled = None
    while True:
        try:
            while not done.wait(_POLL_SECONDS):
                pass
            break
        except BaseException as error:
            signaled = error
            connection.interrupt()
    if signaled is not None:
        raise signaled
    if errors:
        raise errors[0]
    return result
