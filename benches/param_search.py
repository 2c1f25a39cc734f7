"""Which settings to measure: enough to draw a curve, the least that reaches a recall, and the best of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engines.base import Options

TARGETS = (0.95, 0.99)
ENOUGH = 0.995  # past this recall, or when a wider search gains less than STALL, a curve only costs time
STALL = 0.0005


@dataclass(frozen=True)
class Point:
    """One engine at one setting. Times are microseconds of single calls and are, like QPS, medians over the rounds."""

    build: Options
    search: Options
    search_param: int
    recall: float
    p50_us: float
    p99_us: float
    qps: float
    core_share: float  # of one core, that the batch had: below 1 on a busy machine, above 1 with hidden threads
    rounds: int

    @property
    def setting(self) -> tuple[tuple[str, object], ...]:
        """What was chosen, hashable."""
        return (*self.build.items(), *self.search.items(), ("search_param", self.search_param))


def sweep(
    recall_at: Callable[[int], float], grid: Sequence[int], targets: Sequence[float] = TARGETS
) -> dict[int, float]:
    """Recall by search_param, ascending: over the grid until it is plainly enough, and at the least for each target."""
    found: dict[int, float] = {}
    last = -1.0
    for search_param in grid:
        found[search_param] = recall_at(search_param)
        if found[search_param] >= ENOUGH or found[search_param] - last < STALL:
            break
        last = found[search_param]
    edges = dict(edge for target in targets if (edge := smallest(recall_at, found, target)))
    return dict(sorted((found | edges).items()))


def smallest(recall_at: Callable[[int], float], found: Mapping[int, float], target: float) -> tuple[int, float] | None:
    """The least search parameter that reaches the target, and its recall, by bisection between two that are known.

    Below the least that is known nothing is tried; None when none reaches the target.
    """
    high = next((search_param for search_param in sorted(found) if found[search_param] >= target), None)
    if high is None:
        return None
    low, reached = max((search_param for search_param in found if search_param < high), default=high - 1), found[high]
    while high - low > 1:
        middle = (low + high) // 2
        recall = recall_at(middle)
        if recall >= target:
            high, reached = middle, recall
        else:
            low = middle
    return high, reached


def fastest(points: Iterable[Point], target: float) -> Point | None:
    """Of the points that reach the recall the one with the most queries a second; None when none does."""
    return max((point for point in points if point.recall >= target), key=lambda point: point.qps, default=None)


def lowest_latency(points: Iterable[Point], target: float) -> Point | None:
    """Of the points that reach the recall the one with the least P50; None when none does."""
    return min((point for point in points if point.recall >= target), key=lambda point: point.p50_us, default=None)


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both recall and queries a second, by ascending recall."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.recall, -point.qps)):
        if not kept or point.qps > kept[-1].qps:
            kept.append(point)
    return kept[::-1]


def finalists(points: Sequence[Point], targets: Sequence[float] = TARGETS) -> list[Point]:
    """Of all that was tried, what deserves careful timing: the best for each target, and the front of their indexes.

    When no target is reached, the front of the index that found most.
    """
    best = [found for target in targets for pick in (fastest, lowest_latency) if (found := pick(points, target))]
    indexes = [point.build for point in best] or [max(points, key=lambda point: point.recall).build]
    chosen = {point.setting: point for point in (*pareto_front(p for p in points if p.build in indexes), *best)}
    return sorted(chosen.values(), key=lambda point: point.recall)
