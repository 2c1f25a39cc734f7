"""Vectors on disk beside the same index in memory, mapped, and hnswlib: recall, latency warm and cold, reads a query.

    python benches/disk.py
    python benches/disk.py --n 1000000 --variants disk --limit 700

One index is built, in a process of its own, and kept in a file; each variant loads that, those whose names end in
-binary one with 1-bit codes, and those that begin with graph the file that DiskIndex.write() makes of it, in which the
graph is too: graph reads it, graph-mmap maps it. Warm: the file is in the page
cache, single queries, the variants in turn. Cold: before each query the system is told to drop the file from its cache
(POSIX_FADV_DONTNEED), and `cold reads` counts the bytes that the process then had from the device; a mapped file, whose
pages that leaves, is mapped anew for each query, without verifying it. --limit: the process, page cache included, may
hold so many MB, by a memory cgroup, for which it has to be root. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from data import CACHE, WORKLOADS, Floats, Ids, clustered, named
from engine_process import own_bytes
from rich.console import Console
from rich.table import Table
from timing import Latency, call_times_us, in_turns, installed, machine, write_json

import edgevec

K, COLD = 10, 100
BINARY, GRAPH = "-binary", "graph"
Search = Callable[[Floats], Any]
GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Measured:
    """One variant. bytes: by which the process grew when it was loaded, of its own; None where nothing is known."""

    variant: str
    ef: int
    recall: float
    warm: Latency
    cold: Latency | None
    bytes_of_its_own: int
    reads: float | None
    cold_bytes: float | None


# ---- the file ------------------------------------------------------------------------------------------------------


def prepare(args: argparse.Namespace, folder: Path) -> None:
    """Build the index, and keep what it is asked with truth that NumPy found."""
    made = args.data == "made"
    workload = clustered(args.n, 1000, K) if made else named(args.data, args.n, 1000, K)
    kept: edgevec.KeepVectors = "float32" if args.float32 else True
    dim = workload.base.shape[1]
    np.save(folder / "queries.npy", workload.queries)
    np.save(folder / "truth.npy", workload.truth)
    (folder / "name").write_text(workload.name)
    if "hnswlib" in args.variants:
        import hnswlib

        other = hnswlib.Index(workload.metric, dim)
        other.init_index(len(workload.base), ef_construction=200, M=16)
        other.add_items(workload.base)
        other.save_index(str(folder / "hnswlib"))
    for path, quantization in files_of(args, folder).items():
        if path.is_file():
            continue
        index = edgevec.Index(dim, workload.metric, quantization=quantization, keep_vectors=kept)
        index.add(workload.base)
        index.save(path)
    if any(variant.startswith(GRAPH) for variant in args.variants):
        start = perf_counter_ns()
        index = edgevec.Index.load(folder / "index.ev", storage="disk")
        edgevec.DiskIndex.write(index, file_of(GRAPH, folder))
        print(f"DiskIndex.write: {(perf_counter_ns() - start) / 1e9:.0f} s")


def file_of(variant: str, folder: Path) -> Path:
    """What a variant loads."""
    if variant.startswith(GRAPH):
        return folder / "index.evd"
    return folder / ("hnswlib" if variant == "hnswlib" else "binary.ev" if variant.endswith(BINARY) else "index.ev")


def files_of(args: argparse.Namespace, folder: Path) -> dict[Path, edgevec.Quantization]:
    """The index files of all variants, and their codes."""
    ours = [variant for variant in args.variants if variant != "hnswlib"]
    own = ["memory" if name.startswith(GRAPH) else name for name in ours]  # what it is made of
    return {file_of(name, folder): "binary" if name.endswith(BINARY) else args.quantization for name in own}


def prepared(args: argparse.Namespace) -> Path:
    """The folder of it, made before or now."""
    folder: Path = CACHE / f"disk-{args.data}-{args.n}-{args.quantization}{'-float32' if args.float32 else ''}"
    if not all(file_of(variant, folder).is_file() for variant in args.variants):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--prepare", str(folder)], check=True)
    return folder


# ---- the machine ---------------------------------------------------------------------------------------------------


def hold_to(megabytes: int) -> None:
    """Move this process into a cgroup of so much memory."""
    second = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if second else GROUPS / "memory") / "edgevec-disk"
    try:
        group.mkdir(exist_ok=True)
        (group / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(megabytes << 20))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        raise SystemExit(f"no cgroup can be made here: {error}") from error


def drop(path: Path) -> None:
    """From the page cache, as far as nobody has it mapped."""
    file = os.open(path, os.O_RDONLY)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def device_bytes() -> int:
    """That this process had from devices."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


# ---- the variants --------------------------------------------------------------------------------------------------


def opened(variant: str, folder: Path, dim: int) -> tuple[Any, Callable[[int], Search]]:
    """The index, and what searches it with an ef."""
    if variant == "hnswlib":
        import hnswlib

        other = hnswlib.Index("cosine", dim)
        other.load_index(str(folder / "hnswlib"))
        other.set_num_threads(1)

        def with_ef(ef: int) -> Search:
            other.set_ef(ef)
            return lambda query: other.knn_query(query, K)[0][0]

        return other, with_ef
    if variant.startswith(GRAPH):
        graph = edgevec.DiskIndex(file_of(variant, folder), mmap=variant.endswith("-mmap"))
        return graph, lambda ef: lambda query: graph.search(query, K, ef=ef).ids
    storage: edgevec.Storage = "disk" if variant.startswith("disk") else "memory"
    index = edgevec.Index.load(file_of(variant, folder), mmap=variant == "mmap", storage=storage)
    return index, lambda ef: lambda query: index.search(query, K, ef=ef).ids


def share_found(search: Search, queries: Floats, truth: Ids) -> float:
    return edgevec.recall(np.array([search(query) for query in queries]), truth)


def ef_for(with_ef: Callable[[int], Search], queries: Floats, truth: Ids, target: float) -> int:
    """The least of a grid that reaches the recall."""
    grid = (10, 16, 20, 24, 28, 32, 36, 40, 48, 64, 96, 128, 192, 256, 384)
    return next((ef for ef in grid if share_found(with_ef(ef), queries, truth) >= target), grid[-1])


def cold_times(variant: str, folder: Path, search: Search, ef: int, queries: Floats) -> tuple[Latency, float]:
    """Of single queries, and the bytes that each had from the device."""
    path, times, bytes_read = file_of(variant, folder), [], 0
    for query in queries[:COLD]:
        again = None
        drop(path)
        if variant == "mmap":
            again = edgevec.Index.load(path, mmap=True, verify=False)
        before, start = device_bytes(), perf_counter_ns()
        _ = search(query) if again is None else again.search(query, K, ef=ef)
        times.append((perf_counter_ns() - start) / 1e3)
        bytes_read += device_bytes() - before
        if again is not None:
            again.close()
    return Latency.of(np.array([times])), bytes_read / len(times)


def ways_to_read(path: Path, row: int, rows: int = 36, times: int = 50) -> dict[str, float]:
    """Microseconds a row, of so many at random places that are not cached, for ways to have them from the disk."""
    file, rng = os.open(path, os.O_RDONLY), np.random.default_rng(0)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    last = path.stat().st_size - row

    def one_by_one(places: list[int]) -> None:
        for place in places:
            os.pread(file, row, place)

    def told_first(places: list[int]) -> None:
        for place in places:
            os.posix_fadvise(file, place, row, os.POSIX_FADV_WILLNEED)
        one_by_one(places)

    with ThreadPoolExecutor(8) as pool:
        ways = {
            "one by one": one_by_one,
            "told first": told_first,
            "8 threads": lambda places: [*pool.map(lambda place: os.pread(file, row, place), places)],
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(times):
            for name, read in ways.items():
                places = sorted(rng.integers(last, size=rows).tolist())
                drop(path)
                start = perf_counter_ns()
                read(places)
                taken[name].append((perf_counter_ns() - start) / 1e3 / rows)
    os.close(file)
    return {name: float(np.median(each)) for name, each in taken.items()}


def measure(folder: Path, variants: Sequence[str], target: float, rounds: int) -> list[Measured]:
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    indexes, grown, efs = {}, {}, {}
    for variant in variants:
        before = own_bytes() or 0
        indexes[variant] = opened(variant, folder, queries.shape[1])
        grown[variant] = (own_bytes() or 0) - before
        efs[variant] = ef_for(indexes[variant][1], queries, truth, target)
    searches = {variant: indexes[variant][1](efs[variant]) for variant in variants}
    recalls = {variant: share_found(searches[variant], queries, truth) for variant in variants}
    before_reads = {variant: reads_of(indexes[variant][0]) for variant in variants}
    runs = {variant: lambda search=searches[variant]: call_times_us(search, queries) for variant in variants}
    warm = in_turns(runs, rounds)
    all_reads = {variant: reads_of(indexes[variant][0]) - before_reads[variant] for variant in variants}
    for variant in {"mmap", "graph-mmap"} & {*variants}:
        indexes[variant][0].close()  # what is mapped stays in the cache
    measured = []
    for variant in variants:
        reads = all_reads[variant]
        cold: tuple[Latency | None, float | None] = (None, None)
        if variant.startswith(("disk", "mmap")) or variant == GRAPH:
            cold = cold_times(variant, folder, searches[variant], efs[variant], queries)
        measured.append(
            Measured(
                variant,
                efs[variant],
                recalls[variant],
                Latency.of(warm[variant]),
                cold[0],
                grown[variant],
                reads / len(queries) / rounds if variant.startswith(("disk", GRAPH)) else None,
                cold[1],
            )
        )
    return measured


def reads_of(index: Any) -> int:
    return index.stats()["reads"] if isinstance(index, (edgevec.Index, edgevec.DiskIndex)) else 0


def table_of(measured: Sequence[Measured], title: str) -> Table:
    table = Table(title=title)
    table.add_column("variant")
    for head in ("ef", "recall", "P50 warm us", "P99", "P50 cold us", "P99", "reads", "cold KB", "own MB"):
        table.add_column(head, justify="right")
    for one in measured:
        cold = ("-", "-") if one.cold is None else (f"{one.cold.p50_us:,.0f}", f"{one.cold.p99_us:,.0f}")
        table.add_row(
            one.variant,
            str(one.ef),
            f"{one.recall:.4f}",
            f"{one.warm.p50_us:,.1f}",
            f"{one.warm.p99_us:,.1f}",
            *cold,
            "-" if one.reads is None else f"{one.reads:.1f}",
            "-" if one.cold_bytes is None else f"{one.cold_bytes / 1024:,.0f}",
            f"{one.bytes_of_its_own / 1e6:,.0f}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--data", choices=("made", *WORKLOADS), default="real", help="made: as many as --n says")
    parser.add_argument("--quantization", choices=("sq8", "binary"), default="sq8")
    every = [
        "memory",
        "disk",
        "memory-binary",
        "disk-binary",
        "mmap",
        "graph",
        "graph-mmap",
        *(["hnswlib"] if installed("hnswlib") else []),
    ]
    parser.add_argument("--variants", nargs="+", choices=every, default=every)
    parser.add_argument("--float32", action="store_true", help="keep every bit: 4 bytes a dimension on disk, not 2")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, metavar="MB")
    parser.add_argument("--ways", action="store_true", help="only compare ways to read 36 rows that are not cached")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.prepare:
        prepare(args, args.prepare)
        return 0
    if not hasattr(os, "posix_fadvise") or own_bytes() is None:
        raise SystemExit("this is measured by means of Linux")
    folder = prepared(args)
    if args.ways:
        ways = ways_to_read(next(iter(files_of(args, folder))), 768)
        print("; ".join(f"{name}: {us:.0f} us a row" for name, us in ways.items()))
        return 0
    if args.limit:
        hold_to(args.limit)
        for variant in args.variants:
            drop(file_of(variant, folder))  # what is cached already counts for whoever read it
    measured = measure(folder, args.variants, args.recall, args.rounds)
    files = [f"{path.name} of {path.stat().st_size / 1e6:,.0f} MB" for path in files_of(args, folder)]
    kind = args.quantization + (", float32" if args.float32 else "")
    title = f"{(folder / 'name').read_text()}, {kind}, k={K}; {', '.join(files)}"
    Console(width=140).print(table_of(measured, title))
    print(
        f"limit: {args.limit or 'none'} MB; load {os.getloadavg()[0]:.1f}; {machine(('edgevec', 'hnswlib', 'numpy'))}"
    )
    if args.json:
        about = machine(("edgevec", "hnswlib", "numpy"))
        write_json(args.json, {"machine": about, "limit": args.limit, "measured": [asdict(one) for one in measured]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
