"""How much recall codes of a given length can give at all, whatever the index: is a memory target within reach?

    python benches/rate_distortion.py --data real

Vectors are turned onto their principal axes and every axis gets as many bits as pay most (reverse water-filling), which
is the best that coding coordinates one by one can do for such data; each is rounded to the levels that Lloyd and Max
found for a normal distribution. Then every vector is compared, with the true length kept beside its code and the query
not rounded at all. A graph walked on such codes can only find less.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from data import WORKLOADS, Floats, Workload, named
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

MOST_BITS = 8
LENGTHS = (48, 64, 80, 96, 112, 128, 160, 192, 256)


def levels(bits: int) -> NDArray[np.float64]:
    """The 2^bits levels of least mean squared error for a standard normal number, by Lloyd's iteration on a sample."""
    sample = np.sort(np.random.default_rng(0).standard_normal(200_000))
    found = np.quantile(sample, (np.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(60):
        cell = np.searchsorted((found[1:] + found[:-1]) / 2, sample)
        found = np.bincount(cell, sample, len(found)) / np.maximum(np.bincount(cell, minlength=len(found)), 1)
    return found


def error_of(book: NDArray[np.float64]) -> float:
    """The mean squared error of rounding a standard normal number to these levels."""
    sample = np.random.default_rng(1).standard_normal(200_000)
    return float(np.mean((sample - rounded(sample, book)) ** 2))


def rounded(values: NDArray[np.floating], book: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value as the level nearest to it."""
    nearest: NDArray[np.float64] = book[np.searchsorted((book[1:] + book[:-1]) / 2, values)]
    return nearest


def share_out(variances: NDArray[np.float64], bits: int, errors: Sequence[float]) -> NDArray[np.int64]:
    """Bits for each axis: one at a time to where it takes away most of the squared error."""
    shares = np.zeros(len(variances), dtype=np.int64)
    gains = np.append(-np.diff(errors), -1.0)  # of the next bit; none beyond the last
    for _ in range(bits):
        shares[np.argmax(variances * gains[shares])] += 1
    return shares


class Axes:
    """A workload on its principal axes."""

    def __init__(self, workload: Workload) -> None:
        center = workload.base.mean(axis=0)
        base = workload.base - center
        variances, turn = np.linalg.eigh((base.T @ base).astype(np.float64) / len(base))
        self.variances = np.maximum(variances, 0.0)
        self.base: Floats = base @ turn.astype(np.float32)
        self.queries: Floats = (workload.queries - center) @ turn.astype(np.float32)
        self.workload = workload

    def recall_of(self, shares: NDArray[np.int64], books: Sequence[NDArray[np.float64]]) -> float:
        """recall@k of comparing all codes with these bits an axis."""
        decoded = np.zeros_like(self.base)
        for axis in np.flatnonzero(shares):
            scale = np.sqrt(self.variances[axis])
            decoded[:, axis] = scale * rounded(self.base[:, axis] / scale, books[shares[axis]])
        distances = (self.base**2).sum(axis=1) - 2 * self.queries @ decoded.T
        k = self.workload.truth.shape[1]
        return self.workload.recall(np.argpartition(distances, k, axis=1)[:, :k])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=WORKLOADS, default="real")
    parser.add_argument("--n", type=int)
    parser.add_argument("--queries", type=int, default=300)
    args = parser.parse_args(arguments)
    workload = named(args.data, args.n, args.queries)
    axes = Axes(workload)
    books = [levels(bits) for bits in range(MOST_BITS + 1)]
    errors = [error_of(book) for book in books]
    table = Table(title=f"{workload.name}, k={workload.truth.shape[1]}: all codes compared")
    for head in ("code bytes", "axes with bits", "recall"):
        table.add_column(head, justify="right")
    for length in LENGTHS:
        shares = share_out(axes.variances, min(8 * length, MOST_BITS * len(axes.variances)), errors)
        table.add_row(str(length), str(np.count_nonzero(shares)), f"{axes.recall_of(shares, books):.4f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
