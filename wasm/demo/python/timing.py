"""Times of single searches, from a clock that a browser keeps coarse on purpose."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

WINDOW = 200
TICKS = 10
"""A timing spans at least this many steps of the clock, so that it is off by no more than a tenth."""
MOST_REPEATS = 1000


def clock_step(clock: Callable[[], float] = time.perf_counter) -> float:
    """The smallest step of the clock in seconds: 5 us in an isolated Chromium page, 100 us in others, up to 1 ms."""
    steps: list[float] = []
    last = clock()
    while len(steps) < 8:
        now = clock()
        if now > last:
            steps.append(now - last)
            last = now
    return min(steps)


def seconds_of(
    call: Callable[[], object], step: float, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, int]:
    """The mean seconds of one call, and how many were made to know them."""
    start, calls = clock(), 0
    while True:
        call()
        calls += 1
        spent = clock() - start
        if spent >= TICKS * step or calls == MOST_REPEATS:
            return spent / calls, calls


def next_step(step: int, took: float, wanted: float) -> int:
    """How many rows to take at once so that they take the wanted seconds, when the last `step` of them took `took`.

    From half to twice as many, and never none: a machine that stood still for a while would build no further.
    """
    return max(1, int(np.clip(step * wanted / max(took, 1e-4), step / 2, step * 2)))


class Window:
    """The last values of something measured: percentiles, mean, and the values themselves."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW)

    def add(self, value: float) -> None:
        self._values.append(value)

    def clear(self) -> None:
        self._values.clear()

    def summary(self) -> dict[str, object]:
        """n, mean, p50, p95, p99 and values, oldest first; n alone when nothing was measured."""
        if not self._values:
            return {"n": 0}
        p50, p95, p99 = np.percentile(self._values, (50, 95, 99)).tolist()
        mean = sum(self._values) / len(self._values)
        return {
            "n": len(self._values),
            "mean": mean,
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "values": list(self._values),
        }
