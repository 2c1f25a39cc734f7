"""edgevec as it comes against hnswlib (M=16, ef_construction=200) at the same recall, in one process and in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from data import Workload
from engines import Edgevec, Engine, Hnswlib, Settings
from engines.base import EF_GRID
from param_search import sweep
from timing import Latency, call_times_us, in_turns

TARGET = 0.95
ROUNDS = 5
RATIO_LIMIT = 0.7


@dataclass(frozen=True)
class EngineResult:
    """One engine at the smallest ef that reaches the target."""

    engine: str
    ef: int
    recall: float
    latency: Latency


@dataclass(frozen=True)
class Comparison:
    """Both engines, and the median over rounds of edgevec's P50 divided by hnswlib's."""

    workload: str
    target: float
    engines: tuple[EngineResult, ...]
    ratio: float

    def lines(self) -> list[str]:
        """One line for the data and one for each engine."""
        return [f"{self.workload}, one search thread"] + [
            f"  {engine.engine}: P50 {engine.latency.p50_us:.0f} us  P99 {engine.latency.p99_us:.0f} us  "
            f"recall {engine.recall:.3f}  ef {engine.ef}"
            for engine in self.engines
        ]


def compare(workload: Workload, target: float = TARGET) -> Comparison:
    """Build both, find the ef of each, and time single calls in rounds."""
    settings = Settings(k=workload.truth.shape[1])
    engines: dict[str, Engine] = {"edgevec": Edgevec(settings), "hnswlib": Hnswlib(settings)}
    edges = {name: at_target(engine, workload, target) for name, engine in engines.items()}
    runs = {name: lambda engine=engine: call_times_us(engine.one, workload.queries) for name, engine in engines.items()}
    rounds = in_turns(runs, ROUNDS)
    results = tuple(EngineResult(name, *edges[name], Latency.of(times)) for name, times in rounds.items())
    return Comparison(workload.name, target, results, ratio_of(rounds["edgevec"], rounds["hnswlib"]))


def ratio_of(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The median over rounds of the quotient of the medians; each is [rounds, calls]."""
    return float(np.median(np.median(ours, axis=1) / np.median(theirs, axis=1)))


def at_target(engine: Engine, workload: Workload, target: float) -> tuple[int, float]:
    """Build, and set the smallest ef that reaches the target: it and its recall."""
    engine.build(workload.base)

    def recall_at(ef: int) -> float:
        engine.tune(ef)
        return workload.recall(engine.many(workload.queries))

    reached = {ef: found for ef, found in sweep(recall_at, EF_GRID, (target,)).items() if found >= target}
    if not reached:
        raise SystemExit(f"{type(engine).__name__} does not reach recall {target} on {workload.name}")
    ef = min(reached)
    engine.tune(ef)
    return ef, reached[ef]
