"""Index files of faiss that hold whole vectors: Flat and HNSWFlat, and IDMap around them.

As faiss/impl/index_write.cpp writes them: a header for each index, arrays after their lengths.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import Metric
from ..errors import DataFormatError
from .source import PIECE, Piece, Source, damaged

__all__ = ["is_index", "opened"]

_FLAT = (b"IxF2", b"IxFI", b"IxFl")
_MAPS = (b"IxMp", b"IxM2")
_HNSW_FLAT = b"IHNf"
_CODED = {
    b"IHNp": "HNSWPQ", b"IHNs": "HNSWSQ", b"IHN2": "HNSW2Level", b"IHc2": "HNSWFlatPanorama", b"IwFl": "IVFFlat",
    b"IwPQ": "IVFPQ", b"IwSq": "IVFSQ", b"IvSQ": "IVFSQ", b"IxSQ": "SQ", b"IxPq": "PQ", b"IxPT": "PreTransform",
    b"IxHe": "LSH", b"IBxF": "BinaryFlat", b"IxRF": "RefineFlat", b"INSf": "NSGFlat",
}  # fmt: skip
"""Kinds whose vectors are coded, transformed or laid out otherwise, by their first bytes."""
_METRICS: dict[int, Metric] = {0: "ip", 1: "l2"}


class _Header(NamedTuple):
    kind: bytes
    dim: int
    vectors: int
    metric: int


def is_index(head: bytes) -> bool:
    return head[:4] in (*_FLAT, *_MAPS, _HNSW_FLAT, *_CODED)


def opened(path: Path) -> Source:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header, mapped = _read_header(path, file), False
        if header.kind in _MAPS:
            mapped, outer = True, header
            header = _read_header(path, file)
            if (header.dim, header.vectors) != (outer.dim, outer.vectors):
                raise damaged(path, "an IDMap of another size than its index")
        kind = "HNSWFlat" if header.kind == _HNSW_FLAT else "Flat"
        if header.kind == _HNSW_FLAT:
            outer = header
            _skip_graph(path, file, size)
            header = _read_header(path, file)
            if (header.dim, header.vectors) != (outer.dim, outer.vectors):
                raise damaged(path, "a graph of another size than its vectors")
        if header.kind not in _FLAT:
            raise DataFormatError(f"{path}: a faiss index {_name(header.kind)}, whose vectors are not kept whole")
        start = _skip(path, file, size, 4, header.dim * header.vectors)
        ids = np.arange(header.vectors, dtype=np.int64)
        if mapped:
            place = _skip(path, file, size, 8, header.vectors)
            file.seek(place)
            ids = np.frombuffer(file.read(8 * header.vectors), "<i8").astype(np.int64)
    metric = _METRICS.get(header.metric)
    if metric is None:
        raise DataFormatError(
            f"{path}: its metric, number {header.metric} of faiss, is neither L2 nor the inner product"
        )
    if not header.vectors:
        return Source(f"an index {kind} of faiss", metric, 0, lambda: iter(()), ids)
    vectors: NDArray[np.float32] = np.memmap(path, "<f4", "r", offset=start, shape=(header.vectors, header.dim))

    def pieces() -> Iterator[Piece]:
        for first in range(0, header.vectors, PIECE):
            yield Piece(ids[first : first + PIECE].tolist(), np.array(vectors[first : first + PIECE]))

    return Source(f"an index {kind} of faiss", metric, header.vectors, pieces, ids)


def _name(kind: bytes) -> str:
    return _CODED.get(kind) or repr(kind.decode("latin-1"))


def _read_header(path: Path, file: BinaryIO) -> _Header:
    kind = file.read(4)
    if kind in _CODED or (kind not in (*_FLAT, *_MAPS, _HNSW_FLAT) and len(kind) == 4):
        raise DataFormatError(f"{path}: a faiss index {_name(kind)}, whose vectors are not kept whole")
    dim, count, _, _, _, metric = struct.unpack("<iqqq?i", file.read(33))
    if metric > 1:
        file.read(4)  # its argument
    if not (1 <= dim <= 65535 and count >= 0):
        raise damaged(path, f"{count} vectors of {dim} dimensions")
    return _Header(kind, dim, count, metric)


def _skip(path: Path, file: BinaryIO, size: int, width: int, expected: int | None = None) -> int:
    """Pass over an array, whose length stands before it; where its first element is."""
    (length,) = struct.unpack("<Q", file.read(8))
    if expected is not None and length != expected:
        raise damaged(path, f"an array of {length:,} elements, where {expected:,} belong")
    start = file.tell()
    if start + length * width > size:
        raise damaged(path, "truncated")
    file.seek(start + length * width)
    return start


def _skip_graph(path: Path, file: BinaryIO, size: int) -> None:
    """Probabilities of levels, neighbors by level, levels, offsets, neighbors; entry point and four parameters."""
    for width in (8, 4, 4, 8, 4):
        _skip(path, file, size, width)
    if len(file.read(20)) < 20:
        raise damaged(path, "truncated")
