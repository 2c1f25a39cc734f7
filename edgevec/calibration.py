"""From a recall asked for to the ef that gives it: measured on the index itself.

Vectors that the index holds are asked for their neighbors while the search is blind to them: they are no result of
their own, and no walk leads through them, so they fare as new queries of the same kind would. Queries of another kind
are found less easily; a large batch of them is measured with too, and the caller can give examples.
"""

from __future__ import annotations

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

__all__ = ["Calibration", "Calibrations", "as_recall"]

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_COMPARED = 256
"""Samples whose true neighbors are found by comparing with every vector; and the least that makes a large batch."""
_SAMPLES_AT_1 = 4096
"""For k = 1; fewer by the root of k, as each then tells more. The standard error of a recall of 0.95 is then 0.003."""
_STEP = 1.5
_ENOUGH = 0.999
_LARGEST = 4096
"""No walk is tried with a larger ef, unless k asks for it."""
_PATIENCE = 4
"""The ladder ends where this many times the ef has brought nothing."""
_WIDER = 2
"""A walk that stands in for the truth is so much wider than the widest that is measured."""
_RESULTS_AT_ONCE = 1 << 22
"""Neighbors held at a time, whatever k is."""
_STALE = 10
"""Measured anew when one in so many vectors was added, replaced or removed."""
_LEAST_MISSED = 1e-5
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Which recall@k the index reaches on average at which ef, measured with `samples` queries.

    Args:
        ef: int64[m], rising
        recall: float64[m], rising
        seconds: that measuring took
    """

    k: int
    ef: Ids
    recall: Doubles
    samples: int
    seconds: float

    def ef_for(self, recall: float) -> int | None:
        """The smallest ef that gives this recall; None: none that was tried.

        Between two that were measured, the logarithm of what is missed falls with that of ef along a straight line.
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


_Source = Literal["stored", "asked", "given"]
"""The index's own vectors; the first large batch that asked for a recall; what the caller gave to measure with."""


class _Kept(NamedTuple):
    calibration: Calibration
    queries: Rows | None
    """What it was measured with, where not with stored vectors."""
    good_until: int
    """So many changes the index may have seen."""


class Calibrations:
    """Those of one index, by k: made when first needed and again when a tenth of the vectors has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, _Source], _Kept] = {}

    def ef_for(self, index: NativeIndex, recall: float, k: int, queries: Rows) -> int | None:
        """The ef for a recall, or None where only comparing with every vector gives it."""
        if recall == 1 or k >= len(index):
            _need_vectors(index)
            return None
        efs = [curve.ef_for(recall) for curve in self._curves(index, k, queries)]
        return None if None in efs else max(ef for ef in efs if ef is not None)

    def make(self, index: NativeIndex, k: int, queries: Any, threads: int) -> Calibration:
        rows = None if queries is None else as_rows(queries, index.dim, "queries").reshape(-1, index.dim)
        if rows is not None and len(rows) == 0:
            raise ParameterError("queries must hold at least one")
        if rows is not None:
            index.search(rows, 1, ef=1)  # which names the row that cannot be a query
        with self._lock:
            self._kept.pop((k, "given"), None)
            return self._make(index, k, "stored" if rows is None else "given", rows, threads)

    def _curves(self, index: NativeIndex, k: int, queries: Rows) -> Iterator[Calibration]:
        """Those that count: what was given, else the harder of what is stored and what was asked."""
        if (k, "given") in self._kept:
            yield self._get(index, k, "given", None)
            return
        yield self._get(index, k, "stored", None)
        if (k, "asked") in self._kept or (queries.ndim == 2 and len(queries) >= _COMPARED):
            with suppress(NotFiniteError, ZeroVectorError):  # of which the search itself tells the row
                yield self._get(index, k, "asked", queries)

    def _get(self, index: NativeIndex, k: int, source: _Source, queries: Rows | None) -> Calibration:
        """While one thread measures anew, the others go on with what was measured before."""
        kept = self._kept.get((k, source))
        if kept and index.changes() <= kept.good_until:
            return kept.calibration
        if not self._lock.acquire(blocking=kept is None) and kept:
            return kept.calibration
        try:
            kept = self._kept.get((k, source))
            if kept and index.changes() <= kept.good_until:
                return kept.calibration
            if kept:
                queries = kept.queries
            elif queries is not None:
                queries = queries[_draw(np.arange(len(queries)), _samples(k))]
            return self._make(index, k, source, queries, 0)
        finally:
            self._lock.release()

    def _make(self, index: NativeIndex, k: int, source: _Source, queries: Rows | None, threads: int) -> Calibration:
        _need_vectors(index)
        good_until = index.changes() + len(index) // _STALE
        made = _measure(index, k, queries, threads)
        self._kept[k, source] = _Kept(made, queries, good_until)
        return made


def _need_vectors(index: NativeIndex) -> None:
    if not index.keep_vectors and index.quantization != "none":
        raise RecallError(
            "no recall can be promised: this index keeps codes only, and nothing that tells how many of the true "
            "neighbors are found by them; give ef, or make it with keep_vectors=True"
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
    return max(_COMPARED, round(_SAMPLES_AT_1 / math.sqrt(k)))


def _measure(index: NativeIndex, k: int, queries: Rows | None, threads: int) -> Calibration:
    start = time.perf_counter()
    if len(index) < 2:
        return Calibration(k, np.array([k]), np.ones(1), 0, time.perf_counter() - start)
    if queries is None:
        ids = _draw(np.fromiter(index.ids(), np.int64), _samples(k))
        sample = _Sample(index, min(k, len(index) - 1), *_held(index, ids), threads)
    else:
        rows = queries[_draw(np.arange(len(queries)), len(queries))]
        sample = _Sample(index, min(k, len(index)), rows, None, threads)
    efs, recalls = sample.curve()
    return Calibration(k, efs, recalls, len(sample.rows), time.perf_counter() - start)


@dataclass(frozen=True)
class _Sample:
    """Queries in random order, and the ids of the vectors to which each is blind, if any.

    The true neighbors are known of the first few. For the others a very wide walk stands in for the truth, and what
    that makes of the recall is told by those few, of which both is known: the estimate is as unbiased as if all had
    been compared with every vector, and hardly less sharp.
    """

    index: NativeIndex
    k: int
    rows: Rows
    ids: Ids | None
    threads: int

    def curve(self) -> tuple[Ids, Doubles]:
        few, everything = min(_COMPARED, len(self.rows)), len(self.rows)
        truth = self._furthest(few, exact=True)
        efs, by_truth = [], []
        for ef in self._ladder():
            efs.append(ef)
            by_truth.append(self._shares(truth, ef))
            if self._is_enough(efs, by_truth):
                break
        wide = self._furthest(everything, ef=_WIDER * efs[-1])
        recalls = []
        for ef, shares in zip(efs, by_truth, strict=True):
            stand_in = self._shares(wide, ef)
            recalls.append(stand_in.mean() + (shares - stand_in[:few]).mean())
        return np.array(efs, np.int64), np.clip(np.maximum.accumulate(recalls), 0, 1)

    def _ladder(self) -> Iterator[int]:
        ef, most = self.k, max(_LARGEST, self.k)
        while ef <= most:
            yield ef
            ef = max(ef + 1, round(ef * _STEP))

    def _is_enough(self, efs: list[int], by_truth: list[Doubles]) -> bool:
        before = [shares.mean() for ef, shares in zip(efs, by_truth, strict=True) if ef * _PATIENCE <= efs[-1]]
        reached = by_truth[-1].mean()
        return bool(reached >= _ENOUGH or (before and reached <= before[-1]))

    def _furthest(self, count: int, *, ef: int = 0, exact: bool = False) -> Rows:
        """The distance of the k-th that a search finds: float32 [count, 1]."""
        return np.concatenate([self._distances(part, ef=ef, exact=exact)[:, -1:].copy() for part in self._parts(count)])

    def _shares(self, furthest: Rows, ef: int) -> Doubles:
        """Of each sample's true neighbors the share that is found, by distance, as `edgevec.recall` counts it."""
        limit = farthest_found(furthest, self.index.metric)
        shares = [(self._distances(part, ef=ef) <= limit[part]).mean(axis=1) for part in self._parts(len(limit))]
        return np.concatenate(shares)

    def _parts(self, count: int) -> Iterator[slice]:
        """The first so many samples, as many at a time as have room for their results."""
        step = max(1, _RESULTS_AT_ONCE // self.k)
        return (slice(start, min(start + step, count)) for start in range(0, count, step))

    def _distances(self, part: slice, *, ef: int = 0, exact: bool = False) -> Rows:
        """Of the k nearest that a search finds: float32 [samples, k]."""
        rows = self.rows[part]
        exclude = None if self.ids is None else self.ids[part]
        _, distances = self.index.search(rows, self.k, ef, exact, self.threads, exclude_ids=exclude)
        return distances


def _held(index: NativeIndex, ids: Ids) -> tuple[Rows, Ids]:
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


def _draw(ids: Ids, count: int) -> Ids:
    """At most `count` of the ids, those that splitmix64 puts first, in its order: however they lay, the same."""
    with np.errstate(over="ignore"):
        x = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ids[np.argsort(x, kind="stable")[:count]]
