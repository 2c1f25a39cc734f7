"""Writes an index or collection and its queries to a folder, and reads them in the measuring process (see `sweep`).

An index is copied; of a collection, of shards and of an index on disk only the path is written, since any number of
processes may read them. Ids of records, which may be texts, are written as numbers: their positions in a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import edgevec
from edgevec import Metric, evaluation

from ..models import Data, FilterResult, Floats, Ids, Queries

__all__ = [
    "open_backend",
    "read_queries",
    "write_collection",
    "write_disk_index",
    "write_index",
    "write_queries",
    "write_shards",
]


def write_index(folder: Path, index: edgevec.Index, filter_result: FilterResult | None) -> None:
    index.save(folder / "index.ev")
    _write_filter(folder, filter_result)


def _write_filter(folder: Path, filter_result: FilterResult | None) -> None:
    if filter_result is not None:
        np.save(folder / "filter.npy", filter_result.selection)


def write_collection(folder: Path, path: Path, filter_result: FilterResult | None) -> None:
    where = None if filter_result is None else filter_result.selection
    _write_path(folder / "collection.json", path, where=where)


def write_shards(folder: Path, path: Path, filter_result: FilterResult | None) -> None:
    _write_path(folder / "shards.json", path)
    _write_filter(folder, filter_result)


def write_disk_index(folder: Path, path: Path, filter_result: FilterResult | None) -> None:
    _write_path(folder / "disk_index.json", path)
    _write_filter(folder, filter_result)


def _write_path(file: Path, path: Path, **more: object) -> None:
    """Where it lies that is to be opened, which stays as it is."""
    file.write_text(json.dumps({"path": str(path.absolute()), **more}), encoding="utf-8")


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def write_queries(folder: Path, queries: Queries) -> None:
    truth, own = queries.truth, queries.own
    if queries.padding is None:
        ids = list(dict.fromkeys([*truth.ravel().tolist(), *own.tolist()]))
        number = {id: at for at, id in enumerate(ids)} | {None: -1}
        truth = np.array([[number[id] for id in row] for row in truth.tolist()], np.int64).reshape(truth.shape)
        own = np.array([number[id] for id in own.tolist()], np.int64)
        (folder / "ids.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    far, metric = queries.distances, np.array(queries.metric)
    np.savez(folder / "queries.npz", vectors=queries.vectors, truth=truth, distances=far, own=own, metric=metric)
    if queries.data is not None and queries.data.vectors is not None:
        np.save(folder / "row-ids.npy", queries.data.ids)
        np.save(folder / "rows.npy", queries.data.vectors)


@dataclass(frozen=True, eq=False)
class BundledQueries:
    """`Queries` with numbers for ids. rows: the data set, if its vectors are known."""

    vectors: Floats
    truth: Ids
    distances: NDArray[np.float64]
    own: Ids
    metric: Metric
    rows: Data | None

    def distances_of(self, found: Any) -> NDArray[np.float64]:
        """Distances of results from their queries; inf for a query's own row, unless the truth holds others as near."""
        ids, far = found.ids, found.distances
        if self.rows is not None and self.rows.vectors is not None:
            far = evaluation.distances(self.rows.vectors, self.vectors, self.rows.rows_of(ids), self.metric)
        known = (self.truth == self.own[:, None]).any(axis=1, keepdims=True)
        return np.where(known & (ids == self.own[:, None]), np.inf, far)


def read_queries(folder: Path, k: int) -> BundledQueries:
    """Read the queries and the k nearest rows of each. A query's own row gets the distance inf: it does not count."""
    rows = None
    if (folder / "rows.npy").exists():
        held = np.load(folder / "rows.npy", mmap_mode="r")
        rows = Data("", held.shape[1], np.load(folder / "row-ids.npy"), held)
    with np.load(folder / "queries.npz") as kept:
        vectors, truth, far, own = (kept[name] for name in ("vectors", "truth", "distances", "own"))
        metric: Metric = kept["metric"].item()
    truth, far = truth[:, :k], far[:, :k]
    return BundledQueries(vectors, truth, np.where(truth == own[:, None], np.inf, far), own, metric, rows)


def open_backend(folder: Path, nprobe: int | None = None) -> _Index | _Collection:
    """The backend in the folder, with the search method that `edgevec.evaluation.recall_curve` calls.

    nprobe: shards that a query is asked of, where there are some to choose from. None: all.
    """
    if (folder / "index.ev").exists():
        return _Index(edgevec.Index.load(folder / "index.ev", mmap=True), folder)
    if (folder / "shards.json").exists():
        index = edgevec.ShardedIndex.open(_read(folder / "shards.json")["path"], verify=False)
        return _Index(index, folder, {} if nprobe is None else {"nprobe": nprobe})
    if (folder / "disk_index.json").exists():
        return _Index(edgevec.DiskIndex(_read(folder / "disk_index.json")["path"]), folder)
    return _Collection(folder)


class _Index:
    """An index, in one file or in several, or with its graph on disk."""

    def __init__(
        self,
        index: edgevec.Index | edgevec.ShardedIndex | edgevec.DiskIndex,
        folder: Path,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """options: further arguments of each search."""
        self._index, self._options = index, dict(options or {})
        filter_result = folder / "filter.npy"
        self._only = edgevec.IdFilter(np.load(filter_result)) if filter_result.exists() else None

    def search(self, queries: Floats, k: int = 10, *, ef: int | None = None, threads: int = 1) -> edgevec.SearchResult:
        return self._index.search(queries, k, ef=ef, filter=self._only, threads=threads, **self._options)


class _Collection:
    def __init__(self, folder: Path) -> None:
        what, ids = _read(folder / "collection.json"), _read(folder / "ids.json")
        path = Path(what["path"])
        self._collection = edgevec.ShardedCollection.open(path) if path.is_dir() else edgevec.open(path, mode="r")
        self._where: str | None = what["where"]
        self._number = {id: at for at, id in enumerate(ids)}

    def search(self, queries: Floats, k: int = 10, *, ef: int | None = None, threads: int = 1) -> _Found:
        """Search one query after the other, since a collection has no batch search."""
        rows = np.atleast_2d(queries)
        return _Found([self._collection.search(row, k, where=self._where, ef=ef) for row in rows], k, self._number)


class _Found(NamedTuple):
    hits: list[edgevec.Hits]
    k: int
    number: dict[Any, int]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Numbers of the found ids, made outside of the timed call. Ids that are not in the list become -2, -3, ..."""
        rows = [[self.number.get(hit.id, -2 - at) for at, hit in enumerate(hits)] for hits in self.hits]
        return np.array([row + [-1] * (self.k - len(row)) for row in rows], np.int64)

    @property
    def distances(self) -> NDArray[np.float64]:
        rows = [[hit.distance for hit in hits] for hits in self.hits]
        return np.array([row + [np.inf] * (self.k - len(row)) for row in rows], np.float64)
