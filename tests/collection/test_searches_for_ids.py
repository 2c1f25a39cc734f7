"""A search for ids alone, which needs no connection, answers as one that reads the records too."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import HANG, wait_until

import edgevec
from edgevec.collection import Collection
from edgevec.collection.threads import ReadWriteLock
from edgevec.errors import StorageError
from edgevec.single_search import SingleSearches

DIM, COUNT = 8, 300
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((COUNT, DIM)).astype(np.float32)
QUERIES = RNG.standard_normal((20, DIM)).astype(np.float32)


@pytest.fixture(params=["cosine", "ip", "l2"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Collection]:
    with edgevec.open(tmp_path / "c.edgevec", DIM, request.param) as made:
        made.upsert([n if n % 3 else f"text {n}" for n in range(COUNT)], VECTORS)
        yield made


def told(hits: edgevec.Hits) -> tuple[list[tuple[Any, float, float | None]], Any]:
    return [(hit.id, hit.score, hit.distance) for hit in hits], hits.stats


def ids_of(hits: edgevec.Hits) -> list[Any]:
    return [hit.id for hit in hits]


def assert_as_with_records(made: Collection, **how: Any) -> None:
    for query in QUERIES:
        ids, stats = told(made.search(query, include=(), **how))
        whole, whole_stats = told(made.search(query, **how))
        assert ids == whole
        assert stats == whole_stats


@pytest.mark.parametrize("k", [1, 10, SingleSearches.MOST, SingleSearches.MOST + 1, COUNT, COUNT + 100])
@pytest.mark.parametrize("how", [{}, {"ef": 200}, {"exact": True}, {"recall": 0.9}], ids=str)
def test_answers_are_those_of_a_search_with_records(made: Collection, k: int, how: dict[str, Any]) -> None:
    assert_as_with_records(made, k=k, **how)


def test_the_distances_are_numpys(made: Collection) -> None:
    query = QUERIES[0].astype(np.float64)
    unit = VECTORS / np.linalg.norm(VECTORS.astype(np.float64), axis=1)[:, None]
    truth = {
        "cosine": 1 - unit @ (query / np.linalg.norm(query)),
        "ip": 1 - VECTORS @ query,
        "l2": ((VECTORS - query) ** 2).sum(1),
    }[made.metric]
    hits = made.search(QUERIES[0], 10, exact=True, include=())
    assert [hit.id for hit in hits] == [n if n % 3 else f"text {n}" for n in np.argsort(truth)[:10].tolist()]
    np.testing.assert_allclose([hit.distance for hit in hits], np.sort(truth)[:10], rtol=1e-4, atol=1e-4)


def test_hits_have_metadata_of_their_own(made: Collection) -> None:
    first, second = made.search(QUERIES[0], 2, include=())
    first.metadata["mine"] = 1
    assert second.metadata == {}
    assert first.document is None


def test_bad_arguments_are_refused_alike(made: Collection) -> None:
    for bad in ({"ef": 0}, {"ef": 1.5}, {"ef": 10, "recall": 0.5}):
        for include in ((), ("metadata",)):
            with pytest.raises(edgevec.ParameterError):
                made.search(QUERIES[0], include=include, **bad)
    for vector in (np.full(DIM, np.nan), np.ones(DIM + 1), np.array(["a"] * DIM)):
        errors = []
        for include in ((), ("metadata",)):
            with pytest.raises(edgevec.EdgevecError) as caught:
                made.search(vector, include=include)
            errors.append((type(caught.value), str(caught.value)))
        assert errors[0] == errors[1]
    assert_as_with_records(made)


def near(made: Collection) -> NDArray[np.float32]:
    """A vector that is the nearest to the first query."""
    return QUERIES[:1] * (1 if made.metric == "l2" else 10)


def first_id(made: Collection) -> Any:
    return made.search(QUERIES[0], 10, exact=True, include=())[0].id


def test_what_was_written_and_deleted_is_seen_at_once(made: Collection) -> None:
    before = first_id(made)
    made.upsert(["new"], near(made))
    assert first_id(made) == "new"
    made.delete(["new"])
    assert first_id(made) == before
    with suppress(ZeroDivisionError), made.batch():
        made.upsert(["new"], near(made))
        assert first_id(made) == "new"
        raise ZeroDivisionError
    assert first_id(made) == before
    assert_as_with_records(made)


def test_what_the_graph_could_not_show_is_seen_by_the_next_search(
    made: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(version: int) -> bool:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(made._store.graph, "finish", full)
        made.upsert(["new"], near(made))
    assert first_id(made) == "new"


@pytest.mark.threads
def test_a_search_waits_while_the_graph_shows_what_was_committed(
    made: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could take rows of the one version and ids of the other."""
    events: list[Any] = []
    searching = threading.Thread(target=lambda: events.append(first_id(made)))
    finish = made._store.graph.finish

    def show(version: int) -> bool:
        searching.start()
        wait_until(lambda: events or made._store._lock._changed._waiters)  # type: ignore[attr-defined]
        shown = finish(version)
        events.append("shown")
        return shown

    monkeypatch.setattr(made._store.graph, "finish", show)
    made.upsert(["new"], near(made))
    searching.join(HANG)
    assert events == ["shown", "new"]


@pytest.mark.threads
def test_others_do_not_see_an_open_batch(made: Collection) -> None:
    before = first_id(made)
    seen: list[Any] = []
    with made.batch():
        made.upsert(["new"], near(made))
        looking = threading.Thread(target=lambda: seen.append(first_id(made)))
        looking.start()
        looking.join(HANG)
    assert seen == [before]
    assert first_id(made) == "new"


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_records_that_another_program_has_deleted_are_left_out(made: Collection, tmp_path: Path) -> None:
    near = [hit.id for hit in made.search(QUERIES[0], 20, exact=True)]
    with sqlite3.connect(tmp_path / "c.edgevec") as other:
        other.executemany("DELETE FROM records WHERE id = ?", [(id,) for id in near[:5]])
    other.close()
    made.refresh()
    hits = made.search(QUERIES[0], 10, exact=True, include=())
    assert [hit.id for hit in hits] == near[5:15]
    assert hits.stats.vanished


@pytest.fixture
def reader(made: Collection, tmp_path: Path) -> Iterator[Collection]:
    if sys.platform == "emscripten":
        pytest.skip("a browser has one program")
    with edgevec.open(tmp_path / "c.edgevec", mode="r") as reader:
        yield reader


def test_a_reader_answers_alike(made: Collection, reader: Collection) -> None:
    assert_as_with_records(reader)
    for query in QUERIES:
        assert told(reader.search(query, include=())) == told(made.search(query, include=()))


def test_a_reader_that_is_in_step_begins_no_transaction(
    made: Collection, reader: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    begin, searching = reader._store.begin_read, threading.get_ident()

    def counted(*how: Any) -> Any:
        if threading.get_ident() == searching:  # the thread that lets the graph follow reads, too
            begun.append(how)
        return begin(*how)

    for query in QUERIES:
        reader.search(query, include=())  # the ids are known then
    monkeypatch.setattr(reader._store, "begin_read", counted)
    assert_as_with_records(reader)
    assert len(begun) == len(QUERIES)  # those with records
    made.delete(["nothing"])
    made.upsert([1], VECTORS[1:2], [{"changed": 1}])
    before = len(begun)
    reader.search(QUERIES[0], include=())
    assert len(begun) == before + 1
    wait_until(lambda: reader._store.graph.behind is None)
    reader.search(QUERIES[0], include=())
    reader._store.graph.forget_ids()
    before = len(begun)
    reader.search(QUERIES[0], include=())  # which are to be read, of the graph's version
    assert len(begun) == before + 1


def test_a_reader_sees_what_others_have_committed_at_once(
    made: Collection, reader: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = first_id(reader)
    monkeypatch.setattr(reader._store.follower, "wake", lambda: None)  # what is new stays beside the graph
    for number in range(20):
        made.upsert(["new"], near(made))
        assert first_id(reader) == "new"
        assert len(reader.search(QUERIES[0], COUNT + 1, include=())) == COUNT + 1  # and knows every id
        assert first_id(reader) == "new"
        assert ids_of(reader.search(QUERIES[1], include=())) == ids_of(made.search(QUERIES[1]))
        made.delete(["new"])
        made.upsert([f"other {number}"], near(made))  # in the row of the one before
        assert first_id(reader) == f"other {number}"
        made.delete([f"other {number}"])
        assert first_id(reader) == before
        if number % 5 == 0:
            with reader._store.read() as connection:  # by another connection, too
                assert first_id(reader) == before
                assert connection.execute("SELECT count(*) FROM records").fetchone() == (COUNT,)
    with closing(sqlite3.connect(tmp_path / "c.edgevec")) as other, other:
        other.execute("UPDATE records SET id = 'renamed' WHERE id = ?", (before,))
    assert first_id(reader) == "renamed"


@pytest.mark.skipif(os.name != "posix", reason="a file that is open cannot be replaced")
def test_a_reader_notices_that_its_file_was_replaced(made: Collection, reader: Collection, tmp_path: Path) -> None:
    first_id(reader)
    first_id(reader)
    path = tmp_path / "c.edgevec"
    kept = path.rename(tmp_path / "kept")
    with pytest.raises(StorageError, match="removed"):
        first_id(reader)
    path.write_bytes(kept.read_bytes())
    with pytest.raises(StorageError, match="replaced"):
        first_id(reader)
    kept.replace(path)
    assert first_id(reader) == first_id(made)


def test_a_progress_function_may_not_search(made: Collection) -> None:
    refused = []

    def progress(done: int, total: int) -> None:
        writer = made._store._lock._writer
        with pytest.raises(edgevec.BusyError):
            made.search(QUERIES[0], include=())
        assert made._store._lock._writer == writer
        refused.append(done)

    made.compact(progress=progress)
    with made.batch(progress=progress):
        made.upsert(["new"], QUERIES[:1])
    assert refused
    assert_as_with_records(made)


@pytest.mark.threads
def test_what_is_committed_is_not_shown_during_a_search(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    before, ended = first_id(made), threading.Event()
    ids_of = made._store.ids_of

    def write() -> None:
        made.delete([before])
        ended.set()

    writing = threading.Thread(target=write)

    def slow_ids_of(rows: NDArray[np.int64]) -> list[Any]:
        writing.start()
        wait_until(lambda: ended.is_set() or made._store._lock._waiting)
        assert not ended.is_set()
        return ids_of(rows)

    with monkeypatch.context() as patch:
        patch.setattr(made._store, "ids_of", slow_ids_of)
        assert first_id(made) == before
    writing.join(HANG)
    assert first_id(made) != before


def test_fewer_records_than_are_asked_for(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "few.edgevec") as made:
        made.upsert(range(5), VECTORS[:5])
        assert_as_with_records(made, k=10)
        assert len(made.search(QUERIES[0], 10, include=())) == 5


def test_a_forked_process_is_refused(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(made._store, "_process", os.getpid() + 1)
        with pytest.raises(edgevec.ClosedError, match="forked"):
            made.search(QUERIES[0], include=())


def test_an_empty_and_a_closed_collection(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "empty.edgevec") as made:
        assert made.search(np.ones(3), include=()) == []
        made.upsert([1], [[1, 2, 3]])
        made.delete([1])
        assert made.search(np.ones(3), include=()) == []
    with pytest.raises(edgevec.ClosedError):
        made.search(np.ones(3), include=())


def test_the_cost_is_that_of_the_context() -> None:
    index = edgevec.Index(DIM)
    index.add(RNG.standard_normal((5000, DIM)))
    searches = SingleSearches(index)
    for exact in (False, True):
        found = searches.search(QUERIES[0], 10, 0, exact)
        expected = index.search(QUERIES[0], 10, exact=exact)
        assert found == expected.distances.tolist()
        assert searches.ids[:10].tolist() == expected.ids.tolist()
        assert searches.cost() == searches.context.cost()
        assert searches.cost()[0] == searches.context.stats.strategy == ("exact" if exact else "graph")


@pytest.mark.threads
def test_threads_search_beside_a_writer(tmp_path: Path) -> None:
    """Each batch replaces all records by those of its number: whoever searches finds the ids of one batch alone."""
    with edgevec.open(tmp_path / "c.edgevec", DIM, durability="fast") as made:
        ended = threading.Event()
        errors: list[BaseException] = []

        def replace(batch: int) -> None:
            with made.batch():
                made.delete([f"{batch - 1} {n}" for n in range(20)])
                made.upsert([f"{batch} {n}" for n in range(20)], VECTORS[:20] + batch)

        def search() -> None:
            latest = 0
            try:
                while not ended.is_set():
                    found = {hit.id.split()[0] for hit in made.search(QUERIES[0], 20, include=())}  # type: ignore[union-attr]
                    assert len(found) == 1
                    assert int(min(found)) >= latest
                    latest = int(min(found))
            except BaseException as error:
                errors.append(error)

        replace(0)
        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for batch in range(1, 100):
                replace(batch)
        finally:
            ended.set()
            for thread in threads:
                thread.join(HANG)
        assert not errors, errors
        assert made.check().ok


@pytest.mark.threads
def test_a_reader_waits_for_the_writer_that_writes_and_for_the_one_that_waits() -> None:
    lock, events = ReadWriteLock(), []

    def read() -> None:
        lock.acquire_read()
        events.append("read")
        lock.release_read()

    def write() -> None:
        lock.acquire_write()
        events.append("written")
        lock.release_write()

    lock.acquire_write()
    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: events or lock._changed._waiters)  # type: ignore[attr-defined]
    events.append("written")
    lock.release_write()
    reader.join(HANG)
    assert events == ["written", "read"]

    events.clear()
    lock.acquire_read()
    writer, reader = threading.Thread(target=write), threading.Thread(target=read)
    writer.start()
    wait_until(lambda: events or lock._waiting)
    reader.start()
    wait_until(lambda: events or len(lock._changed._waiters) == 2)  # type: ignore[attr-defined]
    events.append("first reader")
    lock.release_read()
    for thread in (writer, reader):
        thread.join(HANG)
    assert events == ["first reader", "written", "read"]


@pytest.mark.threads
def test_the_lock_keeps_readers_and_writers_apart() -> None:
    lock, reading, wrong = ReadWriteLock(), set(), []
    ended, interval = threading.Event(), sys.getswitchinterval()

    def read() -> None:
        me = threading.get_ident()
        while not ended.is_set():
            lock.acquire_read()
            reading.add(me)
            time.sleep(0)
            reading.discard(me)
            lock.release_read()

    def write() -> None:
        for _ in range(300):
            lock.acquire_write()
            for _ in range(5):
                if reading:
                    wrong.append(set(reading))
                time.sleep(0)
            lock.release_write()

    sys.setswitchinterval(1e-6)
    try:
        readers = [threading.Thread(target=read) for _ in range(4)]
        writers = [threading.Thread(target=write) for _ in range(2)]
        for thread in (*readers, *writers):
            thread.start()
        for thread in writers:
            thread.join(HANG)
        ended.set()
        for thread in readers:
            thread.join(HANG)
    finally:
        ended.set()
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in (*readers, *writers))
    assert not wrong
