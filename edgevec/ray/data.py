"""Ray Data: the vectors of a batch, and a search for each."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._types import PathLike
from .._validation import as_int, as_rows, length_of_rows
from ..collection.where import Where, compile_where
from ..errors import DataFormatError, ParameterError
from ..sharded import ShardedIndex
from ..sharded.folders import open_folder
from ..sharded_collection import ShardedCollection
from ..sharded_collection.collection import folder_of

__all__ = ["Search", "SearchCollection", "vectors_of"]

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
        index = _opened(self._address, self._storage, ShardedIndex)
        found = index.search(vectors_of(batch, self._column), self._k, **self._options)  # type: ignore[arg-type]
        return {**batch, "ids": found.ids, "distances": found.distances}


class SearchCollection:
    """Searches a collection for each row of a batch: `ds.map_batches(edgevec.ray.SearchCollection("notes", k=10))`.

    Rows get the columns `ids` and `scores`, lists of up to k, best first. A worker opens the collection once, mapped.

    Args:
        manifest: as of ShardedCollection.open()
        k: records wanted
        column: with the vectors; None: the one called "vector", "embedding" or the like, if there is one
        text: the column with the words to search for; None: none. With vectors and words both count.
        where, params, ef, exact, recall, weights: as of ShardedCollection.search()
        storage_options: for fsspec

    Example:
        >>> import numpy as np
        >>> from edgevec import ShardedCollection
        >>> from edgevec.ray import SearchCollection
        >>> rows = [{"id": f"n{n}", "vector": [n, 1], "year": 2000 + n} for n in range(4)]
        >>> ShardedCollection.build(rows, "few", metric="l2").close()
        >>> batch = {"vector": np.array([[0, 1], [3, 1]], np.float32)}
        >>> SearchCollection("few", k=1, where="year > 2000")(batch)["ids"].tolist()
        [['n1'], ['n3']]
    """

    def __init__(
        self,
        manifest: PathLike,
        k: int = 10,
        *,
        column: str | None = None,
        text: str | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
        ef: int | None = None,
        exact: bool = False,
        recall: float | None = None,
        weights: tuple[float, float] = (1.0, 1.0),
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._address = folder_of(manifest, storage_options).address
        self._k, self._column, self._text = as_int(k, "k", 1), column, text
        compile_where(where, params)
        self._options: dict[str, Any] = {
            "where": where,
            "params": params,
            "ef": ef,
            "exact": exact,
            "recall": recall,
            "weights": weights,
        }
        self._storage = dict(storage_options or {})

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        notes = _opened(self._address, self._storage, ShardedCollection)
        vectors, texts = self._vectors(batch), self._texts(batch)
        count = len(texts) if vectors is None else len(vectors)
        ids, scores = np.empty(count, object), np.empty(count, object)
        for row in range(count):
            vector, text = None if vectors is None else vectors[row], None if texts is None else texts[row]
            found = notes.search(vector, self._k, text=text, include=(), **self._options)
            ids[row], scores[row] = [hit.id for hit in found], [hit.score for hit in found]
        return {**batch, "ids": ids, "scores": scores}

    def _vectors(self, batch: Mapping[str, Any]) -> npt.NDArray[np.float32] | None:
        """None: words alone are asked for."""
        if self._text is not None and self._column is None and not any(name in batch for name in _VECTORS):
            return None
        return vectors_of(batch, self._column)

    def _texts(self, batch: Mapping[str, Any]) -> Any:
        if self._text is not None and self._text not in batch:
            raise DataFormatError(f"no column of texts is called {self._text!r}; found {', '.join(batch)}")
        return None if self._text is None else batch[self._text]


_guard = threading.Lock()
_open: dict[tuple[int, str, str], Any] = {}
"""Of this process: workers of Ray Data get a new Search with each batch."""
_OpenedT = TypeVar("_OpenedT", ShardedIndex, ShardedCollection)


def _opened(address: str, options: dict[str, Any], kind: type[_OpenedT]) -> _OpenedT:
    with _guard:
        key = os.getpid(), address, repr((kind, sorted(options.items())))
        if key not in _open:
            _open[key] = kind.open(address, storage_options=options)
        found: _OpenedT = _open[key]
        return found
