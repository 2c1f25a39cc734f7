"""Removed vectors: never results, whatever part of the neighborhood they were; and searches go on as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle import QUANTIZATIONS

from edgevec import Index, Metric, Quantization, SearchContext, recall

pytestmark = pytest.mark.core

DIM, ROWS, K = 32, 6000, 10


def clustered(rows: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    centers = random.standard_normal((40, DIM)) * 2
    return (centers[random.integers(40, size=rows)] + random.standard_normal((rows, DIM))).astype(np.float32)


def nearest_first(base: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    if metric == "ip":
        return np.argsort(-(base @ query))
    if metric == "cosine":
        return np.argsort(-(base @ query) / np.linalg.norm(base, axis=1))
    return np.argsort(((base - query) ** 2).sum(1))


@pytest.mark.quality
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_what_was_around_the_query_is_removed(metric: Metric, quantization: Quantization) -> None:
    base, queries = clustered(ROWS, 1), clustered(20, 2)
    index = Index(DIM, metric=metric, quantization=quantization)
    index.add(base)
    context = SearchContext(index)
    shares = []
    for query in queries:
        order = nearest_first(base, query, metric)
        gone, left = order[:150], order[150:]
        index.remove(gone)
        found = index.search(query, K, ef=100, context=context).ids
        assert not set(found.tolist()) & set(gone.tolist())
        shares.append(recall(found, left[:K]))
        assert len(index.search(query, 200, ef=200).ids) == 200
        index.add(base[gone], ids=gone)
    # by inner product the nearest of all queries are the same long vectors, through which walks go
    assert np.mean(shares) >= (0.75 if metric == "ip" else 0.95)
    assert index.check().ok


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_few_removed_vectors_do_not_change_how_an_index_is_searched(quantization: Quantization) -> None:
    base, queries = clustered(ROWS, 3), clustered(50, 4)
    index = Index(DIM, metric="l2", quantization=quantization)
    index.add(base)
    context = SearchContext(index)
    room = index.memory_usage()["total"]
    index.remove(range(0, ROWS, 100))
    allowed = np.array([i for i in range(ROWS) if i % 100])
    found = []
    for query in queries:
        found.append(index.search(query, K, ef=80, context=context).ids)
        assert context.stats.strategy == "graph"
    truth = [allowed[nearest_first(base[allowed], query, "l2")[:K]] for query in queries]
    assert recall(np.stack(found), np.stack(truth)) >= 0.97
    index.search(queries[0], K)
    assert index.memory_usage()["total"] - room < 8 * ROWS


def test_an_index_of_which_most_is_removed_is_searched_among_what_is_left() -> None:
    base = clustered(ROWS, 5)
    index = Index(DIM, metric="l2")
    index.add(base)
    index.remove(range(ROWS - 300))
    for query in clustered(10, 6):
        truth = ROWS - 300 + nearest_first(base[ROWS - 300 :], query, "l2")[:K]
        assert index.search(query, K, ef=100).ids.tolist() == truth.tolist()
    index.remove(range(ROWS))
    assert index.search(base[0], K).ids.tolist() in ([], [-1] * K)


# Links are led around more than a third, at once, but not in a file that is mapped.
@pytest.mark.parametrize(("share", "mapped"), [(0.3, False), pytest.param(0.45, True, marks=pytest.mark.mmap)])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_what_a_search_holds_goes_by_ef_also_where_many_are_removed(
    quantization: Quantization, share: float, mapped: bool, tmp_path: Path
) -> None:
    base, queries = clustered(4 * ROWS, 7), clustered(60, 8)
    index = Index(DIM, metric="l2", quantization=quantization, M=8)
    index.add(base)
    if mapped:
        index.save(tmp_path / "i.ev")
        index = Index.load(tmp_path / "i.ev", mmap=True)
    gone = np.arange(4 * ROWS) % 20 < 20 * share
    index.search(queries[0], K, ef=20)
    room = index.memory_usage()["total"]
    index.remove(np.flatnonzero(gone))
    allowed = np.flatnonzero(~gone)
    found = np.stack([index.search(query, K, ef=80).ids for query in queries])
    truth = [allowed[nearest_first(base[allowed], query, "l2")[:K]] for query in queries]
    assert recall(found, np.stack(truth)) >= 0.7
    assert index.memory_usage()["total"] - room < 8 * (8 * 80 + 1024) + 16 * 81
