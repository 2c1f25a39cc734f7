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
from edgevec import measure, recall

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
    monkeypatch.setattr(measure, "_BLOCK_BYTES", 4 * 200 * 7)  # several blocks
    vectors = (rng.normal(size=(200, 9)) * rng.uniform(0.1, 3, (200, 1)) + offset).astype(np.float32)
    queries = (rng.normal(size=(20, 9)) + offset).astype(np.float32)
    found = measure.exact_neighbors(vectors, queries, 5, metric)
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
    found = measure.exact_neighbors(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2], 10, "l2")
    assert found.shape == (2, 3)
    assert found[:, 0].tolist() == [0, 1]


def test_latency_gives_percentiles_in_microseconds() -> None:
    ticks = iter([tick for n in range(1, 101) for tick in (0, n * 1000)])  # call n takes n microseconds
    made = []
    spent = measure.latency((lambda n=n: made.append(n) for n in range(100)), clock=lambda: next(ticks))
    assert made == list(range(100))
    assert (spent.p50, spent.p95, spent.p99, spent.n) == pytest.approx((50.5, 95.05, 99.01, 100))


def test_latency_of_nothing_is_refused() -> None:
    with pytest.raises(edgevec.ParameterError, match="no calls"):
        measure.latency([])


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
    points = list(measure.recall_curve(index, queries, truth, k=10, efs=[10, 50], threads=3, clock=lambda: next(clock)))
    assert [point.ef for point in points] == [10, 50]
    assert [point.recall for point in points] == [0.5, 1.0]
    for point in points:
        assert (point.p50, point.p95, point.p99) == (1, 1, 1)
        assert point.qps == pytest.approx(30 / 1e-6)
    assert index.calls.count((1, 10, 1)) == 30  # single calls, on the thread that makes them
    assert (2, 50, 3) in index.calls


def test_machine_is_one_line() -> None:
    assert "\n" not in measure.machine()
    assert "Python 3." in measure.machine()
