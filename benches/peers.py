"""Compare edgevec with the fastest CPU libraries: same data, same run, one search thread, each at its best setting.

    python benches/peers.py --data real --json peers.json --plot peers
    python benches/peers.py --data real --engines scann,faiss --json more.json
    python benches/peers.py --merge peers.json more.json --plot peers --markdown peers.md

Two passes. The first tries every setting of an engine's grid (`FAMILIES` in benches/engines), each index in a process
of its own: its search parameter is swept, the smallest that reaches each recall target is found by bisection, and
everything is timed once. The second takes the settings that came out best, of all engines at once, and times them in
interleaved rounds; the figures are medians over these. Parts of a run can be made on their own (--engines) and put
together (--merge), which is as fair as the machine was steady in between.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from data import WORKLOADS, Workload, named
from engine_process import Built, EngineProcess, ProcessError, Round, engine_process, save_workload
from engines import FAMILIES, Options, Settings
from held import SIMD
from param_search import Point, finalists, sweep
from report import Outcome, Report, plot, show, to_markdown
from timing import cores, in_turns, installed, machine


@dataclass
class Candidate:
    """One index of a family, alive, and what the first pass found of it."""

    build: Options
    process: EngineProcess
    stack: ExitStack
    scouted: list[Point]


def scout(folder: Path, name: str, build: Options, settings: Settings) -> Candidate:
    """Build one index, and measure it once at every search setting of the grid."""
    family = FAMILIES[name]
    with ExitStack() as stack:
        index = stack.enter_context(engine_process(folder, name, build, settings))
        points = []
        for search in family.searches:
            recalls = sweep(lambda search_param, search=search: index.recall(search_param, search), family.grid)
            rounds = index.time([(search_param, search) for search_param in recalls])
            for (search_param, found), figures in zip(recalls.items(), rounds, strict=True):
                points.append(point_of(build, search, search_param, found, [figures]))
        return Candidate(build, index, stack.pop_all(), points)


def point_of(build: Options, search: Options, search_param: int, recall: float, rounds: Sequence[Round]) -> Point:
    """Medians over the rounds."""
    table = [(each.p50_us, each.p99_us, each.qps, each.core_share) for each in rounds]
    return Point(build, search, search_param, recall, *np.median(table, axis=0).tolist(), rounds=len(rounds))


class Benchmark:
    """All families over one workload: `add_family` them one by one, then `time_finalists`."""

    def __init__(self, folder: Path, settings: Settings, stack: ExitStack, most_builds: int | None) -> None:
        self.folder, self.settings, self.stack, self.most_builds = folder, settings, stack, most_builds
        self.outcomes: dict[str, Outcome] = {}
        self.chosen: dict[str, list[tuple[EngineProcess, list[Point]]]] = {}

    def add_family(self, name: str) -> None:
        """The first pass over one family. Its indexes stay alive where the second pass needs them."""
        outcome = self.outcomes[name] = Outcome(name)
        if installed(FAMILIES[name].package) is None:
            outcome.failures.append(f"{FAMILIES[name].package} is not installed")
            say(f"{name}: {outcome.failures[-1]}")
            return
        candidates = []
        for build in FAMILIES[name].builds[: self.most_builds]:
            try:
                candidates.append(scout(self.folder, name, build, self.settings))
            except ProcessError as error:
                outcome.failures.append(str(error))
                say(f"{name} {dict(build)}: {error}")
                continue
            built: Built = candidates[-1].process.built
            outcome.builds.append((build, built))
            outcome.scouted += candidates[-1].scouted
            say(f"{name} {dict(build)}: built in {built.seconds:.1f} s")
        best = finalists(outcome.scouted) if candidates else []
        self.chosen[name] = []
        for candidate in candidates:
            points = [point for point in best if point.build == candidate.build]
            if points:
                self.stack.enter_context(candidate.stack)
                self.chosen[name].append((candidate.process, points))
            else:
                candidate.stack.close()

    def time_finalists(self, rounds: int) -> list[Outcome]:
        """The second pass: everything that was chosen, in interleaved rounds."""
        runs = {
            f"{name} {number}": partial(index.time, [(point.search_param, point.search) for point in points])
            for name, indexes in self.chosen.items()
            for number, (index, points) in enumerate(indexes)
        }
        results = in_turns(runs, rounds) if runs else {}
        for name, indexes in self.chosen.items():
            for number, (_, points) in enumerate(indexes):
                by_point = zip(points, zip(*results[f"{name} {number}"], strict=True), strict=True)
                self.outcomes[name].points += [
                    point_of(point.build, point.search, point.search_param, point.recall, figures)
                    for point, figures in by_point
                ]
        return list(self.outcomes.values())


def compare(
    workload: Workload, names: Sequence[str], settings: Settings, rounds: int, most_builds: int | None = None
) -> Report:
    """Both passes over these families."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        save_workload(workload, Path(folder))
        benchmark = Benchmark(Path(folder), settings, stack, most_builds)
        for name in names:
            benchmark.add_family(name)
        outcomes = benchmark.time_finalists(rounds)
    about = machine(sorted({FAMILIES[name].package for name in names} | {"numpy"}))
    return Report(workload.name, workload.real, settings, rounds, [about], outcomes)


def matching(wanted: str | None) -> list[str]:
    """The families whose name holds one of these parts; all when none is given."""
    names = [name for name in FAMILIES if wanted is None or any(part.strip() in name for part in wanted.split(","))]
    if not names:
        raise SystemExit(f"no engine is called {wanted!r}; there are: {', '.join(FAMILIES)}")
    return names


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=WORKLOADS, default="real", help="what is searched (default: %(default)s)")
    parser.add_argument("--n", type=int, help="base vectors (default: all of the set)")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--engines", help="comma-separated parts of names, e.g. 'edgevec,hnswlib' (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, cores()), help="to build with; searching uses one")
    parser.add_argument("--builds", type=int, metavar="N", help="of each engine's grid the first N builds alone")
    parser.add_argument("--simd", choices=SIMD, default="best", help="avx2: hold engines to it where they can be held")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured, the whole grid")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--plot", type=Path, metavar="STEM", help="recall-QPS curves as STEM.png and STEM.svg")
    parser.add_argument(
        "--merge", type=Path, nargs="+", metavar="FILE.json", help="measure nothing: put earlier runs together"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse(arguments)
    if args.merge:
        report = Report.merged([Report.read(path) for path in args.merge])
    else:
        settings = Settings(build_threads=args.threads, simd=args.simd)
        workload = named(args.data, args.n, args.queries, settings.k)
        report = compare(workload, matching(args.engines), settings, args.rounds, args.builds)
    show(report)
    if args.json:
        report.write(args.json)
    if args.markdown:
        args.markdown.write_text(to_markdown(report))
    if args.plot:
        plot(report, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
