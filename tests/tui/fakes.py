"""Services with which every run looks the same: a clock that stands still unless it is moved, searches that take the
time they are told to, a machine with AVX2, a small part of the sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

import edgevec
from edgevec import SimdInfo
from edgevec.evaluation import Point
from edgevec.tui.backends.collection import CollectionBackend
from edgevec.tui.backends.index import IndexBackend
from edgevec.tui.backends.open import open_file, read_sample
from edgevec.tui.models import Answer, CollectionInfo, Data, Health, Measurements
from edgevec.tui.services import Services

ROWS = 1500


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeIndex(IndexBackend):
    """Answers like the index, in 42 microseconds."""

    def search(self, query, k, *, exact, **options) -> Answer:
        answer = super().search(query, k, exact=exact, **options)
        if not exact:
            self._clock.now += 0.0021
        return answer._replace(cost=answer.cost._replace(core=42e-6), seconds=71e-6)


class FakeCollection(CollectionBackend):
    """Likewise; files and memory are as large as they happen to be elsewhere."""

    def search(self, query, k, *, exact, **options) -> Answer:
        answer = super().search(query, k, exact=exact, **options)
        if not exact:
            self._clock.now += 0.0021
        return answer._replace(seconds=97e-6)

    def info(self) -> CollectionInfo:
        sizes = {"file": 1_310_720, "log": 45_352, "snapshot": 1_204_224, "memory": 1_230_000}
        return super().info()._replace(**sizes)

    def health(self) -> Health:
        return Health(super().health().ok, ("1,500 nodes, 36,302 links, 3 levels",))


class FakeLoad:
    """Latencies around 40 microseconds, more with a higher ef; a quarter of a second passes with each drain."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock, self._random = clock, np.random.default_rng(5)
        self.state = "stopped"

    def start(self, load) -> None:
        self.load, self.state = load, "running"

    def change(self, load) -> None:
        self.load = load

    def pause(self) -> None:
        self.state = "paused"

    def resume(self) -> None:
        self.state = "running"

    def stop(self) -> None:
        self.state = "stopped"

    def failure(self) -> None:
        return None

    def drain(self) -> Measurements:
        self._clock.now += 0.25
        core = self._random.gamma(20.0, 2e-6, 500) * (self.load.ef / 64)
        return Measurements(core, core + 20e-6, 500, 493, 500, 0.25)


def fake_services(clock: FakeClock) -> Services:
    return Services(
        clock=clock,
        simd_info=fake_simd,
        open_file=open_fake,
        read_sample=small_sample,
        build_index=build_fake,
        load_generator=FakeLoad,
        sweep=fake_sweep,
    )


def fake_simd() -> SimdInfo:
    return SimdInfo("avx2", ("scalar", "avx2"), ("scalar", "avx2", "avx512"), None)


def open_fake(path, companion, progress, clock):
    opened = open_file(path, companion, progress, clock)
    return opened._replace(backend=FakeCollection(opened.backend._collection, clock))


def small_sample() -> Data:
    data = read_sample()
    columns = {name: column[:ROWS] for name, column in data.columns.items()}
    return dataclasses.replace(
        data, ids=data.ids[:ROWS], vectors=data.vectors[:ROWS], texts=data.texts[:ROWS], columns=columns
    )


def build_fake(data, settings, progress, clock) -> FakeIndex:
    """One thread, so that the graph is the same each time."""
    index = edgevec.Index(data.dim, settings.metric, quantization=settings.quantization, ef_construction=100)
    index.add(data.vectors, data.ids, threads=1)
    clock.now += 1.5
    return FakeIndex(index, clock)


def fake_sweep(backend, queries, k, efs, simd, nprobe, progress) -> Iterator[Point]:
    slow = {"none": 1.6, "sq8": 1.0, "binary": 0.7}[backend.settings.quantization]
    for ef in efs:
        recall = 1 - {"none": 0.9, "sq8": 1.0, "binary": 2.5}[backend.settings.quantization] * 0.8 / ef
        yield Point(ef, recall, slow * ef, slow * ef * 1.3, slow * ef * 1.9, 1e6 / (slow * ef))
