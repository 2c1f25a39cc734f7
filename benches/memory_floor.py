"""How far a search is from what this machine's memory allows: lines touched, times the time of a line.

    python benches/memory_floor.py --data real                # needs a C compiler

First the machine: random 64-byte lines in arrays of growing size, once as a chain in which every address comes from the
line before (latency), once as addresses known in advance and prefetched (throughput). Then a search: its counters
(`SearchContext.stats`, means over the queries) times the lines that each kind of step touches (`lines_per_query`).
Lines times the throughput of an array of the index's size is the floor: no search that touches as many can be faster,
one query at a time or not. The chain of visits is a second one, for a single query: the next node to visit is known
only when the last one's neighbors are scored, so one latency a visit is not hidden unless the node is guessed ahead.
Lines that are in a cache already (the entry's neighborhood) make both floors a little too high.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI
from data import WORKLOADS, Workload, named
from engines import Edgevec, Settings
from hnswlib_baseline import at_target
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from timing import cache_sizes, call_times_us, cores, in_turns, machine, outgrown_cache, write_json

LINE = 64
SIZES = tuple(1 << power for power in range(18, 30))  # 256 KiB to 512 MiB
STEPS = 1_000_000
REPEATS = 3
AHEAD = 16
DECLARATIONS = """
uint64_t chase(const uint64_t *lines, uint64_t steps);
uint64_t gather(const uint64_t *lines, const uint32_t *order, uint64_t n);
"""
SOURCE = f"""
#include <stdint.h>
uint64_t chase(const uint64_t *lines, uint64_t steps) {{
    uint64_t at = 0;
    while (steps--) at = lines[at * 8];
    return at;
}}
uint64_t gather(const uint64_t *lines, const uint32_t *order, uint64_t n) {{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {{
        __builtin_prefetch(lines + (uint64_t)order[i + {AHEAD}] * 8);
        sum += lines[(uint64_t)order[i] * 8];
    }}
    return sum;
}}
"""


# ---- the machine ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """Nanoseconds of a random line in an array of so many bytes: at the end of a chain, and among independent ones."""

    bytes: int
    latency_ns: float
    gather_ns: float


def compiled(folder: Path) -> Any:
    """The two loops, compiled into the folder and imported: an object with ffi and lib."""
    builder = FFI()
    builder.cdef(DECLARATIONS)
    builder.set_source("memory_loops", SOURCE, extra_compile_args=["-O2"])
    spec = importlib.util.spec_from_file_location("memory_loops", builder.compile(tmpdir=str(folder)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cycle(lines: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    """uint64 [lines, 8]: the first number of each line is the next one's row; one cycle through all of them."""
    order = rng.permutation(lines)
    array = np.zeros((lines, LINE // 8), dtype=np.uint64)
    array[order, 0] = np.roll(order, -1)
    return array


def measure_memory(loops: Any, size: int) -> Memory:
    """The best of some repeats: what other work on the machine took is not the memory's."""
    rng = np.random.default_rng(0)
    array = cycle(size // LINE, rng)
    order = rng.integers(len(array), size=STEPS + AHEAD, dtype=np.uint32)
    lines, rows = loops.ffi.from_buffer("uint64_t[]", array), loops.ffi.from_buffer("uint32_t[]", order)
    chain = best_ns(partial(loops.lib.chase, lines, STEPS))
    return Memory(size, chain / STEPS, best_ns(partial(loops.lib.gather, lines, rows, STEPS)) / STEPS)


def best_ns(call: Callable[[], object]) -> float:
    """The least of the call's times."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return float(min(times))


def at_size(curve: Sequence[Memory], size: int) -> Memory:
    """The measured array that is nearest in size, by ratio."""
    return min(curve, key=lambda memory: abs(np.log(memory.bytes / size)))


# ---- a search ------------------------------------------------------------------------------------------------------


STATISTICS = ("visited", "prefiltered", "distances", "reranked")
"""What is counted: fields of SearchStats."""


@dataclass(frozen=True)
class Geometry:
    """Bytes that the steps of a search read, each at a random place.

    Attributes:
        prefilter: A row of 1-bit codes, read before an 8-bit code is; 0 without a prefilter.
        code: What one approximate distance reads.
        factors: Beside the code, on a line of their own.
        links: Of a visited node on the lowest level.
        vector: Of a re-ranking: all of it, or what refines its code.
    """

    prefilter: int
    code: int
    factors: int
    links: int
    vector: int

    @classmethod
    def of(cls, quantization: str, dim: int, M: int, bits: int, prefiltered: bool) -> Geometry:
        """bits: of a binary code; 0 where there are none. prefiltered: the core uses a prefilter."""
        links, vector = 2 * M * 4, dim * 4
        if quantization == "none":
            return cls(0, vector, 0, links, 0)
        if quantization == "binary" and bits:
            return cls(0, bits // 8, 16, links, vector)
        prefilter = rounded(dim, 64) // 8 + 16 if prefiltered else 0
        return cls(prefilter, dim, 0 if prefiltered else 16, links, dim * 2)  # with its code, which was just read


def rounded(number: int, unit: int) -> int:
    """Up to a multiple of the unit."""
    return -(-number // unit) * unit


def lines_of(size: int) -> int:
    """Lines that hold so many bytes, from the beginning of one."""
    return -(-size // LINE)


def lines_per_query(counts: Mapping[str, float], geometry: Geometry) -> dict[str, float]:
    """Lines by kind of step; counts are means over the queries, of SearchStats' names."""
    return {
        "prefiltered": counts.get("prefiltered", 0.0) * lines_of(geometry.prefilter),
        "codes": counts["distances"] * (lines_of(geometry.code) + lines_of(geometry.factors)),
        "links": counts["visited"] * lines_of(geometry.links),
        "vectors": counts["reranked"] * lines_of(geometry.vector),
    }


@dataclass(frozen=True)
class Result:
    """One index at the target: what it does for a query, what that must cost, and what it costs."""

    quantization: str
    ef: int
    recall: float
    counts: dict[str, float]
    lines: dict[str, float]
    memory: Memory
    batch_us: float
    p50_us: float

    @property
    def floor_us(self) -> float:
        """All lines at the throughput of independent ones."""
        return sum(self.lines.values()) * self.memory.gather_ns / 1e3

    @property
    def chain_us(self) -> float:
        """One latency for each visit."""
        return self.counts["visited"] * self.memory.latency_ns / 1e3


class TunedIndex:
    """An index at the smallest ef for the target, to be timed in turn with others."""

    def __init__(self, workload: Workload, quantization: str, target: float) -> None:
        self.workload, self.quantization = workload, quantization
        settings = Settings(k=workload.truth.shape[1], build_threads=min(2, cores()))
        self.engine = Edgevec(settings, quantization=quantization)
        self.ef, self.recall = at_target(self.engine, workload, target)

    def round(self) -> tuple[float, float]:
        """Microseconds a query: in a batch, and the P50 of single calls."""
        queries = self.workload.queries
        self.engine.many(queries)
        start = time.perf_counter_ns()
        self.engine.many(queries)
        batch = (time.perf_counter_ns() - start) / len(queries) / 1e3
        return batch, float(np.median(call_times_us(self.engine.one, queries)))

    def counts(self) -> dict[str, float]:
        """Means over the queries of all that the core counts."""
        context = self.engine.lib.SearchContext(self.engine.index)
        rows = []
        for query in self.workload.queries:
            self.engine.index.search(query, self.engine.settings.k, ef=self.ef, context=context)
            rows.append(context.stats._asdict())
        return {kind: float(np.mean([row[kind] for row in rows])) for kind in STATISTICS}

    def result(self, curve: Sequence[Memory], rounds: Sequence[tuple[float, float]]) -> Result:
        """Medians over the rounds beside the floors; the memory is that of an array as large as what is walked on."""
        index, counts = self.engine.index, self.counts()
        bits = index.stats()["bits"]
        prefiltered = counts.get("prefiltered", 0.0) > 0
        geometry = Geometry.of(self.quantization, index.dim, index.M, bits, prefiltered)
        usage = index.memory_usage()
        size = usage["codes"] + usage["links"] + (usage["vectors"] if self.quantization == "none" else 0)
        batch, single = np.median(rounds, axis=0).tolist()
        lines = lines_per_query(counts, geometry)
        return Result(self.quantization, self.ef, self.recall, counts, lines, at_size(curve, size), batch, single)


# ---- the tables ----------------------------------------------------------------------------------------------------


def memory_table(curve: Sequence[Memory], room: dict[str, int]) -> Table:
    names = ", ".join(f"{name} {size / (1 << 10):g} KiB" for name, size in room.items())
    table = Table(title=f"Random lines of {LINE} bytes; {names}")
    for head in ("array", "outgrows", "chained ns", "independent ns", "GB/s"):
        table.add_column(head, justify="right")
    for memory in curve:
        size = f"{memory.bytes / (1 << 20):g} MiB"
        figures = (f"{memory.latency_ns:.1f}", f"{memory.gather_ns:.2f}", f"{LINE / memory.gather_ns:.1f}")
        table.add_row(size, outgrown_cache(memory.bytes, room), *figures)
    return table


def results_table(results: Sequence[Result], title: str) -> Table:
    table = Table(title=title)
    table.add_column("edgevec")
    floors = ("lines", "KB", "ns/line", "floor us", "chain us", "batch us", "floor/batch", "P50 us")
    for head in ("ef", "recall", *STATISTICS, *floors):
        table.add_column(head, justify="right")
    for result in results:
        counts = (f"{result.counts[kind]:,.0f}" if kind in result.counts else "-" for kind in STATISTICS)
        lines = sum(result.lines.values())
        sizes = (f"{lines:,.0f}", f"{lines * LINE / 1e3:,.1f}", f"{result.memory.gather_ns:.2f}")
        times = (f"{result.floor_us:.1f}", f"{result.chain_us:.1f}", f"{result.batch_us:.1f}")
        share = f"{result.floor_us / result.batch_us:.0%}"
        table.add_row(
            result.quantization,
            str(result.ef),
            f"{result.recall:.4f}",
            *counts,
            *sizes,
            *times,
            share,
            f"{result.p50_us:.1f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=WORKLOADS, default="real")
    parser.add_argument("--n", type=int)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        loops = compiled(Path(folder))
        curve = [measure_memory(loops, size) for size in SIZES]
    Console(width=100).print(memory_table(curve, cache_sizes()))

    workload = named(args.data, args.n, args.queries)
    tuned = {name: TunedIndex(workload, name, args.recall) for name in ("sq8", "binary", "none")}
    rounds = in_turns({name: each.round for name, each in tuned.items()}, args.rounds)
    results = [tuned[name].result(curve, times) for name, times in rounds.items()]
    title = f"{workload.name}, k=10, recall@10 at least {args.recall}, one search thread"
    Console(width=170).print(results_table(results, title))
    for result in results:
        print(f"{result.quantization}: lines " + ", ".join(f"{kind} {n:,.0f}" for kind, n in result.lines.items()))
    if args.json:
        about = {"machine": machine(("edgevec", "numpy")), "caches": cache_sizes(), "workload": workload.name}
        measured = {"memory": [asdict(each) for each in curve], "results": [asdict(result) for result in results]}
        write_json(args.json, about | measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
