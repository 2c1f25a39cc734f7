"""Filters: nothing that is not allowed, never short, and as good as without one."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    METRICS,
    QUANTIZATIONS,
    Ids,
    Rows,
    assert_right,
    assert_valid,
    clustered,
    each_quantization,
    recall,
    strategy,
)
from sample_index import sample, sample_index, split
from support import examples

import edgevec
from edgevec import Metric, Quantization

N, DIM = 1500, 10
OFFSET = 10**12
"""Ids are far from slots."""


@functools.cache
def filtered_index(metric: Metric, quantization: Quantization) -> tuple[edgevec.Index, dict[int, Rows]]:
    """With removed vectors and duplicates; small M and ef, so that many searches are walks."""
    rng = np.random.default_rng(2)
    rows = clustered(rng, N, DIM)
    rows[100:130] = rows[100]
    ids = rng.permutation(N).astype(np.int64) + OFFSET
    index = edgevec.Index(DIM, metric, quantization=quantization, M=4, ef_construction=60)
    index.add(rows, ids, threads=1)
    held = dict(zip(ids.tolist(), rows, strict=True))
    gone = ids[rng.choice(N, 170, replace=False)].tolist()
    index.remove(gone)
    for id in gone:
        del held[id]
    return index, held


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@settings(max_examples=examples(40))
@given(
    share=st.one_of(st.floats(0, 0.03), st.floats(0, 1)),
    strangers=st.integers(0, 50),
    k=st.integers(1, 120),
    ef=st.sampled_from([1, 10, 64]),
    exact=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_exactly_as_many_as_match(
    metric: Metric,
    quantization: Quantization,
    share: float,
    strangers: int,
    k: int,
    ef: int,
    exact: bool,
    seed: int,
) -> None:
    index, held = filtered_index(metric, quantization)
    rng = np.random.default_rng(seed)
    allowed = np.concatenate(
        [
            OFFSET + np.flatnonzero(rng.random(N) < share).astype(np.int64),
            OFFSET + N + rng.integers(0, 2**40, strangers),
        ]
    )
    allowed = rng.permutation(np.concatenate([allowed, allowed[:10]]))  # in no order, some twice
    matches = {id: held[id] for id in set(allowed.tolist()) & held.keys()}
    query = clustered(rng, 1, DIM)[0]
    result = index.search(query, k, ef=ef, filter=allowed, exact=exact)
    (assert_right if exact else assert_valid)(result, metric, matches, query, k)


@each_quantization
def test_a_batch_is_padded_behind_the_matches(quantization: Quantization, rng: np.random.Generator) -> None:
    index, held = filtered_index("l2", quantization)
    allowed = list(held)[:7]
    result = index.search(clustered(rng, 20, DIM), 10, filter=allowed)
    assert (np.sort(result.ids[:, :7], axis=1) == np.sort(allowed)).all()
    assert (result.ids[:, 7:] == -1).all()
    assert np.isposinf(result.distances[:, 7:]).all()


@each_quantization
@pytest.mark.parametrize("exact", [False, True])
def test_nothing_allowed_and_nothing_that_matches(quantization: Quantization, exact: bool) -> None:
    index, held = filtered_index("cosine", quantization)
    query = np.ones(DIM)
    gone = [id for id in range(OFFSET, OFFSET + N) if id not in held]
    for allowed in ([], np.empty(0), np.empty(0, np.int64), [-2], [OFFSET - 1, OFFSET + N], gone, [2**63 - 1]):
        assert index.search(query, 5, filter=allowed, exact=exact).ids.size == 0
        batch = index.search([query, query], 5, filter=edgevec.IdFilter(allowed), exact=exact)
        assert (batch.ids == -1).all()
    assert index.search(query, 5, filter=next(iter(held)), exact=exact).ids.size == 1  # one id alone


def test_all_allowed_is_no_filter() -> None:
    index, held = filtered_index("l2", "none")
    query = np.ones(DIM)
    np.testing.assert_array_equal(
        index.search(query, 10, filter=list(held), ef=200).ids, index.search(query, 10, ef=200).ids
    )


def test_a_filter_counts_its_ids() -> None:
    assert len(edgevec.IdFilter([])) == 0
    assert len(edgevec.IdFilter([5, 5, -2, 2**63 - 1, 5])) == 3
    assert "3 ids" in repr(edgevec.IdFilter(np.array([9, 1, 4], np.uint8)))


def test_one_filter_follows_its_indexes(rng: np.random.Generator) -> None:
    """Reused while two indexes change, turn by turn: it must never answer for what was."""
    allowed = edgevec.IdFilter(range(0, 4000, 2))
    indexes = [edgevec.Index(DIM, "l2", M=4), edgevec.Index(DIM, "l2", M=4)]
    models: list[dict[int, Rows]] = [{}, {}]
    for turn in range(60):
        index, held = indexes[turn // 2 % 2], models[turn // 2 % 2]  # twice the same, then the other
        ids = rng.choice(4000, 100, replace=False)
        rows = clustered(rng, 100, DIM)
        index.add(rows, ids)
        held.update(zip(ids.tolist(), rows, strict=True))
        gone = rng.choice(list(held), 40, replace=False)
        index.remove(gone)
        for id in gone.tolist():
            del held[id]
        if turn % 7 == 6:
            index.compact()
        matches = {id: row for id, row in held.items() if id % 2 == 0}
        query = clustered(rng, 1, DIM)[0]
        assert_right(index.search(query, 10, filter=allowed, exact=True), "l2", matches, query, 10)
        assert_valid(index.search(query, 10, filter=allowed, ef=5), "l2", matches, query, 10)
    for _ in range(20):  # new indexes where freed ones lay in memory
        index = edgevec.Index(DIM, "l2")
        index.add(clustered(rng, 3, DIM), rng.choice(4000, 3, replace=False))
        expected = sorted(id for id in index if id % 2 == 0)
        assert sorted(index.search(np.ones(DIM), 3, filter=allowed).ids) == expected
        del index


def test_the_callers_ids_may_change_afterwards() -> None:
    index, held = filtered_index("l2", "none")
    ids = np.array(list(held)[:5])
    expected = set(ids.tolist())
    allowed = edgevec.IdFilter(ids)
    ids[:] = -1
    assert set(index.search(np.ones(DIM), 10, filter=allowed).ids.tolist()) == expected


def test_an_array_of_ids_is_looked_at_anew_at_each_call(rng: np.random.Generator) -> None:
    """Arrays are known again by what is in them, not by which they are."""
    index = edgevec.Index(DIM, "l2", M=4)
    index.add(clustered(rng, 500, DIM), rng.permutation(500) + 40)
    query = clustered(rng, 1, DIM)[0]
    arrays = [rng.choice(np.arange(40, 540), 30) for _ in range(7)]  # more than are kept, with repeated ids
    for turn in range(60):
        ids = arrays[rng.integers(len(arrays))]
        if turn % 3 == 0:
            ids[rng.integers(ids.size)] = rng.integers(40, 540)
        if turn % 5 == 0:
            index.remove(ids[:2])
        expected = {int(id) for id in ids if int(id) in index}
        assert set(index.search(query, 50, filter=ids).ids.tolist()) == expected
        assert set(index.search(query, 50, filter=ids[::-1].astype(np.int16), exact=True).ids.tolist()) == expected


def test_ids_that_are_slots_and_ids_that_are_not(rng: np.random.Generator) -> None:
    """Where an id names another vector's slot, or that of one that is gone."""
    index = edgevec.Index(DIM, "l2", M=4)
    index.add(clustered(rng, 100, DIM))
    index.remove(range(50, 70))
    index.add(clustered(rng, 20, DIM), np.concatenate([np.arange(55, 65), np.arange(1000, 1010)]))
    index.add(clustered(rng, 10, DIM), range(10))  # replaced
    allowed = np.concatenate([np.arange(0, 2000, 3), np.arange(0, 2000, 7), [2**62, -5]])
    expected = sorted({int(id) for id in allowed if int(id) in index})
    assert sorted(index.search(np.ones(DIM), 200, filter=allowed, exact=True).ids.tolist()) == expected
    assert sorted(index.search(np.ones(DIM), 200, filter=edgevec.IdFilter(allowed)).ids.tolist()) == expected


# ---- quality on real data ------------------------------------------------------------------------------------------


@functools.cache
def ef_for_recall(quantization: Quantization, metric: str = "cosine", floor: float = 0.95) -> int:
    """The least ef of a ladder that reaches the floor without a filter."""
    rows, _, queries = split()
    index = sample_index(quantization)
    for ef in (10, 14, 20, 28, 40, 56, 80, 112, 160):
        if recall(metric, rows, queries, index.search(queries, 10, ef=ef).ids, 10) >= floor:
            return ef
    raise AssertionError(f"no ef reaches recall {floor}")


def filtered_recall(index: edgevec.Index, allowed: Ids, ef: int) -> float:
    rows, _, queries = split()
    found = index.search(queries, 10, ef=ef, filter=allowed)
    assert np.isin(found.ids, allowed).all()
    row_of = np.full(len(rows), -1)
    row_of[allowed] = np.arange(allowed.size)
    return recall("cosine", rows[allowed], queries, row_of[found.ids], 10)


@pytest.mark.quality
@each_quantization
@pytest.mark.parametrize("percent", [1, 10, 50])
def test_recall_under_random_filters(quantization: Quantization, percent: int, rng: np.random.Generator) -> None:
    rows, _, _ = split()
    allowed = np.sort(rng.choice(len(rows), len(rows) * percent // 100, replace=False))
    assert filtered_recall(sample_index(quantization), allowed, ef_for_recall(quantization)) >= 0.95


@pytest.mark.quality
@each_quantization
@pytest.mark.parametrize("percent", [1, 10, 50])
def test_recall_under_topics(quantization: Quantization, percent: int) -> None:
    """Topics lie together in space, far from most queries: what makes filtered walks hard."""
    rows, at, _ = split()
    topics, counts = np.unique(np.array(sample().topics)[at], return_counts=True)
    target = len(rows) * percent // 100
    # The topics nearest to the size wanted, added up until they reach it.
    order = np.argsort(np.abs(counts - target), kind="stable")
    enough = int(np.searchsorted(np.cumsum(counts[order]), target * 0.8)) + 1
    allowed = np.flatnonzero(np.isin(np.array(sample().topics)[at], topics[order[:enough]]))
    assert 0.5 * target <= allowed.size <= 2 * target
    assert filtered_recall(sample_index(quantization), allowed, ef_for_recall(quantization)) >= 0.95


@pytest.mark.quality
@each_quantization
def test_recall_with_removed_vectors_and_a_filter(quantization: Quantization, rng: np.random.Generator) -> None:
    rows, _, _ = split()
    index = sample_index(quantization)
    gone = rng.choice(len(rows), len(rows) * 3 // 10, replace=False)
    index.remove(gone)
    wanted = np.sort(rng.choice(len(rows), len(rows) // 2, replace=False))
    allowed = np.setdiff1d(wanted, gone)
    _, _, queries = split()
    found = index.search(queries, 10, ef=ef_for_recall(quantization), filter=wanted)
    assert np.isin(found.ids, allowed).all()
    assert filtered_recall(index, allowed, ef_for_recall(quantization)) >= 0.95


def test_many_matches_are_walked_to_and_few_are_scanned(rng: np.random.Generator) -> None:
    rows, _, queries = split()
    index = sample_index("sq8")
    half, few = np.arange(0, len(rows), 2), np.arange(0, len(rows), 500)
    assert strategy(index, queries[0], 10, filter=half) == "filtered_graph"
    assert strategy(index, queries[0], 10, filter=few) == "exact"
