"""The load generator: threads that search continuously and record how long each search took."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .backends.base import SearchBackend
from .models import Clock, Measurements, Queries

__all__ = ["LoadGenerator", "LoadSpec"]

_COMPARE_EVERY = 8
"""Every eighth call is compared with the truth: enough to measure recall, too few to slow the searches."""


@dataclass(frozen=True, eq=False)
class LoadSpec:
    """The load to generate. batch: queries per call; 1 for single searches. nprobe: as of SearchBackend.search()."""

    backend: SearchBackend
    queries: Queries
    k: int
    ef: int
    threads: int
    batch: int
    nprobe: int | None = None


@dataclass
class _Notes:
    """What one thread measured since the last drain. It is replaced as a whole, so no lock is needed."""

    core: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)
    queries: int = 0
    found: int = 0
    expected: int = 0


class LoadGenerator:
    """Threads that search until they are stopped. A change of the load takes effect with each thread's next call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._state: Literal["stopped", "running", "paused"] = "stopped"
        self._workers: list[_Worker] = []
        self._load: LoadSpec | None = None
        self._drained = clock()
        self._failure: BaseException | None = None

    @property
    def state(self) -> Literal["stopped", "running", "paused"]:
        return self._state

    def start(self, load: LoadSpec) -> None:
        self.stop()
        self._load, self._state, self._failure = load, "running", None
        self._drained = self._clock()
        self._resize(load.threads)

    def change(self, load: LoadSpec) -> None:
        if self._state == "stopped":
            return
        self._load = load
        self._resize(load.threads)
        for worker in self._workers:
            worker.load = load

    def pause(self) -> None:
        if self._state == "running":
            self._state = "paused"
            for worker in self._workers:
                worker.go.clear()

    def resume(self) -> None:
        if self._state == "paused":
            self._state = "running"
            self.drain()  # so that the pause is not counted as time in which nothing was answered
            for worker in self._workers:
                worker.go.set()

    def stop(self) -> None:
        self._state = "stopped"
        self._resize(0)

    def drain(self) -> Measurements:
        now = self._clock()
        seconds, self._drained = now - self._drained, now
        notes = [worker.drain() for worker in self._workers]
        return Measurements(
            np.array([value for note in notes for value in note.core]),
            np.array([value for note in notes for value in note.call]),
            sum(note.queries for note in notes),
            sum(note.found for note in notes),
            sum(note.expected for note in notes),
            seconds,
        )

    def failure(self) -> BaseException | None:
        """The exception that ended a thread, if any did."""
        return next((worker.failure for worker in self._workers if worker.failure is not None), None)

    def _resize(self, count: int) -> None:
        """Bring the number of threads to `count`."""
        while len(self._workers) > count:
            self._workers.pop().end()
        while len(self._workers) < count:
            assert self._load is not None
            worker = _Worker(self._load, first=len(self._workers), clock=self._clock)
            if self._state == "running":
                worker.go.set()
            self._workers.append(worker)
            worker.start()


class _Worker(threading.Thread):
    def __init__(self, load: LoadSpec, first: int, clock: Clock) -> None:
        super().__init__(daemon=True, name=f"load {first}")
        self.load, self.go = load, threading.Event()
        self.failure: BaseException | None = None
        self._clock, self._ended, self._notes = clock, False, _Notes()
        self._at = first * 97  # so that threads do not ask the same queries in step

    def end(self) -> None:
        self._ended = True
        self.go.set()
        self.join()

    def drain(self) -> _Notes:
        notes, self._notes = self._notes, _Notes()
        return notes

    def run(self) -> None:
        try:
            while not self._ended:
                self._search_loop(self.load)
        except BaseException as error:  # shown on the screen: a thread has nobody else to tell
            self.failure = error

    def _search_loop(self, load: LoadSpec) -> None:
        """Search until the load changes."""
        queries, search = load.queries, load.backend.thread_search(load.queries.filter_result, load.nprobe)
        expected, limits = [len(ids) for ids in queries.expected(load.k)], queries.limits(load.k)
        vectors, total, single = queries.vectors, len(queries.vectors), load.batch == 1
        calls = 0
        while self.load is load and not self._ended:
            if not self.go.is_set():
                self.go.wait()
                continue
            picked = [(self._at + i) % total for i in range(load.batch)]
            self._at = (picked[-1] + 1) % total
            batch = vectors[picked[0]] if single else vectors[picked]
            start = self._clock()
            ids, distances, core = search(batch, load.k, load.ef)
            call = (self._clock() - start) / load.batch
            notes = self._notes
            notes.call.append(call)
            notes.core.append(call if core is None else core)
            notes.queries += load.batch
            if calls % _COMPARE_EVERY == 0:
                answers = [(ids, distances)] if single else zip(ids, distances, strict=True)
                for row, answer in zip(picked, answers, strict=True):
                    notes.found += min(expected[row], queries.found(row, load.k, *answer, limits[row]))
                    notes.expected += expected[row]
            calls += 1
