"""Clusters of vectors: their centroids by k-means (Lloyd 1957), and their parts of about one size for shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import Metric

__all__ = ["as_points", "find_centroids", "nearest_centroids", "pack"]

_ROUNDS = 10
_ROWS_AT_ONCE = 8192
_POWERS = 30
"""Steps towards the direction in which clusters differ most; what is missed costs nothing but a little recall."""

Floats = npt.NDArray[np.float32]


def as_points(rows: npt.NDArray[Any], metric: Metric) -> Floats:
    """Rows between which the squared distance says how near they are: with cosine those of length one."""
    if metric != "cosine":
        return np.asarray(rows, np.float32)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    # A mean of directions that cancel each other has none, and is as far from everything.
    points: Floats = np.divide(rows, lengths, out=np.zeros(rows.shape, np.float32), where=lengths > 0)
    return points


def find_centroids(rows: Floats, count: int, metric: Metric, rng: np.random.Generator) -> Floats:
    """The centroids of some rows.

    Args:
        rows: float32[n, dim], n at least 1
        count: of centroids, at most
        metric: "cosine": of directions; else of the rows as they are, also for inner products

    Returns:
        float32[m, dim], m at least 1: less than count where rows are fewer or many of them equal
    """
    points = as_points(rows, metric)
    centroids = points[rng.choice(len(points), min(count, len(points)), replace=False)]
    with np.errstate(all="ignore"):  # of vectors that can just be squared, sums of squares may overflow
        for _ in range(_ROUNDS):
            labels = nearest_centroids(points, centroids)
            order = np.argsort(labels, kind="stable")
            used, first = np.unique(labels[order], return_index=True)
            means = np.add.reduceat(points[order], first, axis=0) / np.diff([*first, len(points)])[:, None]
            # One that has no rows starts anew at some row.
            fresh = rng.choice(len(points), len(centroids) - len(used))
            centroids = as_points(np.concatenate([means, points[fresh]]), metric)
        used = np.unique(nearest_centroids(points, centroids))
    found: Floats = np.ascontiguousarray(centroids[used], np.float32)
    return found


def nearest_centroids(points: Floats, centroids: Floats) -> npt.NDArray[np.int64]:
    """The number of the one that each point has the least squared distance to."""
    # Seen from among them: far from zero and near to each other, they would lose digits to the square of that.
    origin = centroids.mean(axis=0)
    centroids = centroids - origin
    half = np.einsum("ij,ij->i", centroids, centroids) / 2
    labels = np.empty(len(points), np.int64)
    for start in range(0, len(points), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        labels[part] = np.argmax((points[part] - origin) @ centroids.T - half, axis=1)
    return labels


def pack(centroids: Floats, counts: npt.NDArray[np.int64], shards: int, most: int) -> list[tuple[int, int, int]]:
    """Share out clusters over shards of about one size, so that near ones come together.

    All are cut in two across the direction in which they differ most, as often as it takes; a cluster is cut only where
    the bound wants it.

    Args:
        centroids: float32[clusters, dim]
        counts: rows of each cluster
        shards: the least number of shards that hold all
        most: rows of a shard

    Returns:
        (cluster, shard, rows), by cluster and shard
    """
    out: list[tuple[int, int, int]] = []
    groups = [(0, shards, [(cluster, int(count)) for cluster, count in enumerate(counts) if count])]
    while groups:
        first, many, held = groups.pop()
        if many == 1:
            out += [(cluster, first, count) for cluster, count in held]
            continue
        counted = np.array([count for _, count in held])
        order = np.argsort(_along(centroids[[cluster for cluster, _ in held]], counted), kind="stable")
        ends = np.cumsum(counted[order])
        total, left = int(ends[-1]), many // 2
        # Between clusters, where the bound allows that: so each shard gets some rows, and no more than it may have.
        least, wanted = total - (many - left) * most, total * left // many
        allowed = ends[(ends >= least) & (ends <= left * most)]
        cut = int(allowed[np.argmin(np.abs(allowed - wanted))]) if len(allowed) else wanted
        halves: tuple[list[tuple[int, int]], list[tuple[int, int]]] = [], []
        for at, end in zip(order, ends, strict=True):
            cluster, count = held[at]
            before = min(count, max(0, cut - (int(end) - count)))
            for half, rows in zip(halves, (before, count - before), strict=True):
                if rows:
                    half.append((cluster, rows))
        groups += [(first, left, halves[0]), (first + left, many - left, halves[1])]
    return sorted(out)


def _along(centroids: Floats, weights: npt.NDArray[np.int64]) -> Floats:
    """Where they lie in the direction in which they differ most: the first principal component, by power iteration."""
    mean = np.average(centroids, axis=0, weights=weights)
    apart = (centroids - mean) * np.sqrt(weights / weights.max())[:, None]
    direction = apart[np.argmax(np.einsum("ij,ij->i", apart, apart))]
    for _ in range(_POWERS):
        longest = np.abs(direction).max()
        if not 0 < longest < np.inf:  # all are one
            break
        direction = direction / longest
        direction = (apart @ direction) @ apart
    along: Floats = np.nan_to_num((centroids - mean) @ direction)
    return along
