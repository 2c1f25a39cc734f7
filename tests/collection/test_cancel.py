"""Stopping has one outcome: CancelledError from progress, or the exception of a signal, and everything as it was."""

from __future__ import annotations

import gc
import json
import os
import signal
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_worker import DIM, State, apply, commit, state_of
from support import examples

import edgevec
from edgevec.collection import Collection, ahead, interrupts

SIGNALS = int(os.environ.get("EDGEVEC_SIGNALS", examples(20)))
"""Signals for each call."""

needs_signals = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")


def stop(done: int, total: int) -> bool:
    return False


def more(made: Collection, **settings: Any) -> None:
    vectors = np.random.default_rng(1).standard_normal((3000, DIM))
    made.upsert(range(1000, 4000), vectors, [{"batch": 0}] * 3000, ["of batch0"] * 3000, **settings)


def imported(made: Collection, folder: Path, **settings: Any) -> None:
    source = folder / "rows.jsonl"
    source.write_text("\n".join(json.dumps({"id": n, "vector": [1.0] * (DIM - 1) + [n]}) for n in range(500)))
    made.import_from(source, **settings)


def in_a_batch(made: Collection) -> None:
    with made.batch(progress=stop):
        more(made)
        made.delete(next(iter(made)).id)


def repaired(made: Collection) -> None:
    """A repair that finds something to do, stopped when it has done a part of it."""
    index = made._store.graph.index
    assert index is not None
    index.remove([next(iter(index))])
    calls = iter([True, False])
    made.check(repair=True, progress=lambda done, total: next(calls))


CALLS: dict[str, Callable[[Collection, Path], object]] = {
    "upsert": lambda made, folder: more(made, progress=stop),
    "batch": lambda made, folder: in_a_batch(made),
    "import_from": lambda made, folder: imported(made, folder, progress=stop),
    "check": lambda made, folder: made.check(progress=stop),
    "repair": lambda made, folder: repaired(made),
    "compact": lambda made, folder: made.compact(progress=stop),
}


@pytest.mark.parametrize("call", CALLS)
def test_progress_that_returns_false_raises_cancelled_error(tmp_path: Path, call: str) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        for batch in range(3):
            commit(made, batch)
        more(made)
        made.delete(range(1000, 3990))
        made.delete(range(3990, 4000))
        before = state_of(made)
        with pytest.raises(edgevec.CancelledError, match="stopped by its progress function"):
            CALLS[call](made, tmp_path)
        assert state_of(made) == before
        commit(made, 3)
        assert state_of(made) == apply(before, 3)
        assert made.check(repair=True).ok


def test_an_import_is_stopped_while_it_reads_the_file(tmp_path: Path) -> None:
    """Not when it comes to the end, where this one is damaged."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(f'{{"id": {n}, "vector": [1, {n}]}}\n' for n in range(30_000)) + "{")
    with edgevec.open(tmp_path / "c.edgevec", 2) as made:
        with pytest.raises(edgevec.DataFormatError):
            made.import_from(source)
        with pytest.raises(edgevec.CancelledError):
            made.import_from(source, progress=stop)
        assert len(made) == 0
        assert made.check().ok


def test_a_repair_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        commit(made, 0)
        made._store.database.main.execute("UPDATE records SET metadata = 'not JSON' WHERE row = 3")
        made._store.database.main.execute("INSERT INTO texts(rowid, document) VALUES (5, 'nobody said this')")
        problems = made.check().problems
        assert len(problems) == 2
        calls = iter([True, False])
        with pytest.raises(edgevec.CancelledError):
            made.check(repair=True, progress=lambda done, total: next(calls))
        assert made.check().problems == problems
        assert len(made.check(repair=True).set_apart) == 1
        assert made.check().ok


# ---- signals -------------------------------------------------------------------------------------------------------


class Signaled(BaseException):
    """What the handler of a signal raises, as Python's own raises KeyboardInterrupt."""


class signaled_after:
    """The block is ended by an exception after some time; `with` gives a list of when that was.

    A class: the frame of a generator that swallows an exception is held by its traceback, and holds it (CPython 3.13).
    What the handler raises in a finalizer Python tells to nobody but `sys.unraisablehook`, which is not for pytest.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times: list[float] = []

    def __enter__(self) -> list[float]:
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = lambda lost: None if lost.exc_type is Signaled else self._unraisable(lost)
        self._before = signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self._times

    def _handle(self, number: int, frame: Any) -> None:
        if frame.f_code is self.__enter__.__code__:  # on a busy machine: the block has not begun
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
        elif not self._times:
            self._times.append(time.perf_counter())
            raise Signaled

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        sys.unraisablehook = self._unraisable
        return kind is Signaled


SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) SELECT count(*) FROM n"


@needs_signals
def test_a_signal_ends_a_long_statement(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        commit(made, 0)
        for read in (True, False):
            with signaled_after(0.05) as times:
                with made._store.read() if read else made._store.write() as connection:
                    connection.execute(SLOW).fetchall()
                raise AssertionError("the statement went to its end")
            assert time.perf_counter() - times[0] < 5  # it would take much longer
            assert state_of(made) == apply(State(), 0)
        commit(made, 1)


@needs_signals
def test_a_statement_of_one_step_is_interrupted_from_a_thread(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        connection = made._store.database.main
        with signaled_after(0.05):
            interrupts.run(connection, SLOW)
            raise AssertionError("the statement went to its end")
        assert interrupts.run(connection, "SELECT 1") == [(1,)]
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            interrupts.run(connection, "SELECT * FROM absent")


class Held:
    """Something that a frame holds."""


@needs_signals
@pytest.mark.parametrize("one_step", [True, False])
def test_what_a_signal_ended_is_let_go_at_once(tmp_path: Path, one_step: bool) -> None:
    """Not when the garbage collector comes: an open `with` of those frames may hold a lock."""
    with edgevec.open(tmp_path / "c.edgevec", DIM) as made:
        gone: list[weakref.ref[Held]] = []

        def work() -> None:
            held = Held()
            gone.append(weakref.ref(held))
            if one_step:
                interrupts.run(made._store.database.main, SLOW)
            else:
                with made._store.read() as connection:
                    connection.execute(SLOW).fetchall()

        gc.disable()
        try:
            with signaled_after(0.05):
                work()
            assert gone[0]() is None
        finally:
            gc.enable()


def upserted(made: Collection, folder: Path, batch: int) -> State | None:
    commit(made, batch)
    return None


def spooled(made: Collection, folder: Path, batch: int) -> None:
    """As upserted(), with vectors stored ahead of the transaction."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MIN_RECORDS", "MIN_BYTES", "BYTES_PER_COMMIT"):
            patch.setattr(ahead, name, 1)
        commit(made, batch)


def exported(made: Collection, folder: Path, batch: int) -> None:
    made.export(folder / "copy.jsonl")


def indexed(made: Collection, folder: Path, batch: int) -> None:
    made.create_index("batch")
    made.drop_index("batch")


def searched(made: Collection, folder: Path, batch: int) -> None:
    assert made.search(np.ones(DIM), 5, where="batch >= 0")
    assert made.search(text="batch0 batch1 batch2", k=5)


WORK: dict[str, Callable[[Collection, Path, int], object]] = {
    "write": upserted,
    "write ahead": spooled,
    "search": searched,
    "export": exported,
    "check": lambda made, folder, batch: made.check(),
    "repair": lambda made, folder, batch: made.check(repair=True),
    "checkpoint": lambda made, folder, batch: made.checkpoint(),
    "compact": lambda made, folder, batch: made.compact(),
    "create_index": indexed,
}


@needs_signals
# The signal may come between what opens and its `with`, in the standard library too.
@pytest.mark.filterwarnings("ignore:unclosed (file|database|scandir iterator):ResourceWarning")
@pytest.mark.parametrize("work", WORK)
def test_a_signal_at_any_time_leaves_the_old_state_or_the_new(
    tmp_path: Path, work: str, rng: np.random.Generator
) -> None:
    with edgevec.open(tmp_path / "c.edgevec", DIM, durability="fast") as made:
        batch = 0
        for _ in range(3):
            commit(made, batch)
            batch += 1
        state = state_of(made)
        for _ in range(SIGNALS):
            first = batch
            with signaled_after(rng.uniform(0.0005, 0.03)) as times:
                # Until it has come: Python loses what is raised in a finalizer. Not `while not times`: in CPython 3.13
                # the jump back of such a loop is outside its `with`.
                for _ in iter(lambda times=times: bool(times), True):
                    WORK[work](made, tmp_path, batch)
                    batch += 1
            found = state_of(made)
            if work.startswith("write"):
                for number in range(first, batch):
                    state = apply(state, number)
                if found != state:
                    state = apply(state, batch)
                    batch += 1
            assert found == state
            assert made.check().ok
            assert len(made.search(np.ones(DIM), 1000)) == len(state)
    # An export that is ended just as it has made its new file leaves that, as a killed one does.
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".edgevec-")}
    assert left <= {"c.edgevec", "c.edgevec-graph", "c.edgevec-lock", "copy.jsonl"}
