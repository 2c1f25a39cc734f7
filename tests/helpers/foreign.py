"""Files of other libraries, made without them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_faiss_flat", "write_faiss_hnsw", "write_hnswlib"]


def write_faiss_flat(path: Path, rows: Any, metric: int = 1, ids: Any = None) -> None:
    """An IndexFlat, with ids in an IndexIDMap; metric: 0 inner product, 1 L2."""
    rows = np.ascontiguousarray(rows, "<f4")
    count, dim = rows.shape
    head = struct.pack("<iqqq?i", dim, count, 1 << 20, 1 << 20, True, metric)
    written = (b"IxF2" if metric else b"IxFI") + head + struct.pack("<Q", count * dim) + rows.tobytes()
    if ids is not None:
        written = b"IxMp" + head + written + struct.pack("<Q", count) + np.asarray(ids, "<i8").tobytes()
    path.write_bytes(written)


def write_hnswlib(path: Path, rows: Any, ids: Any, deleted: Any = (), M: int = 4, links: Any = None) -> None:
    """Links: of each element a list for each of its levels; None: an index in which no search finds its way."""
    rows = np.ascontiguousarray(rows, "<f4")
    links = [[[]]] * len(rows) if links is None else links
    entry = max(range(len(rows)), key=lambda at: len(links[at]), default=0)
    before = 4 * 2 * M + 4
    width = before + rows.shape[1] * 4 + 8
    head = struct.pack("<6QiI3QdQ", 0, len(rows), len(rows), width, width - 8, before, 0, entry, M, 2 * M, M, 0.5, 200)
    blocks = b"".join(
        _of_hnswlib(links[at][0], 2 * M, at in deleted) + row.tobytes() + struct.pack("<q", id)
        for at, (row, id) in enumerate(zip(rows, ids, strict=True))
    )
    above = [b"".join(_of_hnswlib(level, M) for level in levels[1:]) for levels in links]
    path.write_bytes(head + blocks + b"".join(struct.pack("<I", len(each)) + each for each in above))


def _of_hnswlib(links: Any, room: int, deleted: bool = False) -> bytes:
    return struct.pack("<HBB", len(links), deleted, 0) + np.asarray(links, "<u4").tobytes().ljust(4 * room, b"\0")


def write_faiss_hnsw(path: Path, rows: Any, M: int, links: Any) -> None:
    """An IndexHNSWFlat under L2; links as of write_hnswlib."""
    rows = np.ascontiguousarray(rows, "<f4")
    count, dim = rows.shape
    head = struct.pack("<iqqq?i", dim, count, 1 << 20, 1 << 20, True, 1)
    levels = np.array([len(each) for each in links], "<i4")
    by_level = np.append(0, 2 * M + M * np.arange(levels.max())).astype("<i4")
    rooms = [np.full(2 * M if at == 0 else M, -1, "<i4") for each in links for at in range(len(each))]
    for room, given in zip(rooms, (given for each in links for given in each), strict=True):
        room[: len(given)] = given
    offsets = np.append(0, np.cumsum(by_level[levels])).astype("<u8")
    graph = [np.ones(levels.max(), "<f8"), by_level, levels, offsets, np.concatenate(rooms)]
    arrays = b"".join(struct.pack("<Q", len(array)) + array.tobytes() for array in graph)
    search = struct.pack("<5i", int(levels.argmax()), levels.max() - 1, 200, 16, 1)
    vectors = b"IxF2" + head + struct.pack("<Q", count * dim) + rows.tobytes()
    path.write_bytes(b"IHNf" + head + arrays + search + vectors)
