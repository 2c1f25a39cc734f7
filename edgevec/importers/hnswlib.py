"""Index files of hnswlib (HierarchicalNSW::saveIndex): a header of 96 bytes, then a block of one size for each element.

A block holds the links of level 0, then the vector, then the label. The links of higher levels follow, of each element
after their size. Of links there is the number in two bytes, a byte that marks a deleted element, an empty one, and room
for as many as there may be. Neither the metric nor the type of the vectors is told.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataFormatError
from .graph import Graph, UnfitGraphError, packed
from .source import PIECE, Piece, Source, damaged, signed

__all__ = ["is_index", "opened"]

_HEADER = struct.Struct("<6QiI3QdQ")
_DELETED_AT, _DELETED = 2, 1


class _Header(NamedTuple):
    offset_level0: int
    max_elements: int
    elements: int
    block: int
    label_offset: int
    vector_offset: int
    max_level: int
    entry: int
    max_M: int
    max_M0: int
    M: int
    mult: float
    ef_construction: int


def _header(head: bytes) -> _Header:
    return _Header(*_HEADER.unpack_from(head))


def is_index(head: bytes) -> bool:
    """Whether the sizes in what may be a header agree with each other."""
    if len(head) < _HEADER.size:
        return False
    header = _header(head)
    return (
        header.offset_level0 == 0
        and header.elements <= header.max_elements
        and header.block == header.label_offset + 8
        and header.vector_offset == 4 * header.max_M0 + 4
        and header.vector_offset < header.label_offset
        and 0 < header.M == header.max_M
    )


def _upper_levels(path: Path, start: int, count: int) -> tuple[bytes, NDArray[np.int64]]:
    """What stands after all blocks: of each element its size, which is mostly zero, and links; and these sizes."""
    with path.open("rb") as file:
        file.seek(start)
        rest = file.read()
    place, sizes = 0, np.zeros(count, np.int64)
    for element in range(count):
        if place + 4 > len(rest):
            raise damaged(path, "truncated in the links of higher levels")
        size = int.from_bytes(rest[place : place + 4], "little")
        if size:
            sizes[element] = size
        place += 4 + size
    if place != len(rest):
        raise damaged(path, "the links of higher levels do not end with the file")
    return rest, sizes


def _graph(header: _Header, blocks: NDArray[np.uint8], rest: bytes, sizes: NDArray[np.int64]) -> Graph:
    width = 4 + 4 * header.M
    if header.max_M0 != 2 * header.M:
        raise UnfitGraphError(f"has {header.max_M0} links on the lowest level, which are not twice {header.M}")
    if (sizes % width).any() or sizes.max() > 255 * width:
        raise UnfitGraphError("is damaged: links of higher levels of another size")
    above = np.flatnonzero(sizes)
    places = 4 * (above + 1) + np.cumsum(sizes[above]) - sizes[above]
    upper = b"".join(rest[place : place + sizes[at]] for place, at in zip(places, above, strict=True))
    labels = blocks[:, header.label_offset :].copy().view("<u8")[:, 0]
    return Graph(
        M=header.M,
        ef_construction=header.ef_construction,
        entry=header.entry,
        vectors=lambda: blocks[:, header.vector_offset : header.label_offset].copy().view("<f4"),
        ids=labels.astype(np.int64),
        removed=(blocks[:, _DELETED_AT] & _DELETED).astype(bool),
        levels=(sizes // width).astype(np.uint8),
        links=_links(blocks[:, : 4 + 8 * header.M]),
        upper=_links(np.frombuffer(upper, np.uint8).reshape(-1, width)),
    )


def _links(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    words = rows.copy().view("<u4")
    counts = words[:, 0] & 0xFFFF
    if (counts >= words.shape[1]).any():
        raise UnfitGraphError("is damaged: more links than there is room for")
    return packed(words[:, 1:], counts)


def opened(path: Path, size: int) -> Source:
    with path.open("rb") as file:
        header = _header(file.read(_HEADER.size))
    if size < _HEADER.size + header.elements * header.block:
        raise damaged(path, f"truncated: {header.elements:,} elements are declared")
    rest, sizes = _upper_levels(path, _HEADER.size + header.elements * header.block, header.elements)
    width = header.label_offset - header.vector_offset
    if width % 4:
        raise DataFormatError(f"{path}: vectors of {width} bytes, which are not float32")
    if not header.elements:
        return Source("an index of hnswlib", None, 0, lambda: iter(()), np.empty(0, np.int64))
    shape = header.elements, header.block
    blocks: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", offset=_HEADER.size, shape=shape)
    live = np.flatnonzero(~(blocks[:, _DELETED_AT] & _DELETED).astype(bool))
    labels = blocks[:, header.label_offset :][live].copy().view("<u8")[:, 0]
    ids = signed(path, labels)

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(live), PIECE):
            rows = live[start : start + PIECE]
            vectors = blocks[rows][:, header.vector_offset : header.label_offset].copy().view("<f4")
            yield Piece(ids[start : start + PIECE].tolist(), vectors)

    source = Source("an index of hnswlib", None, len(live), pieces, ids, lambda: _graph(header, blocks, rest, sizes))
    if len(live) < header.elements:
        source.notes.append(f"{header.elements - len(live):,} elements that are marked as deleted are left out")
    return source
