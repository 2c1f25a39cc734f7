"""10,000 copies of one vector among others: they cut nothing off, and all of them are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import Ids, Rows, assert_right, clustered, each_metric, each_quantization, recall, step_of, strategy

import edgevec
from edgevec import Metric, Quantization

pytestmark = pytest.mark.core

COPIES, OTHERS, DIM = 10_000, 2_300, 24


def make(rng: np.random.Generator, noise: float = 0.0, copies: int = COPIES) -> tuple[Rows, Rows, Rows]:
    """The copies (each with noise of its own), the others, and queries."""
    rows = clustered(rng, OTHERS + 61, DIM)
    one, others, queries = rows[0], rows[1 : OTHERS + 1], rows[OTHERS + 1 :]
    many = one + np.asarray(noise * rng.standard_normal((copies, DIM)), np.float32)
    return many, others, queries


Order = Callable[[edgevec.Index, Rows, Ids, np.random.Generator], None]


def in_one_call(index: edgevec.Index, rows: Rows, ids: Ids, rng: np.random.Generator) -> None:
    index.add(rows, ids, threads=1)


def in_many_calls(index: edgevec.Index, rows: Rows, ids: Ids, rng: np.random.Generator) -> None:
    for start in range(0, len(rows), 700):
        index.add(rows[start : start + 700], ids[start : start + 700], threads=1)


def mixed(index: edgevec.Index, rows: Rows, ids: Ids, rng: np.random.Generator) -> None:
    order = rng.permutation(len(rows))
    index.add(rows[order], ids[order], threads=1)


def mixed_in_many_calls(index: edgevec.Index, rows: Rows, ids: Ids, rng: np.random.Generator) -> None:
    order = rng.permutation(len(rows))
    in_many_calls(index, rows[order], ids[order], rng)


def on_two_threads(index: edgevec.Index, rows: Rows, ids: Ids, rng: np.random.Generator) -> None:
    order = rng.permutation(len(rows))
    index.add(rows[order], ids[order], threads=2)


ORDERS = [
    in_one_call,
    in_many_calls,
    mixed,
    mixed_in_many_calls,
    pytest.param(on_two_threads, marks=pytest.mark.threads),
]


def assert_copies_are_found(index: edgevec.Index, copy: Rows, held: set[int], k: int = 50, **options: Any) -> None:
    """The search for the vector that is there many times gives k of its ids, all at distance zero (ip: its own)."""
    result = index.search(copy, k, **options)
    assert len(set(result.ids.tolist())) == min(k, len(held))
    if index.metric != "ip":  # where longer vectors may come first
        assert set(result.ids.tolist()) <= held
        np.testing.assert_allclose(result.distances, 0, atol=1e-5)


@pytest.mark.quality
@each_metric
@each_quantization
@pytest.mark.parametrize("order", ORDERS)
def test_many_copies_hide_no_other_row(
    order: Order, metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    many, others, queries = make(rng)
    rows = np.concatenate([many, others])
    index = edgevec.Index(DIM, metric, quantization=quantization, ef_construction=100)
    order(index, rows, np.arange(len(rows)), rng)
    report = index.check()
    assert report.ok, report
    assert report.duplicates == COPIES - 1
    assert report.nodes == OTHERS + 1

    copies = set(range(COPIES))
    assert_copies_are_found(index, many[0], copies)
    result = index.search(many[0], 10, filter=np.arange(COPIES))
    assert set(result.ids.tolist()) <= copies
    assert result.ids.size == 10

    # The others are found as if there were no copies.
    found = index.search(queries, 10, ef=64, filter=np.arange(COPIES, len(rows)))
    assert recall(metric, others, queries, found.ids - COPIES, 10) >= 0.95
    found = index.search(queries, 10, ef=64)
    assert recall(metric, rows, queries, found.ids, 10) >= 0.95
    if metric != "ip":
        own = index.search(others, 1, ef=64).ids[:, 0]
        assert np.mean(own == np.arange(COPIES, len(rows))) >= (0.97 if quantization == "binary" else 0.995)
    if order is in_one_call:
        exact = index.search(queries[0], 20, exact=True)
        assert_right(exact, metric, (range(len(rows)), rows), queries[0], 20, step_of(index, rows))


@each_metric
@each_quantization
def test_removed_copies_are_gone_and_the_others_stay(
    metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    """One by one: also the node that the others hang on, and the living must take its place."""
    many, others, queries = make(rng, copies=300)
    index = edgevec.Index(DIM, metric, quantization=quantization, M=8, ef_construction=64)
    index.add(np.concatenate([many, others]), threads=1)
    held = set(range(300))
    for turn, id in enumerate([0, *rng.permutation(np.arange(1, 300)).tolist()]):
        assert index.remove(id) == 1
        held.remove(id)
        if turn % 60 == 5:
            index.add(many[:40], np.arange(-41, -1))  # some come back, under other ids
            held |= set(range(-41, -1))
        if turn % 60 == 50:
            index.remove(range(-41, -1))
            held -= set(range(-41, -1))
        if turn % 100 == 99:
            index.compact()
        if turn < 10 or turn % 10 == 0:
            report = index.check()
            assert report._replace(unreachable=0).ok, report
            assert_copies_are_found(index, many[0], held) if len(held) >= 50 else None
            result = index.search(many[0], 10, filter=list(held))
            assert set(result.ids.tolist()) <= held
            assert result.ids.size == min(10, len(held))
    index.remove(list(held))
    index.compact()
    assert index.check().ok
    found = index.search(queries, 10, ef=64)
    assert recall(metric, others, queries, found.ids - 300, 10) >= 0.95


@each_metric
@each_quantization
def test_an_index_of_nothing_but_copies_is_searched(
    metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    one = clustered(rng, 1, DIM)
    index = edgevec.Index(DIM, metric, quantization=quantization)
    index.add(np.repeat(one, 5000, axis=0))
    assert_copies_are_found(index, one[0], set(range(5000)), k=200)
    index.remove(range(0, 5000, 2))
    assert_copies_are_found(index, one[0], set(range(1, 5000, 2)), k=200)
    index.add(np.repeat(one, 100, axis=0))
    index.compact()
    assert index.check().ok
    assert len(index) == 2600
    assert_copies_are_found(index, one[0], {*range(1, 5000, 2), *range(5000, 5100)}, k=2600)
    index.remove(list(index))
    assert index.search(one[0]).ids.size == 0
    index.add(one, 3)
    assert index.search(one[0]).ids.tolist() == [3]
    assert index.check().ok


@pytest.mark.quality
@each_metric
@each_quantization
@pytest.mark.parametrize(("M", "ef_construction"), [(8, 64), (16, 200)])
def test_near_copies_are_found(
    M: int, ef_construction: int, metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    """A crowd whose members differ in their last bits: what codes cannot tell apart, and what they just can."""
    many, others, queries = make(rng, noise=1e-6, copies=5000)
    rows = np.concatenate([many, others])
    order = rng.permutation(len(rows))
    index = edgevec.Index(DIM, metric, quantization=quantization, M=M, ef_construction=ef_construction)
    index.add(rows[order], order, threads=1)
    report = index.check()
    assert report.ok, report
    if M < 16:  # too few links for good recall, but enough to reach all
        return
    found = index.search(queries, 10, ef=64)
    assert recall(metric, rows, queries, found.ids, 10) >= 0.95
    found = index.search(queries, 10, ef=64, filter=np.arange(5000, len(rows)))
    assert recall(metric, others, queries, found.ids - 5000, 10) >= 0.95
    crowd = index.search(many[:30], 10, ef=64)
    assert recall(metric, rows, many[:30], crowd.ids, 10, slack=1e-5) >= 0.95
    if metric != "ip":
        own = index.search(others[:500], 1, ef=64).ids[:, 0]
        assert np.mean(own == np.arange(5000, 5500)) >= (0.97 if quantization == "binary" else 0.99)


@each_quantization
def test_a_removed_node_whose_place_a_near_copy_takes(quantization: Quantization, rng: np.random.Generator) -> None:
    """Vectors that share a code, but are not equal, must not be taken for equal when one takes over the node."""
    others = clustered(rng, 3000, 8)
    first, second = np.zeros((2, 8), np.float32)
    first[0] = second[0] = 9
    first[1], second[1] = 1e-3, -1e-3
    index = edgevec.Index(8, "l2", quantization=quantization)
    index.add(others)
    index.add([first, first, second, second], [-8, -2, -3, -4])
    index.remove([-8])
    index.remove(range(1000))
    index.add(others[:50])  # buries the dead
    assert index.stats()["dead"] == 0
    index.add([second, second, first], [-5, -6, -7])
    for vector, expected in ((first, {-2, -7}), (second, {-3, -4, -5, -6})):
        assert strategy(index, vector, 1, ef=20) == "graph"
        for k in (1, 2):
            assert set(index.search(vector, k, ef=20).ids.tolist()) <= expected
