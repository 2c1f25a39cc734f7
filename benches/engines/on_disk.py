"""Indexes that lie in files of a folder and are searched there, or are loaded from it: what `disk_peers.py` compares.

The vectors are of unit length, so that cosine, inner product and squared L2 put them in the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Ids

import edgevec
from engines.base import EF_GRID, Options
from engines.embedded import AT_ONCE, started_zvec

__all__ = ["ON_DISK", "Kind", "OnDisk"]

Search = Callable[[Floats], Ids]
BUILD_THREADS = 2
LISTS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


class OnDisk(ABC):
    """One index in a folder. Searches take one query a call."""

    def __init__(self, folder: Path, k: int) -> None:
        self.folder, self.k = folder, k

    @abstractmethod
    def build(self, base: Floats) -> None:
        """Write an index of the rows, float32 [n, dim], under the ids 0..n-1."""

    @abstractmethod
    def open(self) -> None:
        """Make ready to search, without asking anything."""

    @abstractmethod
    def searcher(self, effort: int) -> Search:
        """What gives the ids of the k nearest. Kinds with more settings take them by keyword."""

    def close(self) -> None:
        """Give files and memory back."""
        self.index: Any = None

    def _path(self, name: str) -> str:
        return str(self.folder / name)


class Edgevec(OnDisk):
    """how: "memory", "disk" (vectors in the file), "graph" (DiskIndex) or "graph-mmap"."""

    def __init__(self, folder: Path, k: int, how: str) -> None:
        super().__init__(folder, k)
        self.how = how

    def build(self, base: Floats) -> None:
        index = edgevec.Index(base.shape[1], "cosine")
        index.add(base, threads=BUILD_THREADS)
        if self.how.startswith("graph"):
            edgevec.DiskIndex.write(index, self._path("index.evd"), threads=BUILD_THREADS)
        else:
            index.save(self._path("index.ev"))

    def open(self) -> None:
        if self.how.startswith("graph"):
            self.index = edgevec.DiskIndex(self._path("index.evd"), mmap=self.how == "graph-mmap")
        else:
            storage: edgevec.Storage = "disk" if self.how == "disk" else "memory"
            self.index = edgevec.Index.load(self._path("index.ev"), storage=storage)

    def searcher(self, effort: int) -> Search:
        index, k = self.index, self.k
        return lambda query: index.search(query, k, ef=effort).ids

    def close(self) -> None:
        self.index.close()


class Hnswlib(OnDisk):
    """Loaded into memory: it has no other way."""

    def build(self, base: Floats) -> None:
        index = import_module("hnswlib").Index("cosine", base.shape[1])
        index.init_index(len(base), ef_construction=200, M=16)
        index.add_items(base, num_threads=BUILD_THREADS)
        index.save_index(self._path("index"))
        (self.folder / "dim").write_text(str(base.shape[1]))

    def open(self) -> None:
        self.index = import_module("hnswlib").Index("cosine", int((self.folder / "dim").read_text()))
        self.index.load_index(self._path("index"))
        self.index.set_num_threads(1)

    def searcher(self, effort: int) -> Search:
        self.index.set_ef(effort)
        index, k = self.index, self.k
        return lambda query: index.knn_query(query, k)[0][0]


class Usearch(OnDisk):
    """Its file mapped: `view`."""

    def build(self, base: Floats) -> None:
        index = import_module("usearch.index").Index(
            ndim=base.shape[1], metric="cos", dtype="f32", connectivity=16, expansion_add=200
        )
        index.add(np.arange(len(base)), base, threads=BUILD_THREADS)
        index.save(self._path("index"))

    def open(self) -> None:
        self.index = import_module("usearch.index").Index.restore(self._path("index"), view=True)

    def searcher(self, effort: int) -> Search:
        self.index.expansion_search = effort
        index, k = self.index, self.k
        return lambda query: index.search(query, k, threads=1).keys


class Faiss(OnDisk):
    """Of faiss, mapped."""

    def _write(self, index: Any) -> None:
        import_module("faiss").write_index(index, self._path("index"))

    def _read(self, flag: int) -> Any:
        lib = import_module("faiss")
        lib.omp_set_num_threads(1)
        return lib.read_index(self._path("index"), flag)

    def searcher(self, effort: int) -> Search:
        self._set(effort)
        index, k = self.index, self.k
        return lambda query: index.search(query[None], k)[1][0]

    @abstractmethod
    def _set(self, effort: int) -> None: ...


class FaissHnsw(Faiss):
    """HNSW over float32 vectors; graph and vectors are mapped (IO_FLAG_MMAP_IFC)."""

    def build(self, base: Floats) -> None:
        lib = import_module("faiss")
        lib.omp_set_num_threads(BUILD_THREADS)
        index = lib.IndexHNSWFlat(base.shape[1], 16, lib.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(base)
        self._write(index)

    def open(self) -> None:
        self.index = self._read(import_module("faiss").IO_FLAG_MMAP_IFC)

    def _set(self, effort: int) -> None:
        self.index.hnsw.efSearch = effort


class FaissLists(Faiss):
    """Inverted lists of float32 vectors in a file (OnDiskInvertedLists), which faiss maps."""

    def build(self, base: Floats) -> None:
        lib = import_module("faiss")
        lib.omp_set_num_threads(BUILD_THREADS)
        dim, lists = base.shape[1], 4 * round(len(base) ** 0.5)
        index = lib.IndexIVFFlat(lib.IndexFlatIP(dim), dim, lists, lib.METRIC_INNER_PRODUCT)
        index.train(base)
        index.add(base)
        on_disk = lib.OnDiskInvertedLists(lists, index.code_size, self._path("lists"))
        on_disk.merge_from_1(index.invlists)
        index.replace_invlists(on_disk)
        self._write(index)

    def open(self) -> None:
        self.index = self._read(import_module("faiss").IO_FLAG_ONDISK_SAME_DIR)

    def _set(self, effort: int) -> None:
        self.index.nprobe = effort


class Lance(OnDisk):
    """A table of LanceDB with an index; what that finds is refined on the vectors of the table. Its own threads."""

    def __init__(self, folder: Path, k: int, kind: str, **build: Any) -> None:
        super().__init__(folder, k)
        self.kind, self.options = kind, build

    def build(self, base: Floats) -> None:
        arrow = import_module("pyarrow")
        vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(base.ravel()), base.shape[1])
        rows = arrow.table({"id": arrow.array(np.arange(len(base))), "vector": vectors})
        table = import_module("lancedb").connect(self._path("base")).create_table("t", rows)
        table.create_index(metric="cosine", vector_column_name="vector", index_type=self.kind, **self.options)

    def open(self) -> None:
        self.index = import_module("lancedb").connect(self._path("base")).open_table("t")

    def searcher(self, effort: int, refine: int = 0) -> Search:
        index, k, graph = self.index, self.k, "HNSW" in self.kind

        def search(query: Floats) -> Ids:
            asked = index.search(query, vector_column_name="vector").distance_type("cosine").limit(k).select(["id"])
            asked = asked.nprobes(1).ef(max(effort, k * max(1, refine))) if graph else asked.nprobes(effort)
            if refine:
                asked = asked.refine_factor(refine)
            return np.asarray(asked.to_arrow()["id"])

        return search


class ZvecDiskAnn(OnDisk):
    """DiskANN of zvec: product codes in memory, the graph and the vectors on disk."""

    def __init__(self, folder: Path, k: int, **build: Any) -> None:
        super().__init__(folder, k)
        self.options = build

    def build(self, base: Floats) -> None:
        lib = started_zvec(BUILD_THREADS)
        kind = lib.DiskAnnIndexParam(lib.MetricType.L2, **self.options)
        vectors = lib.VectorSchema("vector", lib.DataType.VECTOR_FP32, base.shape[1], kind)
        written = lib.create_and_open(self._path("base"), lib.CollectionSchema("base", vectors=vectors))
        for start in range(0, len(base), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(base)))
            written.insert([lib.Doc(id=str(id), vectors={"vector": base[id]}) for id in rows])
        written.optimize(lib.OptimizeOption(concurrency=BUILD_THREADS))
        written.close()

    def open(self) -> None:
        lib = started_zvec(BUILD_THREADS)
        self.index = lib.open(self._path("base"), lib.CollectionOption(read_only=True))

    def searcher(self, effort: int) -> Search:
        lib, index, k = started_zvec(BUILD_THREADS), self.index, self.k
        how = lib.DiskAnnQueryParam(list_size=effort)

        def search(query: Floats) -> Ids:
            found = index.query_internal_ids(lib.Query("vector", vector=query, param=how), topk=k)
            return np.array([int(id) for id in index.resolve_internal_ids(found) if id], np.int64)

        return search

    def close(self) -> None:
        self.index.close()


@dataclass(frozen=True)
class Kind:
    """How to make one, and what is tried with it.

    package     what has to be installed
    modules     imported before anything is measured
    efforts     ascending, of `OnDisk.searcher`
    searches    keyword arguments beside
    """

    package: str
    modules: tuple[str, ...]
    make: Callable[[Path, int], OnDisk]
    efforts: tuple[int, ...] = EF_GRID
    searches: tuple[Options, ...] = ({},)


ON_DISK: Mapping[str, Kind] = {
    "edgevec-memory": Kind("edgevec", (), partial(Edgevec, how="memory")),
    "edgevec-disk": Kind("edgevec", (), partial(Edgevec, how="disk")),
    "edgevec-graph": Kind("edgevec", (), partial(Edgevec, how="graph")),
    "edgevec-graph-mmap": Kind("edgevec", (), partial(Edgevec, how="graph-mmap")),
    "hnswlib": Kind("hnswlib", ("hnswlib",), Hnswlib),
    "usearch-view": Kind("usearch", ("usearch.index",), Usearch),
    "faiss-hnsw-mmap": Kind("faiss-cpu", ("faiss",), FaissHnsw),
    "faiss-ivf-disk": Kind("faiss-cpu", ("faiss",), FaissLists, LISTS),
    "lancedb-hnsw-sq": Kind(
        "lancedb",
        ("lancedb", "pyarrow"),
        partial(Lance, kind="IVF_HNSW_SQ", num_partitions=1, m=16, ef_construction=200),
        searches=({}, {"refine": 2}),
    ),
    "lancedb-ivf-pq": Kind(
        "lancedb",
        ("lancedb", "pyarrow"),
        partial(Lance, kind="IVF_PQ", num_partitions=316, num_sub_vectors=96),
        LISTS,
        ({"refine": 2}, {"refine": 5}, {"refine": 10}),
    ),
    "zvec-diskann": Kind("zvec", ("zvec",), partial(ZvecDiskAnn, max_degree=64, list_size=100)),
}
