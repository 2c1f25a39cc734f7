"""What formats of numbered rows have in common: a matrix of vectors and columns beside it, read whole or in pieces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Metric
from .dataset import Dataset
from .request import PIECE_BYTES, Request

__all__ = ["Cells", "Matrix", "Open", "pieces", "whole"]

Cells = Callable[[int, int], "Sequence[Any] | NDArray[Any]"]
"""cells(start, stop) reads the rows [start, stop) of a column; it is asked in the order of the file."""
TestSet = tuple[NDArray[np.float32], "NDArray[np.int64] | None"]
"""Queries, and for each the nearest rows."""


@dataclass(frozen=True)
class Matrix:
    """An open file. All that can be checked without reading its rows is checked."""

    rows: int
    dim: int
    vectors: Callable[[int, int], NDArray[Any]]
    """As Cells: [stop - start, dim]."""
    columns: Mapping[str, Cells] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    metric: Metric | None = None
    tests: Callable[[], TestSet] | None = None


Open = Callable[[Request], AbstractContextManager[Matrix]]


def whole(request: Request, open_file: Open) -> Dataset:
    """The rows that are asked for, and the test set."""
    with open_file(request) as matrix:
        rows = request.rows(matrix.rows)
        vectors = _vectors(request, matrix, 0, rows)
        queries, neighbors = matrix.tests() if matrix.tests else (None, None)
        return _dataset(request, matrix, vectors, 0, queries=queries, neighbors=neighbors)


def pieces(request: Request, size: int, open_file: Open) -> Iterator[Dataset]:
    """As whole(), in pieces of up to `size` rows, without the test set."""
    with open_file(request) as matrix:
        rows = request.rows(matrix.rows)
        for start in range(0, rows, size):
            yield _dataset(request, matrix, _vectors(request, matrix, start, min(start + size, rows)), start)


def _vectors(request: Request, matrix: Matrix, start: int, stop: int) -> NDArray[np.float32]:
    if (claimed := 4 * (stop - start) * matrix.dim) > sys.maxsize:  # NumPy would raise ValueError
        raise MemoryError(f"vectors of {claimed:,} bytes exceed the address space")
    out = np.empty((stop - start, matrix.dim), np.float32)
    step = max(1, PIECE_BYTES // (4 * matrix.dim))
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinity, which the index refuses
            out[begin - start : end - start] = matrix.vectors(begin, end)
        request.report(end, request.rows(matrix.rows))
    return out


def _dataset(
    request: Request, matrix: Matrix, vectors: NDArray[np.float32], start: int, **test_set: NDArray[Any] | None
) -> Dataset:
    columns = {name: cells(start, start + len(vectors)) for name, cells in matrix.columns.items()}
    return request.dataset(vectors, columns, metric=matrix.metric, unread=matrix.unread, **test_set)
