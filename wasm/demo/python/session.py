"""What one page works with: a source of rows, an index over them, and the searches that are asked of it."""

from __future__ import annotations

import asyncio
import inspect
import json
import platform
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgevec
from edgevec import (
    IdFilter,
    Index,
    Metric,
    ParameterError,
    Quantization,
    SearchContext,
    SearchResult,
    StorageError,
    recall,
)

from . import sources, storage
from .conditions import Conditions
from .snippet import SearchRequest, as_python
from .sources import Source
from .timing import Window, clock_step, next_step, seconds_of

SLICE = 0.03
"""Seconds of work at a time: between slices the page's messages are answered, and so typing goes on."""
PROGRESS_INTERVAL = 0.1
MEASURED_QUERIES = 200
MAX_FILTERS = 100


class Session:
    """The state behind one page. `handle` answers its messages; what a method of the table returns becomes JSON.

    Args:
        send: Posts an event to the page, as JSON.
    """

    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send
        self._messages: dict[str, Callable[..., Any]] = {
            "start": self.start,
            "open_sample": self.open_sample,
            "open_file": self.open_file,
            "open_index": self.open_index,
            "build": self.build,
            "stop": self.stop,
            "search": self.search,
            "examine": self.examine,
            "measure": self.measure,
            "random_row": self.random_row,
            "save": self.save,
            "refresh": self.refresh,
            "restore": self.restore,
            "forget": self.forget,
            "export": self.export,
        }
        self._source: Source | None = None
        self._index: Index | None = None
        self._context: SearchContext | None = None
        self._built: dict[str, Any] = {}
        self._filters: dict[tuple[str, str], IdFilter] = {}
        self._conditions: Conditions | None = None
        self._build: object | None = None
        self._measurement: object | None = None
        self._step = clock_step()
        self._settings: tuple[Any, ...] = ()
        self._calls, self._trips, self._recalls, self._scans = Window(), Window(), Window(), Window()

    def handle(self, name: str, arguments: str) -> str | Awaitable[str]:
        """Answer one message: {"result": ...} or {"error": {"kind", "message"}}, as JSON."""
        try:
            if name not in self._messages:
                raise ParameterError(f"unknown message {name!r}")
            result = self._messages[name](**json.loads(arguments))
        except Exception as error:
            return _failure(error)
        return self._finish(result) if inspect.isawaitable(result) else json.dumps({"result": result})

    async def _finish(self, work: Awaitable[Any]) -> str:
        try:
            return json.dumps({"result": await work})
        except Exception as error:
            return _failure(error)

    # ---- what is searched ------------------------------------------------------------------------------------------

    async def start(self) -> dict[str, Any]:
        """Versions, SIMD path and clock; and what an earlier visit saved, or why nothing can be."""
        problem = None
        try:
            await storage.mount()
        except StorageError as error:
            problem = str(error)
        return {
            "version": edgevec.__version__,
            "python": platform.python_version(),
            "simd": edgevec.simd_info().active,
            "clock": self._step,
            "saved": None if problem else storage.saved_state(),
            "storage_problem": problem,
        }

    def open_sample(self) -> dict[str, Any]:
        return self._open(sources.sample())

    def open_file(self, path: str) -> dict[str, Any]:
        """Read a file of vectors; what was searched before stays when it cannot be read."""
        source = sources.from_file(Path(path))
        sources.refuse_bad_rows(source, source.metric)
        return self._open(source)

    def open_index(self, path: str) -> dict[str, Any]:
        """Take over an index file; its rows get their texts when it was made from the rows that are open."""
        index = Index.load(path)
        if not len(index):
            raise ParameterError(f"{Path(path).name} holds no vectors")
        source = self._source
        if source is None or not sources.holds_rows_of(index, source):
            source = sources.from_index(index, Path(path).name)
        return self._open_built(source, index)

    def _open(self, source: Source) -> dict[str, Any]:
        self.stop()
        self._source, self._index, self._context, self._built = source, None, None, {}
        self._filters, self._conditions = {}, None
        return {"source": source.describe(), "index": None}

    def _open_built(self, source: Source, index: Index) -> dict[str, Any]:
        opened = self._open(source)
        self._use_index(index)
        return opened | {"index": self.describe()}

    def _use_index(self, index: Index) -> None:
        self._index, self._context = index, SearchContext(index)
        self._settings = ()

    def describe(self) -> dict[str, Any]:
        """The index in figures. seconds is the time spent adding; None when it came from a file."""
        index, source = self._require_index()
        memory = index.memory_usage()
        seconds = self._built.get("seconds")
        return {
            "quantization": index.quantization,
            "metric": index.metric,
            "rows": len(index),
            "total": len(source),
            "M": index.M,
            "ef_construction": index.ef_construction,
            "seconds": seconds,
            "rate": len(index) / seconds if seconds else None,
            "memory": memory,
        }

    # ---- build -----------------------------------------------------------------------------------------------------

    async def build(self, quantization: Quantization, metric: Metric) -> dict[str, Any]:
        """Build anew, in slices. The old index answers meanwhile; where there is none, what is built so far does."""
        source = self._require_source()
        sources.refuse_bad_rows(source, metric)
        index = Index(source.vectors.shape[1], metric, quantization=quantization)
        self._build = job = object()
        fresh = self._index is None
        if fresh:
            self._use_index(index)
        done, spent = 0, 0.0
        step, reported = 256, 0.0
        while done < len(source) and self._build is job:
            start = time.perf_counter()
            index.add(source.vectors[done : done + step], source.ids[done : done + step])
            took = time.perf_counter() - start
            done, spent = min(done + step, len(source)), spent + took
            step = next_step(step, took, SLICE)
            if fresh:
                self._built = {"seconds": spent}
            if start - reported >= PROGRESS_INTERVAL:
                reported = start
                self._send_event("building", done=done, total=len(source), rate=done / spent if spent else None)
            await asyncio.sleep(0)
        finished = self._build is job
        if finished:
            self._build = None
            self._built = {"seconds": spent}
            if not fresh:
                self._use_index(index)
        return {"finished": finished, "index": self.describe() if self._index is not None else None}

    def stop(self) -> None:
        """Give up the build and the measurement that run; what was there before stays."""
        self._build = self._measurement = None

    # ---- search ----------------------------------------------------------------------------------------------------

    def search(
        self, k: int, ef: int, topic: str = "", where: str = "", text: str = "", like: str | None = None
    ) -> dict[str, Any]:
        """Answer a text, or for `like` the neighbors of the row with that id, which comes and goes as a text."""
        index, source = self._require_index()
        self._measurement = None
        vector, row = self._vector(source, text, like)
        allowed = self._filter(topic, where)
        start = time.perf_counter()
        found = self._find(vector, k + (row is not None), ef, allowed)
        seconds = time.perf_counter() - start
        stats = self._context.stats if self._context else None
        hits = [
            source.row(id) | {"distance": distance}
            for id, distance in zip(found.ids.tolist(), found.distances.tolist(), strict=True)
            if id != row
        ]
        return {
            "hits": hits[:k],
            "about": None if row is None else source.row(row),
            "metric": index.metric,
            "rows": len(index),
            "matches": None if allowed is None else len(allowed),
            "seconds": seconds,
            "work": stats._asdict() if stats else None,
            "python": as_python(source, index, SearchRequest(k, ef, topic, where, text, row)),
        }

    def examine(
        self,
        trip: float,
        k: int,
        ef: int,
        topic: str = "",
        where: str = "",
        text: str = "",
        like: str | None = None,
    ) -> dict[str, Any]:
        """Time a search that was just answered and compare it with the exact one.

        Args:
            trip: Seconds from the page's message to the answer, as the page saw them.
        """
        _, source = self._require_index()
        vector, row = self._vector(source, text, like)
        allowed = self._filter(topic, where)
        self._reset_if_changed(k, ef, topic, where)
        self._trips.add(trip)
        return self._measure_one(vector, k + (row is not None), ef, allowed) | self._figures()

    async def measure(self, k: int, ef: int, topic: str = "", where: str = "") -> dict[str, Any]:
        """Time many searches with these settings, in slices; stops when something else is asked."""
        _, source = self._require_index()
        allowed = self._filter(topic, where)
        self._measurement = job = object()
        self._settings = ()
        self._reset_if_changed(k, ef, topic, where)
        paused = time.perf_counter()
        for done, vector in enumerate(self._queries(source)):
            self._measure_one(vector, k, ef, allowed)
            if time.perf_counter() - paused >= SLICE:
                self._send_event("measuring", done=done + 1, total=MEASURED_QUERIES)
                await asyncio.sleep(0)
                if self._measurement is not job:
                    break
                paused = time.perf_counter()
        finished = self._measurement is job
        if finished:
            self._measurement = None
        return {"finished": finished} | self._figures()

    def _measure_one(self, vector: NDArray[np.float32], k: int, ef: int, allowed: IdFilter | None) -> dict[str, Any]:
        found = self._find(vector, k, ef, allowed)
        seconds, repeats = seconds_of(lambda: self._find(vector, k, ef, allowed), self._step)
        start = time.perf_counter()
        exact = self._find(vector, k, ef, allowed, exact=True)
        scan = time.perf_counter() - start
        quality = recall(found, exact, metric=self._require_index()[0].metric)
        for window, value in ((self._calls, seconds), (self._recalls, quality), (self._scans, scan)):
            window.add(value)
        return {"seconds": seconds, "repeats": repeats, "recall": quality, "exact_seconds": scan}

    def _figures(self) -> dict[str, Any]:
        windows = {"calls": self._calls, "trips": self._trips, "recalls": self._recalls, "scans": self._scans}
        return {name: window.summary() for name, window in windows.items()}

    def _reset_if_changed(self, *settings: Any) -> None:
        """Figures made with other settings say nothing about these."""
        if settings != self._settings:
            self._settings = settings
            for window in (self._calls, self._trips, self._recalls, self._scans):
                window.clear()

    def _find(
        self, vector: NDArray[np.float32], k: int, ef: int, allowed: IdFilter | None, *, exact: bool = False
    ) -> SearchResult:
        index, _ = self._require_index()
        return index.search(vector, k, ef=ef, filter=allowed, exact=exact, context=self._context)

    def _vector(self, source: Source, text: str, like: str | None) -> tuple[NDArray[np.float32], int | None]:
        """The query, and the id of the row it is, if it is one."""
        text = text.strip()
        if like is None and text.startswith("["):
            return _typed_vector(text), None
        if like is None and source.encode is not None:
            return source.encode(text), None
        row = source.find(text) if like is None else source.known(like)
        return source.vectors[source.position(row)], row

    def _queries(self, source: Source) -> list[NDArray[np.float32]]:
        """What to measure with: definitions without their word, as texts; or rows where no text can be encoded."""
        picked = np.random.default_rng(1).choice(len(source), MEASURED_QUERIES, replace=len(source) < MEASURED_QUERIES)
        if source.encode is None or source.texts is None:
            return [source.vectors[at] for at in picked]
        return [source.encode(source.texts[at].partition(": ")[2]) for at in picked]

    def _filter(self, topic: str, where: str) -> IdFilter | None:
        """What the topic and the condition let through; None: all."""
        _, source = self._require_index()
        asked = topic, where.strip()
        if asked == ("", ""):
            return None
        if asked not in self._filters:
            ids = source.ids_of(topic) if topic else source.ids
            if asked[1]:
                self._conditions = self._conditions or Conditions(source)
                ids = np.intersect1d(ids, self._conditions.ids(where))
            while len(self._filters) >= MAX_FILTERS:
                self._filters.pop(next(iter(self._filters)))
            self._filters[asked] = IdFilter(ids)
        return self._filters[asked]

    def random_row(self) -> str:
        """The id of any row."""
        return str(np.random.default_rng().choice(self._require_source().ids))

    # ---- save and export -------------------------------------------------------------------------------------------

    async def save(self, settings: dict[str, Any], overwrite: bool = False) -> dict[str, Any]:
        index, source = self._require_index()
        return await storage.save(source, index, settings, overwrite=overwrite)

    async def refresh(self) -> dict[str, Any] | None:
        """What is saved now, by whichever tab."""
        return await storage.refresh()

    async def restore(self) -> dict[str, Any]:
        await storage.refresh()
        saved = storage.load()
        is_sample = saved.state.get("name") == sources.SAMPLE
        source = (
            sources.sample()
            if is_sample
            else sources.from_index(saved.index, saved.state.get("name", "saved index"), saved.rows)
        )
        return self._open_built(source, saved.index) | {"saved": saved.state}

    async def forget(self, overwrite: bool = False) -> None:
        await storage.forget(overwrite=overwrite)

    def export(self, path: str) -> dict[str, Any]:
        """Write the index to a file of the worker's, and say what to call it."""
        index, source = self._require_index()
        index.save(path)
        return {"name": f"{Path(source.name).stem.lower()}-{index.quantization}.ev"}

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def _require_source(self) -> Source:
        if self._source is None:
            raise ParameterError("nothing is open yet")
        return self._source

    def _require_index(self) -> tuple[Index, Source]:
        source = self._require_source()
        if self._index is None:
            raise ParameterError("nothing is built yet")
        return self._index, source

    def _send_event(self, event: str, **details: Any) -> None:
        self._send(json.dumps({"event": event} | details))


def _typed_vector(text: str) -> NDArray[np.float32]:
    try:
        return np.asarray(json.loads(text), np.float32)
    except (ValueError, TypeError) as error:
        raise ParameterError(f"not a vector: {error}") from error


def _failure(error: Exception) -> str:
    if isinstance(error, MemoryError):  # NumPy's and Python's own have other names, and the latter says nothing
        return json.dumps({"error": {"kind": "OutOfMemoryError", "message": str(error) or "the page's memory is full"}})
    return json.dumps({"error": {"kind": type(error).__name__, "message": str(error) or type(error).__name__}})
