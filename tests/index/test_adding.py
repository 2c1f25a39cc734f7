"""Searches beside an `add` or `compact` in another thread: they go on, and see the index as it was until it is as it
will be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from oracle import each_quantization
from support import lasting

from edgevec import CancelledError, IdFilter, Index, Quantization, SearchContext

pytestmark = [pytest.mark.threads, pytest.mark.core]
DIM, OLD, NEW, K = 48, 1500, lasting(12_000), 10


def vectors(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)


def made(quantization: Quantization = "sq8") -> Index:
    index = Index(DIM, metric="l2", quantization=quantization)
    index.add(vectors(OLD, 1))
    index.remove(range(0, OLD, 50))
    return index


def beside(call: Callable[[], object], work: Callable[[], object]) -> int:
    """How often `work` was done, from beginning to end, while the call ran in a thread of its own."""
    ended = threading.Event()

    def run() -> None:
        try:
            call()
        finally:
            ended.set()

    thread, count = threading.Thread(target=run), 0
    thread.start()
    while not ended.is_set():
        work()
        count += not ended.is_set()
    thread.join()
    return count


def assert_some_were_beside(attempt: Callable[[], int], least: int) -> None:
    """Where a busy machine ends a call before so many were done beside it, it is made anew, ten times at most."""
    assert any(attempt() >= least for _ in range(10))


@each_quantization
@pytest.mark.parametrize("threads", [1, 2])
def test_searches_go_on_and_see_what_was_there(quantization: Quantization, threads: int) -> None:
    assert_some_were_beside(lambda: searches_beside_an_add(quantization, threads), least=5)


def searches_beside_an_add(quantization: Quantization, threads: int) -> int:
    index, queries, new = made(quantization), vectors(20, 2), vectors(NEW, 3)
    allowed, context = IdFilter(range(0, OLD, 3)), SearchContext(index)
    known = {i for i in range(OLD) if i % 50}
    committed = threading.Event()

    def search() -> None:
        before = committed.is_set()
        found = [
            index.search(queries, K).ids,
            index.search(queries[0], K, exact=True).ids,
            index.search(queries[1], K, filter=allowed).ids,
            index.search(queries[2], K, context=context).ids,
        ]
        seen = {int(id) for ids in found for id in ids.ravel()}
        if len(index) < OLD:
            assert seen <= known
            assert {int(id) for id in found[2]} <= set(range(0, OLD, 3))
        assert not before or len(index) > OLD
        assert 1 in index
        assert index.get([1]).shape == (1, DIM)

    def add() -> None:
        index.add(new, threads=threads)
        committed.set()

    count = beside(add, search)
    assert len(index) == len(known) + NEW
    assert index.check().ok
    truth = index.search(queries, K, exact=True).ids
    assert np.mean([len(set(a) & set(b)) for a, b in zip(truth, index.search(queries, K, ef=200).ids, strict=True)]) > 7
    return count


@each_quantization
def test_what_searches_see_of_an_add_that_is_stopped_is_nothing(quantization: Quantization) -> None:
    index, queries = made(quantization), vectors(20, 2)
    expected = index.search(queries, K, exact=True).ids.tolist()
    told: list[int] = []

    def progress(done: int, total: int) -> bool:
        told.append(done)
        return done < NEW // 2

    def search() -> None:
        assert index.search(queries, K, exact=True).ids.tolist() == expected

    def add() -> None:
        with pytest.raises(CancelledError):
            index.add(vectors(NEW, 3), progress=progress)

    beside(add, search)
    assert told
    search()
    assert index.check().ok
    assert index.add(vectors(100, 4)).tolist() == list(range(OLD, OLD + 100))
    index.compact()
    assert index.check().ok


def stay_the_same(index: Index, call: Callable[[], object], seen: set[int]) -> int:
    """How often searches beside a call found only what was there, and all of it where they compare with all."""
    queries, even = vectors(20, 2), IdFilter(range(0, OLD + NEW, 2))
    expected = index.search(queries, K, exact=True).ids.tolist()
    of_even = index.search(queries, K, exact=True, filter=even).ids.tolist()

    def search() -> None:
        assert index.search(queries, K, exact=True).ids.tolist() == expected
        assert index.search(queries, K, exact=True, filter=even).ids.tolist() == of_even
        assert set(index.search(queries, K, ef=50).ids.ravel().tolist()) <= seen
        near = index.search(queries, K, ef=50, filter=even).ids
        assert not (near % 2).any()

    count = beside(call, search)
    search()
    return count


@each_quantization
def test_searches_go_on_beside_compact(quantization: Quantization) -> None:
    assert_some_were_beside(lambda: searches_beside_compact(quantization), least=2)


def searches_beside_compact(quantization: Quantization) -> int:
    index = made(quantization)
    index.add(vectors(NEW, 3))
    index.add(vectors(NEW // 10, 3))  # copies, whose nodes are removed
    index.remove(range(0, OLD + NEW, 3))
    held = {i for i in range(OLD + NEW + NEW // 10) if i in index}
    count = stay_the_same(index, index.compact, held)
    assert index.check().ok
    return count


@pytest.mark.parametrize("keep_vectors", ["float32", True])
def test_searches_go_on_while_what_is_held_is_encoded_anew(keep_vectors: Literal["float32"] | bool) -> None:
    index = Index(DIM, metric="l2", keep_vectors=keep_vectors, ef_construction=20, M=4)
    index.add(vectors(2 * NEW, 1))
    trained, far = index.stats()["trainings"], vectors(NEW // 2, 3) + 6

    def add() -> None:  # stopped once that is done
        with pytest.raises(CancelledError):
            index.add(far, progress=lambda done, total: index.stats()["trainings"] == trained)

    stay_the_same(index, add, set(range(2 * NEW)))
    assert index.stats()["trainings"] > trained
    assert index.check().ok


def test_what_is_saved_beside_an_add_is_whole(tmp_path: Path) -> None:
    index, queries = made(), vectors(20, 2)

    def save() -> None:
        index.save(tmp_path / "index")
        loaded = Index.load(tmp_path / "index")
        assert len(loaded) in (OLD - OLD // 50, OLD - OLD // 50 + NEW)
        assert loaded.check().ok
        assert loaded.search(queries, K).ids.shape == (20, K)

    beside(lambda: index.add(vectors(NEW, 3)), save)
    save()


def test_many_threads_add_remove_and_search() -> None:
    index, queries, many = made(), vectors(20, 2), lasting(600)
    errors: list[BaseException] = []

    def change(seed: int) -> None:
        try:
            for turn in range(4):
                ids = np.arange(many) + 10_000 * (seed + 1)
                index.add(vectors(many, 10 * seed + turn), ids=ids, threads=2)
                assert index.remove(ids[: many // 3]) == many // 3
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=change, args=[seed]) for seed in range(3)]

    def all_of_them() -> None:
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

    def search() -> None:
        ids, distances = index.search(queries, K)
        assert (ids >= 0).all()
        assert (np.diff(distances) >= 0).all()

    beside(all_of_them, search)
    assert not errors
    assert len(index) == OLD - OLD // 50 + 3 * (many - many // 3)
    assert index.check().ok
