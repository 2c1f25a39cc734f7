"""edgevec itself."""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
from data import Floats, Ids

from engines.base import Engine, Settings, Value


class Edgevec(Engine):
    """Parameters are those of edgevec.Index; what is not given is its default. mapped: used in place in its file."""

    def __init__(self, settings: Settings, mapped: bool = False, **parameters: Value) -> None:
        super().__init__(settings)
        self.lib = import_module("edgevec")
        self.mapped, self.parameters = mapped, parameters

    def build(self, base: Floats) -> None:
        self.index = self.lib.Index(base.shape[1], "cosine", **self.parameters)
        self.index.add(base, threads=self.settings.build_threads)
        if self.mapped:
            self.folder = tempfile.TemporaryDirectory()
            path = Path(self.folder.name, "index.ev")
            self.index.save(path)
            self.index = self.lib.Index.load(path, mmap=True)
            self.file_bytes = path.stat().st_size

    def tune(self, search_param: int) -> None:
        self.index.ef = search_param

    def one(self, query: Floats) -> object:
        return self.index.search(query, self.settings.k, threads=1)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k, threads=1).ids)
