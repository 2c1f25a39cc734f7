"""How fast is exact search? Every vector compared, in batches and one query at a time, beside others; one thread.

    python benches/exact.py                                            # the real set, its first 100,000
    EDGEVEC_SIMD=avx2 OPENBLAS_CORETYPE=Haswell python benches/exact.py
    python benches/exact.py --data d128 --engines edgevec,numpy --json exact.json

Both in processor time, since a scan waits for nobody: queries a second are the median of the rounds, single calls the
median of the best round and the best of all. Recall is against NumPy's order in float64 (data.py). The graph is not
used, so a small one is built.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", RAYON_NUM_THREADS="1")  # before NumPy is imported

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from data import WORKLOADS, Floats, Ids, Workload, named
from rich.console import Console
from rich.table import Table
from timing import in_turns, installed, machine, spent, write_json

K = 10
Search = Callable[[Floats], Any]


def edgevec(base: Floats, **parameters: Any) -> Search:
    index = import_module("edgevec").Index(base.shape[1], "cosine", M=4, ef_construction=10, **parameters)
    index.add(base)
    return lambda queries: index.search(queries, K, exact=True, threads=1).ids


def in_blocks(search: Search, block: int = 64) -> Search:
    """Batches in blocks, whose products stay in the cache."""
    return lambda queries: np.vstack([search(queries[at : at + block]) for at in range(0, len(queries), block)])


def numpy_blocks(base: Floats) -> Search:
    def top(queries: Floats) -> Ids:
        distances = -(queries @ base.T)
        near = np.argpartition(distances, K - 1, axis=1)[:, :K]
        return np.take_along_axis(near, np.argsort(np.take_along_axis(distances, near, axis=1), axis=1), axis=1)

    return in_blocks(top)


def faiss_flat(base: Floats) -> Search:
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    return lambda queries: index.search(queries, K)[1]


def scann(base: Floats, quantize: bool) -> Search:
    builder = import_module("scann").scann_ops_pybind.builder(base, K, "dot_product")
    builder = builder.score_brute_force(quantize=quantize)
    index = (builder.reorder(3 * K) if quantize else builder).build()
    return lambda queries: index.search_batched(queries)[0]


def turbovec(base: Floats) -> Search:
    index = import_module("turbovec").TurboQuantIndex(dim=base.shape[1], bit_width=4)
    index.calibrate(base[:2048])
    index.add(base)
    index.prepare()

    def top(queries: Floats) -> Ids:
        ids = np.asarray(index.search(queries, k=8 * K)[1])
        scores = np.matmul(base[ids], queries[:, :, None])[:, :, 0]
        return np.take_along_axis(ids, np.argsort(-scores, axis=1)[:, :K], axis=1)

    return in_blocks(top)


ENGINES: dict[str, tuple[str, Callable[[Floats], Search]]] = {
    "edgevec sq8": ("edgevec", edgevec),
    "edgevec none": ("edgevec", lambda base: edgevec(base, quantization="none")),
    "edgevec binary": ("edgevec", lambda base: edgevec(base, quantization="binary")),
    "numpy, blocks of 64": ("numpy", numpy_blocks),
    "faiss Flat": ("faiss-cpu", faiss_flat),
    "scann brute force": ("scann", lambda base: scann(base, quantize=False)),
    "scann int8 + reorder": ("scann", lambda base: scann(base, quantize=True)),
    "turbovec 4 bits + reorder": ("turbovec", turbovec),
}
"""By name: the package, and what makes a search of it."""


def measure(search: Search, workload: Workload, batch: int, singles: int) -> dict[str, float]:
    """One round, in processor time: queries per second in a batch, microseconds of single calls."""
    took = spent(lambda: search(workload.queries[:batch]))
    calls = [1e6 * spent(lambda query=query: search(query)).cpu for query in workload.queries[:singles, None]]
    return {"qps": batch / took.cpu, "median_us": float(np.median(calls)), "best_us": min(calls)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=WORKLOADS, default="real")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--singles", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default="", help="parts of names, with commas between them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.engines.split(",")
    workload = named(arguments.data, arguments.n, max(arguments.batch, arguments.singles), K)
    searches = {
        name: make(workload.base)
        for name, (package, make) in ENGINES.items()
        if installed(package) and any(part in name for part in wanted)
    }
    rounds = in_turns(
        {
            name: lambda search=search: measure(search, workload, arguments.batch, arguments.singles)
            for name, search in searches.items()
        },
        arguments.rounds,
    )
    results = {
        name: {
            "recall": workload.recall(np.asarray(searches[name](workload.queries[: arguments.batch]), np.int64)),
            "qps": float(np.median([each["qps"] for each in measured])),
            "median_us": min(each["median_us"] for each in measured),
            "best_us": min(each["best_us"] for each in measured),
        }
        for name, measured in rounds.items()
    }
    table = Table("engine", "recall", f"queries/CPU s, batch of {arguments.batch}", "single, us", "best, us")
    for name, row in results.items():
        speeds = (f"{row[speed]:,.0f}" for speed in ("qps", "median_us", "best_us"))
        table.add_row(name, f"{row['recall']:.4f}", *speeds)
    Console().print(workload.name, table)
    if arguments.json:
        packages = sorted({package for package, _ in ENGINES.values()})
        write_json(arguments.json, {"machine": machine(packages), "data": workload.name, "results": results})


if __name__ == "__main__":
    main()
