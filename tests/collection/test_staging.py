"""A batch is prepared while others read, and shown at once: what they see, and what is left of one that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import HANG

import edgevec
from edgevec.collection import Collection

DIM, HELD, NEW, AT_ONCE = 16, 500, 5_000, 2048

HERE, THERE = np.eye(2, DIM, dtype=np.float32)


def vectors(count: int, around: Any) -> np.ndarray:
    return (around + 0.1 * np.random.default_rng(count).standard_normal((count, DIM))).astype(np.float32)


def write(made: Collection, progress: Callable[[int, int], Any] | None = None) -> None:
    """NEW records around THERE, of which the first take the place of half of those that are HERE."""
    made.upsert(range(HELD // 2, HELD // 2 + NEW), vectors(NEW, THERE), progress=progress)


@pytest.fixture(autouse=True)
def in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the graph three calls to take in what write() writes."""
    monkeypatch.setattr("edgevec.collection.graph.VECTORS_PER_ADD", AT_ONCE)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Collection]:
    with edgevec.open(tmp_path / "c.edgevec", DIM) as opened:
        opened.upsert(range(HELD), vectors(HELD, HERE))
        yield opened
        report = opened.check()
        assert report.ok
        assert report.graph is not None
        assert report.graph.unreachable == 0


@pytest.fixture
def others() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Makes a call in another thread, and waits for what it returns."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call).result(HANG)


def newest(made: Collection) -> bool | None:
    """Whether all is seen of what write() writes; False: nothing of it."""
    count, ids = len(made), {hit.id for hit in made.search(HERE, 2 * HELD, ef=2 * HELD, include=())}
    far = made.search(THERE, 10, include=())[0].distance > 0.5
    if count == HELD and ids == set(range(HELD)) and far:
        return False
    here = {id for id in ids if id < HELD // 2}
    return True if count == HELD // 2 + NEW and here == set(range(HELD // 2)) and not far else None


@contextmanager
def searching_beside(made: Collection, look: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Another thread looks again and again; what it finds while the graph of the collection takes in a batch."""
    found: list[Any] = []
    during: list[Any] = []
    ended, graph = threading.Event(), made._store.graph
    stage = graph.stage

    def watched(*arguments: Any) -> bool:
        before = len(found)
        staged = stage(*arguments)
        during.extend(found[before + 1 :])  # without the one that was under way
        return staged

    def search() -> None:
        while not ended.is_set():
            found.append(look())

    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(graph, "stage", watched)
        searches = pool.submit(search)
        try:
            yield during
        finally:
            ended.set()
        searches.result(HANG)


@pytest.mark.threads
@pytest.mark.parametrize("source", ["upsert", "progress", "import"])
def test_searches_go_on_while_a_large_batch_is_taken_in(
    made: Collection, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress(done: int, total: int) -> None:
        pass

    if source == "import":
        with edgevec.open(tmp_path / "other.edgevec", DIM) as other:
            write(other)
            other.export(tmp_path / "rows.jsonl")
    with searching_beside(made, lambda: newest(made), monkeypatch) as seen:
        if source == "import":
            made.import_from(tmp_path / "rows.jsonl", progress=progress)
        else:
            write(made, progress if source == "progress" else None)
    assert seen
    assert set(seen) == {False}
    assert newest(made) is True


def never(*arguments: Any) -> None:
    raise AssertionError("this was not to be called")


@pytest.mark.threads
@pytest.mark.parametrize("rows", [1, NEW])
def test_a_search_between_the_commit_and_what_shows_it(
    made: Collection, others: Any, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """It begins after the commit, so it sees what was committed; the one before does not."""
    store, seen = made._store, []
    no_readers = store.no_readers
    monkeypatch.setattr(store.graph, "catch_up", never)  # nothing is taken in twice

    def watched() -> AbstractContextManager[None]:
        if threading.current_thread() is threading.main_thread():
            seen.append(others(lambda: made.search(THERE, 1, include=())[0].distance < 0.5))
        return no_readers()

    with monkeypatch.context() as patch:
        patch.setattr(store, "no_readers", watched)
        made.upsert(range(HELD, HELD + rows), vectors(rows, THERE))
    assert seen[:2] == [False, True]
    assert len(made) == HELD + rows


@pytest.mark.parametrize("step", ["stage", "commit"])
def test_a_batch_that_fails_leaves_what_was_there(made: Collection, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*arguments: Any) -> None:
        raise edgevec.StorageError("full")

    def stop(done: int, total: int) -> bool:
        return done < AT_ONCE + 100

    for _ in range(2):
        if step == "stage":  # in the second of its two calls
            with pytest.raises(edgevec.CancelledError):
                write(made, stop)
        else:
            with monkeypatch.context() as patch:
                patch.setattr(made._store.database, "check_file", fail)
                with pytest.raises(edgevec.StorageError, match="full"):
                    write(made)
        assert newest(made) is False
        made.upsert([0], vectors(HELD, HERE)[:1])  # which shows what it has staged, and no more
        assert newest(made) is False
        assert made.check().ok
    write(made)
    assert newest(made) is True


@pytest.mark.threads  # with one connection, as in a browser, nothing is staged
def test_what_was_committed_is_shown_whatever_comes_then(made: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal, or want of memory, just before it is shown."""
    graph = made._store.graph
    finish = graph.finish

    def fail_once(error: BaseException) -> Callable[[int], bool]:
        def failing(version: int) -> bool:
            monkeypatch.setattr(graph, "finish", finish)
            raise error

        return failing

    monkeypatch.setattr(graph, "catch_up", never)  # nothing is taken in twice

    monkeypatch.setattr(graph, "finish", fail_once(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write(made)
    assert newest(made) is True
    monkeypatch.setattr(graph, "finish", fail_once(MemoryError()))
    made.delete(range(HELD // 2, HELD // 2 + NEW))
    assert len(made) == HELD // 2
    assert made.search(THERE, 1, include=())[0].distance > 0.5
    monkeypatch.setattr(graph, "finish", fail_once(MemoryError()))
    made.upsert([1], [THERE])
    made.compact()  # what was not shown is shown first
    monkeypatch.setattr(graph, "finish", fail_once(MemoryError()))
    made.upsert([2], [THERE])
    made.upsert([3], [HERE])
    assert {hit.id for hit in made.search(THERE, 2, include=())} == {1, 2}


@pytest.mark.threads
def test_the_first_vectors_of_a_collection_are_staged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with edgevec.open(tmp_path / "c.edgevec") as made:
        with searching_beside(made, lambda: (len(made), len(made.search(THERE, 5))), monkeypatch) as seen:
            write(made)
        assert seen
        assert set(seen) == {(0, 0)}
        assert len(made.search(THERE, 5)) == 5
        assert made.check().ok


@pytest.mark.threads
def test_a_batch_that_is_too_large_for_memory_is_staged_from_the_records(
    made: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevec.collection.store.MAX_PENDING_BYTES", 1000)
    with searching_beside(made, lambda: newest(made), monkeypatch) as seen, made.batch():
        write(made)
        made.delete([0])
        made.upsert([0], vectors(HELD, HERE)[:1])
    assert seen
    assert set(seen) == {False}
    assert newest(made) is True
