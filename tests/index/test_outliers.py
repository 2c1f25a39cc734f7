"""Rows far off, and near copies: searches find what brute force in float64 finds, or the index says why not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from oracle import Ids, Rows, distances, each_metric, each_quantization, recall

import edgevec
from edgevec import KeepVectors, Metric, Quantization

pytestmark = pytest.mark.core

N, DIM, K = 3000, 64, 10
BY_CODES, BY_FLOATS, BY_ALL, BLURRED = range(4)
FAR = [1e6, 1e9, 1e15]
WAYS: list[tuple[Quantization, KeepVectors]] = [("sq8", True), ("sq8", "float32"), ("binary", True), ("none", True)]
each_way = pytest.mark.parametrize(("quantization", "keep_vectors"), WAYS)


def data(rng: np.random.Generator) -> tuple[Rows, Rows]:
    return tuple(rng.standard_normal((n, DIM)).astype(np.float32) for n in (N, 40))  # type: ignore[return-value]


def found(
    rows: Rows, queries: Rows, metric: Metric, parts: Iterable[npt.ArrayLike] | None = None, **options: object
) -> tuple[float, edgevec.Index]:
    """Recall of a search with the default ef, where rows came in these parts."""
    index = edgevec.Index(DIM, metric, ef_construction=100, **options)  # type: ignore[arg-type]
    for part in parts or [np.arange(len(rows))]:
        index.add(rows[np.asarray(part)], np.asarray(part, np.int64))
    return recall(metric, rows, queries, index.search(queries, K).ids, K), index


def walk(index: edgevec.Index) -> int:
    assert index.check().walk == index.stats()["walk"]
    return index.stats()["walk"]


# ---- rows far off ----------------------------------------------------------------------------------------------------


@pytest.mark.quality
@each_way
@each_metric
@pytest.mark.parametrize("far", FAR)
def test_one_row_far_off_leaves_the_others_their_neighbors(
    far: float, metric: Metric, quantization: Quantization, keep_vectors: KeepVectors, rng: np.random.Generator
) -> None:
    rows, queries = data(rng)
    rows[7] = far
    share, index = found(rows, queries, metric, quantization=quantization, keep_vectors=keep_vectors)
    plain, _ = found(rows, queries, metric, quantization="none")
    assert share >= 0.9 * plain
    assert walk(index) == BY_CODES


ORDERS = {
    "first": (0, [np.arange(N)]),
    "last": (N - 1, [np.arange(N)]),
    "alone, first": (0, [[0], np.arange(1, N)]),
    "alone, last": (N - 1, [np.arange(N - 1), [N - 1]]),
    "first, one by one": (0, [[i] for i in range(N)]),
    "first, hundred by hundred": (0, list(np.array_split(np.arange(N), 30))),
}


@pytest.mark.quality
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("far", [1e6, 1e15])
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_a_row_far_off_may_come_at_any_time(
    quantization: Quantization, far: float, order: str, rng: np.random.Generator
) -> None:
    rows, queries = data(rng)
    at, parts = ORDERS[order]
    rows[at] = far
    share, _ = found(rows, queries, "l2", parts, quantization=quantization)
    assert share >= 0.88


@each_way
@pytest.mark.parametrize("kind", ["1% scaled", "10% scaled", "10% moved", "half scaled", "half moved"])
def test_many_rows_far_off(
    kind: str, quantization: Quantization, keep_vectors: KeepVectors, rng: np.random.Generator
) -> None:
    rows, queries = data(rng)
    every = {"1%": 100, "10%": 10, "half": 2}[kind.split()[0]]
    rows[::every] = rows[::every] * 1e6 if kind.endswith("scaled") else rows[::every] + np.float32(1e6)
    share, _ = found(rows, queries, "l2", quantization=quantization, keep_vectors=keep_vectors)
    assert share >= 0.88


@each_quantization
def test_rows_all_far_off_together(quantization: Quantization, rng: np.random.Generator) -> None:
    rows, queries = (part + np.float32(1e4) for part in data(rng))
    assert found(rows, queries, "l2", quantization=quantization)[0] >= 0.88


def test_a_row_far_off_in_a_collection(tmp_path: Path, rng: np.random.Generator) -> None:
    rows, queries = data(rng)
    rows[7] = 1e6
    with edgevec.open(tmp_path / "rows.edgevec", DIM, "l2", durability="fast") as made:
        made.upsert([str(i) for i in range(N)], rows)
        ids = np.array([[int(hit.id) for hit in made.search(query, K)] for query in queries])
    assert recall("l2", rows, queries, ids, K) >= 0.88


@pytest.mark.parametrize("keep_vectors", [True, "float32"])
def test_compacting_learns_the_codes_anew(keep_vectors: KeepVectors, rng: np.random.Generator) -> None:
    """Where most of the rows, now removed, had made the codes useless for the rest."""
    rows, queries = data(rng)
    far = np.arange(N) % 5 < 3
    moved = rows.copy()
    moved[far] += np.float32(1e6)
    _, index = found(moved, queries, "l2", keep_vectors=keep_vectors)
    assert walk(index) == BY_FLOATS
    trained = index.stats()["trainings"]
    index.remove(np.flatnonzero(far))
    index.compact()
    assert walk(index) == BY_CODES
    assert index.stats()["trainings"] == trained + 1
    assert index.check().ok
    left = np.flatnonzero(~far)
    truth = left[np.argsort(distances("l2", index.get(left), queries), axis=1, kind="stable")[:, :K]]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(index.search(queries, K).ids, truth, strict=True)]) >= 0.88


@pytest.mark.quality
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_compacting_links_anew_what_was_linked_by_poor_codes(
    quantization: Quantization, rng: np.random.Generator
) -> None:
    """The last few rows, too few for a look, lie far from those that the codes were learned from, now removed."""
    off, rows = (rng.standard_normal((n, 32)).astype(np.float32) for n in (10_000, 1200))
    queries = rng.standard_normal((60, 32)).astype(np.float32)
    options: dict[str, object] = {"quantization": quantization, "M": 8, "ef_construction": 60}
    index, fresh = (edgevec.Index(32, "l2", **options) for _ in range(2))  # type: ignore[arg-type]
    index.add(off + np.float32(1000), np.arange(10_000, 20_000))
    index.add(rows, np.arange(1200))
    index.remove(np.arange(10_000, 20_000))
    index.compact()
    fresh.add(rows)
    assert index.stats()["trainings"] == 2
    assert index.check().ok
    shares = [recall("l2", rows, queries, made.search(queries, K, ef=32).ids, K) for made in (index, fresh)]
    assert shares[0] >= shares[1] - 0.03


# ---- codes that tell nothing -----------------------------------------------------------------------------------------


def two_clouds(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """A million apart: what lies between the rows of one is a millionth of what codes span."""
    rows, queries = data(rng)
    rows[::2] += np.float32(1e6)
    return rows, queries


@each_way
def test_useless_codes_are_not_walked_on(
    quantization: Quantization, keep_vectors: KeepVectors, rng: np.random.Generator
) -> None:
    rows, queries = two_clouds(rng)
    share, index = found(rows, queries, "l2", quantization=quantization, keep_vectors=keep_vectors)
    assert share >= 0.88
    assert walk(index) == (BY_CODES if quantization == "none" else BY_FLOATS)
    assert index.check().ok


@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_useless_codes_with_nothing_beside_them_are_told_of(
    quantization: Quantization, tmp_path: Path, rng: np.random.Generator
) -> None:
    rows, queries = two_clouds(rng)
    _, index = found(rows, queries, "l2", quantization=quantization, keep_vectors=False)
    assert walk(index) == BLURRED
    index.save(tmp_path / "index")
    assert walk(edgevec.Index.load(tmp_path / "index")) == BLURRED


@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_how_an_index_walks_outlives_a_save(
    quantization: Quantization, tmp_path: Path, rng: np.random.Generator
) -> None:
    rows, queries = two_clouds(rng)
    _, index = found(rows[:-500], queries, "l2", quantization=quantization)
    index.save(tmp_path / "index")
    again = edgevec.Index.load(tmp_path / "index")
    assert walk(again) == BY_FLOATS
    np.testing.assert_array_equal(again.search(queries, K).ids, index.search(queries, K).ids)
    again.add(rows[-500:], np.arange(N - 500, N))
    again.remove(np.arange(100))
    again.compact()
    assert again.check().ok
    truth = 100 + np.argsort(distances("l2", rows[100:], queries), axis=1, kind="stable")[:, :K]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(again.search(queries, K).ids, truth, strict=True)]) >= 0.88


@pytest.mark.quality
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_codes_are_walked_on_again_once_they_tell_rows_apart(
    quantization: Quantization, rng: np.random.Generator
) -> None:
    """One cloud first, then the other, then ever more of the first."""
    rows, queries = two_clouds(rng)
    near, off = rows[1::2], rows[::2][:700]
    index = edgevec.Index(DIM, "l2", quantization=quantization, ef_construction=60)
    index.add(np.concatenate([near[:700], off]))
    assert walk(index) == BY_FLOATS
    more = rng.standard_normal((12000, DIM)).astype(np.float32)
    for part in np.array_split(more, 12):
        index.add(part)
    assert walk(index) == BY_CODES
    assert index.check().ok
    held = np.concatenate([near[:700], off, more])
    assert recall("l2", held, queries, index.search(queries, K, ef=128).ids, K) >= 0.8


# ---- near copies -----------------------------------------------------------------------------------------------------


def near_copies(rng: np.random.Generator, every: int) -> tuple[Rows, Rows]:
    rows, queries = data(rng)
    point = rng.standard_normal(DIM)
    rows[::every] = point + 1e-4 * rng.standard_normal((len(rows[::every]), DIM))
    queries[::2] = point + 1e-4 * rng.standard_normal((len(queries[::2]), DIM))
    return rows, queries


def share_of_true(metric: Metric, rows: Rows, queries: Rows, ids: Ids) -> float:
    """Recall without slack: near copies are all within it."""
    truth = np.argsort(exact_distances(metric, rows, queries), axis=1, kind="stable")[:, :K]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(ids, truth, strict=True)]))


def exact_distances(metric: Metric, rows: npt.ArrayLike, queries: Rows) -> npt.NDArray[np.float64]:
    """Cosine by the difference of unit vectors: 1 - cos loses the digits of near copies even in float64."""
    if metric != "cosine":
        return distances(metric, rows, queries)
    held, asked = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (np.asarray(rows, np.float64), queries))
    return distances("l2", held, asked) / 2


@pytest.mark.quality
@each_way
@pytest.mark.parametrize("every", [2, 3, 4])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_near_copies_are_found_among_each_other(
    metric: Metric, every: int, quantization: Quantization, keep_vectors: KeepVectors, rng: np.random.Generator
) -> None:
    rows, queries = near_copies(rng, every)
    _, index = found(rows, queries, metric, quantization=quantization, keep_vectors=keep_vectors)
    assert share_of_true(metric, rows, queries, index.search(queries, K).ids) >= 0.75


# ---- how often it is looked ------------------------------------------------------------------------------------------


@pytest.mark.quality
@pytest.mark.parametrize("quantization", ["none", "sq8"])
def test_rows_looked_at_are_few_however_many_are_added(quantization: Quantization) -> None:
    """A sample each time that it has grown by 4,096 and an eighth, and all of it a few times while it is small."""
    n = 50_000
    rng = np.random.default_rng(1)
    index = edgevec.Index(8, "l2", quantization=quantization, M=2, ef_construction=1)
    for row in rng.standard_normal((n, 8)).astype(np.float32):
        index.add(row)
    looks = 32768 // 4096 + np.log(n / 32768) / np.log(9 / 8) + 8
    assert index.stats()["looked"] <= 512 * looks + 2 * 16384
