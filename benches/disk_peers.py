"""DiskIndex beside other libraries whose indexes lie in files: warm, cold, and with less memory than the vectors take.

    python benches/disk_peers.py
    python benches/disk_peers.py --limits 0 38 100 --only edgevec-graph zvec-diskann lancedb-ivf-pq

Each index is built in a process of its own, and kept. Then each is searched in a process of its own, the kinds in
turn, `--rounds` times: at the least effort of its grid that reaches the recall, and where there are several settings,
at that which is fastest there. Single queries. Warm: after all of them were asked once. Cold: the index is closed, its
files are dropped from the page cache, it is opened (`open`), and asked once (`first`).

With a limit, the process is moved into a memory cgroup of so many MB once the library is imported, and before it opens
the index, whose files are dropped from the page cache first. So the limit is for the index, for what searches take, and
for the page cache, not for Python and the libraries. `read` is what a query then had from the device. What takes more
is killed by the system, and the table says so. It has to be root for that. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np
from data import CACHE, WORKLOADS, Floats, Ids, named
from disk import device_bytes, drop, hold_to
from engine_process import own_bytes
from engines.base import Options
from engines.on_disk import ON_DISK, OnDisk, Search
from rich.console import Console
from rich.table import Table
from timing import call_times_us, installed, machine, write_json

import edgevec

K, QUERIES, COLD, TRIED, PATIENCE = 10, 500, 50, 100, 1200
LONGEST = 15.0
PACKAGES = ("edgevec", "numpy", *sorted({kind.package for kind in ON_DISK.values()} - {"edgevec"}))


@dataclass(frozen=True)
class Chosen:
    """The setting that is measured."""

    effort: int
    options: Options
    recall: float


@dataclass(frozen=True)
class Timed:
    """One process. Bytes: by which it grew, of its own, when the index was opened and asked; read from the device by a
    query.
    """

    p50_us: float
    p99_us: float
    own_bytes: int
    read_bytes: float
    load: float
    open_us: float | None = None
    first_us: float | None = None


# ---- in a process of its own ---------------------------------------------------------------------------------------


def made(name: str, folder: Path) -> OnDisk:
    return ON_DISK[name].make(folder / name, K)


def build(name: str, folder: Path, data: str, n: int) -> dict[str, Any]:
    workload = named(data, n, QUERIES, K)
    np.save(folder / "queries.npy", workload.queries)
    np.save(folder / "truth.npy", workload.truth)
    (folder / "name").write_text(workload.name)
    start = perf_counter()
    made(name, folder).build(workload.base)
    return {"seconds": perf_counter() - start}


def choose(name: str, folder: Path, target: float) -> dict[str, Any]:
    """The least effort that reaches the recall, or the greatest; of several settings the fastest one of these."""
    queries, truth = asked(folder)
    index = made(name, folder)
    index.open()
    found: list[tuple[bool, float, Chosen]] = []
    for options in ON_DISK[name].searches:
        for effort in ON_DISK[name].efforts:
            search = index.searcher(effort, **options)
            recall = share_found(search, queries, truth)
            if recall >= target:
                break
        times = call_times_us(search, queries[:TRIED])
        found.append((recall < target, float(np.median(times)), Chosen(effort, options, recall)))
    return asdict(min(found, key=lambda each: each[:2] if not each[0] else (True, -each[2].recall))[2])


def timed(name: str, folder: Path, limit: int, chosen: Chosen) -> dict[str, Any]:
    queries, _ = asked(folder)
    for module in ON_DISK[name].modules:
        import_module(module)
    if limit:
        hold_to(limit)
    drop_all(folder / name)
    before, index = own_bytes() or 0, made(name, folder)
    index.open()
    search = index.searcher(chosen.effort, **chosen.options)
    call_times_us(search, within(LONGEST, queries))
    grown, read = (own_bytes() or 0) - before, device_bytes()
    times = call_times_us(search, within(LONGEST, queries))
    read_bytes = (device_bytes() - read) / len(times)
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    if limit:
        return asdict(Timed(p50, p99, grown, read_bytes, os.getloadavg()[0]))
    opened, first = [], []
    for query in queries[:COLD]:
        index.close()
        drop_all(folder / name)
        start = perf_counter_ns()
        index.open()
        search = index.searcher(chosen.effort, **chosen.options)
        between = perf_counter_ns()
        search(query)
        opened.append((between - start) / 1e3)
        first.append((perf_counter_ns() - between) / 1e3)
    cold = statistics.median(opened), statistics.median(first)
    return asdict(Timed(p50, p99, grown, read_bytes, os.getloadavg()[0], *cold))


def within(seconds: float, queries: Floats) -> Iterator[Floats]:
    """As many of them as are asked in this time: a mapped file that does not fit is read again and again."""
    end = perf_counter() + seconds
    return takewhile(lambda _: perf_counter() < end, queries)


def asked(folder: Path) -> tuple[Floats, Ids]:
    return np.load(folder / "queries.npy"), np.load(folder / "truth.npy")


def share_found(search: Search, queries: Floats, truth: Ids) -> float:
    found = np.full((len(queries), K), -1, np.int64)
    for row, query in zip(found, queries, strict=True):
        ids = search(query)
        row[: len(ids)] = ids
    return edgevec.recall(found, truth)


def drop_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            drop(path)


# ---- in the first one ----------------------------------------------------------------------------------------------


def ask(what: dict[str, Any], failed: dict[str, str], name: str) -> dict[str, Any] | None:
    """What a process of its own answers; None where it fails, and why, in `failed`."""
    command = [sys.executable, __file__, "--in-process", json.dumps({**what, "name": name})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        failed[name] = f"not done within {PATIENCE} s"
        return None
    if done.returncode:
        killed = done.returncode == -signal.SIGKILL
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        why = lines[-1].partition(", /")[0]  # and no place in its source
        failed[name] = "killed: it takes more memory than that" if killed else why
        return None
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def answer(what: dict[str, Any]) -> None:
    work = {"build": build, "choose": choose, "timed": timed}[what.pop("work")]
    what["folder"] = Path(what["folder"])
    if "chosen" in what:
        what["chosen"] = Chosen(**what["chosen"])
    print(json.dumps(work(**what)), flush=True)
    os._exit(0)  # some libraries take long to end, or crash when they do


def build_all(names: Sequence[str], folder: Path, data: str, n: int, failed: dict[str, str]) -> None:
    for name in names:
        if (folder / name / "built").is_file():
            continue
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        done = ask({"work": "build", "folder": str(folder), "data": data, "n": n}, failed, name)
        if done is not None:
            (folder / name / "built").write_text(f"{done['seconds']:.0f}")
            print(f"{name}: built in {done['seconds']:.0f} s", file=sys.stderr)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def median_of(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure; of a process that has none of a kind, None."""
    keys = rounds[0]
    return {key: None if keys[key] is None else statistics.median(each[key] for each in rounds) for key in keys}


def measure(args: argparse.Namespace, folder: Path, failed: dict[str, str]) -> list[dict[str, Any]]:
    """A row of each kind under each limit."""
    chosen: dict[str, dict[str, Any]] = {}
    for name in args.only:
        found = None
        if name not in failed:
            found = ask({"work": "choose", "folder": str(folder), "target": args.recall}, failed, name)
        if found is not None:
            chosen[name] = found
    rows = []
    for limit in args.limits:
        refused: dict[str, str] = {}
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
        for turn in range(args.rounds):
            at = turn % max(1, len(chosen))
            for name in [*chosen, *chosen][at : at + len(chosen)]:
                if name in refused:
                    continue
                what = {"work": "timed", "folder": str(folder), "limit": limit, "chosen": chosen[name]}
                if (done := ask(what, refused, name)) is not None:
                    rounds[name].append(done)
        for name in args.only:
            row: dict[str, Any] = {"kind": name, "limit": limit, "file_bytes": size_of(folder / name)}
            row |= chosen.get(name, {})
            why = failed.get(name) or refused.get(name)
            rows.append(row | ({"failed": why} if why else median_of(rounds[name])))
    return rows


def table_of(rows: Sequence[dict[str, Any]], title: str) -> Table:
    table = Table(title=title)
    table.add_column("kind")
    for head in ("limit", "effort", "recall", "P50 us", "P99", "read KB", "open ms", "first ms", "own MB", "files MB"):
        table.add_column(head, justify="right")
    for row in rows:
        limit, files = str(row["limit"] or "none"), f"{row['file_bytes'] / 1e6:,.0f}"
        effort = " ".join([str(row.get("effort", "")), *(f"{k}={v}" for k, v in row.get("options", {}).items())])
        recall = f"{row['recall']:.3f}" if "recall" in row else ""
        if "failed" in row:
            table.add_row(row["kind"], limit, effort, recall, row["failed"], *[""] * 5, files)
            continue
        cold = ("-", "-") if row["open_us"] is None else (f"{row[key] / 1e3:.1f}" for key in ("open_us", "first_us"))
        times = f"{row['p50_us']:,.0f}", f"{row['p99_us']:,.0f}", f"{row['read_bytes'] / 1024:,.0f}"
        table.add_row(row["kind"], limit, effort, recall, *times, *cold, f"{row['own_bytes'] / 1e6:,.1f}", files)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [name for name, kind in ON_DISK.items() if installed(kind.package)]
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--data", choices=tuple(WORKLOADS), default="real")
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--limits", nargs="+", type=int, metavar="MB", default=[0, 38], help="0: none")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--in-process", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.in_process:
        answer(args.in_process)
    folder = CACHE / f"disk-peers-{args.data}-{args.n}"
    failed: dict[str, str] = {}
    build_all(args.only, folder, args.data, args.n, failed)
    rows = measure(args, folder, failed)
    Console(width=150).print(table_of(rows, f"{(folder / 'name').read_text()}, k={K}"))
    about = machine(PACKAGES)
    print(f"load {os.getloadavg()[0]:.1f}; {about}")
    if args.json:
        write_json(args.json, {"machine": about, "rounds": args.rounds, "measured": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
