"""Whatever order rows come in, searches find what is near: clusters, at once and little by little, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import Ids, Rows, each_quantization, recall
from sample_index import sample

import edgevec

WHOLE = 20_000


def clusters(count: int, size: int, dim: int, spread: float) -> tuple[Rows, Rows]:
    """Rows cluster by cluster, and a query for each cluster."""
    rng = np.random.default_rng(2)
    centers = rng.standard_normal((count, dim))
    rows = np.repeat(centers, size, 0) + spread * rng.standard_normal((count * size, dim))
    return rows.astype(np.float32), (centers + spread * rng.standard_normal((count, dim))).astype(np.float32)


def nearest(rows: Rows, queries: Rows) -> Ids:
    squares = (rows.astype(np.float64) ** 2).sum(1) - 2 * (queries @ rows.T)
    return np.argpartition(squares, 10, axis=1)[:, :10].astype(np.int64)


def hits(index: edgevec.Index, queries: Rows, truth: Ids) -> Ids:
    """How many of its ten nearest each query finds."""
    found = index.search(queries, 10).ids
    return np.array([np.isin(f, t).sum() for f, t in zip(found, truth, strict=True)])


def grown(rows: Rows, step: int, quantization: edgevec.index.Quantization = "sq8") -> edgevec.Index:
    index = edgevec.Index(rows.shape[1], "l2", quantization=quantization)
    for start in range(0, len(rows), step):
        index.add(rows[start : start + step], np.arange(start, min(start + step, len(rows))), threads=1)
    return index


@pytest.mark.quality
@each_quantization
@pytest.mark.parametrize("step", [100, WHOLE], ids=["a hundred at a time", "all at once"])
def test_rows_sorted_by_cluster(step: int, quantization: edgevec.index.Quantization) -> None:
    rows, queries = clusters(400, 50, 32, 0.1)
    got = hits(grown(rows, step, quantization), queries, nearest(rows, queries))
    assert (got == 0).sum() == 0
    assert got.mean() >= 9.9


@pytest.mark.quality
def test_tight_clusters_whose_halves_come_in_two_calls() -> None:
    """The second half must find the first, or the cluster is split."""
    rows, queries = clusters(100, 200, 32, 0.01)
    got = hits(grown(rows, 100, "none"), queries, nearest(rows, queries))
    assert (got == 0).sum() == 0
    assert got.mean() >= 9.8


@pytest.mark.quality
def test_half_of_the_clusters_removed_and_others_added() -> None:
    rows, queries = clusters(400, 50, 32, 0.1)
    index = grown(rows[: WHOLE // 2], 100)
    index.remove(range(WHOLE // 4))
    for start in range(WHOLE // 2, WHOLE, 100):
        index.add(rows[start : start + 100], np.arange(start, start + 100), threads=1)
    kept, asked = np.arange(WHOLE // 4, WHOLE, dtype=np.int64), queries[100:]
    truth = kept[nearest(rows[kept], asked)]
    assert (hits(index, asked, truth) == 0).sum() == 0
    index.compact()
    assert (hits(index, asked, truth) == 0).sum() == 0


@pytest.mark.quality
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_real_rows_by_topic_and_one_by_one_are_found_as_well_as_shuffled_ones(metric: edgevec.index.Metric) -> None:
    rng = np.random.default_rng(4)
    drawn = sample().vectors[rng.permutation(len(sample()))[:4000]]
    drawn = drawn * np.exp(0.1 * rng.standard_normal((len(drawn), 1))).astype(np.float32)  # or l2 would be cosine
    rows, queries = drawn[:3600], drawn[3600:]
    topics = np.argmax(rows @ rows[:40].T, axis=1)

    def share(order: Ids, step: int) -> float:
        index = edgevec.Index(rows.shape[1], metric, quantization="sq8", ef_construction=100)
        for start in range(0, len(order), step):
            index.add(rows[order[start : start + step]], threads=1)
        return recall(metric, rows[order], queries, index.search(queries, 10, ef=16).ids, 10)

    shuffled = share(np.arange(len(rows)), len(rows))
    by_topic = np.argsort(topics, kind="stable")
    assert share(by_topic, len(rows)) >= shuffled - 0.01
    assert share(by_topic, 1) >= shuffled - 0.01


def test_ids_stay_in_the_order_of_the_rows() -> None:
    rows, _ = clusters(10, 50, 32, 0.1)
    index = edgevec.Index(32, "l2", quantization="none")
    np.testing.assert_array_equal(index.add(rows), np.arange(500))
    np.testing.assert_array_equal(index.get(np.arange(500)), rows)
