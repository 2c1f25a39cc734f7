"""Ray Data: the vectors of a batch, and a search for each."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import PathLike
from .._validation import as_int, as_rows, length_of_rows
from ..errors import DataFormatError, ParameterError
from ..sharded import ShardedIndex
from ..sharded.folders import open_folder

__all__ = ["Search", "vectors_of"]

_VECTORS = ("vectors", "vector", "embeddings", "embedding", "emb")


def vectors_of(batch: Mapping[str, Any], column: str | None) -> npt.NDArray[np.float32]:
    """The vectors of a batch of Ray Data: float32[n, dim]"""
    name = column or next((name for name in _VECTORS if name in batch), None)
    if name is None or name not in batch:
        raise DataFormatError(f"no column of vectors is called {name!r}; found {', '.join(batch)}; name it by column=")
    values = batch[name]
    dim = length_of_rows(values)
    if dim is None:
        raise DataFormatError(f"column {name}: expected vectors, found {values.dtype} {values.shape}")
    try:
        return as_rows(values, dim, f"column {name}: vectors")
    except ParameterError as error:
        raise DataFormatError(str(error)) from None


class Search:
    """Searches an index for each row of a batch: `ds.map_batches(edgevec.ray.Search("items", k=10), concurrency=4)`.

    Rows get the columns `ids` and `distances`, the k nearest of each. A worker opens the index once, mapped.

    Args:
        manifest: as of ShardedIndex.open()
        k: neighbors wanted
        column: with the vectors; None: the one called "vector", "embedding" or the like
        ef, recall, exact, nprobe: as of ShardedIndex.search()
        storage_options: for fsspec

    Example:
        >>> import numpy as np
        >>> from edgevec import ShardedIndex
        >>> from edgevec.ray import Search
        >>> ShardedIndex.build(np.eye(3), "corners").close()
        >>> Search("corners", k=1)({"vector": np.eye(3, dtype=np.float32)[1:]})["ids"].tolist()
        [[1], [2]]
    """

    def __init__(
        self,
        manifest: PathLike,
        k: int = 10,
        *,
        column: str | None = None,
        ef: int | None = None,
        recall: float | None = None,
        exact: bool = False,
        nprobe: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._address = open_folder(manifest, storage_options).address
        self._k, self._column = as_int(k, "k", 1), column
        few = None if nprobe is None else as_int(nprobe, "nprobe", 1)
        self._options = {"ef": ef, "recall": recall, "exact": exact, "nprobe": few}
        self._storage = dict(storage_options or {})

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        index = _opened(self._address, self._storage)
        found = index.search(vectors_of(batch, self._column), self._k, **self._options)  # type: ignore[arg-type]
        return {**batch, "ids": found.ids, "distances": found.distances}


_guard = threading.Lock()
_indexes: dict[tuple[int, str, str], ShardedIndex] = {}
"""Of this process: workers of Ray Data get a new Search with each batch."""


def _opened(address: str, options: dict[str, Any]) -> ShardedIndex:
    with _guard:
        key = os.getpid(), address, repr(sorted(options.items()))
        if key not in _indexes:
            _indexes[key] = ShardedIndex.open(address, storage_options=options)
        return _indexes[key]
