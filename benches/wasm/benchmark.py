"""One engine in one host: built, tuned to each recall target, timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import baselines
import numpy as np
from data import Workload
from targets import Host, HostError
from timing import Latency

TARGETS = (0.95, 0.99)
K = 10
EF_MOST = 512
WARM_ROWS = 500
WITHOUT_EF = ("voy-search", "exact scan")
# Those are slow and there is nothing to tune: fewer queries say as much of their recall.
FEW_QUERIES = 200
RUN = 20

Round = dict[int, dict[str, Any]]
"""What a host says of an engine's calls, by ef."""


def typical(rounds: Sequence[Sequence[float]]) -> float:
    """Median of the means of every 20 calls in a row: finer than the browser's clock, which moves by 5 us, and deaf to
    the moments in which the machine did something else."""
    runs = [calls[at : at + RUN] for calls in rounds for at in range(0, max(len(calls) - RUN, 0) + 1, RUN)]
    return median(fmean(run) for run in runs)


@dataclass(frozen=True)
class Timed:
    """One engine at one ef (0: it has none), in microseconds. P50 and P99 are medians over rounds; mean_us: see
    typical(); core_us: the median share that a query has of a batch call."""

    target: float
    ef: int
    recall: float
    p50_us: float
    p99_us: float
    mean_us: float
    core_us: float | None

    @property
    def qps(self) -> float:
        return 1e6 / self.mean_us


@dataclass(frozen=True)
class Result:
    """All that was measured of one engine in one host; `failure` is what it said instead of starting."""

    engine: str
    build_seconds: float = 0.0
    index_bytes: int | None = None
    download_bytes: int | None = None
    timed: tuple[Timed, ...] = ()
    best_recall: float = 0.0
    failure: str | None = None

    def at(self, target: float) -> Timed | None:
        return next((each for each in self.timed if each.target == target), None)


@dataclass
class Subject:
    """An engine from its start to its result. What does not start keeps the reason as its failure."""

    host: Host
    engine: str
    workload: Workload
    failure: str | None = None
    build_seconds: list[float] = field(default_factory=list)
    index_bytes: int | None = None
    recalls: dict[int, float] = field(default_factory=dict)
    efs: dict[float, int] = field(default_factory=dict)

    def start(self) -> None:
        try:
            self.host.call("start", self.engine, min(WARM_ROWS, len(self.workload.base)))
        except HostError as error:
            self.failure = str(error)

    def build(self) -> None:
        built = self.host.call("build", self.engine)
        self.build_seconds.append(built["seconds"])
        # The first build tells, since later ones reuse memory that is not given back.
        self.index_bytes = self.index_bytes or built["bytes"]

    def tune(self) -> None:
        """The smallest ef for each target that is reached."""
        if self.engine in WITHOUT_EF:
            self.efs = dict.fromkeys([TARGETS[0]], 0)
            self.recall_at(0, FEW_QUERIES)
            return
        for target in TARGETS:
            if (ef := self.smallest_ef(target)) is not None:
                self.efs[target] = ef

    def follow(self, model: Subject) -> None:
        """Take the ef that another was tuned to."""
        self.efs = dict(model.efs)
        for ef in self.efs.values():
            self.recall_at(ef)

    def smallest_ef(self, target: float) -> int | None:
        low, high = K - 1, K
        while self.recall_at(high) < target:
            if high >= EF_MOST:
                return None
            low, high = high, min(2 * high, EF_MOST)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.recall_at(middle) >= target else (middle, high)
        return high

    def recall_at(self, ef: int, count: int | None = None) -> float:
        if ef not in self.recalls:
            asked = len(self.workload.truth[:count])
            found = np.array(self.host.call("answers", self.engine, ef, asked))
            self.recalls[ef] = self.workload.recall(found.reshape(asked, K))
        return self.recalls[ef]

    def round(self, seconds: float) -> Round:
        return {ef: self.host.call("round", self.engine, ef, seconds) for ef in sorted(set(self.efs.values()))}

    def result(self, rounds: Sequence[Round]) -> Result:
        if self.failure:
            return Result(self.engine, failure=self.failure)
        timed = []
        for target, ef in self.efs.items():
            found = [each[ef] for each in rounds]
            latency = Latency.of([np.asarray(each["calls_us"]) for each in found])
            cores = [core for each in found for core in each["core_us"]]
            mean = typical([each["calls_us"] for each in found])
            timed.append(
                Timed(
                    target, ef, self.recalls[ef], latency.p50_us, latency.p99_us, mean, median(cores) if cores else None
                )
            )
        return Result(
            self.engine,
            median(self.build_seconds),
            self.index_bytes,
            baselines.download_bytes(self.engine),
            tuple(timed),
            max(self.recalls.values()),
        )
