"""How good and how fast a search is: recall against the truth, latency as percentiles, and both over ef.

Recall counts by distance everywhere: of equally near rows any is as good as the others.

No number of speed stands alone: a `Point` always carries the recall that was reached at that speed.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ParameterError, allocates

if TYPE_CHECKING:
    from ._types import Metric, SearchResult

__all__ = [
    "ROUNDING",
    "Latency",
    "Point",
    "distances",
    "exact_neighbors",
    "farthest_found",
    "latency",
    "machine",
    "recall",
    "recall_curve",
]

_BLOCK_BYTES = 1 << 26
_FAR = 1e300  # beyond every distance of float32 vectors


class Latency(NamedTuple):
    """Percentiles of single calls, in microseconds; `n` calls were measured.

    Example:
        >>> from edgevec.evaluation import latency
        >>> spent = latency([lambda: sum(range(100))] * 50)
        >>> spent.n, spent.p50 <= spent.p95 <= spent.p99
        (50, True)
    """

    p50: float
    p95: float
    p99: float
    n: int


class Point(NamedTuple):
    """What one ef gives: recall, latencies in microseconds, and queries a second of a batch.

    Example:
        >>> import numpy as np
        >>> from edgevec import Index
        >>> from edgevec.evaluation import exact_neighbors, recall_curve
        >>> vectors = np.random.default_rng(0).standard_normal((1000, 8), np.float32)
        >>> index = Index(8, "l2")
        >>> _ = index.add(vectors)
        >>> truth = exact_neighbors(vectors, vectors[:20], 10, "l2")
        >>> points = list(recall_curve(index, vectors[:20], truth, k=10, efs=[10, 400]))
        >>> [point.ef for point in points], points[-1].recall > 0.99
        ([10, 400], True)
    """

    ef: int
    recall: float
    p50: float
    p95: float
    p99: float
    qps: float


class Searcher(Protocol):
    """What is measured: an `Index`, or anything that searches like one."""

    def search(self, queries: Any, k: int = ..., *, ef: int | None = ..., threads: int = ...) -> Any: ...


ROUNDING = 1e-6
"""Distances that differ by less than this, relative to their size, are equal: float32 cannot tell them apart."""


def farthest_found(furthest: ArrayLike, metric: Metric | None = None) -> NDArray[np.float64]:
    """The greatest distance that counts as found where `furthest` is that of the last true neighbor, of any shape.

    Args:
        metric: "cosine" and "ip" distances are 1 minus a product, so that their rounding is relative to 1 at least
    """
    limit = np.asarray(furthest, np.float64)
    return np.asarray(limit + ROUNDING * np.maximum(np.abs(limit), 1 if metric in ("cosine", "ip") else 0))


@allocates
def recall(
    found_ids: ArrayLike | SearchResult,
    true_ids: ArrayLike | SearchResult,
    *,
    found_distances: ArrayLike | None = None,
    true_distances: ArrayLike | None = None,
    metric: Metric | None = None,
) -> float:
    """The share of the true neighbors that was found, averaged over the queries.

    By distance, which wants two `SearchResult`s or the distances beside the ids: what was found counts when it is not
    farther than the last true neighbor, give or take a millionth for rounding (`ROUNDING`). Of equally near rows any
    does. The same id counts once; distance inf is padding.

    By ids, where no distances are given: what was found counts when its id is among the true ones. Of equally near
    rows those that the truth did not pick are then misses. The id -1 is padding.

    Args:
        found_ids, true_ids: integers [n, k] each, or one row [k], or a SearchResult; the widths may differ
        found_distances, true_distances: of the same shape; those of a SearchResult are its own
        metric: see `farthest_found`

    Queries without a true neighbor are passed over; when there are no others, nothing was missed: 1.0.

    Example:
        >>> import edgevec
        >>> edgevec.recall([1, 2, 9], [1, 2, 3])  # two of three
        0.6666666666666666
    """
    found, found_far = _sides(found_ids, found_distances, "found")
    true, true_far = _sides(true_ids, true_distances, "true")
    if found.ndim != true.ndim or found.ndim not in (1, 2) or (found.ndim == 2 and len(found) != len(true)):
        raise ParameterError(
            f"recall needs ids of as many queries on both sides, not of shape {found.shape} and {true.shape}"
        )
    if (found_far is None) != (true_far is None):
        raise ParameterError(
            "recall needs the distances of both sides, or of neither: give two search results, or ids alone"
        )
    if found_far is None or true_far is None:
        wanted, hits = true != -1, found != -1
    else:
        wanted, hits = true_far < np.inf, found_far < np.inf
        furthest = np.where(wanted, true_far, -_FAR).max(axis=-1, keepdims=True, initial=-_FAR)
        hits &= found_far <= farthest_found(furthest, metric)
    shares = []
    for row, hit, true_row, want in zip(*map(np.atleast_2d, (found, hits, true, wanted)), strict=True):
        sought, held = set(true_row[want].tolist()), set(row[hit].tolist())
        if found_far is None:
            held &= sought
        if sought:
            shares.append(min(len(held) / len(sought), 1.0))
    return sum(shares) / len(shares) if shares else 1.0


def _sides(
    ids: ArrayLike | SearchResult, distances: ArrayLike | None, name: str
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """One side's ids, and its distances where they are known."""
    if not isinstance(ids, np.ndarray) and hasattr(ids, "distances"):
        result = cast("SearchResult", ids)
        ids, distances = result.ids, result.distances if distances is None else distances
    held = np.asarray(ids)
    if held.size and held.dtype.kind not in "iu":
        raise ParameterError(f"recall needs integer ids, not {held.dtype}")
    if distances is None:
        return held, None
    far = np.asarray(distances, np.float64)
    if far.shape != held.shape:
        raise ParameterError(f"recall needs a distance for each of the {name} ids: {far.shape} for {held.shape}")
    return held, far


def distances(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], rows: NDArray[np.integer], metric: Metric
) -> NDArray[np.float64]:
    """How far given rows of `vectors` are from each query: float64 [q, k] for rows [q, k]; inf where the row is -1.

    Computed in float64, so that no search is measured by what it says of itself. ParameterError for other rows that
    do not exist.
    """
    rows = np.asarray(rows, np.int64)
    wrong = rows[(rows < -1) | (rows >= len(vectors))]
    if wrong.size:
        raise ParameterError(f"there is no row {wrong[0]} among {len(vectors):,}")
    out = np.full(rows.shape, np.inf)
    step = max(1, _BLOCK_BYTES // (8 * max(1, rows.shape[1] * vectors.shape[1])))
    for start in range(0, len(rows) if len(vectors) else 0, step):
        part = slice(start, start + step)
        held, asked = vectors[rows[part]].astype(np.float64), queries[part].astype(np.float64)
        if metric == "l2":
            far = ((held - asked[:, None]) ** 2).sum(axis=2)
        else:
            product = np.einsum("qkd,qd->qk", held, asked)
            if metric == "cosine":
                product /= np.linalg.norm(held, axis=2) * np.linalg.norm(asked, axis=1)[:, None]
            far = 1 - product
        out[part] = np.where(rows[part] == -1, np.inf, far)
    return out


@allocates
def exact_neighbors(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: Metric
) -> NDArray[np.int64]:
    """The rows of `vectors` nearest to each query, nearest first: int64 [q, min(k, n)].

    A brute-force scan in NumPy, so that the truth does not come from the engine that is measured against it.
    """
    if metric == "cosine":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if metric == "l2":  # distances stay, and numbers near zero keep more of their digits below
        centre = vectors.mean(axis=0)
        vectors, queries = vectors - centre, queries - centre
    offset = np.einsum("nd,nd->n", vectors, vectors) / 2 if metric == "l2" else np.zeros(len(vectors), np.float32)
    k = min(k, len(vectors))
    step = max(1, _BLOCK_BYTES // (4 * len(vectors)))
    blocks = []
    for start in range(0, len(queries), step):
        # Orders like the squared distance: |q|^2 is the same for all rows.
        far = offset - queries[start : start + step] @ vectors.T
        nearest = np.argpartition(far, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(far, nearest, axis=1), axis=1, kind="stable")
        blocks.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(blocks).astype(np.int64) if blocks else np.empty((0, k), np.int64)


def latency(calls: Iterable[Callable[[], object]], clock: Callable[[], int] = time.perf_counter_ns) -> Latency:
    """Make the calls one after the other and time each; `clock` counts nanoseconds."""
    spent = []
    for call in calls:
        start = clock()
        call()
        spent.append(clock() - start)
    if not spent:
        raise ParameterError("nothing to measure: no calls")
    p50, p95, p99 = np.percentile(spent, (50, 95, 99)) / 1000
    return Latency(float(p50), float(p95), float(p99), len(spent))


def recall_curve(
    index: Searcher,
    queries: NDArray[np.float32],
    true_ids: NDArray[np.int64],
    *,
    k: int,
    efs: Sequence[int],
    threads: int = 1,
    clock: Callable[[], int] = time.perf_counter_ns,
    true_distances: NDArray[np.floating] | None = None,
    distances_of: Callable[[Any], ArrayLike] | None = None,
    metric: Metric | None = None,
) -> Iterator[Point]:
    """Measure each ef: recall@k and the rate of one batch, then the latency of one call per query. See `Point`.

    Args:
        queries: float32 [q, dim]
        true_ids: int64 [q, >= k]: the ids of the true neighbors, nearest first
        threads: for the batch; single calls use the thread that makes them
        true_distances: of the same shape as true_ids: recall is then counted by distance, else by ids; see `recall`
        distances_of: from what the index found to its distances [q, k]; None: those that the index gives
        metric: see `farthest_found`
    """
    for ef in efs:
        index.search(
            queries[: len(queries) // 10 + 1], k, ef=ef, threads=threads
        )  # so that the first ef is not measured cold
        start = clock()
        found = index.search(queries, k, ef=ef, threads=threads)
        seconds = max(1, clock() - start) / 1e9
        calls = ((lambda query=query, ef=ef: index.search(query, k, ef=ef, threads=1)) for query in queries)
        spent = latency(calls, clock)
        if true_distances is None:
            quality = recall(found.ids, true_ids[:, :k])
        else:
            quality = recall(
                found.ids,
                true_ids[:, :k],
                found_distances=found.distances if distances_of is None else distances_of(found),
                true_distances=true_distances[:, :k],
                metric=metric,
            )
        yield Point(ef, quality, spent.p50, spent.p95, spent.p99, len(queries) / seconds)


def machine() -> str:
    """The processor, its cores, the system and the Python, in one line."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
