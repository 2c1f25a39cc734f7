"""The gate against a slow build: the reference's own workload with its recall, SIMD against scalar, and hnswlib.

Uniform [0, 1) vectors of 768 dimensions (seed 42, queries seed 43), M=12, ef_construction=100, ef=50, k=10, l2, sq8,
one search thread. At 100,000 vectors the P50 of a call from Python must be under 800 us and the scalar path at least
twice as slow; 10,000 and 50,000 are printed beside. Uniform vectors of so many dimensions are hopeless for every graph,
so recall is printed and not judged.

Each index is built once and saved. In each round a new process loads that file and is timed under the default path, and
another one with EDGEVEC_SIMD=scalar, both on the same core, on the next core in the next round. A core that shares its
caches or its arithmetic with somebody else's work can take half as long again, and a process tends to stay where it is:
two processes that live for all rounds compare their cores as much as their paths.

The baseline is hnswlib (M=16, ef_construction=200): on 25,000 real embeddings (or, where they are absent, as many
clustered ones), both at the smallest ef that reaches recall@10 = 0.95, Index(dim) as it comes must answer a call in 0.7
of hnswlib's time or less. Exit code 1 when a check fails, 2 when edgevec or hnswlib is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from data import Workload, load, uniform
from hnswlib_baseline import RATIO_LIMIT as BASELINE_LIMIT
from hnswlib_baseline import Comparison, compare
from timing import Latency, call_times_us, in_turns, installed, machine, spent, write_json

SIZES = (10_000, 50_000, 100_000)
JUDGED = 100_000
DIM, M, EF_CONSTRUCTION, EF, K = 768, 12, 100, 50, 10
QUERIES, ROUNDS = 1000, 6
BASELINE_N = 25_000
P50_LIMIT_US = 800.0
RATIO_LIMIT = 2.0


@dataclass(frozen=True)
class Measured:
    """One size: both paths searched the same file."""

    n: int
    build_seconds: float
    recall: float
    path: str
    simd: Latency
    scalar: Latency
    ratio: float


def searched(folder: Path, forced: str | None, turns: Iterator[list[str]]) -> dict[str, Any]:
    """A process that searches the folder's index under one SIMD path (None: the machine's default) on the next core."""
    environment = {name: value for name, value in os.environ.items() if name != "EDGEVEC_SIMD"}
    if forced is not None:
        environment["EDGEVEC_SIMD"] = forced
    command = [sys.executable, __file__, "--search", str(folder), *next(turns)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def search(folder: Path, core: int | None) -> None:
    """What such a process does: prints the path in use, what it finds, and microseconds of one call for each query."""
    import edgevec

    if core is not None:
        os.sched_setaffinity(0, {core})
    index = edgevec.Index.load(folder / "index")
    queries = np.load(folder / "queries.npy")
    call = partial(index.search, k=K, ef=EF, threads=1)
    ids = call(queries).ids.tolist()
    times = call_times_us(call, queries).tolist()
    print(json.dumps({"path": edgevec.simd_info().active, "ids": ids, "times_us": times}))


def core_turns() -> Iterator[list[str]]:
    """The option that ties a process to a core, for each core in turn; none where the system has no such thing."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return cycle([["--core", str(core)] for core in cores] or [[]])


def measure(workload: Workload, folder: Path) -> Measured:
    """Build with all cores, save, and time both paths in turns."""
    import edgevec

    index = edgevec.Index(DIM, "l2", quantization="sq8", M=M, ef_construction=EF_CONSTRUCTION)
    build = spent(partial(index.add, workload.base))
    index.save(folder / "index")
    np.save(folder / "queries.npy", workload.queries)
    paths = {"simd": None, "scalar": "scalar"}
    rounds = in_turns({name: partial(searched, folder, path, core_turns()) for name, path in paths.items()}, ROUNDS)
    simd, scalar = (np.asarray([one["times_us"] for one in rounds[path]]) for path in ("simd", "scalar"))
    return Measured(
        n=len(workload.base),
        build_seconds=build.wall,
        recall=workload.recall(np.asarray(rounds["simd"][0]["ids"])),
        path=rounds["simd"][0]["path"],
        simd=Latency.of(simd),
        scalar=Latency.of(scalar),
        ratio=float(np.median(np.median(scalar, axis=1) / np.median(simd, axis=1))),
    )


def line(one: Measured) -> str:
    """A size in one line."""
    fast = f"P50 {one.simd.p50_us:6.0f} us  P99 {one.simd.p99_us:6.0f} us  recall@{K} {one.recall:.3f}"
    slow = f"scalar P50 {one.scalar.p50_us:6.0f} us  ratio {one.ratio:.2f}"
    return f"{one.n:>7,} x {DIM}  {one.path}: {fast}   {slow}   built in {one.build_seconds:.1f} s"


def checks(judged: Measured, baseline: Comparison) -> list[tuple[bool, str]]:
    """What must hold at 100,000 and against hnswlib, each with its line."""
    return [
        (
            judged.simd.p50_us < P50_LIMIT_US,
            f"P50 {judged.simd.p50_us:.0f} us, limit {P50_LIMIT_US:.0f} us, at recall@{K} {judged.recall:.3f}",
        ),
        (judged.ratio >= RATIO_LIMIT, f"scalar : {judged.path} = {judged.ratio:.2f}, at least {RATIO_LIMIT:.0f}"),
        (
            baseline.ratio <= BASELINE_LIMIT,
            f"edgevec : hnswlib = {baseline.ratio:.2f} at recall@{K} {baseline.target}, at most {BASELINE_LIMIT}",
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the figures as JSON; without FILE to standard output",
    )
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.search:
        search(args.search, args.core)
        return 0
    for package, remedy in (("edgevec", "."), ("hnswlib", "hnswlib")):
        if installed(package) is None:
            print(f"{package} is not installed: pip install {remedy}", file=sys.stderr)
            return 2

    say = partial(print, file=sys.stderr if args.json == "-" else sys.stdout, flush=True)
    about = machine(("edgevec", "hnswlib", "numpy"))
    say(f"edgevec {about['packages']['edgevec']}, Python {about['python']}, {about['os']}")
    say(f"{about['cpu']}, {about['cores']} cores; medians of {ROUNDS} rounds")
    say(f"uniform [0, 1), l2, sq8, M={M}, ef_construction={EF_CONSTRUCTION}, ef={EF}, one search thread")
    sizes = []
    for n in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(measure(uniform(n, QUERIES, DIM, K), Path(folder)))
        say(line(sizes[-1]))

    baseline = compare(load(BASELINE_N, QUERIES, K))
    for row in baseline.lines():
        say(row)

    verdicts = checks(next(one for one in sizes if one.n == JUDGED), baseline)
    for passed, what in verdicts:
        say(f"{'PASS' if passed else 'FAIL'}  {what}")
    failed = sum(not passed for passed, _ in verdicts)
    say(f"{len(verdicts) - failed} passed, {failed} failed")
    report(
        args.json,
        {"machine": about, "sizes": [asdict(one) for one in sizes], "baseline": asdict(baseline), "failed": failed},
    )
    return 1 if failed else 0


def report(where: str | None, content: dict[str, Any]) -> None:
    """JSON to a file, to standard output for "-", or nowhere."""
    if where == "-":
        print(json.dumps(content, indent=2))
    elif where is not None:
        write_json(Path(where), content)


if __name__ == "__main__":
    sys.exit(main())
