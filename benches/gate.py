"""The gate against a slow build: the reference's own workload with its recall, SIMD against scalar, and hnswlib.

Uniform [0, 1) vectors of 768 dimensions (seed 42, queries seed 43), M=12, ef_construction=100, ef=50, k=10, l2, sq8,
one search thread. At 100,000 vectors the P50 of a call from Python must be under 800 us and the scalar path at least
twice as slow; 10,000 and 50,000 are printed beside. Uniform vectors of so many dimensions are hopeless for every graph,
so recall is printed and not judged.

Each index is built once and saved; two processes load that file, one with EDGEVEC_SIMD=scalar and one with the default
path, and are timed in turns.

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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
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
QUERIES, ROUNDS = 1000, 5
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


class SearchProcess:
    """A process that holds the index under one SIMD path and times a round for each line on its standard input."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.hello = self._read()

    def round(self) -> list[float]:
        """Microseconds of one call for each query."""
        assert self.process.stdin is not None
        self.process.stdin.write("round\n")
        self.process.stdin.flush()
        times: list[float] = self._read()
        return times

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a searching process ended early with code {self.process.wait()}")
        return json.loads(line)


@contextmanager
def search_process(folder: Path, forced: str | None) -> Iterator[SearchProcess]:
    """A SearchProcess over the folder's index and queries, ended with the block; None is the machine's default path."""
    environment = {name: value for name, value in os.environ.items() if name != "EDGEVEC_SIMD"}
    if forced is not None:
        environment["EDGEVEC_SIMD"] = forced
    command = [sys.executable, __file__, "--search", str(folder)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield SearchProcess(process)


def serve(folder: Path) -> None:
    """The searching process: says the path in use and what it finds, then times a round for every line it reads."""
    import edgevec

    index = edgevec.Index.load(folder / "index")
    queries = np.load(folder / "queries.npy")
    search = partial(index.search, k=K, ef=EF, threads=1)
    print(json.dumps({"path": edgevec.simd_info().active, "ids": search(queries).ids.tolist()}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(call_times_us(search, queries).tolist()), flush=True)


def measure(workload: Workload, folder: Path) -> Measured:
    """Build with all cores, save, and time both paths in turns."""
    import edgevec

    index = edgevec.Index(DIM, "l2", quantization="sq8", M=M, ef_construction=EF_CONSTRUCTION)
    build = spent(partial(index.add, workload.base))
    index.save(folder / "index")
    np.save(folder / "queries.npy", workload.queries)
    with search_process(folder, None) as default, search_process(folder, "scalar") as forced:
        rounds = in_turns({"simd": default.round, "scalar": forced.round}, ROUNDS)
    simd, scalar = np.asarray(rounds["simd"]), np.asarray(rounds["scalar"])
    return Measured(
        n=len(workload.base),
        build_seconds=build.wall,
        recall=workload.recall(np.asarray(default.hello["ids"])),
        path=default.hello["path"],
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
    args = parser.parse_args(arguments)
    if args.search:
        serve(args.search)
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
