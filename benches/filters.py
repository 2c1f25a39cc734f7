"""What does a search under a filter cost? Filters that let through from half to a thousandth, beside others.

    python benches/filters.py                                            # the real set, its first 100,000
    EDGEVEC_SIMD=avx2 python benches/filters.py --percent 10,1 --rounds 3

Single calls on one thread, P50 and the best seen in microseconds, recall@10 beside. `random` filters have nothing
to do with the vectors. The others allow the rows nearest to one of them: `near` asks the queries nearest to it, `far`
those that are furthest. Engines with a search parameter take the smallest of a ladder that reaches 0.95, or the last.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")  # before NumPy is imported

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Ids, named
from rich.console import Console
from rich.table import Table
from timing import call_times_us, in_turns, installed, machine, write_json

K = 10
EFS = (16, 32, 64, 128, 256, 512)
One = Callable[[Floats], Ids]


@dataclass(frozen=True)
class Case:
    """Which rows are allowed, ascending, and what is asked."""

    name: str
    allowed: Ids
    queries: Floats


def cases(base: Floats, queries: Floats, percents: list[float], asked: int) -> Iterator[Case]:
    rng = np.random.default_rng(1)
    pivot = base[17]
    nearest, by_query = np.argsort(-(base @ pivot)), np.argsort(-(queries @ pivot))
    for percent in percents:
        m = max(K, int(len(base) * percent / 100))
        yield Case(f"random {percent:g}%", np.sort(rng.choice(len(base), m, replace=False)), queries[:asked])
        yield Case(f"near {percent:g}%", np.sort(nearest[:m]), queries[by_query[:asked]])
        yield Case(f"far {percent:g}%", np.sort(nearest[:m]), queries[by_query[-asked:]])


def best(scores: Floats) -> Ids:
    near = np.argpartition(-scores, min(K, len(scores)) - 1)[:K]
    return near[np.argsort(-scores[near])]


def found_share(one: One, truth: list[Ids], queries: Floats) -> float:
    shares = [np.isin(one(query), right).sum() / len(right) for query, right in zip(queries, truth, strict=True)]
    return float(np.mean(shares))


class Engines:
    """The indexes, built once; each method gives the search of one engine under a filter."""

    def __init__(self, base: Floats) -> None:
        self.base = base
        self.ours = import_module("edgevec").Index(base.shape[1], "cosine")
        self.ours.add(base)
        if installed("hnswlib"):
            self.hnsw = import_module("hnswlib").Index("ip", base.shape[1])
            self.hnsw.init_index(len(base), M=16, ef_construction=200)
            self.hnsw.add_items(base)
            self.hnsw.set_num_threads(1)
        if installed("faiss-cpu"):
            self.faiss = import_module("faiss")
            self.faiss.omp_set_num_threads(1)
            self.flat = self.faiss.IndexFlatIP(base.shape[1])
            self.flat.add(base)

    def of(self, case: Case) -> dict[str, One | list[One]]:
        """A list: one search for each step of a ladder."""
        allowed, copy = case.allowed, self.base[case.allowed]
        kept = import_module("edgevec").IdFilter(allowed)
        out: dict[str, One | list[One]] = {
            "edgevec IdFilter": lambda query: self.ours.search(query, K, filter=kept).ids,
            "edgevec array": lambda query: self.ours.search(query, K, filter=allowed).ids,
            "NumPy on a copy": lambda query: allowed[best(copy @ query)],
        }
        if hasattr(self, "flat"):
            bits = np.packbits(np.isin(np.arange(len(self.base)), allowed), bitorder="little")
            parameters = self.faiss.SearchParameters(sel=self.faiss.IDSelectorBitmap(bits))
            out["faiss Flat, bitmap"] = lambda query: self.flat.search(query[None], K, params=parameters)[1][0]
        if hasattr(self, "hnsw"):
            members = set(allowed.tolist())
            out["hnswlib, callable"] = [self.hnswlib(ef, members.__contains__) for ef in EFS]
        return out

    def hnswlib(self, ef: int, passes: Callable[[int], bool]) -> One:
        def one(query: Floats) -> Ids:
            self.hnsw.set_ef(ef)
            try:
                return np.asarray(self.hnsw.knn_query(query, K, filter=passes)[0][0], np.int64)
            except RuntimeError:  # it found fewer
                return np.empty(0, np.int64)

        return one


def measure(engines: Engines, case: Case, rounds: int) -> dict[str, Any]:
    copy = engines.base[case.allowed]
    truth = [case.allowed[best(copy @ query)] for query in case.queries]
    chosen: dict[str, tuple[One, float]] = {}
    for name, made in engines.of(case).items():
        for one in made if isinstance(made, list) else [made]:
            chosen[name] = one, found_share(one, truth, case.queries)
            if chosen[name][1] >= 0.95:
                break
    times = in_turns(
        {name: lambda one=one: call_times_us(one, case.queries) for name, (one, _) in chosen.items()}, rounds
    )
    return {
        name: {
            "recall": chosen[name][1],
            "p50_us": float(np.median(np.concatenate(calls))),
            "best_us": float(min(np.median(each) for each in calls)),
        }
        for name, calls in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--percent", default="50,10,1,0.1")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    workload = named("real", arguments.n, 1000, K)
    engines = Engines(workload.base)
    percents = [float(percent) for percent in arguments.percent.split(",")]
    results = {
        case.name: measure(engines, case, arguments.rounds)
        for case in cases(workload.base, workload.queries, percents, arguments.queries)
    }
    names = list(next(iter(results.values())))
    table = Table("filter", *names)
    for case_name, row in results.items():
        shown = [row[name] for name in names]
        table.add_row(case_name, *(f"{r['best_us']:,.0f} ({r['recall']:.3f})" for r in shown))
    Console(width=150).print(f"{workload.name}: median of the best round in us (recall)", table)
    if arguments.json:
        packages = ("numpy", "edgevec", "faiss-cpu", "hnswlib")
        write_json(arguments.json, {"machine": machine(packages), "data": workload.name, "results": results})


if __name__ == "__main__":
    main()
