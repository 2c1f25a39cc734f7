"""Searches of several shards find what one index finds, and what brute force finds."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from oracle import QUANTIZATIONS, assert_right, clustered, each_metric, recall
from support import HANG

import edgevec
from edgevec import ShardedIndex
from edgevec.sharded import ShardContext
from edgevec.sharded.shards import OpenShard

ROWS, DIM, SHARD = 900, 12, 250


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return clustered(np.random.default_rng(3), ROWS, DIM)


@each_metric
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_exact_answers_are_those_of_brute_force(
    rows: np.ndarray, metric: str, quantization: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    queries = rng.standard_normal((8, DIM)).astype(np.float32)
    with ShardedIndex.build(
        rows, tmp_path / "s", rows_per_shard=SHARD, metric=metric, quantization=quantization, keep_vectors="float32"
    ) as index:
        assert len(index.shards) == 4
        batch = index.search(queries, 7, exact=True)
        for query, ids, distances in zip(queries, *batch, strict=True):
            assert_right(index.search(query, 7, exact=True), metric, (range(ROWS), rows), query, 7)
            assert_right(edgevec.SearchResult(ids, distances), metric, (range(ROWS), rows), query, 7)


@each_metric
def test_shapes_trimming_and_padding_are_those_of_an_index(
    rows: np.ndarray, metric: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    one = edgevec.Index(DIM, metric, keep_vectors="float32")
    one.add(rows)
    queries = rng.standard_normal((5, DIM)).astype(np.float32)
    allowed = rng.permutation(ROWS)[:9]
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=SHARD, metric=metric, keep_vectors="float32") as index:
        for k in (1, 9, 12, ROWS, ROWS + 5):
            for options in ({}, {"filter": allowed}, {"filter": edgevec.IdFilter(allowed)}, {"filter": []}):
                for asked in (queries, queries[0], queries[:0]):
                    found = index.search(asked, k, exact=True, **options)
                    expected = one.search(asked, k, exact=True, **options)
                    np.testing.assert_array_equal(found.ids, expected.ids)
                    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-5, atol=1e-5)
                    assert (found.ids.dtype, found.distances.dtype) == (np.int64, np.float32)


def test_equal_distances_come_by_id(tmp_path: Path) -> None:
    rows = np.tile(np.eye(4, dtype=np.float32), (25, 1))
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=30, metric="l2", quantization="none") as index:
        assert index.search([1, 0, 0, 0], 25).ids.tolist() == list(range(0, 100, 4))
        assert index.search([[1, 0, 0, 0]], 25, exact=True).ids[0].tolist() == list(range(0, 100, 4))


def test_the_graph_finds_and_a_recall_is_reached(rows: np.ndarray, tmp_path: Path, rng: np.random.Generator) -> None:
    queries = clustered(rng, 60, DIM)
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=SHARD, metric="l2") as index:
        assert recall("l2", rows, queries, index.search(queries, 10).ids, 10) > 0.95
        assert recall("l2", rows, queries, index.search(queries, 10, recall=0.9).ids, 10) > 0.85
        found = np.array([index.search(query, 10).ids for query in queries])
        assert recall("l2", rows, queries, found, 10) > 0.95


def test_statistics_of_each_shard(rows: np.ndarray, tmp_path: Path) -> None:
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=SHARD) as index:
        context = ShardContext(index)
        index.search(rows[0], 3, exact=True, context=context)
        assert [(stats.file, stats.live) for stats in context.stats] == [(s.file, s.live) for s in index.shards]
        assert [stats.search.strategy for stats in context.stats if stats.search] == ["exact"] * 4
        assert context.share == 1.0
        with (
            ShardedIndex.open(tmp_path / "s") as other,
            pytest.raises(edgevec.ParameterError, match="of another index"),
        ):
            other.search(rows[0], context=context)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads(rows: np.ndarray, tmp_path: Path, threads: int) -> None:
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=100, keep_vectors="float32") as index:
        assert index.search(rows[5], 4, threads=threads, exact=True).ids[0] == 5
        assert index.search(rows[:6], 4, threads=threads).ids[:, 0].tolist() == list(range(6))


@pytest.mark.threads
def test_a_query_goes_to_threads_where_that_saves_time(
    rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what a shard took the last time, of a clock that goes on by the time that is said here with each look."""
    now, step = 0.0, 0.0

    def clock() -> float:
        nonlocal now
        now += step
        return now

    monkeypatch.setattr("edgevec.sharded.searching.time.perf_counter", clock)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=SHARD, metric="l2", keep_vectors="float32") as index:
        asked: list[int] = []
        search = edgevec.Index.search

        def noted(self: edgevec.Index, *arguments: object, **options: object) -> object:
            asked.append(threading.get_ident())
            return search(self, *arguments, **options)

        monkeypatch.setattr(edgevec.Index, "search", noted)
        for step, exact, threads, expected in (
            (10e-6, False, 0, 2),  # nothing is known
            (10e-6, False, 0, 1),
            (5e-3, False, 0, 1),
            (5e-3, False, 0, 2),
            (10e-6, True, 0, 2),  # of another kind
            (10e-6, False, 0, 2),
            (10e-6, False, 0, 1),
            (10e-6, False, 2, 2),  # it is asked for
            (5e-3, False, 1, 1),
            (5e-3, False, 1, 1),
        ):
            asked.clear()
            assert index.search(rows[5], 4, exact=exact, threads=threads).ids[0] == 5
            assert len(asked) == 4
            assert len({*asked} - {threading.get_ident()}) <= expected - 1, (step, exact, threads)
            assert asked.count(threading.get_ident()) == 4 // expected


def test_get_contains_iteration_and_pickling(rows: np.ndarray, tmp_path: Path) -> None:
    ids = np.arange(ROWS) * 7 - 1000
    ids[ids == -1] = -2
    with ShardedIndex.build(rows, tmp_path / "s", ids=ids, rows_per_shard=SHARD, keep_vectors="float32") as index:
        few = ids[[800, 3, 400, 3]]
        lengths = np.linalg.norm(rows[[800, 3, 400, 3]], axis=1, keepdims=True)
        np.testing.assert_allclose(index.get(few), rows[[800, 3, 400, 3]] / lengths, rtol=1e-6)
        assert index.get(ids).shape == (ROWS, DIM)
        assert sorted(index) == sorted(ids.tolist())
        assert ids[3] in index
        assert 10**9 not in index
        assert "x" not in index
        with pytest.raises(edgevec.UnknownIdError, match="id 77777"):
            index.get([ids[0], 77777])
        with pickle.loads(pickle.dumps(index)) as again:
            assert len(again) == ROWS
            assert repr(again) == f"ShardedIndex({ROWS} x {DIM}, 'cosine', 4 shards)"


@pytest.mark.parametrize(
    ("queries", "options", "error"),
    [
        ([[1, 2]], {}, "dimensions"),
        ([np.nan] * DIM, {}, "NaN"),
        ([0] * DIM, {}, "zero"),
        ([1] * DIM, {"k": 0}, "k must be"),
        ([1] * DIM, {"ef": 0}, "ef must be"),
        ([1] * DIM, {"ef": 5, "recall": 0.5}, "not both"),
        ([1] * DIM, {"threads": -1}, "threads must be"),
        ([1] * DIM, {"filter": [0.5]}, "filter ids"),
    ],
)
def test_bad_arguments(
    rows: np.ndarray, tmp_path: Path, queries: list[float], options: dict[str, object], error: str
) -> None:
    with ShardedIndex.build(rows[:300], tmp_path / "s", rows_per_shard=100) as index:
        with pytest.raises(ValueError, match=error):
            index.search(queries, **options)
        index.remove(range(300))
        assert (len(index), index.shards, index.search([1] * DIM).ids.size) == (0, (), 0)
        assert index.search([[1] * DIM] * 2).ids.shape == (2, 0)
        with pytest.raises(ValueError, match=error):  # with nothing to find, too
            index.search(queries, **options)


def test_a_closed_one_says_so(rows: np.ndarray, tmp_path: Path) -> None:
    index = ShardedIndex.build(rows, tmp_path / "s")
    index.close()
    index.close()
    assert index.closed
    assert repr(index) == "<closed ShardedIndex>"
    for call in (
        lambda: index.search(rows[0]),
        lambda: len(index),
        lambda: index.get([1]),
        lambda: 1 in index,
        lambda: index.add(rows),
        lambda: index.remove([1]),
        lambda: index.refresh(),
        lambda: list(index),
        lambda: index.compact(),
    ):
        with pytest.raises(edgevec.ClosedError):
            call()


@pytest.mark.threads
def test_searches_beside_changes_never_see_half_of_one(rows: np.ndarray, tmp_path: Path) -> None:
    """Whatever happens, each of the ids 0..99 is there once; and what is removed is not found again."""
    with ShardedIndex.build(rows[:300], tmp_path / "s", rows_per_shard=100) as index:
        wrong: list[object] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                held = len(removed)
                gone = set(removed[:held])
                found = index.search(rows[0], 400, exact=True).ids.tolist()
                if len(found) != len(set(found)) or not set(range(100)) <= set(found) or gone & set(found):
                    wrong.append(found)

        removed: list[int] = []
        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(12):
                index.add(rows[:100], ids=range(100))
                index.remove([299 - turn])
                removed.append(299 - turn)
                if turn % 4 == 3:
                    index.compact()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not wrong


@pytest.mark.threads
def test_a_change_waits_for_the_searches_that_have_begun(
    rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search between two shards finds both as they were."""
    with ShardedIndex.build(rows[:300], tmp_path / "s", rows_per_shard=100) as index:
        inside, changed = threading.Event(), threading.Event()
        search, remove = edgevec.Index.search, OpenShard.remove
        found: list[list[int]] = []

        def slowly(self: edgevec.Index, *arguments: object, **options: object) -> object:
            if not inside.is_set():
                inside.set()
                changed.wait(0.5)  # in vain, unless it does not wait
            return search(self, *arguments, **options)

        def noted(self: OpenShard, *arguments: object) -> None:
            remove(self, *arguments)
            changed.set()

        monkeypatch.setattr(edgevec.Index, "search", slowly)
        monkeypatch.setattr(OpenShard, "remove", noted)
        looking = threading.Thread(
            target=lambda: found.append(index.search(rows[0], 300, exact=True, threads=1).ids.tolist())
        )
        looking.start()
        assert inside.wait(HANG)
        index.remove([5, 105, 205])
        looking.join()
        assert sorted(found[0]) == list(range(300))
        assert len(index.search(rows[0], 300, exact=True).ids) == 297
