"""How long does one addition, or one search beside additions, have to wait?

    python benches/pauses.py                                          # 1,000,000 single additions of 128 dimensions
    python benches/pauses.py --n 100000 --quantization binary
    python benches/pauses.py --drift --n 400000                       # ... of which the last third lie elsewhere
    python benches/pauses.py --loaded --n 1100000 --quantization sq8  # ... to an index that was loaded
    python benches/pauses.py --beside                                 # a thread that searches beside one that adds
    python benches/pauses.py --beside --engines edgevec,hnswlib,usearch

The first mode adds rows one at a time and shows P50, P99.9 and the longest, with how many rows there were when the
longest came; and the same of CPU time, in which other programs on the machine do not show. With --drift the others are
added first, in one call, and what is added one at a time moves the mean, so that all is encoded anew. With --loaded all
but the last eleventh are added first, saved and loaded, and a fifth of them removed. --beside has one thread add all
but the first tenth of the rows in one call while another searches for one vector at a time: P50, P99 and the longest
time of a search, and the recall@10 of the index afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from data import Floats, clustered_parts, exact_uncached, recall
from rich.console import Console
from rich.table import Table
from timing import machine, write_json

from edgevec import Index

DIM, M, EF_CONSTRUCTION, EF = 128, 16, 100, 64
QUANTIZATIONS: tuple[Literal["none", "sq8", "binary"], ...] = ("none", "sq8", "binary")


@dataclass
class Waits:
    """Milliseconds; `longest`: the five longest, each with the number of rows that there were, or the second."""

    name: str
    count: int
    p50: float
    p99: float
    p999: float
    longest: list[tuple[float, float]]
    recall: float | None = None
    seconds: float | None = None
    cpu: Waits | None = None  # the same of the thread's CPU time

    @classmethod
    def of(cls, name: str, seconds: list[float], when: list[float]) -> Waits:
        ms = 1e3 * np.array(seconds)
        top = np.argsort(-ms)[:5]
        p50, p99, p999 = (float(p) for p in np.percentile(ms, [50, 99, 99.9]))
        return cls(name, len(ms), p50, p99, p999, [(float(ms[i]), float(when[i])) for i in top])


def loaded_again(index: Index) -> Index:
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "pauses.edgevec")
        return Index.load(Path(folder) / "pauses.edgevec")


def one_by_one(quantization: Literal["none", "sq8", "binary"], rows: Floats, held: Floats, loaded: bool) -> Waits:
    index = Index(DIM, "l2", quantization=quantization, M=M, ef_construction=EF_CONSTRUCTION)
    index.add(held)
    if loaded:
        index = loaded_again(index)
        index.remove(range(0, len(held), 5))
    clock, cpu_clock, times, cpu_times = time.perf_counter, time.thread_time, [], []
    for row in rows:
        start, cpu_start = clock(), cpu_clock()
        index.add(row, threads=1)
        cpu_times.append(cpu_clock() - cpu_start)
        times.append(clock() - start)
    if len(held):
        stats = index.stats()
        print(f"{quantization}: the center was learned {stats['trainings']} times, {stats['dead']} are dead")
    when = list(range(len(held), len(held) + len(rows)))
    waits = Waits.of(quantization, times, when)
    waits.seconds = sum(times)
    waits.cpu = Waits.of(f"{quantization}, CPU", cpu_times, when)
    waits.cpu.seconds = sum(cpu_times)
    return waits


# ---- searches beside additions ---------------------------------------------------------------------------------------

Add, Search = Callable[[Floats], object], Callable[[Floats], Any]


def edgevec_engine(n: int, quantization: Literal["none", "sq8", "binary"]) -> tuple[Add, Search]:
    index = Index(DIM, "l2", quantization=quantization, M=M, ef_construction=EF_CONSTRUCTION)
    return index.add, lambda query: index.search(query, 10, ef=EF).ids


def hnswlib_engine(n: int) -> tuple[Add, Search]:
    import hnswlib

    index = hnswlib.Index("l2", DIM)
    index.init_index(n, ef_construction=EF_CONSTRUCTION, M=M)
    index.set_ef(EF)
    return index.add_items, lambda query: index.knn_query(query, 10, num_threads=1)[0][0]


def usearch_engine(n: int) -> tuple[Add, Search]:
    from usearch.index import Index as Other

    index = Other(ndim=DIM, metric="l2sq", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)
    index.expansion_search = EF
    added = 0

    def add(rows: Floats) -> None:
        nonlocal added
        index.add(np.arange(added, added + len(rows)), rows)
        added += len(rows)

    return add, lambda query: index.search(query, 10).keys


ENGINES: dict[str, Callable[[int], tuple[Add, Search]]] = {
    **{f"edgevec {name}": (lambda n, name=name: edgevec_engine(n, name)) for name in QUANTIZATIONS},
    "hnswlib": hnswlib_engine,
    "usearch": usearch_engine,
}


def beside(name: str, rows: Floats, queries: Floats, truth: Any) -> Waits:
    add, search = ENGINES[name](len(rows))
    first = len(rows) // 10
    add(rows[:first])
    ended, times, when, failed = threading.Event(), [], [], []
    start = time.perf_counter()

    def search_on() -> None:
        turn = 0
        while not ended.is_set():
            began = time.perf_counter()
            try:
                search(queries[turn % len(queries)])
            except RuntimeError:  # hnswlib, where an addition has a hand in what it finds
                failed.append(began)
            times.append(time.perf_counter() - began)
            when.append(began - start)
            turn += 1

    thread = threading.Thread(target=search_on)
    thread.start()
    try:
        add(rows[first:])
        took = time.perf_counter() - start
    finally:
        ended.set()
        thread.join()
    if failed:
        print(f"{name}: {len(failed)} searches failed")
    waits = Waits.of(name, times, when)
    found = np.stack([np.asarray(search(query), np.int64) for query in queries])
    waits.recall, waits.seconds = recall(found, truth, rows, queries, "l2"), took
    return waits


# ---- what is shown ---------------------------------------------------------------------------------------------------


def table_of(title: str, results: list[Waits], unit: str) -> Table:
    table = Table(title=title)
    for column in ("", "calls", "P50", "P99", "P99.9", "longest", f"at {unit}", "recall@10", "added in"):
        table.add_column(column)
    for waits in results:
        longest, at = waits.longest[0]
        table.add_row(
            waits.name,
            f"{waits.count:,}",
            f"{waits.p50:.3f} ms",
            f"{waits.p99:.2f} ms",
            f"{waits.p999:.2f} ms",
            f"{longest:.1f} ms",
            f"{at:,.0f}" if unit == "rows" else f"{at:.1f}",
            "" if waits.recall is None else f"{waits.recall:.3f}",
            "" if waits.seconds is None else f"{waits.seconds:.0f} s",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, help="rows: 1,000,000, or with --beside 200,000")
    parser.add_argument("--beside", action="store_true", help="searches beside additions")
    parser.add_argument("--drift", action="store_true", help="the last third of the rows lie elsewhere")
    parser.add_argument("--loaded", action="store_true", help="to an index that was loaded, a fifth of it removed")
    parser.add_argument("--quantization", help="one of none, sq8, binary; all of them otherwise")
    parser.add_argument("--engines", default=",".join(ENGINES), help="with --beside")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    n = options.n or (200_000 if options.beside else 1_000_000)
    rows, queries = clustered_parts(n, 500, DIM, 32)
    results: list[Waits] = []
    if options.beside:
        truth = exact_uncached(rows, queries, 10, "l2")
        wanted = options.engines.split(",")
        for name in ENGINES:
            if name in wanted or name.split()[0] in wanted:
                try:
                    results.append(beside(name, rows, queries, truth))
                except ImportError as error:
                    print(f"{name}: {error}")
        title, unit = f"A search beside an addition of {n - n // 10:,} x {DIM}", "second"
    else:
        held = 2 * n // 3 if options.drift else n - n // 11 if options.loaded else 0
        rows[held:] += 2 * rows.std() if options.drift else 0
        for quantization in QUANTIZATIONS:
            if options.quantization in (None, quantization):
                results.append(one_by_one(quantization, rows[held:], rows[:held], options.loaded))
        title, unit = f"{n - held:,} single additions of {DIM} dimensions", "rows"
    shown = [each for waits in results for each in (waits, waits.cpu) if each]
    Console(width=140).print(table_of(title, shown, unit))
    for waits in shown:
        print(waits.name, "longest:", ", ".join(f"{ms:.1f} ms at {at:,.1f} {unit}" for ms, at in waits.longest))
    if options.json:
        write_json(options.json, {"machine": machine(), "n": n, "waits": [asdict(waits) for waits in results]})


if __name__ == "__main__":
    main()
