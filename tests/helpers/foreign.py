"""Files of other libraries, made without them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_faiss_flat", "write_hnswlib"]


def write_faiss_flat(path: Path, rows: Any, metric: int = 1, ids: Any = None) -> None:
    """An IndexFlat, with ids in an IndexIDMap; metric: 0 inner product, 1 L2."""
    rows = np.ascontiguousarray(rows, "<f4")
    count, dim = rows.shape
    head = struct.pack("<iqqq?i", dim, count, 1 << 20, 1 << 20, True, metric)
    written = (b"IxF2" if metric else b"IxFI") + head + struct.pack("<Q", count * dim) + rows.tobytes()
    if ids is not None:
        written = b"IxMp" + head + written + struct.pack("<Q", count) + np.asarray(ids, "<i8").tobytes()
    path.write_bytes(written)


def write_hnswlib(path: Path, rows: Any, ids: Any, deleted: Any = (), M: int = 4) -> None:
    """An index without links, which a search of hnswlib's would not find its way in."""
    rows = np.ascontiguousarray(rows, "<f4")
    links = 4 * 2 * M + 4
    width = links + rows.shape[1] * 4 + 8
    head = struct.pack("<6QiI3QdQ", 0, len(rows), len(rows), width, width - 8, links, 0, 0, M, 2 * M, M, 0.5, 100)
    blocks = b"".join(
        bytes([0, 0, at in deleted]).ljust(links, b"\0") + row.tobytes() + struct.pack("<q", id)
        for at, (row, id) in enumerate(zip(rows, ids, strict=True))
    )
    path.write_bytes(head + blocks + bytes(4 * len(rows)))
