"""Recall on real data does not fall below what is promised, also after the index has been through a lot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from oracle import Rows, distances, each_quantization, recall
from sample_index import encoded_texts, sample, sample_index, split

import edgevec
from edgevec.index import Quantization

FLOOR = {"none": 0.95, "sq8": 0.95, "binary": 0.90}


def held_rows(index: edgevec.Index) -> Rows:
    """Row i is the vector of id i; those removed are far from everything."""
    rows = -np.ones((max(index) + 1, index.dim), np.float32)
    ids = np.fromiter(index, np.int64)
    rows[ids] = index.get(ids)
    return rows


def quality(index: edgevec.Index, rows: Rows, queries: Rows) -> float:
    context = edgevec.SearchContext(index)
    index.search(queries[0], 10, ef=64, context=context)
    assert context.stats.strategy.startswith("graph")
    return recall("cosine", rows, queries, index.search(queries, 10, ef=64).ids, 10)


@each_quantization
def test_held_out_entries(quantization: Quantization) -> None:
    rows, _, queries = split()
    assert quality(sample_index(quantization), rows, queries) >= FLOOR[quantization]


@each_quantization
def test_texts(quantization: Quantization) -> None:
    rows, _, _ = split()
    assert quality(sample_index(quantization), rows, encoded_texts()) >= FLOOR[quantization]


def test_a_text_finds_its_entry() -> None:
    """Not recall of vectors but of meaning: the sample's queries lead to the entries they came from."""
    index = edgevec.Index(sample().dim, quantization="sq8")
    index.add(sample().vectors, sample().ids)
    found = index.search(encoded_texts(), 10)
    own = np.arange(0, len(sample()), 125)
    assert np.mean((found.ids == own[:, None]).any(axis=1)) >= 0.5


@each_quantization
def test_a_graph_built_by_one_thread(quantization: Quantization) -> None:
    rows, _, queries = split()
    index = edgevec.Index(rows.shape[1], "cosine", quantization=quantization, ef_construction=100)
    index.add(rows[:8000], threads=1)
    assert index.check().ok
    assert quality(index, rows[:8000], queries) >= FLOOR[quantization]


@each_quantization
def test_a_graph_grown_little_by_little(quantization: Quantization) -> None:
    """From nothing, so that the centre of the codes is learned again and again."""
    rows, _, queries = split()
    index = edgevec.Index(rows.shape[1], "cosine", quantization=quantization, ef_construction=100)
    at, step = 0, 1
    while at < 6000:
        index.add(rows[at : at + step])
        at, step = at + step, min(1 + step * 2, 500)
    assert index.check().ok
    assert quality(index, rows[:at], queries) >= FLOOR[quantization]


def removed_and_added_again(index: edgevec.Index, rng: np.random.Generator) -> None:
    rows, _, _ = split()
    gone = rng.choice(len(rows), len(rows) * 3 // 10, replace=False)
    assert index.remove(gone) == gone.size
    index.add(rows[gone], gone)


def removed(index: edgevec.Index, rng: np.random.Generator) -> None:
    index.remove(rng.choice(len(index), len(index) * 3 // 10, replace=False))


def removed_and_compacted(index: edgevec.Index, rng: np.random.Generator) -> None:
    removed(index, rng)
    index.compact()


def compacted(index: edgevec.Index, rng: np.random.Generator) -> None:
    index.compact()


def all_replaced(index: edgevec.Index, rng: np.random.Generator) -> None:
    """Every id by the vector of another, a tenth at a time."""
    rows, _, _ = split()
    ids = rng.permutation(len(rows))
    for part in np.array_split(np.arange(len(rows)), 10):
        index.add(rows[ids[part]], part)


@each_quantization
@pytest.mark.parametrize(
    "change", [removed, removed_and_added_again, removed_and_compacted, compacted, all_replaced]
)
def test_after_changes(
    change: Callable[[edgevec.Index, np.random.Generator], None],
    quantization: Quantization,
    rng: np.random.Generator,
) -> None:
    index = sample_index(quantization)
    change(index, rng)
    report = index.check()
    assert report.unreachable <= (0 if change is not all_replaced else len(index) // 500)
    assert report._replace(unreachable=0).ok
    rows, (_, _, queries) = held_rows(index), split()
    found = index.search(queries, 10, ef=64)
    assert quality(index, rows, queries) >= FLOOR[quantization]
    for query, ids, got in zip(queries[:20], *(part[:20] for part in found), strict=True):
        np.testing.assert_allclose(got, distances("cosine", rows[ids], query), atol=1e-5)


@each_quantization
def test_data_that_move_away(quantization: Quantization, rng: np.random.Generator) -> None:
    """Later vectors lie far outside of what the codes were learned from."""
    rows, _, queries = split()
    rows, queries = rows[:6000].copy(), queries.copy()
    shift = 10 * rng.standard_normal(rows.shape[1]).astype(np.float32)
    rows[3000:] = rows[3000:] * 5 + shift
    index = edgevec.Index(rows.shape[1], "l2", quantization=quantization, ef_construction=100)
    for part in np.array_split(rows, 6):
        index.add(part)
    assert index.check().ok
    for at in (queries, queries * 5 + shift):
        found = index.search(at, 10, ef=64)
        assert recall("l2", rows, at, found.ids, 10) >= FLOOR[quantization]
