"""A graph of nearest neighbors of all rows: EdgevecTransformer beside pynndescent's transformer, and recall with both.

    python benches/knn_graph.py                       # the sample, 25,000 x 128
    python benches/knn_graph.py --data real --n 100000 --json graph.json

Both fit and transform the same rows, on all cores; processor time and time by the clock are medians over rounds in
turn. Recall is against NumPy, for rows drawn at random. pynndescent compiles at its first call, which is made before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import WORKLOADS, Floats, named
from pynndescent import PyNNDescentTransformer
from rich.console import Console
from rich.table import Table
from timing import in_turns, machine, spent, write_json

from edgevec import samples
from edgevec.adapters.sklearn import EdgevecTransformer

K, ASKED = 15, 300
Make = Callable[[], Any]

ENGINES: dict[str, Make] = {
    "edgevec M=12 ef_construction=40 ef=40": lambda: EdgevecTransformer(n_neighbors=K, M=12, ef_construction=40, ef=40),
    "edgevec ef_construction=60": lambda: EdgevecTransformer(n_neighbors=K, ef_construction=60),
    "edgevec, defaults": lambda: EdgevecTransformer(n_neighbors=K),
    "pynndescent n_trees=4 n_iters=4": lambda: PyNNDescentTransformer(n_neighbors=K, n_trees=4, n_iters=4),
    "pynndescent, defaults": lambda: PyNNDescentTransformer(n_neighbors=K),
    "pynndescent n_iters=20 pruning off": lambda: PyNNDescentTransformer(
        n_neighbors=K, n_iters=20, pruning_degree_multiplier=3.0, diversify_prob=0.0
    ),
}


def recall(matrix: Any, rows: Floats, asked: Any) -> float:
    """The share of the K true neighbors of the rows asked for that the graph holds; a row itself is not counted."""
    distances = (rows[asked] ** 2).sum(1)[:, None] + (rows**2).sum(1) - 2 * rows[asked] @ rows.T
    distances[np.arange(len(asked)), asked] = np.inf
    truth = np.argpartition(distances, K, axis=1)[:, :K]
    starts = matrix.indptr
    found = (set(matrix.indices[starts[row] : starts[row + 1]]) for row in asked)
    return float(np.mean([len(ids & set(near)) / K for ids, near in zip(found, truth, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["sample", *WORKLOADS], default="sample")
    parser.add_argument("--n", type=int, default=25_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    whole = samples.wordnet().vectors if arguments.data == "sample" else named(arguments.data, arguments.n, 1, 1).base
    rows = np.ascontiguousarray(whole[: arguments.n])
    asked = np.random.default_rng(0).choice(len(rows), ASKED, replace=False)
    PyNNDescentTransformer(n_neighbors=K).fit_transform(rows[:1000])
    rounds = in_turns(
        {name: lambda make=make: spent(lambda: make().fit_transform(rows)) for name, make in ENGINES.items()},
        arguments.rounds,
    )
    table, results = Table("transformer", "recall", "seconds", "CPU seconds"), {}
    for name, measured in rounds.items():
        share = recall(ENGINES[name]().fit_transform(rows).tocsr(), rows, asked)
        wall, cpu = (float(np.median([getattr(each, kind) for each in measured])) for kind in ("wall", "cpu"))
        results[name] = {"recall": share, "seconds": wall, "cpu_seconds": cpu}
        table.add_row(name, f"{share:.4f}", f"{wall:.2f}", f"{cpu:.2f}")
    about = machine(("numpy", "scikit-learn", "pynndescent"))
    Console().print(f"{len(rows):,} x {rows.shape[1]}, {K} neighbors of each row", table)
    if arguments.json:
        write_json(arguments.json, {"machine": about, "data": arguments.data, "results": results})


if __name__ == "__main__":
    main()
