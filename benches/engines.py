"""One small adapter per engine: build over unit vectors, set ef, search one query or many. `ENGINES` lists them.

Every engine gets the same M and ef_construction, and is called for one query and for many as its documentation does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from data import Floats, Ids


@dataclass(frozen=True)
class Settings:
    """What all graphs are built with, and how many neighbours are asked for."""

    M: int = 16
    ef_construction: int = 200
    k: int = 10
    build_threads: int = 2


class Engine(ABC):
    """An index under test. Searching uses one thread; only building may use more."""

    has_ef = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def build(self, base: Floats) -> None:
        """Index the rows of base, float32 [n, dim] of unit length, under the ids 0..n-1."""

    @abstractmethod
    def set_ef(self, ef: int) -> None:
        """Breadth of the searches that follow."""

    @abstractmethod
    def one(self, query: Floats) -> object:
        """The k nearest of one query, float32 [dim], in whatever form the engine returns."""

    @abstractmethod
    def many(self, queries: Floats) -> Ids:
        """Ids [m, k] of the nearest of each query."""


class Edgevec(Engine):
    def __init__(self, settings: Settings, quantization: str) -> None:
        super().__init__(settings)
        self.lib = import_module("edgevec")
        self.quantization = quantization

    def build(self, base: Floats) -> None:
        settings = self.settings
        self.index = self.lib.Index(
            base.shape[1],
            "cosine",
            quantization=self.quantization,
            M=settings.M,
            ef_construction=settings.ef_construction,
        )
        self.index.add(base, threads=settings.build_threads)

    def set_ef(self, ef: int) -> None:
        self.index.ef = ef

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k, threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, threads=1).ids)


class Hnswlib(Engine):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.lib = import_module("hnswlib")

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index("ip", base.shape[1])
        self.index.init_index(len(base), M=self.settings.M, ef_construction=self.settings.ef_construction)
        self.index.add_items(base, num_threads=self.settings.build_threads)
        self.index.set_num_threads(1)

    def set_ef(self, ef: int) -> None:
        self.index.set_ef(ef)

    def one(self, query: Floats) -> object:
        return self.index.knn_query(query, self.settings.k, num_threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.knn_query(queries, self.settings.k, num_threads=1)[0], dtype=np.int64)


class Faiss(Engine):
    """Squared L2 over unit vectors: the same order as cosine."""

    def __init__(self, settings: Settings, sq8: bool) -> None:
        super().__init__(settings)
        self.lib = import_module("faiss")
        self.sq8 = sq8

    def build(self, base: Floats) -> None:
        lib, dim = self.lib, base.shape[1]
        lib.omp_set_num_threads(self.settings.build_threads)
        if self.sq8:
            self.index = lib.IndexHNSWSQ(dim, lib.ScalarQuantizer.QT_8bit, self.settings.M)
        else:
            self.index = lib.IndexHNSWFlat(dim, self.settings.M)
        self.index.hnsw.efConstruction = self.settings.ef_construction
        self.index.train(base)
        self.index.add(base)
        lib.omp_set_num_threads(1)

    def set_ef(self, ef: int) -> None:
        self.index.hnsw.efSearch = ef

    def one(self, query: Floats) -> object:
        return self.index.search(query[None], self.settings.k)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k)[1])


class Usearch(Engine):
    def __init__(self, settings: Settings, dtype: str) -> None:
        super().__init__(settings)
        self.lib = import_module("usearch.index")
        self.dtype = dtype

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(
            ndim=base.shape[1],
            metric="cos",
            dtype=self.dtype,
            connectivity=self.settings.M,
            expansion_add=self.settings.ef_construction,
        )
        self.index.add(np.arange(len(base)), base, threads=self.settings.build_threads)

    def set_ef(self, ef: int) -> None:
        self.index.expansion_search = ef

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k, threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, threads=1).keys, dtype=np.int64)


class Voyager(Engine):
    def __init__(self, settings: Settings, storage: str) -> None:
        super().__init__(settings)
        self.lib = import_module("voyager")
        self.storage = storage

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(
            self.lib.Space.Cosine,
            base.shape[1],
            M=self.settings.M,
            ef_construction=self.settings.ef_construction,
            max_elements=len(base),
            storage_data_type=getattr(self.lib.StorageDataType, self.storage),
        )
        self.index.add_items(base, num_threads=self.settings.build_threads)

    def set_ef(self, ef: int) -> None:
        self.index.ef = ef

    def one(self, query: Floats) -> object:
        return self.index.query(query, self.settings.k, num_threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.query(queries, self.settings.k, num_threads=1)[0], dtype=np.int64)


class NumpyExact(Engine):
    """A matrix product and a partial sort: what graphs must beat."""

    has_ef = False
    block = 64

    def build(self, base: Floats) -> None:
        self.base = base.copy()

    def set_ef(self, ef: int) -> None:
        """Exact search has no breadth."""

    def one(self, query: Floats) -> object:
        return self._top(query[None])

    def many(self, queries: Floats) -> Ids:
        return np.vstack([self._top(queries[at : at + self.block]) for at in range(0, len(queries), self.block)])

    def _top(self, queries: Floats) -> Ids:
        distances = -(queries @ self.base.T)
        near = np.argpartition(distances, self.settings.k - 1, axis=1)[:, : self.settings.k]
        order = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1)
        return np.take_along_axis(near, order, axis=1)


@dataclass(frozen=True)
class Entry:
    """How to make an engine, and the distribution that it comes from."""

    make: Callable[[Settings], Engine]
    package: str


ENGINES: dict[str, Entry] = {
    "edgevec none": Entry(lambda settings: Edgevec(settings, "none"), "edgevec"),
    "edgevec sq8": Entry(lambda settings: Edgevec(settings, "sq8"), "edgevec"),
    "edgevec binary": Entry(lambda settings: Edgevec(settings, "binary"), "edgevec"),
    "hnswlib": Entry(Hnswlib, "hnswlib"),
    "faiss HNSW": Entry(lambda settings: Faiss(settings, sq8=False), "faiss-cpu"),
    "faiss HNSW-SQ8": Entry(lambda settings: Faiss(settings, sq8=True), "faiss-cpu"),
    "usearch f32": Entry(lambda settings: Usearch(settings, "f32"), "usearch"),
    "usearch i8": Entry(lambda settings: Usearch(settings, "i8"), "usearch"),
    "voyager f32": Entry(lambda settings: Voyager(settings, "Float32"), "voyager"),
    "voyager E4M3": Entry(lambda settings: Voyager(settings, "E4M3"), "voyager"),
    "numpy exact": Entry(NumpyExact, "numpy"),
}
