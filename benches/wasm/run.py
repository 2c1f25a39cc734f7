"""Compare edgevec in Pyodide with JavaScript and WebAssembly baselines: same page or process, same vectors, one thread.

    python benches/wasm/run.py --engine chromium --n 10000 --json FILE

For each engine that has an ef, the smallest that reaches each recall target is found by bisection; then all are timed
at those in turns, and the figures are medians over rounds. Beside them edgevec's native build runs the same workload on
AVX2 at the same ef. Chromium and Node differ too much to be compared with each other.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import paths  # noqa: F401 - says where the others are

# isort: split
import baselines
import targets
from benchmark import TARGETS, WITHOUT_EF, K, Result, Subject, Timed
from build import built_wheel
from data import Workload, load
from rich.console import Console
from rich.table import Table
from timing import in_turns, machine, write_json
from toolchain.cache import ToolchainError
from toolchain.runtime import PYODIDE
from website import build_site

from edgevec import simd_info

OURS = ("edgevec none", "edgevec sq8", "edgevec binary")
ENGINES = (*OURS, "hnswlib-wasm", "npm edgevec", "voy-search", "exact scan")
SETTINGS = {"M": 16, "ef_construction": 200, "k": K}
NATIVE = "avx2"
"""What Chromium's engine could at best compile 128-bit SIMD to: the fair native path where the machine has it."""


def lay_out(folder: Path, workload: Workload) -> None:
    """All that the page or the Node process reads: Pyodide with edgevec, the baselines, the scripts, the vectors."""
    build_site(folder)
    shutil.copytree(baselines.fetch(), folder / "baselines", ignore=shutil.ignore_patterns("*.map", ".*"))
    shutil.copytree(targets.CLIENT, folder / "client")
    shutil.move(folder / "client" / "page.html", folder / "page.html")
    (folder / "data").mkdir()
    workload.base.tofile(folder / "data" / "base.f32")
    workload.queries.tofile(folder / "data" / "queries.f32")


def measure_all(subjects: dict[str, Subject], rounds: int, builds: int, seconds: float) -> dict[str, Result]:
    """Everyone builds, is tuned and is timed, in turns. Names that begin with `native ` take the ef of the others."""
    for name, subject in subjects.items():
        subject.start()
        print(f"{name}: {subject.failure or 'started'}", file=sys.stderr)
    able = {name: subject for name, subject in subjects.items() if not subject.failure}
    in_turns({name: subject.build for name, subject in able.items()}, builds)
    for name, subject in able.items():
        model = subjects.get(name.removeprefix("native "))
        if model is not None and model is not subject:
            subject.follow(model)
        else:
            subject.tune()
        shown = ", ".join(f"ef {ef} for {target}" for target, ef in subject.efs.items())
        print(f"{name}: built in {subject.build_seconds[0]:.2f} s; {shown}", file=sys.stderr)
    timed = in_turns({name: lambda each=each: each.round(seconds) for name, each in able.items()}, rounds)
    return {name: subject.result(timed.get(name, [])) for name, subject in subjects.items()}


def table_of(results: dict[str, Result], title: str) -> Table:
    table = Table(title=title)
    table.add_column("engine")
    for head in ("build s", "index MB", "download KB"):
        table.add_column(head, justify="right")
    for target in TARGETS:
        for head in (f"ef @{target}", "recall", "P50 us", "P99 us", "QPS", "core us"):
            table.add_column(head, justify="right")
    for name, result in results.items():
        if result.failure:
            table.add_row(name, "does not start")
            continue
        size = "-" if result.index_bytes is None else f"{result.index_bytes / 1e6:.1f}"
        load = (
            "-" if result.download_bytes is None or name.startswith("native") else f"{result.download_bytes / 1e3:,.0f}"
        )
        cells = [name, f"{result.build_seconds:.2f}", size, load]
        for target in TARGETS:
            cells += timed_cells(result, result.at(target))
        table.add_row(*cells)
    return table


def timed_cells(result: Result, timed: Timed | None) -> list[str]:
    """A target's cells; when it is out of reach, the best recall stands there in brackets."""
    if timed is None:
        return ["-", "" if result.engine in WITHOUT_EF else f"({result.best_recall:.3f})", "", "", "", ""]
    core = "-" if timed.core_us is None else f"{timed.core_us:,.1f}"
    figures = [f"{timed.p50_us:,.0f}", f"{timed.p99_us:,.0f}", f"{timed.qps:,.0f}", core]
    return [str(timed.ef or "-"), f"{timed.recall:.4f}", *figures]


def ratios(results: dict[str, Result]) -> dict[str, dict[str, float]]:
    """By our engines, at the first target: how many times longer the others search (typical call) and build, and
    how many times longer ours take than natively, in the core and to build."""
    found: dict[str, dict[str, float]] = {}
    for name in OURS:
        ours, native = results.get(name), results.get(f"native {name}")
        mine = ours.at(TARGETS[0]) if ours else None
        if ours is None or mine is None:
            continue
        found[name] = row = {}
        for other, result in results.items():
            theirs = result.at(TARGETS[0])
            if theirs is not None and not other.startswith(("native ", "edgevec ")):
                row[f"{other}: search"] = theirs.mean_us / mine.mean_us
                row[f"{other}: build"] = result.build_seconds / ours.build_seconds
        same = native.at(TARGETS[0]) if native else None
        if native is not None and same is not None and mine.core_us and same.core_us:
            row["of native: core"] = mine.core_us / same.core_us
            row["of native: build"] = ours.build_seconds / native.build_seconds
    return found


def table_of_ratios(compared: dict[str, dict[str, float]]) -> Table:
    table = Table(
        title=f"At recall {TARGETS[0]}: times as long as edgevec; of native: times as long as the native build"
    )
    table.add_column("")
    for name in compared:
        table.add_column(name, justify="right")
    for what in next(iter(compared.values()), {}):
        table.add_row(what, *(f"{each[what]:.2f}" if what in each else "-" for each in compared.values()))
    return table


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("chromium", "node"), default="chromium", help="where (default: chromium)")
    parser.add_argument("--n", type=int, default=10_000, help="base vectors")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--engines", help="comma-separated parts of engine names, e.g. 'sq8,hnswlib' (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--builds", type=int, default=1, help="builds of each engine, in turns; the median counts")
    parser.add_argument("--seconds", type=float, default=3.0, help="longest that one engine's turn at one ef lasts")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def chosen(parts: str | None) -> list[str]:
    wanted = [name for name in ENGINES if parts is None or any(part in name for part in parts.split(","))]
    if not wanted:
        raise SystemExit(f"no engine is called {parts}; there are: {', '.join(ENGINES)}")
    return wanted


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    workload = load(args.n, args.queries, K)
    work = SETTINGS | {"n": len(workload.base), "dim": workload.base.shape[1], "queries": len(workload.queries)}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch, "site")
        try:
            lay_out(folder, workload)
        except ToolchainError as error:
            raise SystemExit(str(error)) from error
        web = stack.enter_context({"chromium": targets.chromium, "node": targets.node}[args.engine](folder))
        native = stack.enter_context(targets.native(folder, NATIVE if NATIVE in simd_info().available else None))
        about = web.call("open", work) | {"native": native.call("open", work)}
        subjects = {name: Subject(web, name, workload) for name in chosen(args.engines)}
        subjects |= {f"native {n}": Subject(native, n, workload) for n in subjects if n in OURS}
        results = measure_all(subjects, args.rounds, args.builds, args.seconds)

    setting = f"M={SETTINGS['M']}, ef_construction={SETTINGS['ef_construction']}, k={K}"
    title = f"{about['agent']}: {workload.name}, {setting}, one thread, medians of {args.rounds} rounds"
    console = Console(width=190)
    console.print(table_of(results, title))
    compared = ratios(results)
    console.print(table_of_ratios(compared))
    write_notes(console, about, workload, results)
    if args.json:
        content: dict[str, Any] = {
            "command": "python benches/wasm/run.py " + " ".join(arguments),
            "workload": workload.name,
            "real": workload.real,
            "settings": SETTINGS,
            "host": about,
            "pyodide": PYODIDE,
            "packages": [baseline.package for baseline in baselines.BASELINES.values()],
            "wheel": built_wheel().name,
            "pyodide_download_bytes": baselines.runtime_bytes(),
            "machine": machine(),
            "rounds": args.rounds,
            "builds": args.builds,
            "results": {name: asdict(result) for name, result in results.items()},
            "ratios": compared,
        }
        write_json(args.json, content)
    return 0


def write_notes(console: Console, about: dict[str, Any], workload: Workload, results: dict[str, Result]) -> None:
    host = machine()
    console.print(f"{host['cpu']}, {host['cores']} cores, {host['os']}; the clock moves by {about['clock_us']:.2f} us")
    console.print(
        f"download: gzipped; edgevec's wheel runs in Pyodide {PYODIDE}, which with NumPy and cffi is "
        f"{baselines.runtime_bytes() / 1e6:.1f} MB more"
    )
    console.print(
        "single calls from Python or JavaScript, QPS by the median of runs of 20; "
        "core: a query's share of one batch call"
    )
    console.print(f"native: the installed edgevec on {about['native']['simd']}, at the same ef")
    for result in results.values():
        if result.failure:
            console.print(f"{result.engine} does not start here: {result.failure}")
    if not workload.real:
        console.print("the vectors are synthetic: the figures are not comparable with those of real embeddings")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
