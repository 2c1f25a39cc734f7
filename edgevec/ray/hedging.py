"""When a question is late, by how long such questions took before."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Hashable

import numpy as np

__all__ = ["Delays"]

_KINDS = 64
_KEPT = 1000
_FRESH = 16
"""After so many more times the delay is computed anew."""


class _Times:
    """Of one kind of question."""

    def __init__(self) -> None:
        self.kept: deque[float] = deque(maxlen=_KEPT)
        self.since = 0
        self.delay: float | None = None


class Delays:
    """The time within which a share of the questions of a kind was answered. Threads may share it.

    Args:
        share: above 0, below 1
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._least = math.ceil(1 / (1 - share))
        """Among fewer times none is beyond the share."""
        self._kinds: OrderedDict[Hashable, _Times] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, kind: Hashable, seconds: float) -> None:
        """Such a question took so long."""
        with self._lock:
            times = self._kinds.setdefault(kind, _Times())
            self._kinds.move_to_end(kind)
            if len(self._kinds) > _KINDS:
                self._kinds.popitem(last=False)
            times.kept.append(seconds)
            times.since += 1
            if len(times.kept) >= self._least and (times.delay is None or times.since >= _FRESH):
                times.delay, times.since = float(np.quantile(times.kept, self._share)), 0

    def of(self, kind: Hashable) -> float | None:
        """Seconds after which such a question is late; None where too few were asked yet."""
        with self._lock:
            times = self._kinds.get(kind)
            return times.delay if times else None
