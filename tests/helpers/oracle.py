"""What the engine is measured against: brute force in NumPy, float64, and data to search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import edgevec
from edgevec import Metric, Quantization

Rows = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

METRICS: tuple[Metric, ...] = ("cosine", "ip", "l2")
QUANTIZATIONS: tuple[Quantization, ...] = ("none", "sq8", "binary")
each_metric = pytest.mark.parametrize("metric", METRICS)
each_quantization = pytest.mark.parametrize("quantization", QUANTIZATIONS)

_EPSILON = 2.0**-23
_FINE_STEPS = 127 * 65536
"""From the center of the codes to the largest coordinate of a vector that is kept in 24 bits."""
_LEAST = 1e-37
"""Below it float32 has no full precision, and a CPU may take it for zero."""


def clustered(
    rng: np.random.Generator, n: int, dim: int, clusters: int = 20, rank: int = 12, noise: float = 0.05
) -> Rows:
    """Rows like those that models make: clusters on a surface of few dimensions, with a little noise around it."""
    rank = min(rank, dim)
    surface = rng.standard_normal((rank, dim)) / np.sqrt(rank)
    centers = rng.standard_normal((clusters, rank))
    latent = centers[rng.integers(clusters, size=n)] + 0.5 * rng.standard_normal((n, rank))
    return np.asarray(latent @ surface + noise * rng.standard_normal((n, dim)), np.float32)


def unit(rows: npt.ArrayLike) -> Doubles:
    doubles = np.asarray(rows, np.float64)
    return doubles / np.linalg.norm(doubles, axis=-1, keepdims=True)


def distances(metric: str, rows: npt.ArrayLike, queries: npt.ArrayLike) -> Doubles:
    """The distances of all rows: to one query [dim], float64[n]; to several [q, dim], float64[q, n]."""
    held, asked = np.asarray(rows, np.float64), np.asarray(queries, np.float64)
    if metric == "l2":
        from_one = [np.square(held - query).sum(axis=1) for query in np.atleast_2d(asked)]
        return np.reshape(from_one, (*asked.shape[:-1], len(held)))
    if metric == "cosine":
        held, asked = unit(held), unit(asked)
    return 1 - asked @ held.T


def step_of(index: edgevec.Index, rows: npt.ArrayLike) -> float:
    """How far a coordinate of the rows, all that the index ever held, may be from what was given.

    0 where they are kept as float32; beside 8-bit codes, a 24-bit step for each time that the center was learned.
    """
    stats = index.stats()
    if index.keep_vectors is not True or index.quantization == "none" or stats["bits"] or not np.size(rows):
        return 0.0
    held = unit(rows) if index.metric == "cosine" else np.asarray(rows, np.float64)
    return float(stats["trainings"] * 2 * np.abs(held).max() / _FINE_STEPS)


def error_bound(metric: str, rows: npt.ArrayLike, query: npt.ArrayLike, step: float = 0.0) -> Doubles:
    """How far float32 sums may be from `distances`, whatever the order of their terms: float64[n].

    step: how far the coordinates that are held, and the query's beside them, may be from the rows given.
    """
    held, q = np.abs(np.asarray(rows, np.float64)), np.abs(np.asarray(query, np.float64))
    dim = q.size
    if metric == "l2":
        terms = np.square(np.asarray(rows, np.float64) - np.asarray(query, np.float64)).sum(axis=1)
    else:
        terms = 1 + (unit(held) @ unit(q) if metric == "cosine" else held @ q)
    bound = (dim + 8) * (_EPSILON / 2 * terms + _LEAST)
    if metric == "ip":
        return np.asarray(bound + (dim + 8) * step * q.sum())
    off, apart = 2 * step * np.sqrt(dim), np.sqrt(terms) if metric == "l2" else 2.0
    return np.asarray(bound + 2 * off * apart + off**2)


def assert_held(index: edgevec.Index, ids: npt.ArrayLike, rows: npt.ArrayLike) -> None:
    """The index holds these rows under these ids, as exactly as it keeps vectors."""
    held = unit(rows) if index.metric == "cosine" else np.asarray(rows, np.float64)
    rounding = 2.0**-22 if index.metric == "cosine" else 0.0
    np.testing.assert_allclose(index.get(ids), held, rtol=0, atol=step_of(index, rows) * 1.00001 + rounding)


def recall(metric: str, rows: Rows, queries: Rows, found: Ids, k: int, *, slack: float = 1e-6) -> float:
    """The share of the k nearest that was found, where `found` [q, k] names rows; ties with the k-th nearest count too.

    slack: distances that differ by less, relative to the k-th, are a tie: float32 cannot tell them apart.
    """
    shares = []
    for truth, ids in zip(distances(metric, rows, np.atleast_2d(queries)), np.atleast_2d(found), strict=True):
        most = min(k, truth.size)
        furthest = np.partition(truth, most - 1)[most - 1]
        held = np.unique(ids[ids >= 0])
        shares.append(np.count_nonzero(truth[held] <= furthest + slack * max(1.0, abs(furthest))) / most)
    return float(np.mean(np.minimum(shares, 1.0)))


def assert_right(
    result: Any,
    metric: str,
    held: dict[int, Rows] | tuple[Sequence[int] | Ids, Rows],
    query: Rows,
    k: int,
    step: float = 0.0,
) -> None:
    """One query's result is what brute force over `held` finds: as many, the nearest, each at its distance, in order.

    Where distances are nearer to each other than float32, or vectors held to within `step`, can tell, any order is
    right.
    """
    ids = list(held) if isinstance(held, dict) else [int(i) for i in held[0]]
    rows = (np.array(list(held.values())) if isinstance(held, dict) else held[1]).reshape(len(ids), query.size)
    found, got = np.asarray(result.ids), np.asarray(result.distances, np.float64)
    assert found.shape == got.shape == (min(k, len(ids)),)
    if not ids:
        return
    assert len(set(found.tolist())) == found.size, "an id came twice"
    place = {id: row for row, id in enumerate(ids)}
    at = np.array([place[id] for id in found.tolist()])
    truth, bound = distances(metric, rows, query), error_bound(metric, rows, query, step)
    assert (np.diff(got) >= 0).all(), "not in order"
    np.testing.assert_array_less(np.abs(got - truth[at]), bound[at])
    # At each rank, nothing nearer was left out.
    order = np.argsort(truth)[: found.size]
    np.testing.assert_array_less(truth[at], truth[order] + 2 * np.maximum(bound[at], bound[order]))


def assert_valid(result: Any, metric: str, held: dict[int, Rows], query: Rows, k: int, step: float = 0.0) -> None:
    """One query's result is full and true of what is held, whether or not it is the nearest."""
    found, got = np.asarray(result.ids), np.asarray(result.distances, np.float64)
    assert found.size == min(k, len(held))
    assert len(set(found.tolist())) == found.size
    assert set(found.tolist()) <= held.keys()
    assert (np.diff(got) >= 0).all()
    if found.size:
        rows = np.array([held[id] for id in found.tolist()])
        bound = error_bound(metric, rows, query, step)
        np.testing.assert_array_less(np.abs(got - distances(metric, rows, query)), bound)


def strategy(index: edgevec.Index, query: Rows, k: int, **options: Any) -> str:
    """How the index answers such a query."""
    context = edgevec.SearchContext(index)
    index.search(query, k, context=context, **options)
    return context.stats.strategy
