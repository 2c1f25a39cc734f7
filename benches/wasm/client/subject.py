"""edgevec under test, the same in Pyodide and natively: build, answer, and time calls from Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import edgevec

BATCH = 100


class Subject:
    """An index of one quantization, cosine, built and searched with one thread."""

    def __init__(self, quantization: Any) -> None:
        self.quantization = quantization

    def build(self, folder: str, n: int, dim: int, M: int, ef_construction: int) -> float:
        """Index the first n rows of the folder's base.f32; seconds."""
        rows = np.fromfile(Path(folder, "base.f32"), np.float32, n * dim).reshape(n, dim)
        self.queries = np.fromfile(Path(folder, "queries.f32"), np.float32).reshape(-1, dim)
        self.index = edgevec.Index(dim, "cosine", quantization=self.quantization, M=M, ef_construction=ef_construction)
        start = time.perf_counter()
        self.index.add(rows, threads=1)
        return time.perf_counter() - start

    def bytes(self) -> int:
        return self.index.memory_usage()["total"]

    def ids(self, count: int, k: int, ef: int) -> list[int]:
        """Ids of the first queries' nearest, k each."""
        found: list[int] = self.index.search(self.queries[:count], k, ef=ef, threads=1).ids.ravel().tolist()
        return found

    def round(self, count: int, k: int, ef: int, seconds: float) -> dict[str, Any]:
        """Microseconds of single calls, and of a query within each of a few batch calls, which leave Python once and so
        tell the time inside the core."""
        search, clock = self.index.search, time.perf_counter
        queries = list(self.queries[:count])
        calls, started = [], clock()
        for query in queries:
            start = clock()
            search(query, k, ef=ef)
            now = clock()
            calls.append((now - start) * 1e6)
            if now - started > seconds:
                break
        cores = []
        for at in range(0, count, BATCH):
            batch = self.queries[at : min(at + BATCH, count)]
            start = clock()
            search(batch, k, ef=ef, threads=1)
            cores.append((clock() - start) * 1e6 / len(batch))
        return {"calls_us": calls, "core_us": cores}
