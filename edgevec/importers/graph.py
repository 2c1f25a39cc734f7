"""An HNSW graph of another library, and the index of edgevec's that has it: the same links between the same vectors.

Where both have links of the same kind, 2 M on the lowest level and M above, a graph need not be built again. edgevec
encodes the vectors, without looking for neighbors worth the name. Its file, as docs/file-format.md describes it, gets
the other links and is loaded with all the checks that a file from anywhere undergoes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import Index, Metric, Progress, Quantization
from ..errors import NotFiniteError, ZeroVectorError
from .crc32c import crc32c

__all__ = ["NONE", "Graph", "UnfitGraphError", "packed"]

NONE = 0xFFFFFFFF
"""No element: ends a list of links."""
_MOST_LEVELS = 30
_MOST_SHARED, _MOST_APART = 0.01, 0.05
"""Shares of the vectors that may equal another one, and that may lie where no search comes; more is no good graph."""
_NODE, _DUPLICATE, _DEAD_NODE, _STATE = 1, 2, 3, 7
_HEADER_BYTES, _TABLE, _SECTION, _LINE = 640, 128, struct.Struct("<16sQQII"), 64
_SECTIONS = ("blocks", "factors", "vectors", "ids", "state", "level", "upper_at", "upper", "chain", "centre")


class UnfitGraphError(Exception):
    """Why a graph cannot be taken over: what follows on "its graph"."""


@dataclass
class Graph:
    """Elements are numbered from 0 on, and links are such numbers.

    Attributes:
        M: links of an element on each level but the lowest, where there are 2 M
        ef_construction: what it was built with
        entry: where searches begin
        vectors: reads [elements, dim], also of removed elements, which are linked like others
        ids: [elements]; those of removed elements do not matter
        removed: [elements], bool
        levels: [elements], the highest level that each is on
        links: [elements, 2 M], of the lowest level, each list ended by NONE unless it is full
        upper: [sum of levels, M], likewise: of the first element the levels 1, 2, ..., then those of the next
    """

    M: int
    ef_construction: int
    entry: int
    vectors: Callable[[], NDArray[np.float32]]
    ids: NDArray[np.int64]
    removed: NDArray[np.bool_]
    levels: NDArray[np.uint8]
    links: NDArray[np.uint32]
    upper: NDArray[np.uint32]

    def check(self) -> None:
        """
        Raises:
            UnfitGraphError: edgevec has no such graphs, or a search would leave it
        """
        count = len(self.levels)
        if not 2 <= self.M <= 256:
            raise UnfitGraphError(f"has {self.M} links, where 2 to 256 are possible")
        if not 0 <= self.entry < count:
            raise UnfitGraphError("is damaged: it begins at no element")
        highest = int(self.levels.max())
        if highest > _MOST_LEVELS or self.levels[self.entry] != highest:
            raise UnfitGraphError("is damaged: it begins below its highest level")
        starts = np.cumsum(self.levels, dtype=np.int64) - self.levels
        owners = np.repeat(np.arange(count), self.levels)
        levels = np.arange(len(owners)) - starts[owners] + 1
        _check_links(self.links, np.arange(count), self.levels, np.zeros(count, np.int64))
        _check_links(self.upper, owners, self.levels, levels)

    def index(self, metric: Metric, quantization: Quantization, progress: Progress) -> Index:
        """
        Raises:
            UnfitGraphError: it does not fit these codes, or many elements would not be found
        """
        index = Index.from_bytes(self._put_into(self._encoded(metric, quantization, progress)))
        apart = index.check().unreachable
        if apart > _MOST_APART * len(self.levels):
            raise UnfitGraphError(f"does not lead to {apart:,} of {len(self.levels):,} elements")
        index.compact(progress=progress)  # neighbors beside each other; what is apart linked; what is removed left out
        return index

    def _encoded(self, metric: Metric, quantization: Quantization, progress: Progress) -> bytes:
        """The file of an index of the vectors, under their numbers as ids. What it was made of is given back."""
        vectors = self.vectors()
        with Index(vectors.shape[1], metric, quantization=quantization, M=self.M, ef_construction=1) as index:
            try:
                index.add(vectors, progress=progress)
            except (
                NotFiniteError,
                ZeroVectorError,
            ) as error:  # maybe of a removed one, which does not matter elsewhere
                raise UnfitGraphError(f"is of impossible vectors: {error}") from None
            if index.stats()["walk"] > 1:
                raise UnfitGraphError(f"is of vectors that {quantization} does not tell apart")
            del vectors
            return index.to_bytes()

    def _put_into(self, data: bytes) -> bytearray:
        """That file with other links and ids. Slots are elements: an empty index keeps the order of what it gets."""
        header, sections = _taken_apart(data)
        count, at, width = len(self.levels), _links_at(header), 8 * self.M
        if not np.array_equal(np.frombuffer(sections["ids"], "<i8"), np.arange(count)):
            raise UnfitGraphError("does not fit: the order is another")
        shared = int(np.count_nonzero(np.frombuffer(sections["state"], np.uint8) & _STATE == _DUPLICATE))
        if shared > _MOST_SHARED * count:
            raise UnfitGraphError(f"is of vectors of which {shared:,} of {count:,} are like another")
        blocks = np.frombuffer(sections["blocks"], np.uint8).reshape(count, -1).copy()
        blocks[:, at : at + width] = self.links.astype("<u4").view(np.uint8)
        sections |= {
            "blocks": blocks,
            "ids": self.ids.astype("<i8"),
            "state": np.where(self.removed, _DEAD_NODE, _NODE).astype(np.uint8),
            "level": self.levels,
            "upper_at": np.where(self.levels > 0, (np.cumsum(self.levels) - self.levels) * self.M, 0).astype("<u4"),
            "upper": self.upper.astype("<u4"),
        }
        sections.pop("chain", None)
        dead = int(np.count_nonzero(self.removed))
        next_id = min(int(self.ids[~self.removed].max(initial=-1)), 2**63 - 2) + 1
        struct.pack_into("<i", header, 44, min(max(self.ef_construction, 1), 65535))
        struct.pack_into("<qqqI", header, 72, count - dead, dead, next_id, self.entry)
        struct.pack_into("<q", header, 120, count)  # all links are new to it
        return _put_together(header, sections)


def packed(rows: NDArray[np.uint32], counts: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Lists of links of which so many count, the rest NONE."""
    return np.where(np.arange(rows.shape[1]) < counts[:, None], rows, np.uint32(NONE))


def _check_links(
    links: NDArray[np.uint32], owners: NDArray[np.int64], highest: NDArray[np.uint8], levels: NDArray[np.int64]
) -> None:
    count = len(highest)
    for start in range(0, len(links), 1 << 16):
        part = slice(start, start + (1 << 16))
        linked = links[part] != NONE
        to = np.where(linked, links[part], 0)
        if (to >= count).any():
            raise UnfitGraphError("is damaged: a link to no element")
        if (linked & (to == owners[part, None])).any():
            raise UnfitGraphError("is damaged: an element linked to itself")
        if (linked & (highest[to] < levels[part, None])).any():
            raise UnfitGraphError("is damaged: a link to an element that is not on its level")


def _filled(size: int) -> int:
    return -(-size // _LINE) * _LINE


def _links_at(header: bytearray) -> int:
    """Bytes of the code, or vector, that links come after."""
    dim: int
    quantization: int
    dim, _, quantization = struct.unpack_from("<3i", header, 28)
    if quantization == 0:
        return 4 * dim
    if quantization == 2 and dim > 32:
        return max(256, _filled(dim)) // 8
    return -(-dim // 4) * 4


def _taken_apart(data: bytes) -> tuple[bytearray, dict[str, Any]]:
    header, view = bytearray(data[:_HEADER_BYTES]), memoryview(data)
    (count,) = struct.unpack_from("<I", header, 24)
    sections: dict[str, Any] = {}
    for row in range(count):
        name, offset, size, _, _ = _SECTION.unpack_from(header, _TABLE + row * _SECTION.size)
        sections[name.rstrip(b"\0").decode()] = view[offset : offset + size]
    return header, sections


def _put_together(header: bytearray, sections: dict[str, Any]) -> bytearray:
    held = {name: memoryview(sections[name]).cast("B") for name in _SECTIONS if len(sections.get(name, b""))}
    size = _HEADER_BYTES + sum(_filled(len(content)) for content in held.values())
    data, offset, table = bytearray(size), _HEADER_BYTES, bytearray(len(_SECTIONS) * _SECTION.size)
    for row, (name, content) in enumerate(held.items()):
        data[offset : offset + len(content)] = content
        _SECTION.pack_into(table, row * _SECTION.size, name.encode(), offset, len(content), crc32c(content), 0)
        offset += _filled(len(content))
    header[_TABLE : _TABLE + len(table)] = table
    struct.pack_into("<QI", header, 16, size, len(held))
    struct.pack_into("<I", header, _HEADER_BYTES - 4, crc32c(header[:-4]))
    data[:_HEADER_BYTES] = header
    return data
