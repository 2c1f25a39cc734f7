"""Recall, latency and the brute-force truth, against slow and obvious computations and a fake clock."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import edgevec
from edgevec import SearchResult, evaluation, recall

IDS = st.integers(-1, 30)


def test_recall_counts_what_was_found() -> None:
    assert recall([[1, 2, 3, 4]], [[4, 3, 9, 8]]) == 0.5
    assert recall([[1, 2], [3, 4]], [[1, 2], [5, 6]]) == 0.5
    assert recall([1, 2], [2, 1]) == 1.0


def test_recall_passes_over_padding() -> None:
    assert recall([[1, -1, -1]], [[1, -1, -1]]) == 1.0
    assert recall([[-1, -1]], [[1, 2]]) == 0.0
    assert recall([[1, 2], [3, 4]], [[1, 2], [-1, -1]]) == 1.0  # the second query has nothing to find
    assert recall([[7]], [[-1]]) == 1.0
    assert recall(np.empty((0, 5), np.int64), np.empty((0, 5), np.int64)) == 1.0


def test_recall_of_rows_of_other_width() -> None:
    assert recall([[1, 2]], [[1, 2, 3, 4]]) == 0.5
    assert recall([[1, 2, 3, 4]], [[1]]) == 1.0


@given(
    found=arrays(np.int64, (6, 5), elements=IDS),
    true=arrays(np.int64, (6, 7), elements=IDS),
)
def test_recall_is_the_mean_of_the_rows(found: np.ndarray, true: np.ndarray) -> None:
    shares = []
    for row in range(6):
        wanted = [id for id in np.unique(true[row]) if id != -1]
        if wanted:
            shares.append(sum(id in found[row] for id in wanted) / len(wanted))
    assert recall(found, true) == pytest.approx(np.mean(shares) if shares else 1.0)


def shares_by_distance(
    found: np.ndarray, far: np.ndarray, true: np.ndarray, true_far: np.ndarray, unit: float = 0.0
) -> list[float]:
    """The definition, a query at a time."""
    shares = []
    for row in range(len(found)):
        held = [(id, d) for id, d in zip(true[row].tolist(), true_far[row].tolist(), strict=True) if d < np.inf]
        if not held:
            continue
        last = max(d for _, d in held)
        limit = last + 1e-6 * max(abs(last), unit)
        hits = {id for id, d in zip(found[row].tolist(), far[row].tolist(), strict=True) if d < np.inf and d <= limit}
        sought = {id for id, _ in held}
        shares.append(min(1.0, len(hits) / len(sought)))
    return shares


def nearest_by_loop(rows: np.ndarray, query: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    """The first k rows by squared distance, padded with id -1 and distance inf where there are fewer."""
    far = ((rows.astype(np.float64) - query) ** 2).sum(axis=1)
    order = np.argsort(far, kind="stable")[:k].tolist()
    short = k - len(order)
    return order + [-1] * short, far[order].tolist() + [np.inf] * short


@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(-2, 2)),
    k=st.integers(1, 15),
    seed=st.integers(0, 2**32 - 1),
)
def test_recall_by_distance_is_its_definition_with_ties_duplicates_and_padding(
    values: np.ndarray, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = values[rng.integers(len(values), size=rng.integers(1, 25))]  # many of them equal
    queries = rng.integers(-2, 3, (4, 2)).astype(np.float32)
    true, true_far = map(np.array, zip(*(nearest_by_loop(rows, query, k) for query in queries), strict=True))
    found = rng.integers(-1, len(rows), (4, k))
    far = evaluation.distances(rows, queries, found, "l2")
    expected = shares_by_distance(found, far, true, true_far)
    given = recall(found, true, found_distances=far, true_distances=true_far)
    assert given == pytest.approx(np.mean(expected) if expected else 1.0)
    both = recall(SearchResult(found, far), SearchResult(true, true_far))
    assert both == given


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_recall_by_distance_of_any_nearest_rows_is_whole(seed: int, k: int) -> None:
    """Ties broken the other way round are as good an answer."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (20, 2)).astype(np.float32)
    queries = rng.integers(-1, 2, (5, 2)).astype(np.float32)
    true, true_far = map(np.array, zip(*(nearest_by_loop(rows, query, k) for query in queries), strict=True))
    found, far = map(np.array, zip(*(nearest_by_loop(rows[::-1], query, k) for query in queries), strict=True))
    found = np.where(found == -1, -1, len(rows) - 1 - found)
    assert recall(SearchResult(found, far), SearchResult(true, true_far)) == 1.0


def test_recall_by_distance_passes_over_padding_by_its_distance() -> None:
    inf = np.inf
    assert recall([[1, -1]], [[2, -1]], found_distances=[[0.5, inf]], true_distances=[[0.5, inf]]) == 1.0
    assert recall([[-1, -1]], [[1, 2]], found_distances=[[inf, inf]], true_distances=[[0.5, 1]]) == 0.0
    assert recall([[7]], [[-1]], found_distances=[[0.5]], true_distances=[[inf]]) == 1.0  # nothing to find
    assert recall([[-1]], [[-1]], found_distances=[[0.5]], true_distances=[[0.5]]) == 1.0  # -1 is an id as any other


def test_recall_by_distance_counts_an_id_once() -> None:
    assert recall([[1, 1]], [[1, 2]], found_distances=[[0.5, 0.5]], true_distances=[[0.5, 1]]) == 0.5


@pytest.mark.parametrize(
    ("metric", "last", "found", "counts"),
    [
        (None, 2.0, 2.0 + 1.9e-6, True),
        (None, 2.0, 2.0 + 2.2e-6, False),
        (None, 1e-9, 1.1e-9, False),
        ("l2", 1e-9, 1.1e-9, False),
        ("l2", 0.0, 1e-9, False),
        ("cosine", 0.0, 9e-7, True),
        ("cosine", 0.0, 1.1e-6, False),
        ("ip", -100.0, -99.9999, True),
        ("ip", -100.0, -99.9998, False),
    ],
)
def test_recall_by_distance_forgives_what_float32_cannot_tell_apart(
    metric: Any, last: float, found: float, counts: bool
) -> None:
    assert recall([1], [2], found_distances=[found], true_distances=[last], metric=metric) == counts


def test_recall_of_two_search_results_rises_with_ef_where_rows_are_equal() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(200, 8)), 20, axis=0).astype(np.float32)
    queries = rng.normal(size=(100, 8)).astype(np.float32)
    for metric in ("l2", "cosine", "ip"):
        index = edgevec.Index(8, metric)
        index.add(rows, threads=1)
        truth = index.search(queries, 10, exact=True)
        reached = [recall(index.search(queries, 10, ef=ef), truth) for ef in (10, 80, 640)]
        assert reached == sorted(reached), metric
        assert reached[-1] > 0.99


@pytest.mark.parametrize(
    ("found", "true", "distances"),
    [
        (SearchResult(np.array([1]), np.array([0.5])), [1], {}),
        ([1], SearchResult(np.array([1]), np.array([0.5])), {}),
        ([1], [1], {"found_distances": [0.5]}),
        ([1], [1], {"found_distances": [0.5], "true_distances": [0.5, 1.0]}),
        ([1], [1], {"found_distances": [[0.5]], "true_distances": [0.5]}),
    ],
)
def test_recall_refuses_distances_of_one_side_alone_or_of_other_shape(found: Any, true: Any, distances: Any) -> None:
    with pytest.raises(edgevec.ParameterError, match="recall needs"):
        recall(found, true, **distances)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_distances_are_those_of_an_obvious_loop(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, metric: Any
) -> None:
    monkeypatch.setattr(evaluation, "_BLOCK_BYTES", 8 * 6 * 5 * 3)  # several blocks
    vectors, queries = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(10, 5)).astype(np.float32)
    rows = rng.integers(-1, 40, (10, 6))
    for query, row, far in zip(queries, rows, evaluation.distances(vectors, queries, rows, metric), strict=True):
        for at, distance in zip(row.tolist(), far.tolist(), strict=True):
            v, q = vectors[at].astype(np.float64), query.astype(np.float64)
            expected = {
                "l2": ((v - q) ** 2).sum(),
                "ip": 1 - v @ q,
                "cosine": 1 - v @ q / np.sqrt((v @ v) * (q @ q)),
            }[metric]
            assert distance == (np.inf if at == -1 else pytest.approx(expected, rel=1e-12, abs=1e-12))


@pytest.mark.parametrize("row", [-2, 3])
def test_distances_of_a_row_that_does_not_exist_are_refused(row: int) -> None:
    with pytest.raises(edgevec.ParameterError, match=f"no row {row} among 3"):
        evaluation.distances(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:1], np.array([[0, row]]), "l2")


@pytest.mark.parametrize(
    ("found", "true"),
    [
        ([[1, 2]], [[1, 2], [3, 4]]),
        ([1, 2], [[1, 2]]),
        (1, 1),
        ([[[1]]], [[[1]]]),
        ([[1.0]], [[1]]),
        ([["a"]], [["a"]]),
    ],
)
def test_recall_refuses_what_does_not_match(found: Any, true: Any) -> None:
    with pytest.raises(edgevec.ParameterError, match="recall needs"):
        recall(found, true)


@pytest.mark.parametrize(("metric", "offset"), [("cosine", 0), ("ip", 0), ("l2", 0), ("l2", 1000)])
def test_exact_neighbors_are_those_of_an_obvious_loop(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, metric: str, offset: float
) -> None:
    monkeypatch.setattr(evaluation, "_BLOCK_BYTES", 4 * 200 * 7)  # several blocks
    vectors = (rng.normal(size=(200, 9)) * rng.uniform(0.1, 3, (200, 1)) + offset).astype(np.float32)
    queries = (rng.normal(size=(20, 9)) + offset).astype(np.float32)
    found = evaluation.exact_neighbors(vectors, queries, 5, metric)
    assert found.dtype == np.int64
    for query, rows in zip(queries.astype(np.float64), found, strict=True):
        wide = vectors.astype(np.float64)
        if metric == "l2":
            distances = ((wide - query) ** 2).sum(axis=1)
        else:
            distances = -wide @ query
            if metric == "cosine":
                distances /= np.linalg.norm(wide, axis=1)
        assert rows.tolist() == np.argsort(distances)[:5].tolist()


def test_exact_neighbors_of_fewer_rows_than_asked() -> None:
    found = evaluation.exact_neighbors(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2], 10, "l2")
    assert found.shape == (2, 3)
    assert found[:, 0].tolist() == [0, 1]


def test_latency_gives_percentiles_in_microseconds() -> None:
    ticks = iter([tick for n in range(1, 101) for tick in (0, n * 1000)])  # call n takes n microseconds
    made = []
    spent = evaluation.latency((lambda n=n: made.append(n) for n in range(100)), clock=lambda: next(ticks))
    assert made == list(range(100))
    assert (spent.p50, spent.p95, spent.p99, spent.n) == pytest.approx((50.5, 95.05, 99.01, 100))


def test_latency_of_nothing_is_refused() -> None:
    with pytest.raises(edgevec.ParameterError, match="no calls"):
        evaluation.latency([])


class FakeIndex:
    """Finds the right answer when ef is large, and remembers how it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []

    def search(self, queries: Any, k: int = 10, *, ef: int | None = None, threads: int = 0) -> Any:
        shape = np.shape(queries)
        self.calls.append((len(shape), ef or 0, threads))
        ids = np.arange(k) if (ef or 0) >= 50 else np.arange(k) + k // 2
        return SimpleNamespace(ids=np.broadcast_to(ids, (*shape[:-1], k)))


def test_recall_curve_carries_recall_latency_and_rate_for_each_ef() -> None:
    index, clock = FakeIndex(), count(0, 1000)
    queries = np.zeros((30, 4), np.float32)
    truth = np.broadcast_to(np.arange(100), (30, 100))
    points = list(
        evaluation.recall_curve(index, queries, truth, k=10, efs=[10, 50], threads=3, clock=lambda: next(clock))
    )
    assert [point.ef for point in points] == [10, 50]
    assert [point.recall for point in points] == [0.5, 1.0]
    for point in points:
        assert (point.p50, point.p95, point.p99) == (1, 1, 1)
        assert point.qps == pytest.approx(30 / 1e-6)
    assert index.calls.count((1, 10, 1)) == 30  # single calls, on the thread that makes them
    assert (2, 50, 3) in index.calls


def test_recall_curve_counts_by_distance_where_the_true_ones_are_given() -> None:
    rows = np.repeat(np.random.default_rng(1).normal(size=(50, 6)), 10, axis=0).astype(np.float32)
    queries = rows[::25] + np.float32(0.01)
    index = edgevec.Index(6, "l2")
    index.add(rows, threads=1)
    truth = len(rows) - 1 - evaluation.exact_neighbors(rows[::-1], queries, 5, "l2")  # others of the equally near
    (point,) = evaluation.recall_curve(
        index,
        queries,
        truth,
        k=5,
        efs=[500],
        true_distances=evaluation.distances(rows, queries, truth, "l2"),
        distances_of=lambda found: evaluation.distances(rows, queries, found.ids, "l2"),
    )
    assert point.recall == 1.0
    (by_ids,) = evaluation.recall_curve(index, queries, truth, k=5, efs=[500])
    assert by_ids.recall < 1.0


def test_machine_is_one_line() -> None:
    assert "\n" not in evaluation.machine()
    assert "Python 3." in evaluation.machine()
