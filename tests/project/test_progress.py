"""Every public call that takes a progress function is stopped by it, and leaves what was there."""

from __future__ import annotations

import inspect
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datafiles import NAMES, ROWS, WRITERS
from support import ROOT

import edgevec
from edgevec import CancelledError, Index
from edgevec.collection import Collection

DIM = 6
Progress = Callable[[int, int], object]
Work = Callable[[Progress], object]
Subject = tuple[Work, Callable[[], object]]
"""What is called, and what tells the state that it must leave as it was."""


def rows(count: int) -> Any:
    return np.random.default_rng(count).standard_normal((count, DIM)).astype(np.float32)


# ---- what each call works on ---------------------------------------------------------------------------------------


def index_with(count: int, gone: int = 0) -> Index:
    index = Index(DIM, M=4, ef_construction=20, keep_vectors="float32")
    index.add(rows(count), threads=1)
    index.remove(list(range(gone)))
    return index


def answers(index: Index) -> object:
    ids = np.sort(np.fromiter(index, np.int64))
    found = index.search(rows(20), 10, threads=1)
    return ids.tolist(), index.get(ids).tobytes(), found.ids.tolist(), found.distances.tolist(), index.check().ok


def add(folder: Path, stack: ExitStack) -> Subject:
    index = index_with(500)
    return lambda progress: index.add(rows(3000), range(1000, 4000), progress=progress), lambda: answers(index)


def compact_index(folder: Path, stack: ExitStack) -> Subject:
    index = index_with(2000, 700)
    return lambda progress: index.compact(progress=progress), lambda: answers(index)


def write_graph(folder: Path, stack: ExitStack) -> Subject:
    index, path = index_with(2000, 700), folder / "graph"
    path.write_bytes(b"old")

    def state() -> object:
        return answers(index), path.read_bytes(), [file.name for file in folder.iterdir()]

    return lambda progress: edgevec.DiskIndex.write(index, path, progress=progress), state


def collection(folder: Path, stack: ExitStack) -> tuple[Collection, Callable[[], object]]:
    made = stack.enter_context(edgevec.open(folder / "c.edgevec", DIM))
    made.upsert(range(3000), rows(3000), [{"n": n} for n in range(3000)], ["a text"] * 3000)
    made.delete(range(100))
    return made, lambda: [(record.id, record.vector.tobytes(), record.metadata, record.document) for record in made]


def upsert(folder: Path, stack: ExitStack) -> Subject:
    made, state = collection(folder, stack)
    return lambda progress: made.upsert(range(2000, 4500), rows(2500), progress=progress), state


def update(folder: Path, stack: ExitStack) -> Subject:
    made, state = collection(folder, stack)
    count = 1500  # more than are read at a time

    def work(progress: Progress) -> None:
        made.update(range(1000, 1000 + count), {"new": 1}, ["b"] * count, rows(count), progress=progress)

    return work, state


def batch(folder: Path, stack: ExitStack) -> Subject:
    made, state = collection(folder, stack)

    def work(progress: Progress) -> None:
        with made.batch(progress=progress):
            made.delete([200, 201])
            made.upsert(range(2000, 4500), rows(2500))

    return work, state


def import_from(folder: Path, stack: ExitStack) -> Subject:
    made, state = collection(folder, stack)
    np.save(folder / "rows.npy", rows(2000))
    return lambda progress: made.import_from(folder / "rows.npy", progress=progress), state


def compact(folder: Path, stack: ExitStack) -> Subject:
    made, state = collection(folder, stack)
    return lambda progress: made.compact(progress=progress), state


def check(folder: Path, stack: ExitStack) -> Subject:
    made, state = collection(folder, stack)
    return lambda progress: made.check(progress=progress), state


def refresh(folder: Path, stack: ExitStack) -> Subject:
    """A reader that is stopped has not lost what the writer wrote: the next search takes it in."""
    if sys.platform == "emscripten":
        pytest.skip("a browser has one program")
    made, _ = collection(folder, stack)
    reader = stack.enter_context(edgevec.open(folder / "c.edgevec", mode="r"))
    reader._store.follower.end()  # or the thread that a search wakes may have taken all in before
    numbers = iter(range(10_000, 1_000_000, 2000))

    def work(progress: Progress) -> None:
        first = next(numbers)
        made.upsert(range(first, first + 2000), rows(2000))
        try:
            reader.refresh(progress=progress)
        finally:
            assert len(reader.search(rows(2000)[7], len(made))) == len(made)

    return work, lambda: None


def opened(folder: Path, stack: ExitStack) -> Subject:
    """A file of an earlier version, whose texts are indexed again; and the graph, which is not there."""
    old = folder / "old.edgevec"
    shutil.copy(ROOT / "tests" / "files" / "0.1.0.edgevec", old)

    def state() -> object:
        with closing(sqlite3.connect(old)) as connection:  # the texts may be indexed when the graph is stopped
            records = connection.execute("SELECT row, id, metadata, document FROM records").fetchall()
        return records, [path.name for path in folder.iterdir() if path.name not in (old.name, f"{old.name}-lock")]

    return lambda progress: edgevec.open(old, progress=progress).close(), state


def read_vectors(folder: Path, stack: ExitStack) -> Subject:
    np.save(folder / "rows.npy", np.ones((3000, 2000), np.float32))
    return lambda progress: edgevec.read_vectors(folder / "rows.npy", progress=progress), lambda: None


def sharded(folder: Path, stack: ExitStack) -> tuple[edgevec.ShardedIndex, Callable[[], object]]:
    made = stack.enter_context(
        edgevec.ShardedIndex.build(rows(1500), folder / "s", rows_per_shard=500, keep_vectors="float32")
    )
    made.remove(range(100))

    def state() -> object:
        found = made.search(rows(20), 10, threads=1)
        return made.manifest, sorted(made), found.ids.tolist(), found.distances.tolist()

    return made, state


def build_sharded(folder: Path, stack: ExitStack) -> Subject:
    _, state = sharded(folder, stack)

    def work(progress: Progress) -> None:
        edgevec.ShardedIndex.build(rows(3000), folder / "s", rows_per_shard=500, progress=progress).close()

    return work, state


def add_sharded(folder: Path, stack: ExitStack) -> Subject:
    made, state = sharded(folder, stack)
    return lambda progress: made.add(rows(3000), range(1000, 4000), progress=progress), state


def compact_sharded(folder: Path, stack: ExitStack) -> Subject:
    made, state = sharded(folder, stack)
    return lambda progress: made.compact(progress=progress), state


def build_sharded_collection(folder: Path, stack: ExitStack) -> Subject:
    def records(count: int) -> list[dict[str, Any]]:
        return [{"id": number, "vector": row.tolist()} for number, row in enumerate(rows(count))]

    made = stack.enter_context(edgevec.ShardedCollection.build(records(600), folder / "s", rows_per_shard=300))

    def work(progress: Progress) -> None:
        edgevec.ShardedCollection.build(records(3000), folder / "s", rows_per_shard=1000, progress=progress).close()

    return work, lambda: (made.manifest, made.ids(), made.search(rows(1)[0], 10))


def changed_collection(folder: Path, stack: ExitStack) -> tuple[edgevec.ShardedCollection, Callable[[], object]]:
    records = [{"id": number, "vector": row.tolist()} for number, row in enumerate(rows(900))]
    made = stack.enter_context(edgevec.ShardedCollection.build(records, folder / "s", rows_per_shard=300))
    made.delete(range(0, 900, 9))
    return made, lambda: (made.manifest, made.ids(), made.search(rows(1)[0], 10))


def upsert_sharded(folder: Path, stack: ExitStack) -> Subject:
    made, state = changed_collection(folder, stack)
    return lambda progress: made.upsert(range(500, 1400), rows(900), progress=progress), state


def add_to_collection(folder: Path, stack: ExitStack) -> Subject:
    made, state = changed_collection(folder, stack)
    return lambda progress: made.add(range(1000, 1900), rows(900), progress=progress), state


def update_collection(folder: Path, stack: ExitStack) -> Subject:
    made, state = changed_collection(folder, stack)
    ids = [number for number in range(200, 700) if number % 9]
    return lambda progress: made.update(ids, {"new": 1}, vectors=rows(len(ids)), progress=progress), state


def compact_collection(folder: Path, stack: ExitStack) -> Subject:
    made, state = changed_collection(folder, stack)
    return lambda progress: made.compact(progress=progress), state


TABLE: dict[str, Callable[[Path, ExitStack], Subject]] = {
    "edgevec.Index.add": add,
    "edgevec.Index.compact": compact_index,
    "edgevec.DiskIndex.write": write_graph,
    "edgevec.Collection.upsert": upsert,
    "edgevec.Collection.update": update,
    "edgevec.Collection.batch": batch,
    "edgevec.Collection.import_from": import_from,
    "edgevec.Collection.compact": compact,
    "edgevec.Collection.check": check,
    "edgevec.Collection.refresh": refresh,
    "edgevec.open": opened,
    "edgevec.read_vectors": read_vectors,
}
if sys.platform != "emscripten":  # whose wheel goes without
    TABLE |= {
        "edgevec.ShardedCollection.build": build_sharded_collection,
        "edgevec.ShardedCollection.upsert": upsert_sharded,
        "edgevec.ShardedCollection.add": add_to_collection,
        "edgevec.ShardedCollection.update": update_collection,
        "edgevec.ShardedCollection.compact": compact_collection,
        "edgevec.ShardedIndex.build": build_sharded,
        "edgevec.ShardedIndex.add": add_sharded,
        "edgevec.ShardedIndex.compact": compact_sharded,
    }

PLACES = ("edgevec", "edgevec.collection", "edgevec.evaluation", "edgevec.plot", "edgevec.readers", "edgevec.samples")
RECORDS = {"edgevec.readers.Request"}
"""Holds a progress function, and calls none."""


def takers() -> Iterator[str]:
    """The public callables with a parameter `progress`, each by the first of its names."""
    seen = set()
    for place in PLACES:
        module = pytest.importorskip(place) if place == "edgevec.plot" else __import__(place, fromlist=["_"])
        for name in (*module.__all__, *(["open"] if place == "edgevec" else [])):
            value = getattr(module, name)
            methods = inspect.getmembers(value, callable) if inspect.isclass(value) else []
            found = [(name, value), *((f"{name}.{method}", code) for method, code in methods if method[0] != "_")]
            for said, code in found:
                if callable(code) and id(code) not in seen and "progress" in _parameters(code):
                    seen.add(id(code))
                    yield f"{place}.{said}"


def _parameters(code: Any) -> Any:
    try:
        return inspect.signature(code).parameters
    except (TypeError, ValueError):  # of C
        return ()


def test_every_call_that_takes_progress_is_here() -> None:
    assert set(takers()) == {*TABLE, *RECORDS}


@pytest.mark.parametrize("name", TABLE)
def test_progress_stops_it_and_all_is_as_it_was(tmp_path: Path, name: str) -> None:
    with ExitStack() as stack:
        work, state = TABLE[name](tmp_path, stack)
        before = state()
        for at, kind in ((1, bool), (1, np.bool_), (2, bool), (3, bool)):
            calls: list[int] = []

            def stop(done: int, total: int, calls: list[int] = calls, at: int = at, kind: Any = kind) -> object:
                calls.append(done)
                return kind(len(calls) != at)

            stopped = False
            try:
                work(stop)
            except CancelledError:
                stopped = True
            assert len(calls) >= at or at > 1, "it was never asked"
            assert stopped == (len(calls) == at)
            if not stopped:  # there were fewer calls, so it came to its end
                break
            assert state() == before
        work(lambda done, total: 0)  # which is no False


@pytest.mark.parametrize("name", NAMES)
def test_progress_stops_every_reader(tmp_path: Path, name: str) -> None:
    """An open file would be a ResourceWarning, which is an error here."""
    WRITERS[name](tmp_path / name, ROWS)
    with pytest.raises(CancelledError, match=f"{name}: stopped"):
        edgevec.read_vectors(tmp_path / name, progress=lambda done, total: False)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(edgevec.read_vectors(tmp_path / name)) == len(ROWS)
