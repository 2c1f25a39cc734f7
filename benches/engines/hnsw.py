"""The HNSW libraries: hnswlib, faiss, usearch and voyager."""

from __future__ import annotations

from importlib import import_module

import numpy as np
from data import Floats, Ids

from engines.base import Engine, Settings


class Hnswlib(Engine):
    def __init__(self, settings: Settings, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("hnswlib")
        self.M, self.ef_construction = M, ef_construction

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index("ip", base.shape[1])
        self.index.init_index(len(base), M=self.M, ef_construction=self.ef_construction)
        self.index.add_items(base, num_threads=self.settings.build_threads)
        self.index.set_num_threads(1)

    def tune(self, search_param: int) -> None:
        self.index.set_ef(search_param)

    def one(self, query: Floats) -> object:
        return self.index.knn_query(query, self.settings.k, num_threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.knn_query(queries, self.settings.k, num_threads=1)[0], dtype=np.int64)


class FaissHnsw(Engine):
    def __init__(self, settings: Settings, sq8: bool, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("faiss")
        self.sq8, self.M, self.ef_construction = sq8, M, ef_construction

    def build(self, base: Floats) -> None:
        lib, dim = self.lib, base.shape[1]
        lib.omp_set_num_threads(self.settings.build_threads)
        if self.sq8:
            self.index = lib.IndexHNSWSQ(dim, lib.ScalarQuantizer.QT_8bit, self.M)
        else:
            self.index = lib.IndexHNSWFlat(dim, self.M)
        self.index.hnsw.efConstruction = self.ef_construction
        self.index.train(base)
        self.index.add(base)
        lib.omp_set_num_threads(1)

    def tune(self, search_param: int) -> None:
        self.index.hnsw.efSearch = search_param

    def one(self, query: Floats) -> object:
        return self.index.search(query[None], self.settings.k)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k)[1])


class FaissRabitq(Engine):
    """HNSW on RaBitQ codes of some bits, re-ranked on the float vectors."""

    def __init__(self, settings: Settings, bits: int, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("faiss")
        self.bits, self.M, self.ef_construction = bits, M, ef_construction

    def build(self, base: Floats) -> None:
        lib = self.lib
        lib.omp_set_num_threads(self.settings.build_threads)
        self.index = lib.index_factory(base.shape[1], f"HNSW{self.M}_RaBitQ{self.bits},RFlat")
        self.graph = lib.downcast_index(self.index.base_index).hnsw
        self.graph.efConstruction = self.ef_construction
        self.index.train(base)
        self.index.add(base)
        lib.omp_set_num_threads(1)

    def tune(self, search_param: int, rerank: int = 30) -> None:
        self.graph.efSearch = search_param
        self.index.k_factor = rerank / self.settings.k

    def one(self, query: Floats) -> object:
        return self.index.search(query[None], self.settings.k)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k)[1])


class Usearch(Engine):
    def __init__(self, settings: Settings, dtype: str, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("usearch.index")
        self.dtype, self.M, self.ef_construction = dtype, M, ef_construction

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(
            ndim=base.shape[1],
            metric="cos",
            dtype=self.dtype,
            connectivity=self.M,
            expansion_add=self.ef_construction,
        )
        self.index.add(np.arange(len(base)), base, threads=self.settings.build_threads)

    def tune(self, search_param: int) -> None:
        self.index.expansion_search = search_param

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k, threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, threads=1).keys, dtype=np.int64)


class Voyager(Engine):
    def __init__(self, settings: Settings, storage: str, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("voyager")
        self.storage, self.M, self.ef_construction = storage, M, ef_construction

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(
            self.lib.Space.Cosine,
            base.shape[1],
            M=self.M,
            ef_construction=self.ef_construction,
            max_elements=len(base),
            storage_data_type=getattr(self.lib.StorageDataType, self.storage),
        )
        self.index.add_items(base, num_threads=self.settings.build_threads)

    def tune(self, search_param: int) -> None:
        self.index.ef = search_param

    def one(self, query: Floats) -> object:
        return self.index.query(query, self.settings.k, num_threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.query(queries, self.settings.k, num_threads=1)[0], dtype=np.int64)
