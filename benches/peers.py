"""Compare edgevec with hnswlib, faiss, usearch, voyager and NumPy: same data, one process, one search thread.

    python benches/peers.py --n 25000 --json peers.json --plot peers.png

For each engine ef is swept over a grid; the smallest ef that reaches each recall target is then found by bisection and
measured too, so that the figures "at recall 0.95" are measured ones, not interpolated. Timing goes in rounds: every
engine has its turn in each, and the figures are medians over rounds.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# Read when NumPy is imported: its exact search gets one thread like everyone's.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["VECLIB_MAXIMUM_THREADS"] = "1"

import numpy as np
from data import Workload, load, recall
from engines import ENGINES, Engine, Settings
from rich.console import Console
from rich.table import Table
from timing import Latency, Spent, call_times_us, cores, in_turns, installed, machine, spent, write_json

EF_GRID = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
TARGETS = (0.95, 0.99)
ENOUGH = 0.995  # past this recall, or when a wider search gains less than STALL, a curve only costs time
STALL = 0.0005
QUIET = 0.95
WARM_ROWS = 1000
WARM_QUERIES = 100


@dataclass(frozen=True)
class Point:
    """One engine at one ef (0: it has none). All but recall are medians over rounds."""

    ef: int
    recall: float
    p50_us: float
    p99_us: float
    qps: float
    core_share: float  # of one core, that the batch had: below 1 on a machine with other work


@dataclass(frozen=True)
class Curve:
    """All that was measured of one engine; points in order of ef."""

    engine: str
    build_seconds: float
    build_cpu_seconds: float
    points: tuple[Point, ...]
    bytes_per_vector: float | None = None

    def at(self, target: float) -> Point | None:
        """The point of the smallest ef that reaches the recall, None when none does."""
        return next((point for point in self.points if point.recall >= target), None)


@dataclass(frozen=True)
class Round:
    """One engine at one ef in one round."""

    single: Latency
    batch: Spent

    def figures(self, n_queries: int) -> tuple[float, ...]:
        """In the order of Point: P50, P99, QPS, share of a core."""
        return self.single.p50_us, self.single.p99_us, n_queries / self.batch.wall, self.batch.cpu / self.batch.wall


class Contestant:
    """One engine, built over the workload, and what it finds at which ef."""

    def __init__(self, name: str, workload: Workload, settings: Settings) -> None:
        self.name = name
        self.workload = workload
        self.engine = warm_engine(name, workload, settings)
        self.built = spent(lambda: self.engine.build(workload.base))
        self.recalls = dict(sorted(self._sweep().items()))

    def round(self) -> dict[int, Round]:
        """Time single calls and one batch at every ef."""
        queries = self.workload.queries
        results = {}
        for ef in self.recalls:
            self.engine.set_ef(ef)
            self.engine.many(queries[:WARM_QUERIES])
            batch = spent(lambda: self.engine.many(queries))
            results[ef] = Round(Latency.of([call_times_us(self.engine.one, queries)]), batch)
        return results

    def curve(self, rounds: Sequence[Mapping[int, Round]]) -> Curve:
        """Medians over the rounds."""
        points = []
        for ef, found in self.recalls.items():
            table = [each[ef].figures(len(self.workload.queries)) for each in rounds]
            points.append(Point(ef, found, *np.median(table, axis=0).tolist()))
        return Curve(self.name, self.built.wall, self.built.cpu, tuple(points))

    def _recall_at(self, ef: int) -> float:
        self.engine.set_ef(ef)
        return recall(self.engine.many(self.workload.queries), self.workload.truth)

    def _sweep(self) -> dict[int, float]:
        """Recall by ef: over the grid until it is plainly enough, and at the smallest ef for each target."""
        if not self.engine.has_ef:
            return {0: self._recall_at(0)}
        found: dict[int, float] = {}
        last = 0.0
        for ef in EF_GRID:
            found[ef] = self._recall_at(ef)
            if found[ef] >= ENOUGH or found[ef] - last < STALL:
                break
            last = found[ef]
        return found | dict(edge for target in TARGETS if (edge := smallest_ef(self._recall_at, found, target)))


def smallest_ef(
    recall_at: Callable[[int], float], grid: Mapping[int, float], target: float
) -> tuple[int, float] | None:
    """The least ef whose recall reaches the target, and that recall, by bisection between two points of the grid."""
    high = next((ef for ef, found in grid.items() if found >= target), None)
    if high is None:
        return None
    low, reached = max((ef for ef in grid if ef < high), default=high - 1), grid[high]
    while high - low > 1:
        middle = (low + high) // 2
        found = recall_at(middle)
        if found >= target:
            high, reached = middle, found
        else:
            low = middle
    return high, reached


def warm_engine(name: str, workload: Workload, settings: Settings) -> Engine:
    """An engine that has built and searched once, since libraries load code and start threads on first use."""
    engine = ENGINES[name].make(settings)
    engine.build(workload.base[:WARM_ROWS])
    engine.many(workload.queries[:1])
    return engine


def resident_bytes() -> int:
    """What this process holds in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth_per_vector(name: str, workload: Workload, settings: Settings) -> float:
    """Bytes by which the process grew over a build, for each vector; the input itself is not counted."""
    engine = warm_engine(name, workload, settings)
    gc.collect()
    before = resident_bytes()
    engine.build(workload.base)
    gc.collect()
    return (resident_bytes() - before) / len(workload.base)


def memory_in_fresh_process(name: str, arguments: Sequence[str]) -> float:
    """growth_per_vector in a process of its own, where no other engine's memory can be taken for this one's."""
    command = [sys.executable, __file__, *arguments, "--grow", name]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def chosen(wanted: str | None) -> list[str]:
    """The engines asked for that are installed; says which are not."""
    names = [name for name in ENGINES if wanted is None or any(part.strip() in name for part in wanted.split(","))]
    if not names:
        raise SystemExit(f"no engine is called {wanted!r}; there are: {', '.join(ENGINES)}")
    for package in sorted({ENGINES[name].package for name in names if not installed(ENGINES[name].package)}):
        print(f"{package} is not installed: skipped (pip install {package})", file=sys.stderr)
    return [name for name in names if installed(ENGINES[name].package)]


def table_of(curves: Sequence[Curve], title: str) -> Table:
    """A line per engine: what it costs to build and hold, and how fast it is at each recall target."""
    table = Table(title=title)
    table.add_column("engine")
    for head in ("build s", "CPU s", "B/vector"):
        table.add_column(head, justify="right")
    for target in TARGETS:
        for head in (f"ef @{target}", "recall", "QPS", "P50 us", "P99 us"):
            table.add_column(head, justify="right")
    for curve in curves:
        size = "-" if curve.bytes_per_vector is None else f"{curve.bytes_per_vector:,.0f}"
        cells = [curve.engine, f"{curve.build_seconds:.1f}", f"{curve.build_cpu_seconds:.1f}", size]
        for target in TARGETS:
            cells += point_cells(curve, curve.at(target))
        table.add_row(*cells)
    return table


def point_cells(curve: Curve, point: Point | None) -> list[str]:
    """A point's five cells; when the target is out of reach, the best recall stands there in brackets."""
    if point is None:
        return ["-", f"({max(each.recall for each in curve.points):.3f})", "-", "-", "-"]
    ef = str(point.ef) if point.ef else "-"
    return [ef, f"{point.recall:.4f}", f"{point.qps:,.0f}", f"{point.p50_us:,.0f}", f"{point.p99_us:,.0f}"]


def plot(curves: Sequence[Curve], title: str, path: Path) -> None:
    """Recall against batch QPS: up and to the right is better."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    for curve in curves:
        style = "-o" if curve.engine.startswith("edgevec") else "--."
        axes.plot(
            [point.recall for point in curve.points], [point.qps for point in curve.points], style, label=curve.engine
        )
    axes.set(xlabel="recall@10", ylabel="queries a second, one thread", yscale="log", title=title, xlim=(0.8, 1.002))
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130, bbox_inches="tight")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=117_659, help="base vectors (default: all 117,659)")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument(
        "--engines", help="comma-separated parts of engine names, e.g. 'edgevec,hnswlib' (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--M", type=int, default=Settings.M)
    parser.add_argument("--ef-construction", type=int, default=Settings.ef_construction)
    parser.add_argument("--threads", type=int, default=min(2, cores()), help="to build with; searching uses one")
    parser.add_argument(
        "--memory", action="store_true", help="measure bytes per vector, each engine in a fresh process (Linux)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="recall-QPS curves (needs matplotlib)")
    parser.add_argument("--grow", choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    if args.memory and not Path("/proc/self/statm").is_file():
        raise SystemExit("--memory reads /proc/self/statm, which this system does not have")
    settings = Settings(args.M, args.ef_construction, build_threads=args.threads)
    if args.grow:
        print(growth_per_vector(args.grow, load(args.n, args.queries, settings.k), settings))
        return 0

    names = chosen(args.engines)
    workload = load(args.n, args.queries, settings.k)
    contestants = {}
    for name in names:
        contestants[name] = Contestant(name, workload, settings)
        print(f"built {name} in {contestants[name].built.wall:.1f} s", file=sys.stderr)
    results = in_turns({name: contestant.round for name, contestant in contestants.items()}, args.rounds)
    curves = [contestants[name].curve(rounds) for name, rounds in results.items()]
    if args.memory:
        curves = [replace(curve, bytes_per_vector=memory_in_fresh_process(curve.engine, arguments)) for curve in curves]

    about = machine(sorted({ENGINES[name].package for name in names} | {"numpy"}))
    title = f"{workload.name}, k={settings.k}, M={settings.M}, ef_construction={settings.ef_construction}"
    Console(width=170).print(table_of(curves, f"{title}, one search thread, medians of {args.rounds} rounds"))
    print(f"{about['cpu']}, {about['cores']} cores, {about['os']}, Python {about['python']}")
    print("ef @r: the smallest ef whose recall@10 reaches r; (in brackets: the best recall, when none does)")
    share = min(point.core_share for curve in curves for point in curve.points)
    if share < QUIET:
        print(f"the machine was busy: searching had as little as {share:.0%} of a core, so the times are too long")
    if args.json:
        content = {"workload": workload.name, "real": workload.real, "settings": asdict(settings), "machine": about}
        write_json(args.json, content | {"rounds": args.rounds, "curves": [asdict(curve) for curve in curves]})
    if args.plot:
        plot(curves, title, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
