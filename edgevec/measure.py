"""How good and how fast a search is: recall against the truth, latency as percentiles, and both over ef.

No number of speed stands alone: a `Point` always carries the recall that was reached at that speed.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._native import allocates
from .errors import ParameterError

if TYPE_CHECKING:
    from .index import Metric

__all__ = ["Latency", "Point", "exact_neighbors", "latency", "machine", "recall", "recall_curve"]

_BLOCK_BYTES = 1 << 26


class Latency(NamedTuple):
    """Percentiles of single calls, in microseconds; `n` calls were measured."""

    p50: float
    p95: float
    p99: float
    n: int


class Point(NamedTuple):
    """One setting of the trade between quality and speed. Latencies in microseconds; queries per second of a batch."""

    ef: int
    recall: float
    p50: float
    p95: float
    p99: float
    qps: float


class Searcher(Protocol):
    """What is measured: an `Index`, or anything that searches like one."""

    def search(self, queries: Any, k: int = ..., *, ef: int | None = ..., threads: int = ...) -> Any: ...


@allocates
def recall(found_ids: ArrayLike, true_ids: ArrayLike) -> float:
    """The share of the true neighbours that was found, averaged over the queries.

    Integer ids [n, k] each, or one row [k]; the widths may differ. The padding id -1 is passed over, and so are queries
    that have no true neighbour; when there are none at all, nothing was missed: 1.0.
    """
    found, true = np.asarray(found_ids), np.asarray(true_ids)
    if found.ndim != true.ndim or found.ndim not in (1, 2) or (found.ndim == 2 and len(found) != len(true)):
        raise ParameterError(
            f"recall needs ids of as many queries on both sides, not of shape {found.shape} and {true.shape}"
        )
    if any(side.size and side.dtype.kind not in "iu" for side in (found, true)):
        raise ParameterError(f"recall needs integer ids, not {found.dtype} and {true.dtype}")
    shares = []
    for found_row, true_row in zip(np.atleast_2d(found).tolist(), np.atleast_2d(true).tolist(), strict=True):
        wanted = set(true_row) - {-1}
        if wanted:
            shares.append(len(wanted.intersection(found_row)) / len(wanted))
    return sum(shares) / len(shares) if shares else 1.0


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
        distances = offset - queries[start : start + step] @ vectors.T
        nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, nearest, axis=1), axis=1, kind="stable")
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
) -> Iterator[Point]:
    """Measure each ef in turn: recall@k and the rate of one batch, then the latency of one call per query.

    queries   float32 [q, dim]
    true_ids  int64 [q, >= k]: the ids of the true neighbours, nearest first
    threads   for the batch; single calls use the thread that makes them
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
        quality = recall(found.ids, true_ids[:, :k])
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
