"""What the load generator measured: samples of the last minutes for the plot, and totals since the last change."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .models import Measurements

__all__ = ["HISTOGRAM_EDGES", "MetricsWindow", "Sample", "Totals"]

HISTOGRAM_EDGES = np.logspace(-1, 7, 161)
"""Edges of the histogram's bins in microseconds, 20 for each power of ten."""

_SAME_CHANGE = 3.0
"""Seconds within which steps of one setting count as one change."""


class Sample(NamedTuple):
    """Percentiles of the calls between two drains; latencies in microseconds."""

    at: float
    p50: float
    p95: float
    p99: float
    qps: float


@dataclass(frozen=True)
class Totals:
    """Totals since the last change. Latencies in microseconds; recall is nan until a query was compared."""

    p50: float
    p95: float
    p99: float
    maximum: float
    call_p50: float
    qps: float
    n: int
    recall: float


def _setting(change: str) -> str:
    """ "ef" of "ef 96"."""
    return change.partition(" ")[0]


class MetricsWindow:
    """Samples of the last `keep` seconds, and totals since the last change of a setting."""

    def __init__(self, keep: float = 180.0) -> None:
        self._keep = keep
        self.samples: deque[Sample] = deque()
        self.changes: deque[tuple[float, str]] = deque(maxlen=20)
        self.counts: NDArray[np.int64] = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
        self._forget()

    def clear(self) -> None:
        self.samples.clear()
        self.changes.clear()
        self._forget()

    def mark(self, at: float, what: str) -> None:
        """Start the totals anew because a setting changed.

        Steps of one setting in quick succession are one change, named by the last step.
        """
        if self.changes and at - self.changes[-1][0] < _SAME_CHANGE and _setting(what) == _setting(self.changes[-1][1]):
            at, _ = self.changes.pop()
        self.changes.append((at, what))
        self._forget()

    def _forget(self) -> None:
        self.counts = np.zeros(len(HISTOGRAM_EDGES) - 1, np.int64)
        self._core, self._call = _Reservoir(), _Reservoir()
        self._maximum = self._seconds = 0.0
        self._n = self._found = self._expected = 0

    def take(self, samples: Measurements, at: float) -> None:
        if not len(samples.core):
            return
        core = samples.core * 1e6
        p50, p95, p99 = np.percentile(core, (50, 95, 99))
        qps = samples.queries / samples.seconds if samples.seconds > 0 else 0.0
        self.samples.append(Sample(at, float(p50), float(p95), float(p99), qps))
        while at - self.samples[0].at > self._keep:
            self.samples.popleft()
        self.counts += np.histogram(np.clip(core, HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1]), HISTOGRAM_EDGES)[0]
        self._core.take(core)
        self._call.take(samples.call * 1e6)
        self._maximum = max(self._maximum, float(core.max()))
        self._seconds += samples.seconds
        self._n += samples.queries
        self._found += samples.found
        self._expected += samples.expected

    def totals(self) -> Totals | None:
        """None before the first call."""
        if not self._n:
            return None
        p50, p95, p99 = np.percentile(self._core.values(), (50, 95, 99))
        return Totals(
            float(p50),
            float(p95),
            float(p99),
            self._maximum,
            float(np.median(self._call.values())),
            self._n / self._seconds if self._seconds > 0 else 0.0,
            self._n,
            self._found / self._expected if self._expected else float("nan"),
        )


class _Reservoir:
    """The last 100,000 values, so that percentiles describe the present and memory stays small."""

    _ROOM = 100_000

    def __init__(self) -> None:
        self._ring, self._at, self._full = np.empty(self._ROOM), 0, False

    def take(self, values: NDArray[np.float64]) -> None:
        values = values[-self._ROOM :]
        places = (self._at + np.arange(len(values))) % self._ROOM
        self._ring[places] = values
        self._full = self._full or self._at + len(values) >= self._ROOM
        self._at = (self._at + len(values)) % self._ROOM

    def values(self) -> NDArray[np.float64]:
        return self._ring if self._full else self._ring[: self._at]
