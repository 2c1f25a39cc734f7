"""What may be typed as a query, and the vector it stands for.

yellow fruit that monkeys like      a text, where the data set has an encoder
#17  or  like row 17                the vector of a row, counted from 0
id:17                               the vector stored with an id
[0.1, -0.2, ...]                    a vector
@queries.npy 3                      row 3 of a file of vectors; without a number, its first
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import edgevec
from edgevec import ParameterError

from .model import Data, Floats
from .protocols import Searcher

__all__ = ["Asked", "understand"]

_ROW = re.compile(r"(?:#|like\s+row\s+|row\s+)(\d+)$", re.IGNORECASE)
_ID = re.compile(r"id\s*:\s*(-?\d+)$", re.IGNORECASE)
_FILE = re.compile(r"@\s*(.+?)(?:\s+(\d+))?$")


class Asked(NamedTuple):
    """How a query was read, in words, and how to get its vector, which may take a while."""

    reading: str
    vector: Callable[[], Floats]


def understand(typed: str, data: Data, searcher: Searcher) -> Asked | None:
    """None for nothing. ParameterError when it cannot be a query of this data set."""
    typed = typed.strip()
    if not typed:
        return None
    if row := _ROW.match(typed):
        return _row(int(row[1]), data, searcher)
    if id := _ID.match(typed):
        number = int(id[1])
        return Asked(f"near the vector of id {number}", lambda: searcher.vector(number))
    if typed.startswith("["):
        vector = _vector(typed, searcher.dim)
        return Asked(f"near a vector of {searcher.dim} numbers", lambda: vector)
    if file := _FILE.match(typed):
        path, at = Path(file[1]).expanduser(), int(file[2] or 0)
        return Asked(f"near row {at} of {path.name}", lambda: _of_file(path, at, searcher.dim))
    if data.encode is None:
        raise ParameterError(
            f"{data.name} has no encoder for texts; ask with #17 (a row), id:17, [0.1, …] or @file.npy 3"
        )
    encode = data.encode
    return Asked("near this text", lambda: encode(typed))


def _row(row: int, data: Data, searcher: Searcher) -> Asked:
    if row >= len(data):
        raise ParameterError(f"there is no row {row}, only 0 to {len(data) - 1:,}")
    if data.vectors is None:
        id = int(data.ids[row])
        return Asked(f"near row {row}", lambda: searcher.vector(id))
    vector: Floats = data.vectors[row]
    return Asked(f"near row {row}", lambda: vector)


def _vector(typed: str, dim: int) -> Floats:
    try:
        vector = np.asarray(json.loads(typed), np.float32)
    except (ValueError, TypeError, RecursionError):
        raise ParameterError("not a vector yet: numbers with commas between them, in [ ]") from None
    if vector.shape != (dim,):
        raise ParameterError(f"a vector of {vector.size} numbers, but the index has {dim} dimensions")
    return vector


def _of_file(path: Path, row: int, dim: int) -> Floats:
    vectors = edgevec.read_vectors(path, limit=row + 1).vectors
    if row >= len(vectors):
        raise ParameterError(f"{path.name} has no row {row}, only 0 to {len(vectors) - 1:,}")
    if vectors.shape[1] != dim:
        raise ParameterError(f"{path.name} holds vectors of {vectors.shape[1]} dimensions, the index has {dim}")
    vector: Floats = vectors[row]
    return vector
