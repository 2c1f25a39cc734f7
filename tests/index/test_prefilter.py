"""The prefilter: sign codes spare a walk most 8-bit codes of four lines or more, and cost it no neighbors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from oracle import Rows, each_metric, recall
from sample_index import split

import edgevec
from edgevec import Metric

pytestmark = pytest.mark.core

DIM = 320
FEW = 8000
LEAST_PREFILTERED = 193
"""Dimensions from which an 8-bit code takes four cache lines."""


@cache
def wide(kind: str) -> tuple[Rows, Rows]:
    """The sample and its held-out queries in more dimensions, in directions where sign codes have it easy or hard."""
    rows, _, queries = split()
    rng = np.random.default_rng(4)
    if kind == "turned":  # spread evenly over all dimensions
        basis = np.linalg.qr(rng.standard_normal((DIM, rows.shape[1])))[0].T
    else:  # most of the length in few dimensions, as in the output of some models, and many that are always 0
        basis = np.zeros((rows.shape[1], DIM))
        basis[np.arange(rows.shape[1]), rng.permutation(DIM)[: rows.shape[1]]] = 1
        basis *= np.where(np.arange(rows.shape[1]) < 4, 4.0, 1.0)[:, None]
    return (rows[:FEW] @ basis).astype(np.float32), (queries @ basis).astype(np.float32)


def built(kind: str, metric: Metric = "cosine", threads: int = 0) -> edgevec.Index:
    index = edgevec.Index(DIM, metric, ef_construction=100)
    index.add(wide(kind)[0], threads=threads)
    return index


def effort(index: edgevec.Index, query: Rows) -> edgevec.index.SearchStats:
    context = edgevec.SearchContext(index)
    index.search(query, 10, ef=64, context=context)
    return context.stats


@pytest.mark.quality
@pytest.mark.parametrize("kind", ["turned", "lopsided"])
@each_metric
def test_neighbors_are_found_and_most_codes_are_not_fetched(kind: str, metric: Metric) -> None:
    rows, queries = wide(kind)
    index = built(kind, metric)
    assert recall(metric, rows, queries, index.search(queries, 10, ef=64).ids, 10) >= 0.95
    work = [effort(index, query) for query in queries[:30]]
    assert sum(w.distances for w in work) < 0.6 * sum(w.prefiltered for w in work)


def test_short_codes_are_not_prefiltered(rng: np.random.Generator) -> None:
    for dim, prefiltered in ((LEAST_PREFILTERED - 1, False), (LEAST_PREFILTERED, True)):
        rows = rng.standard_normal((5000, dim), dtype=np.float32)
        index = edgevec.Index(dim, M=4, ef_construction=20)
        index.add(rows)
        assert (effort(index, rows[0]).prefiltered > 0) is prefiltered


@pytest.mark.parametrize("mmap", [False, pytest.param(True, marks=pytest.mark.mmap)])
def test_signs_are_made_anew_from_a_file(mmap: bool, tmp_path: Path) -> None:
    _, queries = wide("turned")
    index = built("turned")
    index.remove(range(0, FEW, 9))
    index.save(tmp_path / "index")
    loaded = edgevec.Index.load(tmp_path / "index", mmap=mmap)
    assert loaded.check().bad_codes == 0
    ours, theirs = index.search(queries, 10, ef=50), loaded.search(queries, 10, ef=50)
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.distances, theirs.distances)


def test_signs_follow_every_change(rng: np.random.Generator) -> None:
    """Replaced, removed, compacted, and encoded anew because the data have moved: the rows belong to the codes."""
    rows, queries = wide("turned")
    index = edgevec.Index(DIM, "l2", ef_construction=60)
    index.add(rows[:500])
    held = 3 * rows + rng.standard_normal(DIM).astype(np.float32)
    for part in np.array_split(np.arange(FEW), 4):
        index.add(held[part], part)
    index.remove(np.arange(0, FEW, 3))
    index.add(held[:FEW:3], np.arange(0, FEW, 3))
    assert index.stats()["trainings"] >= 2
    assert index.check().bad_codes == 0
    index.compact()
    assert index.check().bad_codes == 0
    moved = 3 * queries + (held[0] - 3 * rows[0])
    assert recall("l2", held, moved, index.search(moved, 10, ef=64).ids, 10) >= 0.95


@pytest.mark.parametrize("k", [1, 40, 64, 200])
def test_as_many_as_asked_for(k: int, rng: np.random.Generator) -> None:
    """The candidate list is filled although the prefilter turns neighbors away before it is full."""
    _, queries = wide("turned")
    index = built("turned")
    assert (index.search(queries, k, ef=1).ids >= 0).all()
    allowed = rng.choice(FEW, FEW * 2 // 3, replace=False)
    found = index.search(queries[:20], k, ef=1, filter=allowed)
    assert np.isin(found.ids, allowed).all()
    truth = index.search(queries[:20], k, exact=True, filter=allowed)
    assert edgevec.recall(found.ids, truth.ids) >= (0.5 if k == 1 else 0.9)


def test_memory_of_signs_is_counted() -> None:
    index = built("turned")
    assert index.memory_usage()["codes"] >= FEW * (DIM + 8 + 64)


@pytest.mark.parametrize("kind", ["turned", "lopsided"])
def test_a_walk_for_no_more_than_is_wanted_finds_as_many(kind: str) -> None:
    """What is held back comes when the list would not be full; a scan would have to answer where it is not."""
    index, (_, queries) = built(kind), wide(kind)
    context = edgevec.SearchContext(index)
    for k in (1, 2, 5, 10, 16):
        for query in queries[:100]:
            assert len(index.search(query, k, ef=k, context=context).ids) == k
            assert context.stats.strategy == "graph"
