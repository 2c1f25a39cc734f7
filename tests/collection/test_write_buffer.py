"""Batches and imports whose vectors are stored ahead of their transaction: the log stays short, and all stays whole."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

import edgevec
from edgevec.collection import Collection, ahead, write_buffer
from edgevec.errors import CancelledError, DuplicateIdError, LockedError, NotFiniteError, ParameterError, StorageError

pytestmark = pytest.mark.skipif(sys.platform == "emscripten", reason="a browser keeps no log")

DIM = 64
Held = dict[Any, tuple[list[float], dict[str, Any], "str | None"]]


@pytest.fixture
def of_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MIN_BYTES", 64 * 1024)
    monkeypatch.setattr(ahead, "BYTES_PER_COMMIT", 64 * 1024)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.edgevec"


def vectors(count: int, seed: int = 0, dim: int = DIM) -> Any:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def stored(path: Path) -> tuple[int, int, int]:
    """Records, vectors, and settings that name rows ahead of their records."""
    with closing(sqlite3.connect(path)) as raw:
        tables = ("records", "vectors", "settings WHERE name = 'ahead'")
        records, found, named = (raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)
        return records, found, named


class Log:
    """The greatest length of the log, looked at by a progress function and between calls."""

    def __init__(self, path: Path) -> None:
        self._path = Path(f"{path}-wal")
        self.longest = 0

    def look(self, done: int = 0, total: int = 0) -> None:
        self.longest = max(self.longest, self._path.stat().st_size)


@pytest.mark.usefixtures("of_small_batches")
def test_the_log_of_a_batch_stays_short(path: Path) -> None:
    log, given = Log(path), vectors(20_000)
    with edgevec.open(path, DIM, "l2") as made:
        with made.batch(progress=log.look):
            for start in range(0, 20_000, 500):
                made.upsert(range(start, start + 500), given[start : start + 500])
                log.look()
        assert log.longest < path.stat().st_size / 4
        assert np.array_equal([record.vector for record in made], given)
        assert made.check().ok


@pytest.mark.usefixtures("of_small_batches")
@pytest.mark.parametrize("source", ["jsonl", "dicts", "parquet"])
def test_the_log_of_an_import_stays_short(path: Path, tmp_path: Path, source: str) -> None:
    log, given = Log(path), vectors(20_000)
    if source != "dicts":
        pytest.importorskip("pyarrow")
        file = tmp_path / f"rows.{source}"
        with edgevec.open(tmp_path / "from.edgevec", DIM, "l2") as made:
            made.upsert(range(20_000), given)
            made.export(file)
    rows = ({"id": at, "vector": vector} for at, vector in enumerate(given))
    with edgevec.open(path, DIM, "l2") as made:
        made.import_from(rows if source == "dicts" else file, progress=log.look)
        assert 0 < log.longest < path.stat().st_size / 4
        assert np.array_equal([record.vector for record in made], given)


# ---- the same as ever ------------------------------------------------------------------------------------------------

some_ids = st.lists(st.integers(0, 30) | st.sampled_from(["a", "b", "1"]), max_size=12, unique=True)
operations = st.lists(
    st.tuples(st.sampled_from(["upsert", "upsert", "upsert", "delete", "get", "nan", "nested", "failing"]), some_ids),
    max_size=10,
)


class Failure(Exception):
    pass


def new_records(ids: list[Any], seed: int) -> Held:
    """Vectors are of few values, so that some are what they were."""
    rng = np.random.default_rng(seed)
    return {
        id: ((rng.integers(0, 2, 3) + 1.0).tolist(), {"n": seed % 3}, None if seed % 2 else f"text {seed}")
        for id in ids
    }


def do(made: Collection, held: Held, kind: str, ids: list[Any], seed: int) -> None:
    new = new_records(ids, seed)
    given = np.array([vector for vector, _, _ in new.values()], np.float32).reshape(len(new), 3)
    arguments = [metadata for _, metadata, _ in new.values()], [text for _, _, text in new.values()]
    if kind == "nan":
        if ids:
            given[-1, 0] = np.nan
            with pytest.raises(NotFiniteError):
                made.upsert(ids, given, *arguments)
    elif kind == "delete":
        assert made.delete(ids) == len(held.keys() & set(ids))
        for id in ids:
            held.pop(id, None)
    elif kind == "get":
        found = {record.id: record.vector.tolist() for record in made.get(ids, missing="skip")}
        assert found == {id: held[id][0] for id in ids if id in held}
    elif kind in ("nested", "failing"):
        before = dict(held)
        with suppress(Failure), made.batch():
            do(made, held, "upsert", ids, seed)
            do(made, held, "delete", ids[:2], seed)
            if kind == "failing":
                raise Failure
        if kind == "failing":
            held.clear()
            held.update(before)
    else:
        made.upsert(ids, given, *arguments)
        given[:] = np.nan  # which is the caller's to change
        held.update(new)


def assert_holds(made: Collection, held: Held) -> None:
    assert {r.id: (r.vector.tolist(), r.metadata, r.document) for r in made} == held
    assert [r.id for r in made] == [*held]
    assert made.check().ok
    assert len(made.search([1, 1, 1], 100)) == len(held)
    assert made.count({"n": 1}) == sum(metadata["n"] == 1 for _, metadata, _ in held.values())
    texts = [id for id, (_, _, text) in held.items() if text]
    assert {hit.id for hit in made.search(text="text", k=100)} == set(texts)


@settings(max_examples=examples(150), deadline=None)
@given(
    batches=st.lists(st.tuples(operations, st.booleans()), min_size=1, max_size=4),
    least=st.sampled_from([1, 40, 300, 10**6]),
    commit=st.sampled_from([1, 100]),
    dim=st.sampled_from([None, 3]),
)
def test_batches_do_what_a_dict_does(
    tmp_path_factory: pytest.TempPathFactory, batches: Any, least: int, commit: int, dim: int | None
) -> None:
    path, held, seed = tmp_path_factory.mktemp("batches") / "c.edgevec", Held(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "MIN_BYTES", least)
        patch.setattr(ahead, "BYTES_PER_COMMIT", commit)
        with edgevec.open(path, dim, "l2", durability="fast") as made:
            for work, fails in batches:
                before = dict(held)
                with suppress(Failure), made.batch():
                    for kind, ids in work:
                        seed += 1
                        do(made, held, kind, ids, seed)
                    if fails:
                        raise Failure
                if fails:
                    held = before
                if made.dim is not None:
                    assert_holds(made, held)
                records, found, named = stored(path)
                assert (records, found, named) == (len(held), len(held), 0)
            known = made.dim
        if known is not None:
            with edgevec.open(path, mode="r") as made:
                assert_holds(made, held)


@pytest.mark.usefixtures("of_small_batches")
def test_an_import_that_fails_leaves_nothing(path: Path) -> None:
    given = vectors(3000)
    rows = [{"id": at, "vector": vector} for at, vector in enumerate(given)]

    def stop_at_the_end(done: int, total: int) -> bool:
        return not total

    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(9), given[:9])
        for wrong, error in (
            ([*rows, {"id": 5, "vector": given[5]}], DuplicateIdError),
            ([*rows, {"id": 5000, "vector": [1.0]}], ParameterError),
        ):
            with pytest.raises((error, edgevec.DataFormatError)):
                made.import_from(iter(wrong))
            assert stored(path) == (9, 9, 0)
        with pytest.raises(CancelledError):
            made.import_from(iter(rows), progress=stop_at_the_end)
        assert stored(path) == (9, 9, 0)
        assert made.check().ok
        made.import_from(iter(rows))
        assert np.array_equal([record.vector for record in made], given)


@pytest.mark.usefixtures("of_small_batches")
def test_a_batch_that_could_not_store_ahead_stores_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = vectors(3000)

    def in_one_batch(made: Collection) -> None:
        with made.batch():
            made.upsert(range(300), given[:300])
            with monkeypatch.context() as patch:
                patch.setattr(made._store.database, "copy_log", lambda: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    made.upsert(range(300, 3000), given[300:])
            with pytest.raises(StorageError, match="rolled back"):
                made.upsert([1], given[:1])
            with pytest.raises(StorageError, match="rolled back"):
                made.count()

    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(9), given[:9])
        with pytest.raises(StorageError, match="rolled back"):
            in_one_batch(made)
        assert stored(path) == (9, 9, 0)
        assert made.check().ok
        made.upsert(range(300), given[:300])
        assert np.array_equal([record.vector for record in made], given[:300])


@pytest.mark.usefixtures("of_small_batches")
def test_what_another_program_adds_meanwhile_stays(path: Path) -> None:
    given = vectors(600)

    def beside_another(made: Collection) -> None:
        with made.batch():
            made.upsert(range(600), given)
            with closing(sqlite3.connect(path)) as raw, raw:
                raw.execute("INSERT INTO records(id, metadata) VALUES ('theirs', '{}')")

    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(9), given[:9])
        with pytest.raises(LockedError, match="another program"):
            beside_another(made)
        assert made.count() == 10
        assert stored(path)[0::2] == (10, 0)


# ---- nobody sees it early --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("of_small_batches")
def test_readers_see_nothing_of_an_open_batch(path: Path) -> None:
    given = vectors(600)
    with edgevec.open(path, DIM, "l2") as made, edgevec.open(path, mode="r") as beside:
        made.upsert(range(9), given[:9], [{"a": 1}] * 9)
        with made.batch():
            made.upsert(range(600), given, [{"a": 1}] * 600)
            assert stored(path)[1:] == (600, 1)
            with edgevec.open(path, mode="r") as fresh:
                for reader in (beside, fresh):
                    assert reader.count({"a": 1}) == len(reader.search(given[0], 600)) == 9
                    assert reader.check().ok
            assert made.count({"a": 1}) == len(made.search(given[0], 600)) == 600
            assert stored(path)[0] == 9
            assert beside.count() == 9
        assert beside.count({"a": 1}) == len(beside.search(given[0], 600)) == 600


WORKER = """
    import sys
    import numpy as np
    import edgevec
    from edgevec.collection import ahead, import_export

    path, work = sys.argv[1:]
    ahead.MIN_BYTES = ahead.BYTES_PER_COMMIT = 64 * 1024
    import_export.IMPORT_BATCH = 300
    given = np.random.default_rng(1).normal(size=(3000, 64)).astype(np.float32)

    def wait():
        print("stored", flush=True)
        sys.stdin.read()

    def rows():
        for at, vector in enumerate(given):
            yield {"id": at, "vector": vector, "a": 2, "text": "late"}
        wait()

    with edgevec.open(path) as made:
        if work == "import":
            made.import_from(rows())
        elif work == "at the end":
            with made.batch(progress=lambda done, total: wait()):
                made.upsert(range(3000), given, [{"a": 2}] * 3000, ["late"] * 3000)
        else:
            with made.batch():
                for start in range(0, 3000, 300):
                    made.upsert(range(start, start + 300), given[start:start + 300], [{"a": 2}] * 300, ["late"] * 300)
                if work == "which has read":
                    assert made.count() == 3000
                wait()
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("work", ["import", "batch", "which has read", "at the end"])
def test_a_process_that_is_killed_leaves_nothing(path: Path, tmp_path: Path, work: str) -> None:
    given = vectors(9)
    held = dict(enumerate(given.tolist()))

    def assert_as_before(made: Collection) -> None:
        assert {record.id: record.vector.tolist() for record in made} == held
        assert len(made.search(given[0], 5000)) == made.count({"a": 1}) == 9
        assert not made.count({"a": 2})
        assert not made.search(text="late")
        assert made.check().ok

    with edgevec.open(path, DIM, "l2") as made:
        made.upsert(range(9), given, [{"a": 1}] * 9)
    program = tmp_path / "worker.py"
    program.write_text(textwrap.dedent(WORKER))
    with (
        edgevec.open(path, mode="r") as beside,
        subprocess.Popen(
            [sys.executable, os.fspath(program), os.fspath(path), work],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        assert_as_before(beside)
        process.kill()
        process.wait()
        assert stored(path)[0::2] == (9, 1)
        assert stored(path)[1] > 2000
        assert_as_before(beside)
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            assert_as_before(made)
    assert stored(path) == (9, 9, 0)


def test_what_could_not_be_written_waits_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = vectors(9)
    with edgevec.open(path, metric="l2") as made:
        with made.batch():
            made.upsert(range(9), given)
            with monkeypatch.context() as patch:
                patch.setattr(write_buffer.records, "upsert", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    made.count()
            assert made.dim == DIM
            with pytest.raises(ParameterError):
                made.upsert([1], vectors(1, dim=DIM + 1))
            assert made.count() == 9
        assert np.array_equal([record.vector for record in made], given)
