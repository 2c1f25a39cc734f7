"""Index files of usearch, read by the library. Vectors lie before the header: a matrix, after its two sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import Metric
from ..errors import DataFormatError, EdgevecError
from .source import PIECE, Piece, Source, damaged, library, signed

__all__ = ["is_index", "opened"]

_MAGIC = b"usearch"
_METRICS: dict[str, Metric] = {"Cos": "cosine", "IP": "ip", "L2sq": "l2"}
_HEADERS = 64 + 40
"""Bytes of the header that tells what is in it, and of that of the graph."""


def _header_at(head: bytes) -> int:
    """Where the header of a file with a matrix is."""
    rows, width = struct.unpack_from("<II", head)
    return 8 + int(rows) * int(width)


def is_index(path: Path, head: bytes, size: int) -> bool:
    if head.startswith(_MAGIC):
        return True
    if len(head) < 8:
        return False
    place = _header_at(head)
    if not 8 < place < size:
        return False
    with path.open("rb") as file:
        file.seek(place)
        return file.read(len(_MAGIC)) == _MAGIC


def opened(path: Path, size: int) -> Source:
    with path.open("rb") as file:
        head = file.read(8)
        if head.startswith(_MAGIC):
            raise DataFormatError(f"{path}: an index of usearch without its vectors")
        place = _header_at(head)
        file.seek(place)
        header = file.read(64)
    rows, _ = struct.unpack("<II", head)
    if place + _HEADERS + rows * (2 + 8 + 2 + 4) > size:  # a level, and a node of a key, a level and no links
        raise damaged(path, "truncated")
    try:
        return _opened(path, library(path, "usearch.index", "usearch"), bool(header[41]))
    except EdgevecError:
        raise
    except Exception as error:  # of whatever class the library has
        raise damaged(path, str(error)) from error


def _opened(path: Path, usearch: Any, multi: bool) -> Source:
    if multi:
        raise DataFormatError(f"{path}: an index of usearch with several vectors for a key")
    found = usearch.Index.metadata(str(path))
    if found is None:
        raise damaged(path, "its header cannot be read")
    metric, scalar = found["kind_metric"].name, found["kind_scalar"].name
    if metric not in _METRICS or scalar in ("B1", "Unknown"):
        raise DataFormatError(f"{path}: an index of usearch of metric {metric} over {scalar}, which edgevec has not")
    index = usearch.Index.restore(str(path), view=True)
    if index is None:
        raise damaged(path, "usearch cannot read it")
    keys = np.array(index.keys, np.uint64)
    ids = signed(path, keys)

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(keys), PIECE):
            some = keys[start : start + PIECE]
            yield Piece(ids[start : start + PIECE].tolist(), np.asarray(index.get(some, np.float32), np.float32))

    source = Source("an index of usearch", _METRICS[metric], len(keys), pieces, ids)
    if scalar != "F32":
        source.notes.append(f"its vectors are those of its type, {scalar}")
    return source
