"""How search time grows with the number of vectors: at a fixed recall and at a fixed ef, against a * log(n) + b.

    python benches/scaling.py                        # 10k to 1M clustered vectors of 128 dimensions
    python benches/scaling.py --sizes 1000,3000,9000

A smaller set is the beginning of a larger one, and the queries are the same. At every size the smallest ef that reaches
recall@10 = 0.95 is found; sizes are then timed in interleaved rounds, all indexes alive. The line is fitted by least
squares over the sizes, and each deviation is printed: time over the line's, less one. Where the bytes that a search
walks on outgrow a cache, the table names the cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Workload, clustered_parts, exact
from numpy.typing import NDArray
from param_search import sweep
from rich.console import Console
from rich.table import Table
from timing import cache_sizes, call_times_us, cores, in_turns, machine, outgrown_cache, spent, write_json

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
DIM, LATENT, K, TARGET = 128, 32, 10, 0.95
FIXED_EF = 64
GRID = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)
TOLERANCE = 0.2


@dataclass(frozen=True)
class Cost:
    """At one ef: its recall, and microseconds a query in a batch and of single calls (medians)."""

    ef: int
    recall: float
    batch_us: float
    p50_us: float


@dataclass(frozen=True)
class Size:
    """One number of vectors. walked_bytes: codes and links of the whole index, which searches touch at random."""

    n: int
    build_seconds: float
    walked_bytes: int
    at_target: Cost | None
    fixed: Cost


class MeasuredIndex:
    """An index over the first n vectors."""

    def __init__(self, workload: Workload, quantization: str, threads: int) -> None:
        import edgevec

        self.workload = workload
        self.index = edgevec.Index(workload.base.shape[1], quantization=quantization)
        self.built = spent(partial(self.index.add, workload.base, threads=threads))
        found = sweep(self.recall_at, GRID, (TARGET,))
        ef = next((ef for ef, reached in found.items() if reached >= TARGET), None)
        self.recalls = {FIXED_EF: self.recall_at(FIXED_EF)} | ({} if ef is None else {ef: found[ef]})
        self.target_ef = ef

    def recall_at(self, ef: int) -> float:
        found = self.index.search(self.workload.queries, K, ef=ef, threads=1).ids
        return self.workload.recall(found)

    def round(self) -> dict[int, tuple[float, float]]:
        """Microseconds a query by ef: in a batch, and the P50 of single calls."""
        queries, results = self.workload.queries, {}
        for ef in self.recalls:
            search = partial(self.index.search, k=K, ef=ef, threads=1)
            search(queries)
            batch = spent(partial(search, queries)).wall / len(queries) * 1e6
            results[ef] = (batch, float(np.median(call_times_us(search, queries))))
        return results

    def size(self, rounds: Sequence[dict[int, tuple[float, float]]]) -> Size:
        """Medians over the rounds."""
        costs = {}
        for ef, reached in self.recalls.items():
            batch, single = np.median([each[ef] for each in rounds], axis=0)
            costs[ef] = Cost(ef, reached, float(batch), float(single))
        memory = self.index.memory_usage()
        target = None if self.target_ef is None else costs[self.target_ef]
        walked = memory["codes"] + memory["links"]
        return Size(len(self.workload.base), self.built.wall, walked, target, costs[FIXED_EF])


@dataclass(frozen=True)
class Fit:
    """a * log2(n) + b microseconds, and each time over the line's, less one."""

    a: float
    b: float
    deviations: tuple[float, ...]


def fit(sizes: Sequence[int], times: Sequence[float]) -> Fit:
    """Least squares of the times over log2 of the sizes; at least two of them."""
    logs, measured = np.log2(np.asarray(sizes, dtype=float)), np.asarray(times, dtype=float)
    a, b = np.polyfit(logs, measured, 1)
    deviations: NDArray[np.float64] = measured / (a * logs + b) - 1
    return Fit(float(a), float(b), tuple(deviations.tolist()))


def workloads(sizes: Sequence[int], n_queries: int) -> list[Workload]:
    """Beginnings of one set of vectors, each with the truth of its own."""
    base, queries = clustered_parts(max(sizes), n_queries, DIM, LATENT)
    return [prefix(base, queries, n) for n in sorted(sizes)]


def prefix(base: Floats, queries: Floats, n: int) -> Workload:
    """The first n of the base."""
    return Workload(f"clustered[:{n}]", False, base[:n], queries, exact(base[:n], queries, K, "cosine"))


def table_of(sizes: Sequence[Size], fits: dict[str, Fit], room: dict[str, int], title: str) -> Table:
    table = Table(title=title)
    heads = ("n", "build s", "walked MB", "outgrows", f"ef @{TARGET}", "us batch", "P50 us", "off the line")
    for head in (*heads, f"recall ef={FIXED_EF}", "us batch", "P50 us", "off the line"):
        table.add_column(head, justify="right")
    reached = [size.n for size in sizes if size.at_target]
    for number, size in enumerate(sizes):
        walked = (f"{size.walked_bytes / 1e6:,.1f}", outgrown_cache(size.walked_bytes, room))
        at = size.at_target
        off = f"{fits['target'].deviations[reached.index(size.n)]:+.0%}" if at and "target" in fits else "-"
        target = (str(at.ef), f"{at.batch_us:.1f}", f"{at.p50_us:.1f}", off) if at else ("not reached", "-", "-", "-")
        fixed = (f"{size.fixed.recall:.4f}", f"{size.fixed.batch_us:.1f}", f"{size.fixed.p50_us:.1f}")
        last = f"{fits['fixed'].deviations[number]:+.0%}"
        table.add_row(f"{size.n:,}", f"{size.build_seconds:.1f}", *walked, *target, *fixed, last)
    return table


def fitted(sizes: Sequence[Size]) -> dict[str, Fit]:
    """Lines through the batch times, at the target (where two sizes reach it) and at the fixed ef."""
    reached = [(size.n, size.at_target.batch_us) for size in sizes if size.at_target]
    fits = {"fixed": fit([size.n for size in sizes], [size.fixed.batch_us for size in sizes])}
    if len(reached) > 1:
        fits["target"] = fit(*zip(*reached, strict=True))
    return fits


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="comma-separated (default: %(default)s)")
    parser.add_argument("--quantization", choices=("none", "sq8", "binary"), default="sq8")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    counts = sorted({int(size) for size in args.sizes.split(",")})
    if len(counts) < 2:
        raise SystemExit("growth needs two sizes or more")

    indexes = {}
    for workload in workloads(counts, args.queries):
        indexes[workload.name] = MeasuredIndex(workload, args.quantization, min(2, cores()))
        print(f"{workload.name}: built in {indexes[workload.name].built.wall:.1f} s", file=sys.stderr)
    rounds = in_turns({name: each.round for name, each in indexes.items()}, args.rounds)
    sizes = [indexes[name].size(times) for name, times in rounds.items()]

    room, fits = cache_sizes(), fitted(sizes)
    title = f"edgevec {args.quantization}, clustered, {DIM} dimensions, k={K}, one search thread"
    Console(width=170).print(table_of(sizes, fits, room, title))
    for name, line in fits.items():
        worst = max(map(abs, line.deviations))
        verdict = "within" if worst <= TOLERANCE else "outside"
        where = f"at recall {TARGET}" if name == "target" else f"at ef={FIXED_EF}"
        print(
            f"{where}: {line.a:.2f} us * log2(n) {line.b:+.1f} us; "
            f"off by {worst:.0%} at most, {verdict} {TOLERANCE:.0%}"
        )
    print("caches: " + ", ".join(f"{name} {size / (1 << 10):g} KiB" for name, size in room.items()))
    if args.json:
        content: dict[str, Any] = {"machine": machine(("edgevec", "numpy")), "caches": room}
        content |= {
            "sizes": [asdict(size) for size in sizes],
            "fits": {name: asdict(each) for name, each in fits.items()},
        }
        write_json(args.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
