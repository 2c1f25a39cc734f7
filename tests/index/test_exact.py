"""Exact search, and the order of every search, are those of float64 over what the index holds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Doubles, Rows, each_metric, each_quantization
from support import examples

import edgevec
from edgevec import KeepVectors, Metric, Quantization, SearchResult

pytestmark = pytest.mark.core

TIED = 1e-12
"""Relative: what the order of the terms may change in a float64 sum."""


def unit(rows: npt.ArrayLike) -> Doubles:
    doubles = np.asarray(rows, np.float64)
    return np.asarray(doubles / np.linalg.norm(doubles, axis=-1, keepdims=True))


def measures(metric: Metric, held: Rows, query: Rows) -> Doubles:
    """What neighbors are ordered by. Cosine by the difference of unit vectors, without what 1 - cos loses."""
    if metric == "ip":
        return -(held.astype(np.float64) @ query.astype(np.float64))
    a, b = (unit(held), unit(query)) if metric == "cosine" else (held.astype(np.float64), query.astype(np.float64))
    return np.asarray(np.square(a - b).sum(axis=1) / (2 if metric == "cosine" else 1))


def noise(metric: Metric, held: Rows, query: Rows) -> Doubles:
    """How far a float64 sum may be off."""
    if metric == "ip":
        return np.asarray(1e-14 * (np.abs(held.astype(np.float64)) @ np.abs(query.astype(np.float64))))
    return np.asarray(TIED * measures(metric, held, query) + (1e-15 if metric == "cosine" else 0))


def assert_exact(index: edgevec.Index, query: Rows, k: int, *, exact: bool, result: SearchResult | None = None) -> None:
    """The results are in the order of float64 over get(), at those distances; if exact, nothing nearer is left out."""
    ids = np.sort(np.fromiter(index, np.int64))
    held = index.get(ids)
    measure, off = measures(index.metric, held, query), noise(index.metric, held, query)
    result = result or index.search(query, k, exact=exact)
    at = np.searchsorted(ids, result.ids)
    assert len(set(at.tolist())) == min(k, len(ids))
    assert (np.diff(measure[at]) >= -(off[at][1:] + off[at][:-1])).all(), "not in order"
    if exact:
        best = np.sort(measure)[: at.size]
        assert (measure[at] <= best + 2 * off[at]).all(), "something nearer was left out"
    truth = 1 + measure[at] if index.metric == "ip" else measure[at]
    fine = index.quantization == "sq8" and index.keep_vectors is True
    # distances may be float32 sums, and what is within a step of the query is at 0 beside 8-bit codes
    rounding, atol = 5e-6 + 1e-8 * query.size, off[at] + 1e-44 + (step2(held) if fine else 0)
    if index.metric == "ip":
        lengths = np.linalg.norm(held.astype(np.float64), axis=1).max() * np.linalg.norm(query.astype(np.float64))
        atol, rounding = atol + 2 * rounding * lengths, 0
    atol = atol + (1e-14 if index.metric == "cosine" else 0)
    assert (np.abs(result.distances - truth) <= (rounding + 2.0**-23) * np.abs(truth) + atol).all()
    assert (np.diff(result.distances) >= 0).all(), "what is shown is not in order"


def step2(held: Rows) -> float:
    return float(held.shape[1] * (np.abs(held.astype(np.float64)).max() * 2 * 2.0**-23) ** 2)


def spread(dim: int, n: int, exponents: tuple[float, float, float, float], seed: int) -> Rows:
    """Rows of some scale, around a common offset, with a few far off and near copies of some."""
    rng = np.random.default_rng(seed)
    scale, offset, outlier, copy = exponents
    rows = rng.standard_normal((n, dim)) + 10.0**offset * rng.standard_normal(dim)
    rows[rng.random(n) < 0.05] *= 10.0**outlier
    rows[n // 2 :] = rows[: n - n // 2] + 10.0**copy * rng.standard_normal((n - n // 2, dim))
    rows *= 10.0**scale
    return np.asarray(rows, np.float32)


Kept = Literal["none", "sq8", "sq24", "binary", "codes"]
"""A quantization beside float32 vectors; or 8-bit codes beside 24-bit vectors, or alone."""


def empty(kept: Kept, dim: int, metric: Metric) -> edgevec.Index:
    keep: KeepVectors = True if kept == "sq24" else False if kept == "codes" else "float32"
    quantization: Quantization = kept if kept in ("none", "binary") else "sq8"
    return edgevec.Index(dim, metric, quantization=quantization, M=4, ef_construction=8, keep_vectors=keep)


@each_metric
@each_quantization
@settings(max_examples=examples(25))
@given(
    dim=st.sampled_from([1, 3, 33, 64, 200]),
    exponents=st.tuples(st.floats(-30, 6), st.floats(-3, 4), st.floats(0, 6), st.floats(-6, 0)),
    seed=st.integers(0, 2**32 - 1),
)
def test_order_and_distances_are_those_of_float64(
    quantization: Quantization,
    metric: Metric,
    dim: int,
    exponents: tuple[float, float, float, float],
    seed: int,
) -> None:
    rows = spread(dim, 120, exponents, seed)
    if metric == "cosine":
        rows = rows[np.square(rows.astype(np.float64)).sum(axis=1) > 0]
    index = edgevec.Index(dim, metric, quantization=quantization, M=4, ef_construction=20, keep_vectors="float32")
    index.add(rows[:-3])
    for query in rows[-6:]:
        assert_exact(index, query, 9, exact=True)
        assert_exact(index, query, 9, exact=False)


@each_metric
@settings(max_examples=examples(25))
@given(
    dim=st.sampled_from([1, 3, 33, 64, 200]),
    exponents=st.tuples(st.floats(-10, 6), st.floats(-3, 4), st.floats(0, 6), st.floats(-6, 0)),
    seed=st.integers(0, 2**32 - 1),
)
def test_24_bit_vectors_are_ranked_as_they_are_read(
    metric: Metric, dim: int, exponents: tuple[float, float, float, float], seed: int
) -> None:
    rows = spread(dim, 120, exponents, seed)
    index = edgevec.Index(dim, metric, M=4, ef_construction=20)
    index.add(rows[:-3])
    for query in rows[-6:]:
        assert_exact(index, query, 9, exact=True)
        assert_exact(index, query, 9, exact=False)


@each_quantization
def test_cosine_far_from_the_origin(quantization: Quantization, rng: np.random.Generator) -> None:
    """1 - cos is a millionth of what float32 rounds off 1."""
    rows, queries = (np.asarray(rng.standard_normal((n, 64)) + 1000, np.float32) for n in (2000, 40))
    index = edgevec.Index(64, quantization=quantization, keep_vectors="float32")
    index.add(rows)
    truth = np.array([np.argsort(measures("cosine", rows, query), kind="stable")[:10] for query in queries])
    found = index.search(queries, 10, exact=True)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found.ids, truth, strict=True)]) >= 0.995
    held = index.get(range(2000))
    for query, ids in zip(queries, found.ids, strict=True):
        np.testing.assert_array_equal(ids, np.argsort(measures("cosine", held, query), kind="stable")[:10])


@each_quantization
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-18, 1e-3, 1e17])
def test_any_scale_is_ordered(scale: float, quantization: Quantization, rng: np.random.Generator) -> None:
    rows, queries = (np.asarray(rng.standard_normal((n, 48)) * scale, np.float32) for n in (3000, 30))
    index = edgevec.Index(48, "l2", quantization=quantization, keep_vectors="float32", ef_construction=60)
    index.add(rows)
    truth = np.array([np.argsort(measures("l2", rows, query), kind="stable")[:10] for query in queries])
    np.testing.assert_array_equal(index.search(queries, 10, exact=True).ids, truth)
    found = index.search(queries, 10, ef=128).ids
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found, truth, strict=True)]) >= 0.85
    if not 1e-30 < scale < 1e-3:  # between them denormal sums have some digits, and may do
        assert (index.stats()["walk"] == 2) == (scale == 1e-30)


@each_metric
@each_quantization
def test_equal_distances_come_by_id(quantization: Quantization, metric: Metric, rng: np.random.Generator) -> None:
    rows = np.repeat(rng.integers(-3, 4, (30, 16)).astype(np.float32) + 10, 20, axis=0)
    ids = rng.permutation(len(rows))
    index = edgevec.Index(16, metric, quantization=quantization, keep_vectors="float32")
    index.add(rows, ids)
    for query in rows[::20]:
        result = index.search(query, 50, exact=True)
        place = np.empty(len(rows), np.int64)
        place[ids] = np.arange(len(rows))
        measure = measures(metric, index.get(result.ids), query)
        equal = (index.get(result.ids)[1:] == index.get(result.ids)[:-1]).all(axis=1)
        assert (np.diff(result.ids)[equal] > 0).all()
        assert (np.diff(measure) >= -1e-12).all()


@each_metric
@pytest.mark.parametrize("kept", ["none", "sq8", "sq24", "binary", "codes"])
@settings(max_examples=examples(12))
@given(
    dim=st.sampled_from([1, 2, 3, 5, 17, 33, 63, 64, 65, 131]),
    size=st.sampled_from([1, 2, 3, 5, 63, 64, 65, 257]),
    k=st.sampled_from([1, 10, 64, 400]),
    exponents=st.tuples(st.floats(-30, 6), st.floats(-3, 4), st.floats(0, 6), st.floats(-6, 0)),
    seed=st.integers(0, 2**32 - 1),
)
def test_batches_find_what_single_calls_do(
    kept: Kept,
    metric: Metric,
    dim: int,
    size: int,
    k: int,
    exponents: tuple[float, float, float, float],
    seed: int,
) -> None:
    """Single calls are held against float64 above, and here both; ties, an outlier and constant rows are among them."""
    rng = np.random.default_rng(seed)
    rows = spread(dim, 330, exponents, seed)
    rows[40:80] = rows[40]
    rows[100] *= 1e6 if np.abs(rows[100]).max() < 1e10 else 1
    rows[110:130] = rows[110, 0]
    if metric == "cosine":
        rows = rows[np.square(rows.astype(np.float64)).sum(axis=1) > 0]
    index = empty(kept, dim, metric)
    index.add(rows, rng.permutation(len(rows)))
    index.remove(rng.choice(len(rows), 30, replace=False))
    queries = rows[rng.integers(len(rows), size=size)]
    if seed % 2:
        queries = queries + np.float32(10.0 ** exponents[3]) * rng.standard_normal(queries.shape, np.float32)
    if metric == "cosine":
        queries = np.where(np.square(queries.astype(np.float64)).sum(axis=1, keepdims=True) > 0, queries, 1)
    half = edgevec.IdFilter(np.flatnonzero(rng.random(len(rows)) < 0.5))
    for filter in (None, half):
        batch = index.search(queries, k, filter=filter, exact=True)
        for i in range(0, size, 1 if size < 9 else 13):
            alone = index.search(queries[i], k, filter=filter, exact=True)
            np.testing.assert_array_equal(batch.ids[i][: alone.ids.size], alone.ids)
            assert (batch.ids[i][alone.ids.size :] == -1).all()
    both = index.search(queries[[0, 0]], k, exact=True)
    if kept != "sq24" or exponents[0] > -10:
        assert_exact(index, queries[0], k, exact=True, result=SearchResult(both.ids[1], both.distances[1]))


@each_metric
@pytest.mark.parametrize("kept", ["none", "sq8", "binary"])
def test_batches_of_any_size_are_those_of_float64(kept: Quantization, metric: Metric, rng: np.random.Generator) -> None:
    rows = np.asarray(rng.standard_normal((3000, 40)) + 0.3, np.float32)
    index = edgevec.Index(40, metric, quantization=kept, M=4, ef_construction=8, keep_vectors="float32")
    index.add(rows)
    for size in (1, 2, 3, 5, 63, 64, 65, 257):
        queries = np.asarray(rng.standard_normal((size, 40)), np.float32)
        truth = [np.argsort(measures(metric, rows, query), kind="stable")[:10] for query in queries]
        np.testing.assert_array_equal(index.search(queries, 10, exact=True).ids, truth)
    with pytest.raises(edgevec.NotFiniteError, match="row 65"):
        index.search(np.vstack([rows[:65], np.full((1, 40), np.nan, np.float32), rows[:9]]), 10, exact=True)


@each_metric
@pytest.mark.parametrize("kept", ["none", "sq8", "sq24", "binary"])
@pytest.mark.parametrize("dim", [2, 8, 70])
def test_batches_where_codes_hide_what_sets_rows_apart(
    dim: int, kept: Kept, metric: Metric, rng: np.random.Generator
) -> None:
    """One coordinate makes the scale of all codes, and the others lie within half a step: as wrong as codes can be."""
    rows = rng.uniform(-0.38, 0.38, (2000, dim))
    rows[:, 0] = rng.choice([-100, 100], 2000) + rng.uniform(-0.01, 0.01, 2000)
    queries = rows[rng.integers(2000, size=70)] + rng.uniform(-0.3, 0.3, (70, dim))
    index = empty(kept, dim, metric)
    index.add(np.asarray(rows, np.float32))
    held, asked = index.get(range(2000)), np.asarray(queries, np.float32)
    truth = [np.argsort(measures(metric, held, query), kind="stable")[:10] for query in asked]
    np.testing.assert_array_equal(index.search(asked, 10, exact=True).ids, truth)


DUE = 8
"""Single calls after which 4-bit codes are made of an index that has not changed."""
HAS_4_BIT_CODES = edgevec.simd_info().active in ("scalar", "avx2", "avx512")
"""Elsewhere no kernel compares them."""


def warm(index: edgevec.Index, query: Rows) -> None:
    """From now on single exact searches go by 4-bit codes first, unless codes hide what is held; these take memory."""
    before = index.memory_usage()["codes"]
    for _ in range(DUE + 1):
        index.search(query, 1, exact=True)
    codes_hide = index.quantization == "sq8" and index.stats()["walk"] in (1, 2)
    assert codes_hide or not HAS_4_BIT_CODES or index.memory_usage()["codes"] >= before + len(index) * (index.dim // 2)


def many_rows(dim: int, seed: int) -> Rows:
    """Enough for 4-bit codes: sorted ones, copies, near ones, rows of zeros, an outlier, and one long coordinate."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((4500, dim)) + rng.uniform(0, 2)
    rows[:1000] = rows[np.argsort(rows[:1000, 0])]
    rows[1000:1400] = rows[rng.integers(1000, size=400)]
    rows[1400:1800] = rows[rng.integers(1000, size=400)] + 1e-5 * rng.standard_normal((400, dim))
    rows[1800:1900] = 0
    rows[2000] *= 1e5
    rows[2100:2600, rng.integers(dim)] *= 40
    rows[2600:2650] = rows[2600]
    rows[2700:2800] = rng.integers(-2, 3, (100, dim))
    return np.asarray(10.0 ** rng.integers(-6, 6) * rows, np.float32)


def queries_of(rows: Rows, metric: Metric, rng: np.random.Generator) -> Rows:
    near = rows[[5, 1200, 1500, 2000, 2300, 2610, 2750]]
    some = rows[rng.integers(len(rows), size=5)] + np.abs(rows).mean() * rng.standard_normal((5, rows.shape[1]))
    zero = np.zeros((0 if metric == "cosine" else 1, rows.shape[1]))
    return np.asarray(np.vstack([near, some, zero]), np.float32)


@each_metric
@pytest.mark.parametrize("kept", ["none", "sq8", "sq24", "binary"])
@settings(max_examples=examples(4), deadline=None)
@given(dim=st.sampled_from([1, 5, 8, 31, 70]), seed=st.integers(0, 2**32 - 1))
def test_single_calls_again_and_again_are_those_of_float64(kept: Kept, metric: Metric, dim: int, seed: int) -> None:
    rng, rows = np.random.default_rng(seed), many_rows(dim, seed)
    if metric == "cosine":
        rows = rows[np.square(rows.astype(np.float64)).sum(axis=1) > 0]
    index = empty(kept, dim, metric)
    ids = rng.permutation(len(rows))
    index.add(rows, ids)
    index.remove(ids[rng.choice(len(rows), 50, replace=False)])
    queries = queries_of(rows, metric, rng)
    before = [index.search(query, 7, exact=True) for query in queries[:DUE]]
    allowed = np.flatnonzero(rng.random(len(rows)) < 0.5)
    half = edgevec.IdFilter(allowed)
    warm(index, queries[0])
    for query, earlier in zip(queries, before, strict=False):
        np.testing.assert_array_equal(index.search(query, 7, exact=True).ids, earlier.ids)
    for query in queries:
        for k in (1, 7, 300):
            assert_exact(index, query, k, exact=True)
        few = index.search(query, 7, filter=half, exact=True)
        every = index.search(query, len(rows), exact=True).ids
        np.testing.assert_array_equal(few.ids, every[np.isin(every, allowed)][:7])


@each_metric
@pytest.mark.parametrize("kept", ["none", "sq8", "sq24", "binary"])
@pytest.mark.parametrize("dim", [2, 8, 70])
def test_single_calls_where_codes_hide_what_sets_rows_apart(
    dim: int, kept: Kept, metric: Metric, rng: np.random.Generator
) -> None:
    """As the test of batches above, on the steps of 4-bit codes: one in 15, of the row or of its deviation."""
    rows = rng.uniform(-0.99, 0.99, (4200, dim)) * np.where(np.arange(4200) % 2, 100 / 15, 0.38)[:, None]
    rows[:, 0] = rng.choice([-100, 100], 4200) + rng.uniform(-0.01, 0.01, 4200)
    queries = np.asarray(rows[rng.integers(4200, size=12)] + rng.uniform(-0.3, 0.3, (12, dim)), np.float32)
    index = empty(kept, dim, metric)
    index.add(np.asarray(rows, np.float32))
    warm(index, queries[0])
    held = index.get(range(4200))
    for query in queries:
        truth = np.argsort(measures(metric, held, query), kind="stable")[:10]
        np.testing.assert_array_equal(index.search(query, 10, exact=True).ids, truth)


@each_metric
@pytest.mark.parametrize("kept", ["none", "sq8", "sq24", "binary", "codes"])
@settings(max_examples=examples(3), deadline=None)
@given(dim=st.sampled_from([5, 31, 70]), seed=st.integers(0, 2**32 - 1))
def test_single_calls_bounded_by_a_walk_are_those_of_float64(kept: Kept, metric: Metric, dim: int, seed: int) -> None:
    """Of so many vectors a walk first tells how far the nearest are at most; here it finds poor ones, or too few."""
    rng, rows = np.random.default_rng(seed), np.concatenate([many_rows(dim, seed), many_rows(dim, seed + 1)])
    rows = rows[np.square(rows.astype(np.float64)).sum(axis=1) > 0]
    queries = queries_of(rows, metric, rng)
    rows = rows[np.argsort(-measures(metric, rows, queries[rng.integers(len(queries))]), kind="stable")]
    index = empty(kept, dim, metric)
    ids = rng.permutation(len(rows))
    index.add(rows, ids)
    for removed in (0, 40, 0.06 * len(rows)):
        index.remove(rng.choice(np.fromiter(index, np.int64), int(removed), replace=False))
        for query in queries:
            assert_exact(index, query, int(rng.choice([1, 7, 16])), exact=True)


def test_4_bit_codes_are_of_what_is_held_now(rng: np.random.Generator) -> None:
    rows = np.asarray(rng.standard_normal((5000, 16)), np.float32)
    index = edgevec.Index(16, "l2", M=4, ef_construction=8, keep_vectors="float32")
    index.add(rows[:4500])
    warm(index, rows[0])
    for step in (
        lambda: index.add(rows[4500:4510]),
        lambda: index.remove(range(100)),
        lambda: index.add(rows[4600:4700], range(200, 300)),
        lambda: index.add(rows[4700:] + 1e3),  # of which the center of the codes moves
        index.compact,
    ):
        step()
        for query in rows[4495:4515]:
            assert_exact(index, query, 5, exact=True)
    assert index.search(rows[4600], 1, exact=True).ids == [200]
    assert index.search(rows[0], 1, exact=True).ids != [0]


@pytest.mark.mmap
@pytest.mark.skipif(not HAS_4_BIT_CODES, reason="this SIMD path has no kernel for 4-bit codes")
def test_4_bit_codes_take_memory_where_exact_searches_come_again(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = np.asarray(rng.standard_normal((4160, 64)), np.float32)
    index = edgevec.Index(64, "l2", M=4, ef_construction=8)
    index.add(rows)
    held = index.memory_usage()["codes"]
    for _ in range(20):
        index.search(rows[0], 5)
        index.search(rows[:30], 5, exact=True)
        index.search(rows[0], 5, exact=True, filter=np.arange(500))
    assert index.memory_usage()["codes"] == held
    warm(index, rows[0])
    assert index.memory_usage()["codes"] == held + 4160 * (64 // 2 + 12) + 64 * 4
    index.compact()
    assert index.memory_usage()["codes"] == held
    index.save(tmp_path / "index.evec")
    with edgevec.Index.load(tmp_path / "index.evec", mmap=True) as mapped:
        held = mapped.memory_usage()["total"] - mapped.memory_usage()["mapped"]
        for row in rows[:20]:
            np.testing.assert_array_equal(mapped.search(row, 5, exact=True).ids, index.search(row, 5, exact=True).ids)
        assert mapped.memory_usage()["total"] - mapped.memory_usage()["mapped"] <= held + 100_000


@pytest.mark.threads
def test_4_bit_codes_are_made_once_for_all_threads(rng: np.random.Generator) -> None:
    rows = np.asarray(rng.standard_normal((6000, 32)), np.float32)
    index = edgevec.Index(32, "l2", M=4, ef_construction=8)
    index.add(rows)
    truth = index.search(rows[:64], 5, exact=True).ids

    def ask(first: int) -> None:
        for i in range(64):
            at = (first + i) % 64
            np.testing.assert_array_equal(index.search(rows[at], 5, exact=True).ids, truth[at])

    with ThreadPoolExecutor(4) as pool:
        for round in range(4):
            list(pool.map(ask, range(0, 64, 16)))
            index.add(rows[:1] + 100 + round)
