"""edgevec itself."""

from __future__ import annotations

from importlib import import_module

import numpy as np
from data import Floats, Ids

from engines.base import Engine, Settings


class Edgevec(Engine):
    def __init__(
        self,
        settings: Settings,
        quantization: str = "sq8",
        M: int = 16,
        ef_construction: int = 200,
        keep_vectors: bool = True,
    ) -> None:
        super().__init__(settings)
        self.lib = import_module("edgevec")
        self.parameters = {
            "quantization": quantization,
            "M": M,
            "ef_construction": ef_construction,
            "keep_vectors": keep_vectors,
        }

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(base.shape[1], "cosine", **self.parameters)
        self.index.add(base, threads=self.settings.build_threads)

    def tune(self, breadth: int) -> None:
        self.index.ef = breadth

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k, threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, threads=1).ids)
