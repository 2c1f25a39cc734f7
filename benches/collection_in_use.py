"""A collection in use: imports, the log, the first search, threads, and readers beside a writer.

100,000 x 384 as in collection.py. Each figure is of a process of its own, so that a peak of memory is of one thing.
Peaks are above what the process held before, without the graph that stays. Waits and searches a second are by the clock
and belong to a quiet machine.

    python benches/collection_in_use.py --json in-use.json     (Linux, with pyarrow)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from collection import make_rows
from data import load
from timing import machine, spent, write_json

import edgevec

K = 10
SECONDS, ROUNDS = 0.5, 10
"""For which each number of threads searches, and how many times."""
BURSTS, BURST_ROWS, READERS = 20, 100, 4


def prepare(folder: Path, n: int) -> None:
    work = load(n, 500, K)
    rows, texts = make_rows(n)
    with edgevec.open(folder / "c.edgevec", work.base.shape[1], "cosine") as made:
        made.upsert(range(n), work.base, rows, texts)
        made.export(folder / "rows.jsonl")
        made.export(folder / "rows.parquet")
    np.save(folder / "queries.npy", work.queries)


def imported(folder: Path, source: str) -> dict[str, float]:
    """As written(), of one import."""
    return written(folder / f"of-{source}.edgevec", lambda made: made.import_from(folder / source))


def upserted(folder: Path, rows: int | None) -> dict[str, float]:
    """As written(), of one upsert, or of a batch of upserts of so many rows."""
    with edgevec.open(folder / "c.edgevec", mode="r") as read:
        records = [*read]
    ids = [record.id for record in records]
    vectors = np.array([record.vector for record in records])
    metadata, documents = [record.metadata for record in records], [record.document for record in records]
    del records

    def write(made: edgevec.Collection) -> None:
        if rows is None:
            made.upsert(ids, vectors, metadata, documents)
            return
        with made.batch():
            for start in range(0, len(ids), rows):
                part = slice(start, start + rows)
                made.upsert(ids[part], vectors[part], metadata[part], documents[part])

    return written(folder / f"by-{rows}.edgevec", write)


def written(path: Path, write: Callable[[edgevec.Collection], object]) -> dict[str, float]:
    """Megabytes beyond the graph, rows a second of processor time, and megabytes of the log, as long as it ever was and
    when all has ended, and of the file."""
    longest, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            longest[0] = max(longest[0], log.stat().st_size)

    log = Path(f"{path}-wal")
    with edgevec.open(path) as made:
        watching = threading.Thread(target=watch)
        watching.start()
        before = peak_bytes()
        time_spent = spent(lambda: write(made))
        peak = peak_bytes() - before
        ended.set()
        watching.join()
        sizes = made.stats()
        return {
            "peak MB": (peak - sizes["memory_bytes"]) / 1e6,
            "rows/CPU-s": len(made) / time_spent.cpu,
            "longest log MB": longest[0] / 1e6,
            "log MB": sizes["log_bytes"] / 1e6,
            "file MB": sizes["file_bytes"] / 1e6,
        }


def peak_bytes() -> int:
    """Of this process: getrusage() would count what its parent held, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def first_search(folder: Path, mode: Any) -> dict[str, float]:
    """Milliseconds of the first searches after opening, by processor time."""
    queries = np.load(folder / "queries.npy")
    with edgevec.open(folder / "c.edgevec", mode=mode) as opened:
        times = [spent(lambda query=query: opened.search(query, K, include=())).cpu * 1e3 for query in queries[:20]]
        whole = spent(lambda: opened.search(queries[20], K)).cpu * 1e3
    return {"first ms": times[0], "longest of the next 19 ms": max(times[1:]), "first whole ms": whole}


def searches(folder: Path, mode: Any, threads: int) -> dict[str, float]:
    """Of the graph alone, of the collection for ids, and with metadata and texts, by turns.

    Searches a second, and processor time; the ratios are medians of those of each round, by processor time.
    """
    queries = np.load(folder / "queries.npy")
    with edgevec.open(folder / "c.edgevec", mode=mode) as opened:
        index = edgevec.Index.load(folder / "c.edgevec-graph")
        ways: dict[str, Callable[[Any], object]] = {
            "index": lambda query: index.search(query, K),
            "ids": lambda query: opened.search(query, K, include=()),
            "whole": lambda query: opened.search(query, K),
        }
        rounds = []
        for number in range(ROUNDS + 1):
            turns = list(ways) if number % 2 else list(reversed(ways))
            rounds.append({name: rate(ways[name], queries, threads) for name in turns})
        del rounds[0]  # ids are read from the file then
    found = {}
    for name in ways:
        found[name] = float(np.median([each[name][0] for each in rounds]))
        found[f"{name} us"] = float(np.median([each[name][1] for each in rounds]))
        if name != "index":
            found[f"index/{name}"] = float(np.median([each["index"][1] / each[name][1] for each in rounds]))
    return {**found, "load": os.getloadavg()[0]}


def rate(search: Callable[[Any], object], queries: Any, threads: int) -> tuple[float, float]:
    """Searches a second, and microseconds of processor time of each."""
    ended, counts = threading.Event(), [0] * threads

    def run(at: int) -> None:
        while not ended.is_set():
            search(queries[(at * 37 + counts[at]) % len(queries)])
            counts[at] += 1

    started = [threading.Thread(target=run, args=(at,)) for at in range(threads)]
    start, used = time.perf_counter(), time.process_time()
    for thread in started:
        thread.start()
    time.sleep(SECONDS)
    ended.set()
    for thread in started:
        thread.join()
    return sum(counts) / (time.perf_counter() - start), (time.process_time() - used) / sum(counts) * 1e6


def waits(folder: Path) -> dict[str, float]:
    """Milliseconds that searches of READERS processes take beside a writer of bursts."""
    queries = np.load(folder / "queries.npy")
    readers = [start(folder, "reader") for _ in range(READERS)]
    with edgevec.open(folder / "c.edgevec") as made:
        for reader in readers:
            assert reader.stdout is not None
            reader.stdout.readline()
        rng, new = np.random.default_rng(1), 1_000_000
        for _ in range(BURSTS):
            for _ in range(10):
                vectors = queries[rng.integers(0, len(queries), BURST_ROWS)]
                made.upsert(range(new, new + BURST_ROWS), vectors + rng.normal(0, 0.02, vectors.shape))
                new += BURST_ROWS
            time.sleep(0.2)
        (folder / "ended").touch()
        found = [json.loads(reader.communicate()[0]) for reader in readers]
    return {name: max(each[name] for each in found) for name in found[0]}


def reader(folder: Path) -> dict[str, float]:
    queries, times = np.load(folder / "queries.npy"), []
    with edgevec.open(folder / "c.edgevec", mode="r") as opened:
        opened.search(queries[0], K)
        print("ready", flush=True)
        while not (folder / "ended").exists():
            times.append(spent(lambda: opened.search(queries[len(times) % len(queries)], K)).wall * 1e3)
            time.sleep(0.002)
    return {"P50 ms": float(np.median(times)), "longest ms": max(times)}


def beside_one_upsert(folder: Path) -> dict[str, float]:
    """Milliseconds that a thread's searches take beside one call that stores as many records again."""
    queries, times, ended = np.load(folder / "queries.npy"), [], threading.Event()
    with edgevec.open(folder / "c.edgevec") as made:
        rng, count = np.random.default_rng(1), len(made)
        vectors = queries[rng.integers(0, len(queries), count)]
        vectors = vectors + rng.normal(0, 0.02, vectors.shape).astype(np.float32)

        def search() -> None:
            while not ended.is_set():
                times.append(spent(lambda: made.search(queries[len(times) % len(queries)], K, include=())).wall * 1e3)

        searching = threading.Thread(target=search)
        searching.start()
        upsert = spent(lambda: made.upsert(range(2_000_000, 2_000_000 + count), vectors))
        ended.set()
        searching.join()
    p50, p99 = (float(p) for p in np.percentile(times, [50, 99]))
    longest = sorted(times)[-2:]
    return {
        "P50 ms": p50,
        "P99 ms": p99,
        "longest ms": longest[1],
        "second longest ms": longest[0],
        "searches": len(times),
        "seconds of the call": upsert.wall,
        "CPU seconds": upsert.cpu,
        "load": os.getloadavg()[0],
    }


def changed(folder: Path) -> dict[str, float]:
    """Seconds in which the texts of all records are replaced, and half of the records deleted, by ids in any order."""
    with edgevec.open(folder / "changed.edgevec") as made:
        made.import_from(folder / "rows.parquet")
        records = [*made]
        ids, vectors = [record.id for record in records], np.array([record.vector for record in records])
        metadata, documents = [record.metadata for record in records], [record.document for record in records]
        made.search(vectors[0], K)
        replaced = spent(lambda: made.upsert(ids, vectors, metadata, documents[::-1]))
        half = np.random.default_rng(1).permutation(len(ids))[: len(ids) // 2]
        deleted = spent(lambda: made.delete([ids[at] for at in half]))
    return {
        "texts replaced CPU s": replaced.cpu,
        "by the clock s": replaced.wall,
        "half deleted CPU s": deleted.cpu,
        "by the clock, deleting s": deleted.wall,
        "load": os.getloadavg()[0],
    }


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    "import Parquet": lambda folder: imported(folder, "rows.parquet"),
    "import JSON lines": lambda folder: imported(folder, "rows.jsonl"),
    "one upsert": lambda folder: upserted(folder, None),
    "batch of 100": lambda folder: upserted(folder, 100),
    "batch of 5,000": lambda folder: upserted(folder, 5_000),
    "records changed": changed,
    "first search, a": lambda folder: first_search(folder, "a"),
    "first search, r": lambda folder: first_search(folder, "r"),
    "searches/s, a, 1 thread": lambda folder: searches(folder, "a", 1),
    "searches/s, a, 2 threads": lambda folder: searches(folder, "a", 2),
    "searches/s, a, 8 threads": lambda folder: searches(folder, "a", 8),
    "searches/s, r, 1 thread": lambda folder: searches(folder, "r", 1),
    "4 readers beside bursts": waits,
    "a thread beside one upsert": beside_one_upsert,
}


def start(folder: Path, step: str) -> subprocess.Popen[str]:
    command = [sys.executable, os.fspath(Path(__file__).resolve()), "--step", step, "--folder", os.fspath(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        step = reader if arguments.step == "reader" else STEPS[arguments.step]
        print(json.dumps(step(arguments.folder)))
        return 0
    results = {}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), arguments.n)
        for step_name in STEPS:
            process = start(Path(name), step_name)
            results[step_name] = json.loads(process.communicate()[0])
            shown = ", ".join(
                f"{what} {value:,.{1 if abs(value) >= 2 else 2}f}" for what, value in results[step_name].items()
            )
            print(f"| {step_name} | {shown} |", flush=True)
    if arguments.json:
        write_json(arguments.json, {"machine": machine(("edgevec", "numpy", "pyarrow")), "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
