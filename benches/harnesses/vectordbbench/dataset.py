"""Write a data set of VectorDBBench's own ("custom") kind, with the exact answers to each of its filters.

    python benches/harnesses/vectordbbench/dataset.py FOLDER --data lowrank768 --n 20000

Its public data sets are downloads of gigabytes; this one is made here, of any data that the other benchmarks use.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LABELS = (0.01, 0.1, 0.5)
"""Shares of the rows that have a label; VectorDBBench calls it label_1p, label_10p, label_50p."""
RATES = (0.5, 0.9, 0.99)
"""Shares of the rows that a condition on the id leaves out."""


def write(folder: Path, base: np.ndarray, queries: np.ndarray, k: int, *, seed: int = 0) -> None:
    """Vectors of unit length, queries, labels, and for each filter the k nearest by cosine: fewer, if fewer pass."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(base))
    labels = np.full(len(base), "label_none", object)
    order, start = np.random.default_rng(seed).permutation(len(base)), 0
    for share in LABELS:
        count = round(share * len(base))
        labels[order[start : start + count]] = f"label_{round(100 * share)}p"
        start += count
    _table(folder / "train.parquet", id=ids, emb=list(base))
    _table(folder / "test.parquet", id=np.arange(len(queries)), emb=list(queries))
    _table(folder / "scalar_labels.parquet", id=ids, labels=labels)

    allowed = {"neighbors.parquet": ids}
    for share in LABELS:
        name = f"label_{round(100 * share)}p"
        allowed[f"neighbors_labels_{name}.parquet"] = ids[labels == name]
    for rate in RATES:
        allowed[f"neighbors_int_{round(100 * rate)}p.parquet"] = ids[round(rate * len(base)) :]
    for name, rows in allowed.items():
        nearest = rows[_nearest(base[rows], queries, k)]
        _table(folder / name, id=np.arange(len(queries)), neighbors_id=list(nearest))


def _table(path: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), path)


def _nearest(base: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    found = [np.argsort(-(part @ base.T), axis=1, kind="stable")[:, :k] for part in np.array_split(queries, 16)]
    return np.concatenate(found)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from data import named

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="lowrank768")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, default=100)
    given = parser.parse_args()
    made = named(given.data, given.n, given.queries, given.k)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (made.base, made.queries)]
    write(given.folder, unit[0].astype(np.float32), unit[1].astype(np.float32), given.k)
    print(f"{given.folder}: {len(made.base):,} x {made.base.shape[1]}, cosine")


if __name__ == "__main__":
    main()
