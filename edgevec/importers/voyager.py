"""Index files of Voyager, read by the library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import Metric
from ..errors import DataFormatError
from .source import PIECE, Piece, Source, damaged, library, signed

__all__ = ["opened"]

_METRICS: dict[str, Metric] = {"Cosine": "cosine", "InnerProduct": "ip", "Euclidean": "l2"}


def opened(path: Path) -> Source:
    voyager = library(path, "voyager", "voyager")
    try:
        index = voyager.Index.load(str(path))
    except Exception as error:  # of whatever class the library has
        raise damaged(path, str(error)) from error
    if index.space.name not in _METRICS:
        raise DataFormatError(f"{path}: an index of Voyager in the space {index.space.name}, which edgevec has not")
    ids = signed(path, np.array(list(index.ids), np.uint64))

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(ids), PIECE):
            some = ids[start : start + PIECE].tolist()
            yield Piece(some, np.asarray(index.get_vectors(some), np.float32))

    source = Source("an index of Voyager", _METRICS[index.space.name], len(ids), pieces, ids)
    if index.storage_data_type.name != "Float32":
        source.notes.append(f"its vectors are those of its type, {index.storage_data_type.name}")
    return source
