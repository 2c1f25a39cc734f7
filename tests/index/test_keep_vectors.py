"""What the index keeps of its vectors: 24 bits a coordinate beside 8-bit codes, or float32 bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_file import IndexFile
from oracle import Doubles, Rows, clustered, distances, each_metric, each_quantization, recall, unit
from support import examples

import edgevec
from edgevec import KeepVectors, Metric, Quantization

STEPS = 127 * 65536
"""From the center of the codes to the largest coordinate of a vector."""
NOTHING = 127e-37
"""Coordinates that are nearer to the center than this are taken for it."""
seeds = st.integers(0, 2**32 - 1)


def filled(rows: Rows, metric: Metric = "l2", **options: Any) -> edgevec.Index:
    index = edgevec.Index(rows.shape[1], metric, M=4, ef_construction=20, **options)
    index.add(rows, threads=1)
    return index


def uneven(dim: int, n: int, exponents: tuple[int, int, int], seed: int) -> Rows:
    """Rows far from the origin or near it, of lengths and with dimensions that differ by orders of magnitude."""
    rng = np.random.default_rng(seed)
    apart, between_rows, between_dims = exponents
    rows = rng.standard_normal((n, dim)) * 10.0 ** rng.uniform(-abs(between_rows), 0, (n, 1))
    rows *= 10.0 ** rng.uniform(-abs(between_dims), 0, dim)
    scale = 10.0 ** rng.uniform(-30, 13)  # beyond, a squared length is too much for a float32
    return np.asarray((rows + 10.0**apart * rng.standard_normal(dim)) * scale, np.float32)


def steps(index: edgevec.Index, rows: Doubles, folder: Path) -> Doubles:
    """Of each row, by the center that is in the file."""
    index.save(folder / "index")
    center = IndexFile((folder / "index").read_bytes())["centre"].astype(np.float64)
    return np.abs(rows - center).max(axis=1, keepdims=True) / STEPS


# ---- what comes back -----------------------------------------------------------------------------------------------


@each_metric
@settings(max_examples=examples(60))
@given(
    dim=st.integers(1, 300),
    n=st.integers(1, 60),
    exponents=st.tuples(st.integers(-9, 3), st.integers(0, 12), st.integers(0, 12)),
    seed=seeds,
)
def test_a_coordinate_is_kept_to_within_its_step(
    metric: Metric,
    dim: int,
    n: int,
    exponents: tuple[int, int, int],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = uneven(dim, n, exponents, seed)
    index = filled(rows, metric)
    assert index.stats()["trainings"] == 1
    held = unit(rows).astype(np.float32).astype(np.float64) if metric == "cosine" else rows.astype(np.float64)
    step = steps(index, held, tmp_path_factory.getbasetemp())
    rounding = 2.0**-23 if metric == "cosine" else 0  # of the length, which the core takes in another order
    assert (np.abs(index.get(range(n)) - held) <= step * 1.00001 + NOTHING + rounding).all()


@each_metric
@settings(max_examples=examples(25))
@given(dim=st.sampled_from([3, 64, 200]), shift=st.floats(0, 5), seed=seeds)
def test_learning_the_center_anew_costs_a_step_each_time(metric: Metric, dim: int, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.asarray([rng.standard_normal(dim) + shift * at / 100 for at in range(1200)], np.float32)
    index = edgevec.Index(dim, metric, M=4, ef_construction=8)
    for start in range(0, 1200, 100):
        index.add(rows[start : start + 100])
    trained = index.stats()["trainings"]
    assert trained >= 2
    held = unit(rows) if metric == "cosine" else rows.astype(np.float64)
    off = np.abs(index.get(range(1200)) - held)
    largest = np.abs(held).max()
    assert off.max() <= trained * 2 * largest / STEPS + 2.0**-23 * (metric == "cosine")
    assert index.check().bad_codes == 0


@settings(max_examples=examples(40))
@given(
    dim=st.integers(1, 200),
    n=st.integers(1, 40),
    digits=st.integers(1, 9),
    exponent=st.integers(-40, 40),
    seed=seeds,
)
def test_numbers_of_few_digits_come_back_as_they_were(dim: int, n: int, digits: int, exponent: int, seed: int) -> None:
    """Integers, and other multiples of some power of two, also after the center was learned anew."""
    rng = np.random.default_rng(seed)
    most = 2**digits - 1
    rows = np.asarray(rng.integers(-most, most + 1, (5 * n, dim)) * 2.0**exponent, np.float32)
    index = filled(rows[:n])
    index.add(rows[n:])
    np.testing.assert_array_equal(index.get(range(5 * n)), rows)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@settings(max_examples=examples(25))
@given(
    dim=st.integers(1, 300),
    n=st.integers(1, 60),
    exponents=st.tuples(st.integers(-9, 3), st.integers(0, 12), st.integers(0, 12)),
    seed=seeds,
)
def test_float32_is_kept_bit_for_bit(
    metric: Metric, dim: int, n: int, exponents: tuple[int, int, int], seed: int
) -> None:
    rows = uneven(dim, n, exponents, seed)
    index = filled(rows, metric, keep_vectors="float32")
    index.add(rows[::-1] + np.float32(1), np.arange(n, 2 * n))
    np.testing.assert_array_equal(index.get(range(n)), rows)


# ---- distances -----------------------------------------------------------------------------------------------------


@each_metric
@pytest.mark.parametrize("far", [0, 3])
def test_distances_are_as_exact_as_those_of_float32(metric: Metric, far: float, rng: np.random.Generator) -> None:
    """Against float64, on rows around the origin and away from it."""
    rows = clustered(rng, 2100, 384) + np.float32(far)
    rows, queries = rows[:2000], rows[2000:]
    worst: dict[KeepVectors, float] = {}
    for keep_vectors in (True, "float32"):
        index = filled(rows, metric, keep_vectors=keep_vectors)
        found = index.search(queries, 20, exact=True)
        truth = np.array([distances(metric, rows[ids], query) for query, ids in zip(queries, found.ids, strict=True)])
        assert recall(metric, rows, queries, found.ids, 20) == 1
        worst[keep_vectors] = float((np.abs(found.distances - truth) / np.maximum(np.abs(truth), 1e-3)).max())
    assert worst[True] <= 2 * worst["float32"] + 1e-6


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_distance_of_a_vector_to_itself_is_0(metric: Metric, rng: np.random.Generator) -> None:
    rows = clustered(rng, 1500, 100)
    index = filled(rows, metric)
    for exact in (False, True):
        found = index.search(rows[::10], 1, ef=200, exact=exact)
        np.testing.assert_array_equal(found.ids[:, 0], np.arange(0, 1500, 10))
        np.testing.assert_array_equal(found.distances, 0)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_near_copies_are_told_apart(metric: Metric, rng: np.random.Generator) -> None:
    """Ever smaller changes, down to a millionth: 1 - cos is then far below what float32 can take from 1."""
    query = rng.standard_normal(256)
    change = 10.0 ** -np.linspace(2, 6, 9)
    rows = np.asarray(query + change[:, None] * rng.standard_normal(256), np.float32)
    index = filled(np.concatenate([rows, clustered(rng, 300, 256)]), metric)
    found = index.search(query, 9, exact=True)
    np.testing.assert_array_equal(found.ids, np.arange(9)[::-1])
    truth = distances("l2", unit(rows), unit(query)) / 2 if metric == "cosine" else distances("l2", rows, query)
    np.testing.assert_allclose(found.distances[::-1], truth, rtol=0.2)


@pytest.mark.quality
@each_metric
def test_recall_is_that_of_float32(metric: Metric, rng: np.random.Generator) -> None:
    rows = clustered(rng, 5200, 128)
    rows, queries = rows[:5000], rows[5000:]
    found = {
        keep_vectors: filled(rows, metric, keep_vectors=keep_vectors).search(queries, 10, ef=40).ids
        for keep_vectors in (True, "float32")
    }
    # the graph is that of the same codes but for what lies just between two; only near ties may change places
    assert np.mean(found[True] == found["float32"]) >= 0.99
    assert np.isclose(*(recall(metric, rows, queries, ids, 10) for ids in found.values()), atol=0.002)


# ---- choosing ------------------------------------------------------------------------------------------------------


def test_a_small_index_kept_otherwise_lends_no_memory_that_is_too_short(tmp_path: Path) -> None:
    """Small indexes leave what their searches work in to the next of their shape. 24-bit vectors that are compared by
    their numbers, as here, where codes cannot tell rows of two far clouds apart, take more room in it than codes."""
    rng = np.random.default_rng(1)  # what is built and searched must be the same each time
    rows = rng.standard_normal((3000, 61)).astype(np.float32)
    rows[::2] += np.float32(1e4)

    def built() -> bytes:
        index = edgevec.Index(61, "l2", M=7, ef_construction=60)
        index.add(rows, threads=1)
        assert index.stats()["walk"] == 1  # by numbers
        assert recall("l2", rows, rows[:200], index.search(rows[:200], 5).ids, 5) >= 0.85
        index.save(tmp_path / "index")
        return (tmp_path / "index").read_bytes()

    alone = built()
    small = edgevec.Index(61, "l2", M=7, keep_vectors="float32")
    small.add(rows[:5], threads=1)
    small.search(rows[0], 1)
    assert built() == alone


@pytest.mark.parametrize("unknown", ["float64", "", "FLOAT32", "true"])
def test_an_unknown_way_is_named(unknown: Any) -> None:
    with pytest.raises(edgevec.ParameterError, match=f"keep_vectors must be .* not {unknown!r}"):
        edgevec.Index(8, keep_vectors=unknown)


@each_quantization
@pytest.mark.parametrize("dim", [8, 100])
def test_the_way_is_shown(quantization: Quantization, dim: int, tmp_path: Path) -> None:
    """Where there is but one way to keep vectors, that is True; it is the same after a load."""
    by_bytes = quantization == "sq8" or (quantization == "binary" and dim <= 32)
    ways: dict[KeepVectors, KeepVectors] = {
        True: True,
        "float32": "float32" if by_bytes else True,
        False: quantization == "none",
    }
    for asked, shown in ways.items():
        index = edgevec.Index(dim, quantization=quantization, keep_vectors=asked)
        assert index.keep_vectors == shown
        assert type(index.keep_vectors) is type(shown)
        assert repr(index).endswith(f"keep_vectors={shown!r})")
        index.save(tmp_path / "index")
        assert repr(edgevec.Index.load(tmp_path / "index")) == repr(index)


def test_collections_know_short_vectors_among_long_ones(tmp_path: Path, rng: np.random.Generator) -> None:
    """Their index rounds by the distance from the mean: that is no difference from the records."""
    rows = 100 + clustered(rng, 600, 16)
    rows[::50] = clustered(rng, 12, 16) / 1000
    with edgevec.open(tmp_path / "rows.edgevec", metric="l2", durability="fast") as made:
        for start in range(0, 600, 60):
            made.upsert(range(start, start + 60), rows[start : start + 60])
        assert made.check().ok
