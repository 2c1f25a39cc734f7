"""Vectors that are stored ahead of the transaction of a large call: the log stays short, and nobody sees them early."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgevec
from edgevec.collection import Collection, ahead
from edgevec.errors import CancelledError, NotFiniteError

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a browser keeps no log")

DIM = 64


@pytest.fixture(autouse=True)
def of_small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MIN_RECORDS", 1)
    monkeypatch.setattr(ahead, "MIN_BYTES", 1)
    monkeypatch.setattr(ahead, "BYTES_PER_COMMIT", 64 * 1024)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.edgevec"


def vectors(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def stored(path: Path) -> tuple[int, int]:
    """Vectors, and settings that name rows ahead of their records."""
    with closing(sqlite3.connect(path)) as raw:
        [(count,)] = raw.execute("SELECT count(*) FROM vectors")
        [(named,)] = raw.execute("SELECT count(*) FROM settings WHERE name = 'ahead'")
        return count, named


def assert_holds(made: Collection, held: dict[Any, Any]) -> None:
    assert {record.id: record.vector.tolist() for record in made} == {id: held[id].tolist() for id in held}
    assert made.check().ok
    for id in [*held][:3]:
        assert made.search(held[id], 1, exact=True)[0].id == id


def test_what_is_stored_is_what_was_given(path: Path) -> None:
    held: dict[Any, Any] = {}
    with edgevec.open(path, metric="l2") as made:
        for seed, ids in enumerate(([*range(300)], ["a", 5, 301, 7, "b", 302], [*range(290, 700)], [1, 2])):
            given = vectors(len(ids), seed)
            made.upsert(ids, given, [{"seed": seed}] * len(ids))
            held.update(zip(ids, given, strict=True))
            assert_holds(made, held)
            assert stored(path) == (len(held), 0)
        made.delete([699, "b", *range(400, 500)])
        for id in (699, "b", *range(400, 500)):
            del held[id]
        made.upsert([900, 901], given[:2])
        held.update({900: given[0], 901: given[1]})
        assert_holds(made, held)
    with edgevec.open(path, mode="r") as made:
        assert_holds(made, held)


def test_the_log_stays_short(path: Path) -> None:
    lengths: list[int] = []
    log = Path(f"{path}-wal")

    def look(done: int, total: int) -> None:
        lengths.append(log.stat().st_size)

    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(20_000), vectors(20_000), progress=look)
        size = path.stat().st_size
    assert lengths
    assert max(lengths) < size / 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_of_other_kinds(path: Path, dtype: Any) -> None:
    given = vectors(40)
    with edgevec.open(path, DIM, "l2", dtype=dtype) as made:
        made.upsert(range(40), given.tolist())
        assert stored(path) == (40, 0)
        assert_holds(made, dict(enumerate(given.astype(dtype).astype(np.float32))))


def fail_after(made: Collection, given: Any) -> None:
    with made.batch():
        made.upsert(range(300), given)
        raise ZeroDivisionError


def test_a_call_that_fails_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = vectors(300)
    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(9), given[:9])
        held = dict(enumerate(given[:9]))
        with pytest.raises(CancelledError):
            made.upsert(range(300), given, progress=lambda done, total: False)
        assert stored(path) == (9, 0)
        wrong = given.copy()
        wrong[200, 3] = np.nan
        with pytest.raises(NotFiniteError):
            made.upsert(range(300), wrong)
        assert stored(path) == (9, 0)
        with monkeypatch.context() as patch:
            patch.setattr(made._store.database, "copy_log", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                made.upsert(range(300), given)
        assert stored(path) == (9, 0)
        assert_holds(made, held)
        with pytest.raises(ZeroDivisionError):
            fail_after(made, given)
        assert_holds(made, held)
        made.upsert(range(300), given)
        assert_holds(made, dict(enumerate(given)))


def test_what_could_not_be_removed_is_in_nobodys_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, remove = vectors(300), ahead.remove

    def fail(connection: sqlite3.Connection) -> None:
        if asked:
            raise sqlite3.OperationalError("database is locked")
        asked.append(connection)

    asked: list[Any] = []
    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(9), given[:9])
        with monkeypatch.context() as patch:
            patch.setattr(ahead, "remove", fail)
            with pytest.raises(CancelledError):
                made.upsert(range(300), given, progress=lambda done, total: False)
        assert stored(path) == (300, 1)
        assert_holds(made, dict(enumerate(given[:9])))
        with monkeypatch.context() as patch:
            patch.setattr(ahead, "MIN_RECORDS", 1000)
            made.upsert(range(9, 15), given[9:15])
        with made.batch():
            made.upsert(range(15, 20), given[15:20])
        assert_holds(made, dict(enumerate(given[:20])))
        with made._store.read(graph=True) as connection:
            made._store.graph.rebuild(connection)
        assert_holds(made, dict(enumerate(given[:20])))
        remove(made._store.database.main)
        assert stored(path) == (20, 0)
        made.upsert(range(300), given)
        assert_holds(made, dict(enumerate(given)))


@pytest.mark.parametrize("dim", [None, DIM])
@pytest.mark.parametrize("before", [0, 9])
def test_a_process_that_ends_leaves_no_record(path: Path, tmp_path: Path, dim: int | None, before: int) -> None:
    """What the disk holds then is opened by readers, and cleared by the next writer."""
    copy, given, copied = tmp_path / "copy" / path.name, vectors(300), []
    copy.parent.mkdir()

    def stop(done: int, total: int) -> None:
        if not copied:
            for end in ("", "-wal"):
                shutil.copy(f"{path}{end}", f"{copy}{end}")
            copied.append(stored(copy))

    with edgevec.open(path, dim, "l2") as made:
        if before:
            made.upsert(range(before), given[:before])
        made.upsert(range(300), given, progress=stop)
    assert copied == [(300, 1)]
    held = dict(enumerate(given[:before]))
    for mode in ("r", "a", "r"):
        with edgevec.open(copy, mode=mode) as made:  # type: ignore[call-overload]
            assert len(made) == before
            assert_holds(made, held)
            if before:
                assert len(made.search(given[50], 300)) == before
    assert stored(copy) == (before, 0)
    with edgevec.open(copy) as made:
        made.upsert(range(300), given)
        assert_holds(made, dict(enumerate(given)))


def test_readers_see_nothing_early(path: Path) -> None:
    given = vectors(300)
    seen: list[int] = []

    def look(done: int, total: int) -> None:
        for reader in (beside, edgevec.open(path, mode="r")):
            assert reader.count({"a": 1}) == len(reader.search(given[0], 300)) == 9
            assert reader.check().ok
            assert reader.stats()["records"] == 9
            if reader is not beside:
                reader.close()
        seen.append(done)

    with edgevec.open(path, DIM, "l2") as made, edgevec.open(path, mode="r") as beside:
        made.upsert(range(9), given[:9], [{"a": 1}] * 9)
        beside.count({"a": 1})
        made.upsert(range(300), given, [{"a": 1}] * 300, progress=look)
        assert seen
        assert beside.count({"a": 1}) == len(beside.search(given[0], 300)) == 300
