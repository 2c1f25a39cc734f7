"""The research graphs: Intel SVS (Vamana), rabitqlib (SymphonyQG, HNSW on RaBitQ codes), VSAG (HGraph), NGT."""

from __future__ import annotations

import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Ids

from engines.base import Engine, OneByOne, Settings


class Svs(Engine):
    """Vamana over float16 or LVQ codes, which SVS refuses to make on processors other than Intel's."""

    def __init__(self, settings: Settings, codes: str, degree: int = 32, window: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("svs")
        self.codes, self.degree, self.window = codes, degree, window

    def build(self, base: Floats) -> None:
        lib = self.lib
        parameters = lib.VamanaBuildParameters(alpha=1.2, graph_max_degree=self.degree, window_size=self.window)
        with tempfile.TemporaryDirectory() as folder:
            source = self._source(base, Path(folder))
            threads = self.settings.build_threads
            self.index = lib.Vamana.build(parameters, source, lib.DistanceType.L2, num_threads=threads)
        self.index.num_threads = 1

    def _source(self, base: Floats, folder: Path) -> Any:
        """What is indexed. LVQ codes are made from a file only; writing it is a small part of the build's time."""
        if self.codes == "f16":
            return base.astype(np.float16)
        file = str(folder / "base.fvecs")
        self.lib.write_vecs(base, file)
        loader = self.lib.VectorDataLoader(file, self.lib.DataType.float32, dims=base.shape[1])
        primary, residual = {"LVQ4x8": (4, 8), "LVQ8": (8, 0)}[self.codes]
        return self.lib.LVQLoader(loader, primary, residual, padding=32, strategy=self.lib.LVQStrategy.Turbo)

    def tune(self, search_param: int, capacity: float = 1.0, visited_set: bool = False) -> None:
        """capacity: of the buffer that is re-ranked, in search_params."""
        parameters = self.index.search_parameters
        parameters.buffer_config = self.lib.SearchBufferConfig(search_param, int(search_param * capacity))
        parameters.search_buffer_visited_set = visited_set
        self.index.search_parameters = parameters

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k)[0]).astype(np.int64)


class SymphonyQG(Engine):
    def __init__(
        self, settings: Settings, degree: int = 32, bits: int = 0, ef_construction: int = 200, init: str = "random"
    ) -> None:
        super().__init__(settings)
        self.lib = import_module("rabitqlib")
        self.degree, self.bits, self.ef_construction, self.init = degree, bits, ef_construction, init

    def build(self, base: Floats) -> None:
        self.index = self.lib.SymqgIndex(base.shape[1], self.degree, "l2", self.bits)
        self.index.build(base, self.ef_construction, self.settings.build_threads, self.init)

    def tune(self, search_param: int) -> None:
        self.ef = search_param

    def one(self, query: Floats) -> object:
        return self.index.search(query[None], self.settings.k, self.ef, 1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search_batch(queries, self.settings.k, self.ef, 1)[0]).astype(np.int64)


class RabitqHnsw(Engine):
    """Its codes are relative to centroids; sixteen, as in its own documentation, and their training is built time."""

    clusters = 16

    def __init__(self, settings: Settings, bits: int, M: int = 16, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("rabitqlib")
        self.bits, self.M, self.ef_construction = bits, M, ef_construction

    def build(self, base: Floats) -> None:
        threads = self.settings.build_threads
        means = self.lib.RaBitQKMeans(base.shape[1], self.clusters, num_threads=threads)
        means.train(base)
        self.index = self.lib.HnswIndex(base.shape[1], len(base), self.M, self.ef_construction, self.bits, "l2")
        self.index.build(base, means.centroids, means.assignments, threads)

    def tune(self, search_param: int) -> None:
        self.ef = search_param

    def one(self, query: Floats) -> object:
        return self.index.search(query[None], self.settings.k, self.ef, 1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, self.ef, 1)[0]).astype(np.int64)


class Vsag(OneByOne):
    """HGraph over codes that are re-ranked on the float vectors; a call takes one query."""

    def __init__(self, settings: Settings, codes: str, degree: int = 32, ef_construction: int = 200) -> None:
        super().__init__(settings)
        self.lib = import_module("pyvsag")
        self.codes, self.degree, self.ef_construction = codes, degree, ef_construction

    def build(self, base: Floats) -> None:
        graph = {
            "base_quantization_type": self.codes,
            "use_reorder": self.codes != "fp32",
            "precise_quantization_type": "fp32",
            "max_degree": self.degree,
            "ef_construction": self.ef_construction,
            "build_thread_count": self.settings.build_threads,
        }
        n, dim = base.shape
        about = {"dtype": "float32", "metric_type": "l2", "dim": dim, "index_param": graph}
        self.lib.set_logger_off()
        self.index = self.lib.Index("hgraph", json.dumps(about))
        self.index.build(base.ravel(), np.arange(n, dtype=np.int64), n, dim)

    def tune(self, search_param: int) -> None:
        self.params = json.dumps({"hgraph": {"ef_search": search_param}})

    def ids(self, query: Floats) -> Ids:
        return self.index.knn_search(query, self.settings.k, self.params)[0]  # type: ignore[no-any-return]


class Ngt(OneByOne):
    """ANNG over floats; the search parameter is epsilon in thousandths, counted from -0.1.

    Its quantized graph (QG) is made by NGT's command line tool alone, which its wheel lacks; its optimizer (ONNG) takes
    minutes for some thousand vectors.
    """

    def __init__(self, settings: Settings, edges: int) -> None:
        super().__init__(settings)
        self.lib = import_module("ngtpy")
        self.edges = edges
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    def build(self, base: Floats) -> None:
        path, threads = str(Path(self.folder.name) / "index"), self.settings.build_threads
        self.lib.create(path, base.shape[1], self.edges, 40, "Normalized L2")
        self.index = self.lib.Index(path, log_disabled=True)
        self.index.batch_insert(base, num_threads=threads)

    def tune(self, search_param: int, search_edges: int = 40) -> None:
        self.index.set(num_of_search_objects=self.settings.k, epsilon=search_param / 1000 - 0.1)
        self.search_edges = search_edges

    def ids(self, query: Floats) -> Ids:
        found = self.index.search(query, self.settings.k, edge_size=self.search_edges, with_distance=False)
        return found  # type: ignore[no-any-return]
