"""Graphs of hnswlib and faiss that `edgevec convert` takes over, beside ones that it builds of the same vectors.

    python benches/convert.py                         # the real set, 100,000 x 384
    python benches/convert.py --data d128 --n 50000 --json convert.json

Each library builds and saves an index under the inner product. Then the command converts the file, by turns with
`--graph keep` and `--graph rebuild`: processor time and time by the clock, with the start of Python, are medians.
Recall@10 is at ef=64, by NumPy; a query's time is processor time of single searches, by turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
from data import WORKLOADS, named
from rich.console import Console
from rich.table import Table
from timing import in_turns, machine, write_json

from edgevec import Index

EF, K = 64, 10
Search = Callable[[Any], Any]


def of_hnswlib(base: Any, path: Path, M: int, ef_construction: int) -> Search:
    index = hnswlib.Index("ip", base.shape[1])
    index.init_index(len(base), M=M, ef_construction=ef_construction)
    index.add_items(base)
    index.save_index(str(path))
    index.set_ef(EF)
    index.set_num_threads(1)
    return lambda query: index.knn_query(query, K)[0][0]


def of_faiss(base: Any, path: Path, M: int, ef_construction: int) -> Search:
    index = faiss.IndexHNSWFlat(base.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = ef_construction
    index.add(base)
    faiss.write_index(index, str(path))
    index.hnsw.efSearch = EF
    return lambda query: index.search(query[None], K)[1][0]


BUILDS = {
    "hnswlib, M=16, ef_construction=200": (of_hnswlib, 16, 200),
    "faiss, M=16, ef_construction=40": (of_faiss, 16, 40),
    "faiss, M=32, ef_construction=200": (of_faiss, 32, 200),
}


def convert(source: Path, target: Path, quantization: str, graph: str) -> tuple[float, float]:
    """Seconds of processor time, and by the clock."""
    command = [sys.executable, "-m", "edgevec", "convert", source, "-o", target, "--force", "--metric", "ip"]
    before, start = os.times(), time.perf_counter()
    subprocess.run([*command, "-q", quantization, "--graph", graph], check=True, cwd=target.parent, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, time.perf_counter() - start


def microseconds(search: Search, queries: Any) -> float:
    start = time.process_time()
    for query in queries:
        search(query)
    return (time.process_time() - start) / len(queries) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(WORKLOADS), default="real")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="builds whose name has this in it: hnswlib, faiss")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    work = named(given.data, given.n, 1000, K)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    measured: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for built, (build, M, ef_construction) in BUILDS.items():
            if given.only not in built:
                continue
            source = Path(name) / "source"
            theirs = build(work.base, source, M, ef_construction)
            for quantization in ("sq8", "none"):
                targets = {graph: Path(name) / f"{graph}.ev" for graph in ("keep", "rebuild")}
                spent = in_turns(
                    {
                        graph: lambda graph=graph, quantization=quantization, target=target, source=source: convert(
                            source, target, quantization, graph
                        )
                        for graph, target in targets.items()
                    },
                    given.rounds,
                )
                searches: dict[str, Search] = {"there": theirs}
                for graph, target in targets.items():
                    index = Index.load(target)
                    searches[graph] = lambda query, index=index: index.search(query, K, ef=EF).ids
                times = in_turns(
                    {
                        each: lambda search=search: microseconds(search, work.queries)
                        for each, search in searches.items()
                    },
                    given.rounds,
                )
                for each, search in searches.items():
                    found = np.array([search(query) for query in work.queries])
                    cpu, clock = np.median(spent[each], axis=0) if each in spent else (None, None)
                    measured.append(
                        {
                            "built": built,
                            "quantization": "float32" if each == "there" else quantization,
                            "graph": each,
                            "cpu_s": cpu,
                            "clock_s": clock,
                            "recall": work.recall(found),
                            "query_us": float(np.median(times[each])),
                        }
                    )
    table = Table(title=f"{work.name}, recall@{K} at ef={EF}")
    for column in ("built by", "vectors", "graph", "convert: CPU s", "clock s", "recall", "query, CPU us"):
        table.add_column(column)
    for row in measured:
        seconds = ["" if row[each] is None else f"{row[each]:.1f}" for each in ("cpu_s", "clock_s")]
        shown = row["built"], row["quantization"], row["graph"], *seconds, f"{row['recall']:.4f}"
        table.add_row(*shown, f"{row['query_us']:.0f}")
    Console(width=140).print(table)
    if given.json:
        write_json(given.json, {"machine": machine(("numpy", "hnswlib", "faiss-cpu")), "measured": measured})


if __name__ == "__main__":
    main()
