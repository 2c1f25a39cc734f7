"""Embedded databases that keep vectors: zvec, qdrant-edge and sqlite-vector. Each search is a call of its own.

What they store goes to a folder that lasts as long as the process.
"""

from __future__ import annotations

import tempfile
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Ids

from engines.base import OneByOne, Settings

AT_ONCE = 1000


class Embedded(OneByOne):
    """With a folder of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


@cache
def started_zvec(build_threads: int) -> Any:
    """The module; its threads can be set once in a process."""
    zvec = import_module("zvec")
    zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=1, optimize_threads=build_threads)
    return zvec


class Zvec(Embedded):
    """HNSW, HNSW on RaBitQ codes, or Vamana, opened for reading once it is optimized: its fastest way to search.

    kind        "Hnsw", "HnswRabitq" or "Vamana"
    quantize    a `QuantizeType`; what it finds is refined on the float vectors
    """

    def __init__(self, settings: Settings, kind: str, quantize: str = "UNDEFINED", **build: Any) -> None:
        super().__init__(settings)
        self.lib = started_zvec(settings.build_threads)
        self.kind, self.quantize, self.options = kind, quantize, build

    def build(self, base: Floats) -> None:
        lib = self.lib
        make = getattr(lib, f"{self.kind}IndexParam")
        codes = {} if self.kind == "HnswRabitq" else {"quantize_type": getattr(lib.QuantizeType, self.quantize)}
        vectors = lib.VectorSchema(
            "vector", lib.DataType.VECTOR_FP32, base.shape[1], make(lib.MetricType.L2, **codes, **self.options)
        )
        path = str(Path(self.folder.name) / "collection")
        written = lib.create_and_open(path, lib.CollectionSchema("base", vectors=vectors))
        for start in range(0, len(base), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(base)))
            written.insert([lib.Doc(id=str(id), vectors={"vector": base[id]}) for id in rows])
        written.optimize(lib.OptimizeOption(concurrency=self.settings.build_threads))
        written.close()
        self.index = lib.open(path, lib.CollectionOption(read_only=True))

    def tune(self, search_param: int) -> None:
        refined = self.kind == "HnswRabitq" or self.quantize != "UNDEFINED"
        name = "ef_search" if self.kind == "Vamana" else "ef"
        self.params = getattr(self.lib, f"{self.kind}QueryParam")(is_using_refiner=refined, **{name: search_param})

    def _found(self, query: Floats) -> Any:
        asked = self.lib.Query("vector", vector=query, param=self.params)
        return self.index.query_internal_ids(asked, topk=self.settings.k)

    def one(self, query: Floats) -> object:
        return self._found(query)

    def ids(self, query: Floats) -> Ids:
        return np.array([int(id) for id in self.index.resolve_internal_ids(self._found(query)) if id], np.int64)


class QdrantEdge(Embedded):
    """HNSW, alone or over 8-bit codes that are rescored on the float vectors."""

    def __init__(self, settings: Settings, codes: bool, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("qdrant_edge")
        self.codes, self.M, self.ef_construction = codes, M, ef_construction

    def build(self, base: Floats) -> None:
        lib = self.lib
        codes = lib.ScalarQuantizationConfig(lib.ScalarType.Int8, always_ram=True) if self.codes else None
        config = lib.EdgeConfig(
            vectors=lib.EdgeVectorParams(base.shape[1], lib.Distance.Dot, on_disk=False),
            hnsw_config=lib.HnswIndexConfig(self.M, self.ef_construction, 10, self.settings.build_threads),
            quantization_config=codes,
            optimizers=lib.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
            max_search_threads=1,
        )
        self.index = lib.EdgeShard.create(self.folder.name, config)
        for start in range(0, len(base), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(base)))
            self.index.update(lib.UpdateOperation.upsert_points([lib.Point(id, base[id].tolist()) for id in rows]))
        self.index.optimize()

    def tune(self, search_param: int, oversampling: float = 1.0) -> None:
        codes = self.lib.QuantizationSearchParams(rescore=True, oversampling=oversampling) if self.codes else None
        self.params = self.lib.SearchParams(hnsw_ef=search_param, quantization=codes)

    def one(self, query: Floats) -> object:
        nearest = self.lib.Query.Nearest(query.tolist())
        return self.index.query(self.lib.QueryRequest(limit=self.settings.k, query=nearest, params=self.params))

    def ids(self, query: Floats) -> Ids:
        found: Any = self.one(query)
        return np.array([point.id for point in found], np.int64)


class SqliteVector(Embedded):
    """A scan of codes that are preloaded into memory, re-ranked here: it has no graph. The parameter is how many.

    quantize    what its `vector_quantize` takes
    """

    def __init__(self, settings: Settings, quantize: str) -> None:
        super().__init__(settings)
        self.quantize = quantize

    def build(self, base: Floats) -> None:
        self.base = base
        # Python's own SQLite is often built without extensions.
        self.index = import_module("apsw").Connection(":memory:")
        self.index.enable_load_extension(True)
        self.index.load_extension(str(files("sqlite_vector") / "binaries" / "vector.so"))
        self.index.execute("CREATE TABLE base (id INTEGER PRIMARY KEY, vector BLOB)")
        rows = ((id, row.tobytes()) for id, row in enumerate(base))
        self.index.executemany("INSERT INTO base VALUES (?, ?)", rows)
        kind = f"type=FLOAT32,dimension={base.shape[1]},distance=DOT"
        self.index.execute("SELECT vector_init('base', 'vector', ?)", (kind,)).fetchall()
        self.index.execute("SELECT vector_quantize('base', 'vector', ?)", (self.quantize,)).fetchall()
        self.index.execute("SELECT vector_quantize_preload('base', 'vector')").fetchall()

    def tune(self, search_param: int) -> None:
        self.fetched = search_param

    def ids(self, query: Floats) -> Ids:
        scan = "SELECT rowid FROM vector_quantize_scan('base', 'vector', ?, ?)"
        found = np.array(self.index.execute(scan, (query.tobytes(), self.fetched)).fetchall(), np.int64)[:, 0]
        return found[np.argsort(-(self.base[found] @ query), kind="stable")[: self.settings.k]]
