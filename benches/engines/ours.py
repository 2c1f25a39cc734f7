"""edgevec itself."""

from __future__ import annotations

from importlib import import_module

import numpy as np
from data import Floats, Ids

from engines.base import Engine, Settings, Value


class Edgevec(Engine):
    """Parameters are those of edgevec.Index; what is not given is its default."""

    def __init__(self, settings: Settings, **parameters: Value) -> None:
        super().__init__(settings)
        self.lib = import_module("edgevec")
        self.parameters = parameters

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(base.shape[1], "cosine", **self.parameters)
        self.index.add(base, threads=self.settings.build_threads)

    def tune(self, breadth: int) -> None:
        self.index.ef = breadth

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k, threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, threads=1).ids)
