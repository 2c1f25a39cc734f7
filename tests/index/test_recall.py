"""Recall on real data does not fall below what is promised, also after the index has been through a lot."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from oracle import Rows, distances, each_quantization, recall
from sample_index import encoded_texts, sample, sample_index, split

import edgevec
from edgevec import Quantization

pytestmark = pytest.mark.quality

FLOOR = {"none": 0.95, "sq8": 0.95, "binary": 0.90}
FEW = 8000
"""Entries in the tests that build more than once: enough that searches walk the graph."""


def held_rows(index: edgevec.Index) -> Rows:
    """Row i is the vector of id i; those removed are far from everything."""
    rows = -np.ones((max(index) + 1, index.dim), np.float32)
    ids = np.fromiter(index, np.int64)
    rows[ids] = index.get(ids)
    return rows


def quality(index: edgevec.Index, rows: Rows, queries: Rows) -> float:
    context = edgevec.SearchContext(index)
    index.search(queries[0], 10, ef=64, context=context)
    assert context.stats.strategy != "exact"
    return recall("cosine", rows, queries, index.search(queries, 10, ef=64).ids, 10)


@each_quantization
def test_neighbors_of_held_out_entries_are_found(quantization: Quantization) -> None:
    rows, _, queries = split()
    assert quality(sample_index(quantization), rows, queries) >= FLOOR[quantization]


@each_quantization
def test_neighbors_of_encoded_texts_are_found(quantization: Quantization) -> None:
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
    index.add(rows[:FEW], threads=1)
    assert index.check().ok
    assert quality(index, rows[:FEW], queries) >= FLOOR[quantization]


@each_quantization
def test_a_graph_grown_little_by_little(quantization: Quantization) -> None:
    """From nothing, so that the center of the codes is learned again and again."""
    rows, _, queries = split()
    index = edgevec.Index(rows.shape[1], "cosine", quantization=quantization, ef_construction=100)
    at, step = 0, 1
    while at < 6000:
        index.add(rows[at : at + step])
        at, step = at + step, min(1 + step * 2, 500)
    assert index.check().ok
    assert quality(index, rows[:at], queries) >= FLOOR[quantization]


def removed_and_added_again(index: edgevec.Index, rng: np.random.Generator) -> None:
    rows = split()[0][:FEW]
    gone = rng.choice(FEW, FEW * 3 // 10, replace=False)
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
    rows = split()[0][:FEW]
    ids = rng.permutation(FEW)
    for part in np.array_split(np.arange(FEW), 10):
        index.add(rows[ids[part]], part)


@each_quantization
@pytest.mark.parametrize("change", [removed, removed_and_added_again, removed_and_compacted, compacted, all_replaced])
def test_recall_holds_after_changes(
    change: Callable[[edgevec.Index, np.random.Generator], None],
    quantization: Quantization,
    rng: np.random.Generator,
) -> None:
    index = sample_index(quantization, FEW)
    change(index, rng)
    report = index.check()
    assert report.ok, report
    rows, (_, _, queries) = held_rows(index), split()
    found = index.search(queries, 10, ef=64)
    assert quality(index, rows, queries) >= FLOOR[quantization]
    for query, ids, got in zip(queries[:20], *(part[:20] for part in found), strict=True):
        np.testing.assert_allclose(got, distances("cosine", rows[ids], query), atol=1e-5)


@each_quantization
def test_data_that_move_away(quantization: Quantization, rng: np.random.Generator) -> None:
    """What the codes were learned from is long gone, and its successors lie far outside: they are learned anew."""
    rows, _, queries = split()
    shift = 10 * rng.standard_normal(rows.shape[1]).astype(np.float32)
    moved = 5 * rows[:6000] + shift
    index = edgevec.Index(rows.shape[1], "l2", quantization=quantization, ef_construction=100)
    index.add(rows[6000:6300], np.arange(6000, 6300))
    index.add(moved[:1000], np.arange(1000))
    index.remove(range(6000, 6300))
    for start in range(1000, 6000, 1000):
        index.add(moved[start : start + 1000], np.arange(start, start + 1000))
    assert index.check().ok
    assert index.stats()["trainings"] >= (0 if quantization == "none" else 2)
    found = index.search(5 * queries + shift, 10, ef=64)
    assert recall("l2", moved, 5 * queries + shift, found.ids, 10) >= FLOOR[quantization]
