"""A collection whose graph reads vectors from its file: links and codes are in memory.

The graph is an index with storage="disk". Vectors of a snapshot are read from that file, which a later one may replace;
those that come after it, from a scratch file in the same folder, which a later snapshot takes the place of.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .._types import Storage
from .._validation import as_storage
from ..errors import ParameterError
from ..index import Index

__all__ = ["bytes_per_vector", "check_open", "check_quantization", "is_mostly_waste"]

_CAN_REPLACE = os.name != "nt"
"""Windows does not let a file be replaced while it is open, as that of the graph would be by every snapshot."""
_WASTE_SHARE, _MIN_WASTE = 2, 20_000
"""The files may have so many rows for each of the graph, and so many more, before they are given up."""


def check_open(storage: Any, path: Path | None, *, mmap: bool, secure_delete: bool) -> None:
    """ParameterError for what open() cannot do on disk."""
    if as_storage(storage) == "memory":
        return
    if path is None:
        raise ParameterError('storage="disk": a collection in memory has no file')
    if mmap:
        raise ParameterError('storage="disk" reads vectors from the graph\'s file, mmap=True maps it: give one')
    if secure_delete:
        raise ParameterError('storage="disk" leaves deleted vectors in a scratch file, which secure_delete is against')
    if not _CAN_REPLACE:
        raise ParameterError('storage="disk": on Windows the graph\'s file, which is open, could not be replaced')


def check_quantization(storage: Storage, quantization: Any, name: str) -> None:
    """ParameterError where the graph is searched on the vectors themselves."""
    if storage == "disk" and quantization == "none":
        raise ParameterError(f'{name}: storage="disk" is for codes, and quantization="none" has none')


def bytes_per_vector(quantization: str, dim: int, storage: Storage) -> int:
    """What a graph keeps in memory of a vector, at least, beside its links and its id."""
    code = {"none": 0, "sq8": dim, "binary": dim // 8}[quantization]
    return code + (4 if storage == "disk" else 2 * dim if quantization == "sq8" else 4 * dim)


def is_mostly_waste(index: Index) -> bool:
    """Whether an index's files hold mostly what was replaced.

    So may a reader's, which appends what it follows, and saves nothing. With another snapshot it begins anew.
    """
    if index.storage == "memory":
        return False
    stats = index.stats()
    rows = index.memory_usage()["on_disk"] // ((4 if stats["bits"] else 2) * index.dim)
    return rows > _WASTE_SHARE * stats["slots"] + _MIN_WASTE
