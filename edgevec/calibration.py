"""The ef that gives a recall, measured on the index itself.

A sample of the stored vectors is searched for, each as if the index did not hold it: it is not among its own results,
and no walk leads through it, so it fares as a new query of the same kind would. Queries of another kind find less; a
large batch of them is measured with too, and the caller can give examples.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from edgevec._native import NativeIndex
from edgevec._validation import as_rows
from edgevec.errors import NotFiniteError, ParameterError, RecallError, UnknownIdError, ZeroVectorError
from edgevec.evaluation import farthest_found

__all__ = ["Calibration", "Calibrator", "as_recall"]

log = logging.getLogger("edgevec")

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_EXACT_SAMPLES = 256
"""Samples whose true neighbors are found by comparing with every vector; and the least that makes a large batch."""
_SAMPLES_AT_1 = 4096
"""For k = 1; fewer by the root of k, as each then tells more. The standard error of a recall of 0.95 is then 0.003."""
_EF_STEP = 1.5
"""Each ef that is tried is so many times the one before."""
_ENOUGH_RECALL = 0.999
"""Where the ladder of ef ends."""
_MAX_EF = 4096
"""No larger ef is tried, unless k is larger."""
_PATIENCE_FACTOR = 4
"""The ladder also ends where this many times the ef has found no more."""
_REFERENCE_FACTOR = 2
"""The ef of the search that stands in for the truth, in terms of the largest ef measured."""
_MAX_RESULTS = 1 << 22
"""Neighbors held at a time, whatever k is."""
_EXACT_AT_ONCE, _SEARCHES_AT_ONCE = 16, 256
"""Samples in one call of the core: between two of them, other threads change the index."""
_STALE = 10
"""Measured anew when one in so many vectors was added, replaced or removed."""
_LEAST_MISSED = 1e-5
"""A smaller share is taken for this one, so that its logarithm exists."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Which recall@k an index reaches on average at which ef; what Index.calibrate() returns.

    Attributes:
        k: neighbors that were asked for
        ef: the values that were tried, int64[m], rising
        recall: what each of them gives, float64[m], rising
        samples: queries that it was measured with
        seconds: time that measuring took

    Example:
        >>> import numpy as np
        >>> from edgevec import Calibration
        >>> measured = Calibration(10, np.array([10, 40]), np.array([0.9, 0.99]), samples=1000, seconds=0.5)
        >>> measured.ef_for(0.95), measured.ef_for(0.999)
        (16, None)
    """

    k: int
    ef: Ids
    recall: Doubles
    samples: int
    seconds: float

    def ef_for(self, recall: float) -> int | None:
        """The smallest ef that gives a recall.

        Between two values that were measured, log(1 - recall) is taken to fall linearly with log(ef).

        Args:
            recall: a share of the k nearest, above 0 and at most 1

        Returns:
            None where no ef that was tried gives it.
        """
        at = int(np.searchsorted(self.recall, recall))
        if at == len(self.ef):
            return None
        if at == 0:
            return int(self.ef[0])
        missed = -np.log(np.maximum(1 - self.recall[at - 1 : at + 1], _LEAST_MISSED))
        between = np.interp(-math.log(max(1 - recall, _LEAST_MISSED)), missed, np.log(self.ef[at - 1 : at + 1]))
        return min(math.ceil(math.exp(between) - _ROUNDING), int(self.ef[at]))

    def __str__(self) -> str:
        lines = [f"recall@{self.k} by ef, on {self.samples:,} samples in {self.seconds:.2f} s"]
        return "\n".join(lines + [f"{ef:>8,}  {recall:.4f}" for ef, recall in zip(self.ef, self.recall, strict=True)])


_Source = Literal["sampled", "observed", "user"]
"""A sample of the stored vectors; the first large batch searched for with a recall; queries that the caller gave."""


class _Entry(NamedTuple):
    calibration: Calibration
    queries: Vectors | None
    """What it was measured with, where not with stored vectors."""
    valid_until: int
    """Of use while the index has seen at most so many changes."""


class Calibrator:
    """The calibrations of one index, by k: made when first needed, and again when a tenth of it has changed."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, _Source], _Entry] = {}
        self._locks: dict[tuple[int, _Source], threading.Lock] = {}
        """Who measures for one k holds up nobody who asks for another."""

    def ef_for(self, index: NativeIndex, recall: float, k: int, queries: Vectors) -> int | None:
        """The smallest ef for a recall; None where only an exact search gives it."""
        if recall == 1 or k >= len(index):
            _need_vectors(index)
            return None
        efs = [curve.ef_for(recall) for curve in self._curves(index, k, queries)]
        return None if None in efs else max(ef for ef in efs if ef is not None)

    def calibrate(self, index: NativeIndex, k: int, queries: Any, threads: int) -> Calibration:
        """Measure now, with these queries or, where they are None, with a sample of the stored vectors."""
        rows = None if queries is None else as_rows(queries, index.dim, "queries").reshape(-1, index.dim)
        if rows is not None and len(rows) == 0:
            raise ParameterError("queries must hold at least one vector")
        if rows is not None:
            index.search(rows, 1, ef=1)  # raises, naming the row, where one is no valid query
        source: _Source = "sampled" if rows is None else "user"
        with self._locks.setdefault((k, source), threading.Lock()):
            made = self._measure_anew(index, k, source, rows, threads)
            if rows is None:
                self._entries.pop((k, "user"), None)
            return made

    def _curves(self, index: NativeIndex, k: int, queries: Vectors) -> Iterator[Calibration]:
        """Those that count: the user's; without it, those of the stored vectors and of the observed queries."""
        if (k, "user") in self._entries:
            yield self._get(index, k, "user", None)
            return
        yield self._get(index, k, "sampled", None)
        if (k, "observed") in self._entries or (queries.ndim == 2 and len(queries) >= _EXACT_SAMPLES):
            with suppress(NotFiniteError, ZeroVectorError):  # the search itself will raise, naming the row
                yield self._get(index, k, "observed", queries)

    def _get(self, index: NativeIndex, k: int, source: _Source, queries: Vectors | None) -> Calibration:
        """A valid entry, or a new one. While one thread measures anew, the others go on with the old entry."""
        entry = self._entries.get((k, source))
        if entry and index.changes() <= entry.valid_until:
            return entry.calibration
        lock = self._locks.setdefault((k, source), threading.Lock())
        if not lock.acquire(blocking=entry is None) and entry:
            return entry.calibration
        try:
            entry = self._entries.get((k, source))
            if entry and index.changes() <= entry.valid_until:
                return entry.calibration
            if entry:
                queries = entry.queries
            elif queries is not None:
                queries = queries[_random_subset(np.arange(len(queries)), _samples(k))]
            return self._measure_anew(index, k, source, queries, 0)
        finally:
            lock.release()

    def _measure_anew(
        self, index: NativeIndex, k: int, source: _Source, queries: Vectors | None, threads: int
    ) -> Calibration:
        _need_vectors(index)
        valid_until = index.changes() + len(index) // _STALE
        log.info("measuring which ef gives which recall@%d of %d vectors (%s queries)", k, len(index), source)
        made = _measure(index, k, queries, threads)
        log.info("measured recall@%d in %.2f s, with ef up to %d", k, made.seconds, made.ef[-1])
        self._entries[k, source] = _Entry(made, queries, valid_until)
        return made


def _need_vectors(index: NativeIndex) -> None:
    if not index.keep_vectors and index.quantization != "none":
        raise RecallError(
            "recall cannot be measured: this index keeps codes only (keep_vectors=False), which do not tell the true "
            "neighbors; give ef instead, or keep the vectors"
        )


def as_recall(value: Any) -> float:
    """A share in (0, 1]."""
    try:
        recall = float(value)
    except (TypeError, ValueError):
        raise ParameterError(f"recall must be a number, not {value!r}") from None
    if isinstance(value, (bool, np.bool_)) or not 0 < recall <= 1:
        raise ParameterError(f"recall must be above 0 and at most 1, not {value!r}")
    return recall


def _samples(k: int) -> int:
    return max(_EXACT_SAMPLES, round(_SAMPLES_AT_1 / math.sqrt(k)))


def _measure(index: NativeIndex, k: int, queries: Vectors | None, threads: int) -> Calibration:
    start = time.perf_counter()
    if len(index) < 2:
        return Calibration(k, np.array([k]), np.ones(1), 0, time.perf_counter() - start)
    if queries is None:
        ids = _random_subset(np.fromiter(index.ids(), np.int64), _samples(k))
        sample = _Sample(index, min(k, len(index) - 1), *_still_held(index, ids), threads)
    else:
        rows = queries[_random_subset(np.arange(len(queries)), len(queries))]
        sample = _Sample(index, min(k, len(index)), rows, None, threads)
    efs, recalls = sample.curve()
    return Calibration(k, efs, recalls, len(sample.rows), time.perf_counter() - start)


@dataclass(frozen=True)
class _Sample:
    """Queries in random order, and for each the id of the vector that it leaves out, if any.

    The true neighbors of the first few are found by an exact search. For all, a search with a very large ef stands in
    for the truth, and the difference that this makes to the recall is measured on the first few (a control variate):
    the estimate is as unbiased as if all had been compared with every vector, and hardly less precise.
    """

    index: NativeIndex
    k: int
    rows: Vectors
    ids: Ids | None
    threads: int

    def curve(self) -> tuple[Ids, Doubles]:
        """The values of ef that were tried, int64[m], and the recall that each gives, float64[m]; both rising."""
        few, everything = min(_EXACT_SAMPLES, len(self.rows)), len(self.rows)
        truth = self._kth_distances(few, exact=True)
        efs, by_truth = [], []
        for ef in self._ladder():
            efs.append(ef)
            by_truth.append(self._recalls_at(truth, ef))
            if self._is_enough(efs, by_truth):
                break
        wide = self._kth_distances(everything, ef=_REFERENCE_FACTOR * efs[-1])
        recalls = []
        for ef, shares in zip(efs, by_truth, strict=True):
            stand_in = self._recalls_at(wide, ef)
            recalls.append(stand_in.mean() + (shares - stand_in[:few]).mean())
        return np.array(efs, np.int64), np.clip(np.maximum.accumulate(recalls), 0, 1)

    def _ladder(self) -> Iterator[int]:
        ef, most = self.k, max(_MAX_EF, self.k)
        while ef <= most:
            yield ef
            ef = max(ef + 1, round(ef * _EF_STEP))

    def _is_enough(self, efs: list[int], by_truth: list[Doubles]) -> bool:
        before = [shares.mean() for ef, shares in zip(efs, by_truth, strict=True) if ef * _PATIENCE_FACTOR <= efs[-1]]
        reached = by_truth[-1].mean()
        return bool(reached >= _ENOUGH_RECALL or (before and reached <= before[-1]))

    def _kth_distances(self, count: int, *, ef: int = 0, exact: bool = False) -> Distances:
        """The distance of the k-th result of each search: float32[count, 1]."""
        parts = self._parts(count, _EXACT_AT_ONCE if exact else _SEARCHES_AT_ONCE)
        return np.concatenate([self._distances(part, ef=ef, exact=exact)[:, -1:].copy() for part in parts])

    def _recalls_at(self, truth: Distances, ef: int) -> Doubles:
        """The share of each sample's true neighbors that is found, by distance, as `edgevec.recall` counts it.

        Args:
            truth: the distances of their k-th neighbors, float32[count, 1]
        """
        limit = farthest_found(truth, self.index.metric)
        parts = self._parts(len(limit), _SEARCHES_AT_ONCE)
        shares = [(self._distances(part, ef=ef) <= limit[part]).mean(axis=1) for part in parts]
        return np.concatenate(shares)

    def _parts(self, count: int, most: int) -> Iterator[slice]:
        """The first `count` samples, as many at a time as their results have room, at most so many."""
        step = max(1, min(_MAX_RESULTS // self.k, most))
        return (slice(start, min(start + step, count)) for start in range(0, count, step))

    def _distances(self, part: slice, *, ef: int = 0, exact: bool = False) -> Distances:
        """Of the k nearest that a search finds: float32[samples, k]."""
        rows = self.rows[part]
        exclude = None if self.ids is None else self.ids[part]
        _, distances = self.index.search(rows, self.k, ef, exact, self.threads, exclude_ids=exclude)
        return distances


def _still_held(index: NativeIndex, ids: Ids) -> tuple[Vectors, Ids]:
    """The vectors of those ids that no other thread has removed meanwhile."""
    try:
        return index.get(ids), ids
    except UnknownIdError:
        pass
    rows, held = [], []
    for id in ids.tolist():
        with suppress(UnknownIdError):
            rows.append(index.get(np.array([id], np.int64)))
            held.append(id)
    return np.concatenate([np.empty((0, index.dim), np.float32), *rows]), np.array(held, np.int64)


def _random_subset(ids: Ids, count: int) -> Ids:
    """At most `count` of the ids, ordered by their splitmix64 hash: the same ones whatever order they come in."""
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    if count < len(ids):  # no two hashes are alike, and sorting them all would take too long to be interrupted
        x, ids = x[least := np.argpartition(x, count)[:count]], ids[least]
    return ids[np.argsort(x)]
