"""What is measured, laid out in a folder for the process that measures it: `sweep` puts it there, `probe` takes it.

An index comes as a copy, a collection as the path of its file: any number may read it. Ids of records, which may be
texts, go as numbers: their places in a list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import edgevec

from ..model import Allowed, Floats, Ids, Queries

__all__ = ["put_collection", "put_index", "put_queries", "take_queries", "take_searcher"]


def put_index(folder: Path, index: edgevec.Index, allowed: Allowed | None) -> None:
    index.save(folder / "index.ev")
    if allowed is not None:
        np.save(folder / "allowed.npy", allowed.by)


def put_collection(folder: Path, path: Path, allowed: Allowed | None) -> None:
    where = None if allowed is None else allowed.by
    (folder / "collection.json").write_text(json.dumps({"path": str(path), "where": where}), encoding="utf-8")


def put_queries(folder: Path, queries: Queries) -> None:
    truth, own = queries.truth, queries.own
    if queries.padding is None:
        ids = list(dict.fromkeys([*truth.ravel().tolist(), *own.tolist()]))
        number = {id: at for at, id in enumerate(ids)} | {None: -1}
        truth = np.array([[number[id] for id in row] for row in truth.tolist()], np.int64).reshape(truth.shape)
        own = np.array([number[id] for id in own.tolist()], np.int64)
        (folder / "ids.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    np.savez(folder / "queries.npz", vectors=queries.vectors, truth=truth, own=own)


def take_queries(folder: Path, k: int) -> tuple[Floats, Ids]:
    """The queries and the k nearest of each; a query that is a row itself is no neighbour of its own: -1."""
    with np.load(folder / "queries.npz") as kept:
        vectors, truth, own = kept["vectors"], kept["truth"], kept["own"]
    nearest = truth[:, :k].copy()
    nearest[nearest == own[:, None]] = -1
    return vectors, nearest


def take_searcher(folder: Path) -> _Index | _Collection:
    """As `edgevec.measure.recall_curve` wants it."""
    if (folder / "index.ev").exists():
        return _Index(folder)
    return _Collection(folder)


class _Index:
    def __init__(self, folder: Path) -> None:
        self._index = edgevec.Index.load(folder / "index.ev", mmap=True)
        allowed = folder / "allowed.npy"
        self._only = edgevec.IdFilter(np.load(allowed)) if allowed.exists() else None

    def search(self, queries: Floats, k: int = 10, *, ef: int | None = None, threads: int = 1) -> edgevec.SearchResult:
        return self._index.search(queries, k, ef=ef, filter=self._only, threads=threads)


class _Collection:
    def __init__(self, folder: Path) -> None:
        what = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
        ids = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
        self._collection = edgevec.open(what["path"], mode="r")
        self._where: str | None = what["where"]
        self._number = {id: at for at, id in enumerate(ids)}

    def search(self, queries: Floats, k: int = 10, *, ef: int | None = None, threads: int = 1) -> _Found:
        """A call for each query: a collection has no batches."""
        rows = np.atleast_2d(queries)
        return _Found([self._collection.search(row, k, where=self._where, ef=ef) for row in rows], k, self._number)


class _Found(NamedTuple):
    hits: list[edgevec.Hits]
    k: int
    number: dict[Any, int]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Only now, when the clock has stopped. A record that the truth does not know is -2."""
        rows = [[self.number.get(hit.id, -2) for hit in hits] for hits in self.hits]
        return np.array([row + [-1] * (self.k - len(row)) for row in rows], np.int64)
