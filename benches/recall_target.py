"""Is the recall that a search asks for the recall that new queries get? python benches/recall_target.py --data real

Rows of the set are kept out of the index and asked, and so are the set's own queries, half of which the index may
measure with. The truth is computed with NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from data import WORKLOADS, Floats, Ids, named, recall

import edgevec
from edgevec import Metric, Quantization
from edgevec.evaluation import exact_neighbors, machine

METRICS: tuple[Metric, ...] = ("cosine", "l2", "ip")
QUANTIZATIONS: tuple[Quantization, ...] = ("sq8", "binary", "none")
DEPTHS = (1, 10, 100)
QUERIES_PER_CALL = 100
"""Too few for the index to learn from."""
REQUESTED = (0.8, 0.9, 0.95, 0.99)
HELD_OUT = 2000


class Row(NamedTuple):
    metric: Metric
    quantization: Quantization
    k: int
    queries: str
    at_k: float
    """Recall at ef = k, below which no search stays."""
    measured: list[float]
    efs: list[int]
    seconds: float


class Task(NamedTuple):
    base: Floats
    held_out: Floats
    queries: Floats


def make_task(name: str, n: int | None, metric: Metric) -> Task:
    """Under l2 and ip with lengths that vary by a tenth, since at length 1 all metrics agree."""
    work = named(name, n)
    base, queries = work.base, work.queries
    if metric != "cosine":
        rng = np.random.default_rng(0)
        base, queries = (
            rows * np.exp(0.1 * rng.standard_normal((len(rows), 1))).astype(np.float32) for rows in (base, queries)
        )
    return Task(base[:-HELD_OUT], base[-HELD_OUT:], queries)


def ask(
    index: edgevec.Index, base: Floats, queries: Floats, truth: Ids, k: int, batch: int = QUERIES_PER_CALL
) -> tuple[float, list[float]]:
    """The recall at ef = k, and for each that is asked for."""

    def found(**how: float | int) -> float:
        parts = [index.search(queries[at : at + batch], k, **how).ids for at in range(0, len(queries), batch)]
        return recall(np.concatenate(parts), truth[:, :k], base, queries, index.metric)

    return found(ef=k), [found(recall=requested) for requested in REQUESTED]


def efs_for(index: edgevec.Index, query: Floats, k: int) -> list[int]:
    """The ef that a search takes; 0: it compares with everything."""
    context = edgevec.SearchContext(index)
    efs = []
    for requested in REQUESTED:
        index.search(query, k, recall=requested, context=context)
        efs.append(context.stats.ef)
    return efs


def measure(task: Task, metric: Metric, quantization: Quantization) -> Iterator[Row]:
    index = edgevec.Index(task.base.shape[1], metric, quantization=quantization)
    index.add(task.base)
    half = len(task.queries) // 2
    truths = [exact_neighbors(task.base, rows, max(DEPTHS), metric) for rows in (task.held_out, task.queries[half:])]
    for k in DEPTHS:
        own = task.queries[half:]
        for kind, rows, truth, examples, batch in (
            ("held out", task.held_out, truths[0], None, QUERIES_PER_CALL),
            ("its own", own, truths[1], None, QUERIES_PER_CALL),
            ("its own, by the other half", own, truths[1], task.queries[:half], QUERIES_PER_CALL),
            ("its own, in one batch", own, truths[1], None, len(own)),
        ):
            curve = index.calibrate(k, queries=examples)
            at_k, measured = ask(index, task.base, rows, truth, k, batch)
            yield Row(metric, quantization, k, kind, at_k, measured, efs_for(index, own[0], k), curve.seconds)


def show(row: Row) -> str:
    cells = [f"{recall:.3f} ({ef or 'all'})" for recall, ef in zip(row.measured, row.efs, strict=True)]
    shown = (row.metric, row.quantization, str(row.k), row.queries, *cells, f"{row.at_k:.3f}", f"{row.seconds:.1f}")
    return f"| {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=list(WORKLOADS), default="real")
    parser.add_argument("--n", type=int, help="vectors, of which 2,000 are held out; default: all")
    parser.add_argument("--metrics", default=",".join(METRICS))
    parser.add_argument("--quantizations", default=",".join(QUANTIZATIONS))
    given = parser.parse_args()
    print(f"edgevec {edgevec.__version__}, {machine()}, SIMD {edgevec.simd_info().active}; {given.data}, n={given.n}")
    print("got (ef) on average for a recall asked of\n")
    print(f"| metric | codes | k | queries | {' | '.join(map(str, REQUESTED))} | at ef=k | calibration s |")
    print(f"|{'---|' * (len(REQUESTED) + 6)}")
    for metric, quantization in product(given.metrics.split(","), given.quantizations.split(",")):
        for row in measure(make_task(given.data, given.n, metric), metric, quantization):
            print(show(row), flush=True)


if __name__ == "__main__":
    main()
