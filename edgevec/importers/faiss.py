"""Index files of faiss that hold whole vectors: Flat and HNSWFlat, and IDMap around them.

As faiss/impl/index_write.cpp writes them: a header for each index, arrays after their lengths.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import Metric
from ..errors import DataFormatError
from .graph import Graph, UnfitGraphError, packed
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


class _Links(NamedTuple):
    by_level: NDArray[np.int32]
    """Links of an element on the levels below each one."""
    levels: NDArray[np.int32]
    """Of each element how many it is on."""
    offsets: NDArray[np.uint64]
    neighbors: NDArray[np.int32]
    entry: int
    ef_construction: int


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
        links: _Links | None = None
        kind = "HNSWFlat" if header.kind == _HNSW_FLAT else "Flat"
        if header.kind == _HNSW_FLAT:
            outer = header
            links = _read_links(path, file, size)
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

    found = Source(f"an index {kind} of faiss", metric, header.vectors, pieces, ids)
    if links is not None:
        of_graph = links
        found.graph = lambda: _graph(of_graph, vectors, ids)
    return found


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


def _read_links(path: Path, file: BinaryIO, size: int) -> _Links:
    """Probabilities of levels, neighbors by level, levels, offsets, neighbors; entry point and four parameters."""
    _skip(path, file, size, 8)
    by_level, levels, offsets, neighbors = (_read(path, file, size, type) for type in ("<i4", "<i4", "<u8", "<i4"))
    written = file.read(20)
    if len(written) < 20:
        raise damaged(path, "truncated")
    entry, _, ef_construction, _, _ = struct.unpack("<5i", written)
    return _Links(by_level, levels, offsets, neighbors, entry, ef_construction)


def _read(path: Path, file: BinaryIO, size: int, type: str) -> NDArray[Any]:
    start = _skip(path, file, size, np.dtype(type).itemsize)
    end = file.tell()
    file.seek(start)
    return np.frombuffer(file.read(end - start), type)


def _graph(links: _Links, vectors: NDArray[np.float32], ids: NDArray[np.int64]) -> Graph:
    """An element's links stand together: of the lowest level, whose number is by_level[1], then of those above it.

    A list that is not full ends with a negative number.
    """
    levels, count = links.levels - 1, len(vectors)
    if len(levels) != count or len(links.offsets) != count + 1 or len(links.by_level) < 2:
        raise UnfitGraphError("is damaged: of another size than its vectors")
    if levels.min() < 0 or levels.max() > len(links.by_level) - 2:
        raise UnfitGraphError("is damaged: an impossible level")
    lowest, above = int(links.by_level[1]), np.diff(links.by_level[1 : levels.max() + 2])
    if lowest < 2 or lowest % 2 or (above != lowest // 2).any():
        raise UnfitGraphError(f"has {lowest} links on the lowest level, which are not twice those of the others")
    if (np.diff(links.offsets.astype(np.int64)) != links.by_level[levels + 1]).any() or links.offsets[0] != 0:
        raise UnfitGraphError("is damaged: links in other places than the levels say")
    if links.offsets[-1] != len(links.neighbors):
        raise UnfitGraphError("is damaged: other than the levels add up to")
    M, starts = lowest // 2, links.offsets[:-1].astype(np.int64)
    owners = np.repeat(np.arange(count), levels)
    at_level = np.arange(len(owners)) - (np.cumsum(levels) - levels)[owners]
    upper = starts[owners] + lowest + M * at_level
    return Graph(
        M=M,
        ef_construction=links.ef_construction,
        entry=links.entry,
        vectors=lambda: vectors,
        ids=ids,
        removed=np.zeros(count, bool),
        levels=levels.astype(np.uint8),
        links=_lists(links.neighbors, starts, lowest),
        upper=_lists(links.neighbors, upper, M),
    )


def _lists(neighbors: NDArray[np.int32], starts: NDArray[np.int64], width: int) -> NDArray[np.uint32]:
    rows = neighbors[starts[:, None] + np.arange(width)]
    counts = np.where((rows < 0).any(axis=1), (rows < 0).argmax(axis=1), width)
    return packed(rows.astype(np.uint32), counts)
