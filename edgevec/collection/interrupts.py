"""Ctrl-C in the midst of a statement of SQLite.

SQLite calls a handler every so many steps of a statement, and the exception of a signal (KeyboardInterrupt, as a rule)
can be raised there. Python's sqlite3 swallows what a handler raises. So the handler keeps it and lets the statement
fail; the statement's error is then raised as what was kept.
"""

from __future__ import annotations

import _thread
import sqlite3
import sys
import threading
from collections.abc import Iterator
from functools import partial

from ..kept_error import KeptError

__all__ = ["raised", "run", "watch"]

_STEPS = 50_000
"""Steps of SQLite's virtual machine between two calls: some milliseconds."""
_POLL_SECONDS = 0.05

raised = KeptError()
"""What a handler raised: the cause of a statement that was interrupted."""


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
            raised.keep(error)
            stop = 1


def run(connection: sqlite3.Connection, sql: str) -> list[tuple[int, ...]]:
    """The result of a statement that works in one step, such as a checkpoint, where no handler is called.

    In the main thread, which sees signals, it runs in another thread, and is interrupted when one of them raises.
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "emscripten":
        return connection.execute(sql).fetchall()
    result: list[tuple[int, ...]] = []
    errors: list[BaseException] = []
    ended: list[bool] = []
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            result.extend(connection.execute(sql))
        except BaseException as error:
            errors.append(error)
        finally:
            ended.append(True)
            done.release()

    # A signal may raise between any two lines, but not within what C does: whether the thread runs, and whether it has
    # ended, is known at each of them. Not so of Thread.start() and Event.wait(), which are Python.
    threads: list[int] = []
    signals: list[BaseException] = []
    while True:
        try:
            if not signals:
                threads.extend(map(_thread.start_new_thread, [work], [()]))
            # Not `while not`: in CPython 3.13 the jump back of such a loop is outside its `try`.
            for _ in iter(partial(done.acquire, True, _POLL_SECONDS), True):
                pass
            break
        except BaseException as error:
            signals.append(error)
            if ended or not threads:
                break
            connection.interrupt()
    if ends := signals or errors:
        raise ends.pop()
    return result
