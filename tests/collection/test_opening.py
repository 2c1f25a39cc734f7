"""Opening and closing: parameters, several openers, damaged files, what is left after compacting."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import QUANTIZATIONS
from records import rows

import edgevec
from edgevec.collection import Collection
from edgevec.collection.database import MAX_IDLE

SHARES_FILES = sys.platform != "emscripten"
"""Whether one file can be open twice: in a browser it cannot."""


def test_parameters_are_in_the_file(path: Path) -> None:
    edgevec.open(path, 4, "ip", quantization="none", M=5, ef_construction=33, dtype="float16").close()
    with edgevec.open(path) as made:
        made.upsert([1], np.eye(1, 4))
        index = made._store.graph.index
        assert index is not None
        assert (made.dim, made.metric, made.quantization) == (4, "ip", "none")
        assert (index.dim, index.metric, index.quantization, index.M, index.ef_construction) == (4, "ip", "none", 5, 33)
    edgevec.open(path, 4, "ip", quantization="none", M=5, ef_construction=33, dtype="float16").close()
    for name, value in {"dim": 5, "metric": "l2", "quantization": "sq8", "M": 6, "dtype": "float32"}.items():
        with pytest.raises(ValueError, match=f"has {name} .*, not"):
            edgevec.open(path, **{name: value})  # type: ignore[arg-type]
    edgevec.open(path).close()  # none of them kept the file


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_each_quantization_is_reopened(path: Path, quantization: Any, rng: np.random.Generator) -> None:
    vectors = rows(rng, 500, 40)
    with edgevec.open(path, quantization=quantization) as made:
        made.upsert(range(500), vectors)
    with edgevec.open(path) as made:
        assert [made.search(vector, 1)[0].id for vector in vectors[::50]] == list(range(0, 500, 50))
        assert made.check().ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be"),
        ({"metric": "hamming"}, "metric must be"),
        ({"quantization": "pq"}, "quantization must be"),
        ({"M": 1}, "M must be"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"mode": "w"}, "mode must be"),
        ({"durability": "none"}, "durability must be"),
    ],
)
def test_bad_parameters_create_no_file(path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edgevec.open(path, **arguments)
    assert not path.exists()


def test_opening_what_does_not_exist_is_an_error(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such collection"):
        edgevec.open(path, mode="r")
    assert not path.exists()
    with pytest.raises(OSError, match="there is no folder"):
        edgevec.open(tmp_path / "no" / "notes.edgevec")
    with pytest.raises(OSError, match="unable to open"):
        edgevec.open(tmp_path)
    with pytest.raises(ValueError, match="in memory"):
        edgevec.open(":memory:", mode="r")


def test_other_files_are_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to look like one" * 100)
    with pytest.raises(edgevec.CorruptCollectionError, match="not a database"):
        edgevec.open(path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(edgevec.CorruptCollectionError, match="not a collection"):
        edgevec.open(path)
    for mode in ("a", "r"):
        with pytest.raises(edgevec.CorruptCollectionError, match="not a collection"):
            edgevec.open(path, mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["a", "r"])
def test_what_opens_a_file_of_another_kind_is_said(tmp_path: Path, mode: Any) -> None:
    index = edgevec.Index(2)
    index.add([[1, 2]])
    index.save(tmp_path / "index.edgevec")
    edgevec.DiskIndex.write(index, tmp_path / "disk")
    np.save(tmp_path / "vectors.npy", np.ones((100, 2)))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "manifest.json").write_text("{}")
    (tmp_path / "short").write_text("short")
    for file, opener in {
        "index.edgevec": r"Index\.load\(\)",
        "disk": r"DiskIndex\(\)",
        "vectors.npy": r"import_from\(\)",
        "shards": r"ShardedIndex\.open\(\)",
        "shards/manifest.json": r"ShardedIndex\.open\(\)",
        "short": "not a database",
    }.items():
        with pytest.raises(edgevec.EdgevecError, match=f"{file}: .*{opener}"):
            edgevec.open(tmp_path / file, mode=mode)


def test_a_newer_version_is_refused(path: Path) -> None:
    edgevec.open(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 3")
    database.close()
    before = path.read_bytes()
    with pytest.raises(edgevec.FormatVersionError, match="version 3"):
        edgevec.open(path)
    assert path.read_bytes() == before


def test_damaged_databases_are_refused_or_read(path: Path, rng: np.random.Generator) -> None:
    """Whichever bytes are flipped: an EdgevecError, never a crash, and check() finds what can be found."""
    with edgevec.open(path, 4) as made:
        made.upsert(range(200), rows(rng, 200), [{"n": n} for n in range(200)], [f"text {n}" for n in range(200)])
    whole = path.read_bytes()
    for start in rng.integers(0, len(whole) - 8, size=60):
        damaged = bytearray(whole)
        damaged[start : start + 8] = rng.bytes(8)
        path.write_bytes(damaged)
        try:
            with edgevec.open(path) as made:
                made.check(repair=True)
                made.count("n > 5")
                list(made)
                made.search([1, 0, 0, 0])
        except edgevec.EdgevecError:
            pass


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_a_second_writer_is_refused(notes: Collection, path: Path, rng: np.random.Generator) -> None:
    notes.upsert([1], rows(rng, 1))
    with pytest.raises(edgevec.LockedError, match="open for writing already") as raised:
        edgevec.open(path)
    assert isinstance(raised.value, OSError)
    notes.upsert([2], rows(rng, 1))
    notes.close()
    with edgevec.open(path) as again:
        assert len(again) == 2


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_a_reader_sees_what_is_committed(notes: Collection, path: Path, rng: np.random.Generator) -> None:
    vectors = rows(rng, 100)
    notes.upsert(range(50), vectors[:50], [{"n": n} for n in range(50)])
    with edgevec.open(path, mode="r") as reader:
        assert reader.mode == "r"
        assert len(reader) == 50
        with notes.batch():
            notes.upsert(range(50, 100), vectors[50:], [{"n": n} for n in range(50, 100)])
            assert len(reader) == 50
            assert reader.count("n >= 50") == 0
        assert len(reader) == 100
        assert reader.search(vectors[70], 1)[0].id == 70
        notes.checkpoint()  # which cuts off the changes that a reader would follow
        notes.delete(where="n < 60")
        assert {hit.id for hit in reader.search(vectors[0], 100)} == set(range(60, 100))
        notes.compact()
        notes.upsert([0], vectors[:1])
        notes.checkpoint()
        assert reader.search(vectors[0], 1)[0].id == 0
        assert reader.check().ok
        for change in (
            lambda: reader.upsert([1], vectors[:1]),
            lambda: reader.delete([1]),
            lambda: reader.checkpoint(),
            lambda: reader.compact(),
            lambda: reader.create_index("n"),
            lambda: reader.check(repair=True),
            lambda: reader.batch().__enter__(),
        ):
            with pytest.raises(PermissionError, match="open for reading"):
                change()


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_a_reader_refreshes_with_progress(path: Path, rng: np.random.Generator) -> None:
    with edgevec.open(path) as writer:
        writer.upsert(range(10), rows(rng, 10))
        with edgevec.open(path, mode="r") as reader:
            version, told = reader.refresh(), []
            assert reader.refresh() == version
            writer.upsert(range(10, 3010), vectors := rows(rng, 3000))

            def stop(done: int, total: int) -> bool:
                return False

            with pytest.raises(edgevec.CancelledError, match="next search"):
                reader.refresh(progress=stop)
            assert reader.search(vectors[7], 1)[0].id == 17
            writer.upsert(range(3010, 6010), rows(rng, 3000))
            newest = reader.refresh(progress=lambda done, total: bool(told.append((done, total))) or True)
            assert newest > version
            assert told[-1] == (3000, 3000)
            assert reader.check().ok


def test_a_closed_collection_raises_closed_error(path: Path, rng: np.random.Generator) -> None:
    made = edgevec.open(path)
    made.upsert([1], rows(rng, 1))
    made.close()
    made.close()
    for call in (
        lambda: made.upsert([1], rows(rng, 1)),
        lambda: made.search([1, 0, 0, 0]),
        lambda: made.get([1]),
        lambda: len(made),
        lambda: made.checkpoint(),
        lambda: made.batch().__enter__(),
        lambda: next(iter(made)),
    ):
        with pytest.raises(edgevec.ClosedError, match="is closed"):
            call()


def test_compacting_shrinks_the_file_and_keeps_the_records(path: Path, rng: np.random.Generator) -> None:
    vectors = rows(rng, 3000)
    with edgevec.open(path) as made:
        made.upsert(range(3000), vectors, documents=["some text " * 20] * 3000)
        made.create_index("a")
        made.delete(range(2900))
        made.checkpoint()
        before = made.stats()
        made.compact()
        after = made.stats()
        assert after["file_bytes"] < before["file_bytes"] / 4
        assert after["snapshot_bytes"] < before["snapshot_bytes"] / 4
        assert after["memory_bytes"] < before["memory_bytes"] / 4
        assert after["records"] == 100
        assert made.search(vectors[2950], 1)[0].id == 2950
        assert made.check().ok
    with edgevec.open(path) as made:
        assert [record.id for record in made] == list(range(2900, 3000))
        assert made.check().ok
        assert made.indexes() == ["a"]


def test_a_copy_of_the_one_file_is_enough(path: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """A closed collection may be moved, and what lies beside it left behind."""
    vectors = rows(rng, 500)
    with edgevec.open(path) as made:
        made.upsert(range(500), vectors)
    shutil.copy(path, tmp_path / "moved.edgevec")
    with edgevec.open(tmp_path / "moved.edgevec") as moved:
        assert moved.search(vectors[123], 1)[0].id == 123
        assert moved.check().ok


@pytest.mark.filterwarnings("ignore:unclosed collection")
def test_a_garbage_collected_collection_can_be_opened_again(path: Path, rng: np.random.Generator) -> None:
    made = edgevec.open(path)
    made.upsert([1], rows(rng, 1))
    del made
    with edgevec.open(path) as made:
        assert len(made) == 1


def test_opening_can_be_stopped_and_done_again(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 8))
    with edgevec.open(tmp_path / "c.edgevec", 8) as made:
        made.upsert(range(500), vectors)
    (tmp_path / "c.edgevec-graph").unlink()
    with pytest.raises(edgevec.CancelledError, match="stopped by its progress function"):
        edgevec.open(tmp_path / "c.edgevec", progress=lambda done, total: False)
    with edgevec.open(tmp_path / "c.edgevec") as made:
        assert made.search(vectors[7], 1)[0].id == 7


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program, and no write-ahead log")
def test_a_long_transaction_leaves_no_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevec.collection.database._MIN_LOG_BYTES", 100_000)
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 64) as made:
        made.upsert(range(3000), np.random.default_rng(0).standard_normal((3000, 64)))
        assert os.path.getsize(f"{path}-wal") < os.path.getsize(path) / 4
        for at in range(0, 2000, 500):
            made.upsert(range(at, at + 500), np.random.default_rng(at).standard_normal((500, 64)))
            assert os.path.getsize(f"{path}-wal") < os.path.getsize(path) / 4
        with edgevec.open(path, mode="r") as beside:
            pages = beside.pages(10)
            next(pages)
            connection = beside._store.database.acquire()
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM records").fetchone()
            made.upsert(range(3000), np.ones((3000, 64)))  # not held up by who reads
            assert os.path.getsize(f"{path}-wal") > 500_000
            connection.execute("ROLLBACK")
            beside._store.database.release(connection)
            made.upsert([1], np.ones((1, 64)))
            assert os.path.getsize(f"{path}-wal") < os.path.getsize(path) / 4
        assert made.check().ok


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program, and no write-ahead log")
def test_a_long_log_is_copied_before_readers_have_to_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevec.collection.database._MIN_LOG_BYTES", 100_000)
    copied = []
    with edgevec.open(path, 64) as made:
        database = made._store.database
        shorten = database.shorten_log

        def noting() -> None:
            """SQLite writes to the file as it copies."""
            before = path.stat().st_mtime_ns, path.stat().st_size
            shorten()
            copied.append(before == (path.stat().st_mtime_ns, path.stat().st_size))

        monkeypatch.setattr(database, "shorten_log", noting)
        made.upsert(range(3000), np.random.default_rng(0).standard_normal((3000, 64)))
    assert copied == [True]


@pytest.mark.skipif(not SHARES_FILES, reason="a browser has one program")
def test_a_checkpoint_that_a_reader_holds_up_is_no_success(
    path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edgevec.collection.database.BUSY_MS", 200)
    made = edgevec.open(path)
    made.upsert(range(10), rows(rng, 10))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        made.upsert(range(20), rows(rng, 20))
        for call in (made.checkpoint, made.compact):
            with pytest.raises(edgevec.LockedError, match="another connection has been reading") as caught:
                call()
            assert caught.value.filename == str(path)
        made.upsert(range(30), rows(rng, 30))
        with caplog.at_level(logging.INFO, "edgevec"):
            made.close()
        assert "its log of" in caplog.text
    with edgevec.open(path) as made:
        assert made.ids() == list(range(30))
        made.checkpoint()
        assert os.path.getsize(f"{path}-wal") == 0


def test_a_collection_that_is_not_closed_gives_a_warning(path: Path) -> None:
    made = edgevec.open(path)
    with pytest.warns(ResourceWarning, match=re.escape(f"unclosed collection {str(path)!r}")):
        del made
    edgevec.open(path).close()


@pytest.mark.threads
def test_idle_connections_are_bounded(path: Path, rng: np.random.Generator) -> None:
    with edgevec.open(path) as made:
        made.upsert(range(10), rows(rng, 10))
        database, barrier = made._store.database, threading.Barrier(30)

        def read() -> None:
            with made._store.read():
                barrier.wait(60)

        threads = [threading.Thread(target=read) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(database._idle) == len(database._readers) == MAX_IDLE
        assert made.count() == 10
