"""Small indexes with slots in every state, as they are and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import edgevec
from edgevec import KeepVectors, Metric, Quantization

DIM = 12
Rows = npt.NDArray[np.float32]
KINDS: list[tuple[Quantization, KeepVectors]] = [
    ("none", True),
    *[("sq8", keep_vectors) for keep_vectors in (True, "float32", False)],
    *[("binary", keep_vectors) for keep_vectors in (True, "float32", False)],
]
each_kind = pytest.mark.parametrize(("quantization", "keep_vectors"), KINDS)
each_metric = pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
each_way = pytest.mark.parametrize("mmap", [False, pytest.param(True, marks=pytest.mark.mmap)])


def make_rows(rng: np.random.Generator, n: int) -> Rows:
    """Every sixth equals the one before it, so that there are duplicates."""
    rows = rng.standard_normal((n, DIM)).astype(np.float32)
    rows[5::6] = rows[4::6][: len(rows[5::6])]
    return rows


def make_index(
    rng: np.random.Generator,
    metric: Metric = "ip",
    quantization: Quantization = "sq8",
    keep_vectors: KeepVectors = True,
    seed: int = 5,
) -> tuple[edgevec.Index, dict[int, Rows]]:
    """An index with slots in every state and upper levels, and what it holds."""
    index = edgevec.Index(
        DIM, metric, quantization=quantization, M=4, ef_construction=40, seed=seed, keep_vectors=keep_vectors
    )
    index.ef = 77
    held: dict[int, Rows] = {}

    def add(first: int, n: int) -> None:
        rows = make_rows(rng, n)
        ids = np.arange(first, first + n) * 3 - 60
        index.add(rows, ids, threads=1)
        held.update(zip(ids.tolist(), rows, strict=True))

    def remove(step: int) -> None:
        ids = list(held)[::step]
        assert index.remove(ids) == len(ids)
        for id in ids:
            del held[id]

    add(0, 120)
    remove(3)
    add(115, 12)  # buries the dead, replaces five
    remove(11)
    return index, held


def saved(index: edgevec.Index, path: Path) -> bytes:
    index.save(path)
    return path.read_bytes()
