"""The engine that the app runs with: one method a wish, each passed to the module that grants it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import edgevec
from edgevec import SimdInfo
from edgevec.evaluation import Point

from . import plot, query_set, sweep
from .backends.base import Clock, LoadGenerator, Opened, Progress, SearchBackend
from .backends.index import IndexBackend
from .backends.open import open_file, read_sample
from .load_generator import ThreadedLoad
from .models import BuildSettings, Data, FilterResult, Queries

__all__ = ["RealEngine"]


class RealEngine:
    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock

    def simd(self) -> SimdInfo:
        return edgevec.simd_info()

    def open(self, path: Path, companion: str | None, progress: Progress) -> Opened | None:
        return open_file(path, companion, progress, self._clock)

    def sample(self) -> Data:
        return read_sample()

    def build(self, data: Data, settings: BuildSettings, progress: Progress) -> SearchBackend | None:
        if data.vectors is None:
            raise edgevec.NoVectorsError(f"{data.name}: only the index is open, not the data it was built from")
        index = edgevec.Index(
            data.dim,
            settings.metric,
            quantization=settings.quantization,
            M=settings.M,
            ef_construction=settings.ef_construction,
        )
        added = index.add(data.vectors, data.ids, progress=progress)
        return IndexBackend(index, self._clock) if len(added) == len(data) else None

    def queries(
        self,
        data: Data,
        backend: SearchBackend,
        source: str,
        progress: Progress,
        *,
        allowed: FilterResult | None = None,
        count: int = 500,
    ) -> Queries | None:
        return query_set.make(data, backend, source, progress, allowed=allowed, count=count)

    def load_generator(self) -> LoadGenerator:
        return ThreadedLoad(self._clock)

    def sweep(
        self, backend: SearchBackend, queries: Queries, k: int, efs: list[int], simd: str | None, progress: Progress
    ) -> Iterator[Point]:
        return sweep.run(backend, queries, k, efs, simd, progress)

    def export_figure(self, path: Path, title: str, curves: Mapping[str, list[Point]], k: int) -> None:
        plot.save(path, title, curves, k)
