"""Search ranks like brute force: every metric and quantization, any dimension, any kind of input."""

from __future__ import annotations

import array
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    Rows,
    assert_right,
    clustered,
    distances,
    each_metric,
    each_quantization,
    recall,
    step_of,
    strategy,
)
from support import examples

import edgevec
from edgevec import KeepVectors, Metric, Quantization, calibration

# At, below and above the width of every kernel's vectors and unrolled steps.
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 513, 1023, 1025]
dims = st.one_of(st.sampled_from(EDGES), st.integers(1, 1100))
seeds = st.integers(0, 2**32 - 1)
each_way_to_keep = pytest.mark.parametrize("keep_vectors", [True, "float32"])
scales = st.sampled_from([1e-20, 1e-12, 1e-3, 1.0, 1e4, 1e10, 1e15])


def index_of(rows: Rows, metric: Metric, quantization: Quantization = "none", **options: Any) -> edgevec.Index:
    index = edgevec.Index(rows.shape[1], metric, quantization=quantization, **options)
    index.add(rows, threads=1)
    return index


def numbered(rows: Rows) -> tuple[range, Rows]:
    """As assert_right wants it: ids are row numbers."""
    return range(len(rows)), rows


# ---- like brute force ----------------------------------------------------------------------------------------------


@each_way_to_keep
@each_quantization
@each_metric
@settings(max_examples=examples(40))
@given(dim=dims, n=st.integers(1, 40), k=st.integers(1, 50), scale=scales, seed=seeds)
def test_exact_search_is_brute_force(
    metric: Metric,
    quantization: Quantization,
    keep_vectors: KeepVectors,
    dim: int,
    n: int,
    k: int,
    scale: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.asarray(rng.standard_normal((n, dim)) * scale, np.float32)
    rows[n // 2] = rows[0]  # a tie
    query = np.asarray(rng.standard_normal(dim) * scale, np.float32)
    index = index_of(rows, metric, quantization, ef_construction=20, keep_vectors=keep_vectors)
    step = step_of(index, rows)
    assert_right(index.search(query, k, exact=True), metric, numbered(rows), query, k, step)
    assert_right(index.search(query, k), metric, numbered(rows), query, k, step)


@each_way_to_keep
@each_quantization
@each_metric
@settings(max_examples=examples(30))
@given(dim=dims, seed=seeds, exponents=st.lists(st.integers(-20, 15), min_size=2, max_size=12))
def test_rows_of_any_length_side_by_side(
    metric: Metric,
    quantization: Quantization,
    keep_vectors: KeepVectors,
    dim: int,
    seed: int,
    exponents: list[int],
) -> None:
    rng = np.random.default_rng(seed)
    lengths = 10.0 ** np.array(exponents)
    rows = np.asarray(rng.standard_normal((len(lengths), dim)) * lengths[:, None], np.float32)
    index = index_of(rows, metric, quantization, keep_vectors=keep_vectors)
    for query in rows:
        result = index.search(query, 5, exact=True)
        assert_right(result, metric, numbered(rows), query, 5, step_of(index, rows))


@each_quantization
@each_metric
def test_denormal_numbers_are_ranked_right(
    metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    rows = np.asarray(rng.integers(-99, 99, (30, 70)) * 1.4e-45, np.float32)
    assert 0 < np.abs(rows).max() < np.finfo(np.float32).tiny
    index = index_of(rows, metric, quantization)
    for query in rows[:5]:
        assert_right(index.search(query, 4, exact=True), metric, numbered(rows), query, 4)


@each_quantization
@each_metric
def test_the_graph_ranks_like_brute_force(metric: Metric, quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, 3100, 90)
    rows, queries = rows[:3000], rows[3000:]
    index = index_of(rows, metric, quantization)
    assert strategy(index, queries[0], 10) == "graph"
    found = index.search(queries, 10)
    assert recall(metric, rows, queries, found.ids, 10) >= (0.9 if quantization == "binary" else 0.95)
    # Whatever was found is at its true distance, nearest first.
    for query, ids, got in zip(queries, *found, strict=True):
        np.testing.assert_allclose(got, distances(metric, rows[ids], query), rtol=1e-4, atol=1e-4)
        assert (np.diff(got) >= 0).all()


@each_metric
@settings(max_examples=examples(30))
@given(dim=dims, n=st.integers(1, 40), scale=scales, seed=seeds)
def test_8_bit_codes_alone_rank_like_what_they_decode_to(
    metric: Metric, dim: int, n: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.asarray(rng.standard_normal((n, dim)) * scale, np.float32)
    query = np.asarray(rng.standard_normal(dim) * scale, np.float32)
    index = index_of(rows, metric, "sq8", keep_vectors=False)
    decoded = index.get(np.arange(n))
    if metric != "cosine":
        off_center = np.abs(rows - rows.mean(axis=0, dtype=np.float64)).max(axis=1, keepdims=True)
        step = off_center / 127 + np.abs(rows).max() * 1e-6
        assert (np.abs(decoded.astype(np.float64) - rows) <= 0.51 * step).all()
    if metric != "cosine" or np.linalg.norm(decoded, axis=1).all():
        assert_right(index.search(query, 5, exact=True), metric, numbered(decoded), query, 5)


@each_metric
@pytest.mark.parametrize(("quantization", "floor"), [("sq8", 0.85), ("binary", 0.35)])
def test_codes_alone_find_most(
    metric: Metric, quantization: Quantization, floor: float, rng: np.random.Generator
) -> None:
    """One bit a dimension orders near neighbors roughly; the distances are estimates in the same unit."""
    rows = clustered(rng, 3050, 128)
    rows, queries = rows[:3000], rows[3000:]
    index = index_of(rows, metric, quantization, keep_vectors=False)
    found = index.search(queries, 10, ef=128)
    assert recall(metric, rows, queries, found.ids, 10) >= floor
    truth = np.stack([distances(metric, rows[ids], query) for query, ids in zip(queries, found.ids, strict=True)])
    spread = np.mean([distances(metric, rows, query).std() for query in queries])
    assert np.abs(found.distances - truth).mean() < spread / 4
    assert (np.diff(found.distances, axis=1) >= 0).all()


@each_quantization
def test_the_largest_inner_products_of_vectors_of_very_different_length(
    quantization: Quantization, rng: np.random.Generator
) -> None:
    rows = clustered(rng, 5100, 64)
    lengths = np.exp(rng.standard_normal(5000)).astype(np.float32)
    rows, queries = rows[:5000] * lengths[:, None], rows[5000:]
    index = index_of(rows, "ip", quantization)
    assert strategy(index, queries[0], 10, ef=64) == "graph"
    assert recall("ip", rows, queries, index.search(queries, 10, ef=64).ids, 10) >= 0.95


@each_quantization
def test_cosine_goes_by_direction_alone(quantization: Quantization, rng: np.random.Generator) -> None:
    rows, query = clustered(rng, 500, 40), clustered(rng, 1, 40)[0]
    scaled = rows * np.exp(3 * rng.standard_normal(500)).astype(np.float32)[:, None]
    plain, longer = index_of(rows, "cosine", quantization), index_of(scaled, "cosine", quantization)
    np.testing.assert_allclose(np.linalg.norm(longer.get(range(500)), axis=1), 1, rtol=1e-6)
    for result in (longer.search(query, 9), plain.search(query * 1000, 9), longer.search(query / 1000, 9)):
        assert_right(result, "cosine", numbered(rows), query, 9, step_of(plain, rows))


# ---- shapes --------------------------------------------------------------------------------------------------------


@each_quantization
@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("k", [1, 2, 5, 6, 1000])
@pytest.mark.parametrize("exact", [False, True])
def test_a_query_and_a_batch_are_trimmed_to_what_is_held(
    quantization: Quantization, n: int, k: int, exact: bool, rng: np.random.Generator
) -> None:
    rows, queries = clustered(rng, n, 6), clustered(rng, 3, 6)
    index = index_of(rows, "l2", quantization)
    one = index.search(queries[0], k, exact=exact)
    assert one.ids.dtype == np.int64
    assert one.distances.dtype == np.float32
    assert one.ids.shape == one.distances.shape == (min(n, k),)
    many = index.search(queries, k, exact=exact)
    assert many.ids.shape == many.distances.shape == (3, min(n, k))
    assert (many.ids >= 0).all()
    assert np.isfinite(many.distances).all()
    np.testing.assert_array_equal(many.ids[0], one.ids)
    none = index.search(queries[:0], k, exact=exact)
    assert none.ids.shape == none.distances.shape == (0, min(n, k))


@pytest.mark.parametrize("n", [0, 50])
@pytest.mark.parametrize("how", [{}, {"exact": True}, {"recall": 0.9}, {"ef": 20}])
def test_a_k_beyond_all_bounds_costs_no_memory(n: int, how: dict[str, Any], rng: np.random.Generator) -> None:
    """10**9 neighbors of each of 5,000 queries would be 60 TB."""
    rows, queries = clustered(rng, n, 8), clustered(rng, 5000, 8)
    index = index_of(rows, "l2", "sq8")
    context = edgevec.SearchContext(index)
    for options in ({}, {"context": context, "threads": 1}, {"filter": range(0, n, 2)}):
        found = index.search(queries, 10**9, **options, **how)
        assert found.ids.shape == found.distances.shape == (5000, n)
        columns = len(range(0, n, 2)) if "filter" in options else n
        assert (np.sort(found.ids[:, :columns], axis=1) == np.arange(0, n, n // columns if n else 1)).all()
        assert (found.ids[:, columns:] == -1).all()
        assert np.isposinf(found.distances[:, columns:]).all()


def test_an_empty_index_looks_at_the_queries_of_a_batch_all_the_same() -> None:
    index = edgevec.Index(3)
    with pytest.raises(edgevec.NotFiniteError, match="row 1"):
        index.search([[1, 2, 3], [1, np.nan, 3]], 5)


def test_a_bad_query_is_named_by_its_row_in_the_whole_batch() -> None:
    """Also where it is beyond the run of queries that are answered in one call of the core."""
    index, queries = edgevec.Index(2), np.ones((10_000, 2))
    queries[9_000] = 0
    with pytest.raises(edgevec.ZeroVectorError, match="row 9000"):
        index.search(queries)


def test_recall_for_a_large_k_is_measured_in_bounded_memory(rng: np.random.Generator, monkeypatch: Any) -> None:
    """What is measured does not depend on how many samples are searched for at a time."""
    index = index_of(clustered(rng, 600, 8), "l2", "sq8")
    whole = index.calibrate(40)
    monkeypatch.setattr(calibration, "_MAX_RESULTS", 100)
    pieces = index.calibrate(40)
    np.testing.assert_array_equal(pieces.ef, whole.ef)
    np.testing.assert_allclose(pieces.recall, whole.recall, rtol=1e-12)


@each_quantization
def test_all_that_is_held_can_be_asked_for(quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, 3000, 20)
    index = index_of(rows, "l2", quantization, M=8)
    for exact in (False, True):
        result = index.search(rows[7], 3000, exact=exact)
        assert_right(result, "l2", numbered(rows), rows[7], 3000, step_of(index, rows))


# ---- the same question, asked another way --------------------------------------------------------------------------


@each_metric
@each_quantization
def test_batches_threads_and_contexts_do_not_change_answers(
    metric: Metric, quantization: Quantization, rng: np.random.Generator
) -> None:
    rows = clustered(rng, 2600, 33)
    rows, queries = rows[:2500], rows[2500:]
    index = index_of(rows, metric, quantization)
    assert strategy(index, queries[0], 7, ef=20) == "graph"
    batch = index.search(queries, 7, ef=20, threads=1)
    reused = edgevec.SearchContext(index)
    for row, query in enumerate(queries):
        fresh = edgevec.SearchContext(index)
        for context in (None, fresh, reused):
            single = index.search(query, 7, ef=20, context=context)
            np.testing.assert_array_equal(single.ids, batch.ids[row])
            np.testing.assert_array_equal(single.distances, batch.distances[row])
        assert fresh.stats.queries == 1
        assert reused.stats.queries == row + 1
        same = {"queries": 0, "seconds": 0}
        assert fresh.stats._replace(**same) == reused.stats._replace(**same)
    with_context = index.search(queries, 7, ef=20, threads=1, context=reused)
    np.testing.assert_array_equal(with_context.ids, batch.ids)


@pytest.mark.threads
@each_quantization
def test_a_batch_on_two_threads_is_the_same(quantization: Quantization, rng: np.random.Generator) -> None:
    rows = clustered(rng, 3000, 33)
    index = index_of(rows[:2500], "l2", quantization)
    for options in ({}, {"exact": True}, {"filter": np.arange(0, 2500, 3)}):
        one, two = (index.search(rows[2500:], 7, threads=threads, **options) for threads in (1, 2))
        np.testing.assert_array_equal(one.ids, two.ids)
        np.testing.assert_array_equal(one.distances, two.distances)


def test_a_context_outlives_changes_of_its_index(rng: np.random.Generator) -> None:
    rows = clustered(rng, 4000, 12)
    index = edgevec.Index(12, "l2", M=4)
    context = edgevec.SearchContext(index)
    held: dict[int, Rows] = {}
    for start in range(0, 4000, 500):
        index.add(rows[start : start + 500])
        held.update(enumerate(rows[start : start + 500], start))
        gone = list(held)[::7]
        index.remove(gone)
        for id in gone:
            del held[id]
        if start % 1000:
            index.compact()
        for options in ({"exact": True}, {"filter": list(held)[:50]}):
            expected = held if "exact" in options else {id: held[id] for id in list(held)[:50]}
            result = index.search(rows[start], 9, context=context, **options)
            assert_right(result, "l2", expected, rows[start], 9, step_of(index, rows))
        np.testing.assert_array_equal(
            index.search(rows[start], 9, context=context).ids, index.search(rows[start], 9).ids
        )


@each_quantization
def test_a_context_does_not_take_old_walks_for_new_ones(quantization: Quantization, rng: np.random.Generator) -> None:
    """Walks are numbered with 16 bits: what the one of the same number saw, a round ago, this one did not see."""
    rows = clustered(rng, 400, 4)
    rows[200:] += 1000
    index = index_of(rows, "l2", quantization, M=4)
    here, there = rows[0], rows[200]
    context = edgevec.SearchContext(index)
    fresh = index.search(here, 5, ef=5, context=context)
    assert context.stats.strategy == "graph"
    walks = index.stats()["max_level"] + 1  # a search takes one on each level
    between = 65535 // math.gcd(walks, 65535) - 1
    index.search(np.tile(there, (between, 1)), 1, ef=5, threads=1, context=context)
    again = index.search(here, 5, ef=5, context=context)
    np.testing.assert_array_equal(again.ids, fresh.ids)
    assert context.stats.queries == between + 2


def test_the_time_in_the_core_is_part_of_the_time_of_the_calls(rng: np.random.Generator) -> None:
    rows = clustered(rng, 2000, 48)
    index = index_of(rows, "l2", "sq8")
    context = edgevec.SearchContext(index)
    inside = 0.0
    start = time.perf_counter()
    for row in rows:
        index.search(row, 10, context=context)
        inside += context.stats.seconds
    assert 0 < inside <= time.perf_counter() - start


def test_more_effort_finds_no_less(rng: np.random.Generator) -> None:
    rows = clustered(rng, 6100, 48)
    rows, queries = rows[:6000], rows[6000:]
    index = index_of(rows, "l2", "none", M=6, ef_construction=40)
    quality = [recall("l2", rows, queries, index.search(queries, 10, ef=ef).ids, 10) for ef in (10, 40, 160)]
    assert quality == sorted(quality)
    assert quality[0] < quality[-1]
    index.ef = 160
    np.testing.assert_array_equal(index.search(queries, 10).ids, index.search(queries, 10, ef=160).ids)


# ---- kinds of input ------------------------------------------------------------------------------------------------


class OnlyDLPack:
    """A tensor of another library."""

    def __init__(self, data: Rows) -> None:
        self._data = data

    def __dlpack__(self, **options: Any) -> Any:
        return self._data.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._data.__dlpack_device__()


class OnlyArray:
    """A table of another library."""

    def __init__(self, data: Rows) -> None:
        self._data = data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._data if dtype is None else self._data.astype(dtype)


def unaligned(rows: Rows) -> Rows:
    raw = np.zeros(rows.nbytes + 1, np.uint8)
    out = raw[1:].view(np.float32).reshape(rows.shape)
    out[:] = rows
    return out


def read_only(rows: Rows) -> Rows:
    out = rows.copy()
    out.flags.writeable = False
    return out


INPUTS = {
    "float64": lambda rows: rows.astype(np.float64),
    "float16": lambda rows: rows.astype(np.float16),
    "longdouble": lambda rows: rows.astype(np.longdouble),
    "big endian": lambda rows: rows.astype(">f4"),
    "int8": lambda rows: rows.astype(np.int8),
    "int64": lambda rows: rows.astype(np.int64),
    "Fortran order": np.asfortranarray,
    "every second column": lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
    "every second row": lambda rows: np.repeat(rows, 2, axis=0)[::2],
    "backwards": lambda rows: rows[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "read-only": read_only,
    "lists": lambda rows: rows.tolist(),
    "tuples": lambda rows: tuple(map(tuple, rows.tolist())),
    "list of arrays": list,
    "memoryview": lambda rows: memoryview(np.ascontiguousarray(rows)),
    "__array__": OnlyArray,
    "DLPack": OnlyDLPack,
}


@pytest.mark.parametrize("kind", INPUTS)
@settings(max_examples=examples(10))
@given(dim=st.integers(1, 70), n=st.integers(1, 9), seed=seeds)
def test_any_kind_of_numbers(kind: str, dim: int, n: int, seed: int) -> None:
    rows = np.asarray(np.random.default_rng(seed).integers(-100, 100, (n, dim)), np.float32)
    before = rows.copy()
    index = edgevec.Index(dim, "l2", quantization="none")
    index.add(INPUTS[kind](rows))
    np.testing.assert_array_equal(index.get(range(n)), before)
    np.testing.assert_array_equal(rows, before)
    result = index.search(INPUTS[kind](rows), 3)
    for query, ids, got in zip(rows, *result, strict=True):
        full = edgevec.SearchResult(ids[: min(3, n)], got[: min(3, n)])
        assert_right(full, "l2", numbered(rows), query, 3)


@pytest.mark.parametrize("code", "fdbhiq")
def test_array_module_and_single_vectors(code: str) -> None:
    index = edgevec.Index(3, "l2", quantization="none")
    assert index.add(array.array(code, [1, 2, 3])).tolist() == [0]
    assert index.add([4, 5, 6]).tolist() == [1]
    assert index.search(array.array(code, [4, 5, 5]), 1).ids.tolist() == [1]


def test_unsigned_and_bool_vectors_are_numbers() -> None:
    index = edgevec.Index(2, "l2", quantization="none")
    index.add(np.array([[250, 3]], np.uint8))
    index.add(np.array([[True, False]]))
    np.testing.assert_array_equal(index.get([0, 1]), [[250, 3], [1, 0]])


def test_what_is_float32_and_contiguous_is_not_copied(rng: np.random.Generator) -> None:
    """The core reads the caller's own memory: searching must not need room for a second copy."""
    tracemalloc = pytest.importorskip("tracemalloc")
    index = edgevec.Index(64, "l2", quantization="none")
    rows = clustered(rng, 300, 64)
    index.add(rows)
    queries = np.tile(rows, (30, 1))
    tracemalloc.start()
    try:
        index.search(queries, 1, exact=True)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < queries.nbytes / 4


def test_adding_no_rows_changes_nothing() -> None:
    index = edgevec.Index(5)
    for nothing in ([], np.empty((0, 5), np.float32), np.empty((0, 5), np.int8)):
        assert index.add(nothing).shape == (0,)
        assert index.add(nothing, ids=[]).shape == (0,)
    assert len(index) == 0
    assert list(index) == []
    assert index.search(np.ones(5)).ids.shape == (0,)
    assert index.check().ok
