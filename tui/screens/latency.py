"""The latency screen: runs the load generator and shows what it measures, live."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, Static

from edgevec import Quantization
from edgevec.readers import SUFFIXES

from .. import formatting, workers
from ..backends.base import SearchBackend
from ..errors import explain
from ..load_generator import LoadGenerator, LoadSpec
from ..messages import Built, Failed, Progressed, QueriesReady
from ..metrics import HISTOGRAM_EDGES, MetricsWindow, Totals
from ..models import Data, Queries, QuerySetSpec, Reads
from ..services import build_variant
from ..widgets.controls import Choice, Control, Number
from ..widgets.facts import Tiles
from ..widgets.plots import HistogramPlot, LatencyPlot
from ..widgets.probes import Probes
from ..widgets.progress import JobProgress
from .base import FROM_FILE, BaseScreen, prepare_queries, query_sources
from .dialogs import ErrorDialog, PathDialog

__all__ = ["LatencyScreen"]

_REDRAW = 0.25
"""Seconds between two redraws."""

_BATCH = 100
_BATCH_HINT = f"One query a call, or {_BATCH} in one call"
_CORES = os.cpu_count() or 1

_READS = "What a search reads on its way: 32, 8 or 1 bit a dimension"
_KEPT = "The quantization it was made with: another one would need the data themselves"
_NO_FILTER = "Type a filter on the screen Search (F3) to measure with it"


class LatencyScreen(BaseScreen):
    """Measures latency and recall under load, with settings that can be changed meanwhile."""

    mode = "latency"
    CSS_PATH = "latency.tcss"
    about = f"""
[b]Latency[/]

The load generator asks query after query and notes what each took. Change ef, quantization or threads while it \
runs and watch the step.

[b]P50[/]  half of the searches were faster; [b]P99[/]  99 of 100 were.
[b]ef[/]  candidates a search keeps: more is slower, and recall rises.
[b]nprobe[/]  where shards were built with clusters: how many of them a query is asked of.
[b]recall[/]  the share of the true neighbors (by exact search) that was found; random rows do not count themselves.
[b]QPS[/]  queries answered in a second, by all threads together.

Latencies are those inside the C core, where Python and this screen cost nothing; the line above says what a \
call from Python takes. In batches of {_BATCH} a latency is the call's time divided by its queries. The numbers \
count from the last change on.

[b]filter[/]  asks with the filter that stands on the screen Search, or without; recall is then that among what passes.

Of a [b]collection[/] the time of the whole search is shown: condition, graph and records. It takes one query a \
call, and keeps the quantization that it was made with. Of an index with its [b]graph on disk[/] the time of the whole \
call is shown, and what a query reads of the file; fewer queries are asked where the file is large.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "start_pause", "Start/pause"),
        Binding("s", "stop", "Stop"),
        Binding("left_square_bracket", "step('ef', -1)", "ef", key_display="[ ]"),
        Binding("right_square_bracket", "step('ef', 1)", "More ef", key_display="]", show=False),
        Binding("u", "step('quantization', 1)", "Quantization"),
        Binding("t", "step('threads', 1)", "Threads", show=False),
        Binding("b", "step('batch', 1)", "Single/batch", show=False),
        Binding("f", "step('filtered', 1)", "With the filter, or without", show=False),
        Binding("x", "clear", "Clear the plot", show=False),
    ]

    def body(self) -> ComposeResult:
        settings = self.app.settings
        with Horizontal(id="run", classes="row"):
            yield Button(
                "▶ Start", id="toggle", variant="primary", compact=True, tooltip="Start, pause and go on: space"
            )
            yield Button("■ Stop", id="stop", compact=True, disabled=True, tooltip="Stop the load generator")
            yield Choice(
                "ask", ["rows"], "rows", id="source", hint="Queries: random rows, the file's test set, or a file"
            )
            yield Choice("filter", ["off"], "off", id="filtered", hint=_NO_FILTER)
            yield Static("", id="status", markup=False)
        with Horizontal(id="load", classes="row"):
            yield Number(
                "ef",
                settings.ef,
                (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
                id="ef",
                hint="Candidates that a search keeps. More is slower and finds more. [ and ] from anywhere",
            )
            yield Probes()
            yield Choice(
                "quant",
                ["sq8"],
                "sq8",
                id="quantization",
                hint=_READS,
            )
            yield Number("k", settings.k, (1, 5, 10, 20, 50, 100), maximum=100, id="k", hint="Neighbors a query wants")
            yield Number(
                "threads",
                1,
                range(1, _CORES + 1),
                maximum=64,
                id="threads",
                hint="Threads that search at the same time",
            )
            yield Choice("calls", ["single", "batch"], "single", id="batch", hint=_BATCH_HINT)
        yield JobProgress("rows", id="progress")
        yield Tiles(
            {"p50": "P50", "p95": "P95", "p99": "P99", "maximum": "max", "qps": "QPS", "n": "n", "recall": "recall"},
            id="tiles",
        )
        with Horizontal(id="plots"):
            plot = LatencyPlot(id="latency-plot", classes="box")
            plot.border_title = "Latency of the last minute"
            yield plot
            histogram = HistogramPlot(id="histogram", classes="box")
            histogram.border_title = "How many took how long"
            yield histogram

    def on_mount(self) -> None:
        self.generator: LoadGenerator = self.app.services.load_generator(self.app.services.clock)
        self.metrics = MetricsWindow()
        self._data: Data | None = None
        self._source = "rows"
        self._filter = ""
        self._start_when_ready = False
        self._read_before: Reads | None = None
        super().on_mount()
        self.query_one("#toggle").focus()
        self.ticker = self.set_interval(_REDRAW, self.tick)

    def on_unmount(self) -> None:
        self.generator.stop()

    def opened(self) -> None:
        session = self.session
        if session.data is None or session.backend is None:
            self.generator.stop()
            return
        another = session.data is not self._data
        self.query_one(Probes).offer(session.backend.most_probes, all_of_them=another)
        if another:
            self._data, self._source = session.data, "rows"
            self.action_stop()
            self.action_clear()
            source = self.query_one("#source", Choice)
            source.options, source.value = query_sources(session.data), "rows"
        quantization = self.query_one("#quantization", Choice)
        quantization.options = session.quantizations()
        quantization.value = session.backend.settings.quantization
        quantization.display = bool(session.backend.settings.M)  # a graph on disk has none to choose
        quantization.hint = _KEPT if len(quantization.options) < 2 else _READS
        batch = self.query_one("#batch", Choice)
        if session.data.collection:
            batch.options, batch.value, batch.hint = ["single"], "single", "A collection takes one query a call"
        else:
            batch.options, batch.hint = ["single", "batch"], _BATCH_HINT
        self._offer_filter()
        load = self._load()
        if load is not None and self.generator.state != "stopped":
            self.generator.change(load)
        self._show()

    def _offer_filter(self) -> None:
        """Offer the filter of the screen Search, which may have changed."""
        choice, typed = self.query_one("#filtered", Choice), self.session.filter
        choice.options = ["off", "on"] if typed else ["off"]
        choice.hint = f"Only what passes: {typed}" if typed else _NO_FILTER
        if not typed:
            choice.value = "off"
        changed, self._filter = typed != self._filter, typed
        if changed and self.generator.state != "stopped":
            self._use_source(self._source)

    # ---- the load --------------------------------------------------------------------------------------------------

    def _query_set_spec(self) -> QuerySetSpec:
        backend = self.session.backend
        assert backend is not None
        filtered = self.query_one("#filtered", Choice).value == "on"
        return QuerySetSpec(self._source, backend.settings.metric, self.session.filter if filtered else "")

    def _queries(self) -> Queries | None:
        return None if self.session.backend is None else self.session.queries.get(self._query_set_spec())

    def _load(self) -> LoadSpec | None:
        """The load that the controls describe; None while the queries are not ready."""
        backend, queries = self.session.backend, self._queries()
        if backend is None or queries is None:
            return None
        batch = _BATCH if self.query_one("#batch", Choice).value == "batch" else 1
        numbers = {name: self.query_one(f"#{name}", Number).value for name in ("k", "ef", "threads")}
        return LoadSpec(backend, queries, batch=batch, nprobe=self.query_one(Probes).chosen, **numbers)

    def action_start_pause(self) -> None:
        state = self.generator.state
        if state == "running":
            self.generator.pause()
        elif state == "paused":
            self.generator.resume()
        else:
            self._start()
        self._show()

    def _start(self) -> None:
        load = self._load()
        self._start_when_ready = load is None
        if load is None:
            prepare_queries(self, self._query_set_spec())
        else:
            self._count_reads()
            self.generator.start(load)

    def on_queries_ready(self, message: QueriesReady) -> None:
        if message.data is not self.session.data:
            return
        self.session.queries[message.spec] = message.queries
        if self._start_when_ready:
            self._start()
        elif (load := self._load()) is not None:
            self.generator.change(load)
        self._show()

    def action_stop(self) -> None:
        self._start_when_ready = False
        workers.cancel(self, "queries")
        self.generator.stop()
        self._show()

    def action_clear(self) -> None:
        self.metrics.clear()
        self._count_reads()
        self._show()

    # ---- changes while it runs -------------------------------------------------------------------------------------

    def action_step(self, name: str, delta: int) -> None:
        control = self.query_one(f"#{name}", Control)
        control.action_step(delta)
        if isinstance(control, Choice) and len(control.options) < 2:
            self.notify(control.hint, severity="warning")

    def on_control_changed(self, event: Control.Changed) -> None:
        name = event.source.id
        if name == "quantization":
            self._switch(cast("Quantization", self.query_one("#quantization", Choice).value))
            return
        if name == "source":
            self._choose_source(self.query_one("#source", Choice).value)
            return
        if name == "filtered":
            self._use_source(self._source, f"filter {self.query_one('#filtered', Choice).value}")
            return
        load = self._load()
        if load is not None and self.generator.state != "stopped":
            self.generator.change(load)
        self._mark(f"{event.source.label} {event.source.shown()}")
        settings = self.app.settings
        settings.ef, settings.k = self.query_one("#ef", Number).value, self.query_one("#k", Number).value

    def _mark(self, what: str) -> None:
        if self.metrics.samples:
            self.generator.drain()  # what was measured up to now belongs to the settings before
            self.metrics.mark(self.app.services.clock(), what)
            self._count_reads()
        self._show()

    def _switch(self, quantization: Quantization) -> None:
        """Use the index with another quantization; it is built first if there is none yet."""
        data = self.session.data
        assert data is not None
        build = build_variant(self.app.services, self.session, quantization)

        def work(job: workers.Job) -> Built | None:
            entry = build(job.progress)
            return None if entry is None else Built(data, entry)

        progress = self.query_one("#progress", JobProgress)
        progress.begin(f"building {quantization}", self.app.services.clock())
        progress.remove_class("gone")
        workers.start(self, "build", work, f"The index cannot be built as {quantization}")

    def on_built(self, message: Built) -> None:
        self.query_one("#progress").add_class("gone")
        if message.data is self.session.data:
            self.session.use(message.entry)
            self._mark(message.entry.backend.settings.quantization)
            self.app.publish_session()

    def on_progressed(self, message: Progressed) -> None:
        if message.group == "build":
            self.query_one("#progress", JobProgress).advance(message.done, message.total, message.now)

    def failed(self, message: Failed) -> None:
        self.query_one("#progress").add_class("gone")
        self._start_when_ready = False
        if message.group == "queries":
            self._source = self.query_one("#source", Choice).value = "rows"
            self.query_one("#filtered", Choice).value = "off"
        self.opened()

    def _choose_source(self, source: str) -> None:
        if source == FROM_FILE:
            dialog = PathDialog("Queries from a file", Path.cwd() / "queries.npy", SUFFIXES, write=False)
            self.app.push_screen(dialog, self._file_chosen)
        else:
            self._use_source(source)

    def _file_chosen(self, path: Path | None) -> None:
        if path is None:
            self.query_one("#source", Choice).value = "rows"
        self._use_source("rows" if path is None else str(path))

    def _use_source(self, source: str, change: str = "queries") -> None:
        self._source = source
        load = self._load()
        if load is None:
            prepare_queries(self, self._query_set_spec())
        elif self.generator.state != "stopped":
            self.generator.change(load)
        self._mark(change)

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        failure = self.generator.failure()
        if failure is not None:
            self.action_stop()
            self.app.push_screen(ErrorDialog(explain("The load generator stopped", failure)))
            return
        if self.generator.state == "running":
            self.metrics.take(self.generator.drain(), self.app.services.clock())
            self._show()

    def _show(self) -> None:
        if not self.is_current:
            return
        state, totals = self.generator.state, self.metrics.totals()
        self.query_one("#toggle", Button).label = {"running": "❚❚ Pause", "paused": "▶ Go on"}.get(state, "▶ Start")
        self.query_one("#stop", Button).disabled = state == "stopped"
        self.query_one("#status", Static).update(self._status(totals))
        self.query_one("#tiles", Tiles).show(_tiles(totals))
        self.query_one(LatencyPlot).show(self.metrics.samples, self.metrics.changes)
        self.query_one(HistogramPlot).show(self.metrics.counts, HISTOGRAM_EDGES)

    def on_screen_resume(self) -> None:
        if self.session.backend is not None:
            self._offer_filter()
        self._show()

    def _status(self, totals: Totals | None) -> str:
        if self._start_when_ready:
            return "finding the true neighbors of the queries …"
        state = self.generator.state
        if totals is None:
            return "" if state == "stopped" else state
        backend = self.session.backend
        if backend is not None and not backend.times_core:
            return f"{state}{self._reading(backend)} · whole search"
        return f"{state} · call {formatting.micros(totals.call_p50)}, Python included, at P50"

    def _reading(self, backend: SearchBackend) -> str:
        """What a query read of the file, on the average since the last change."""
        now, before = backend.reads(), self._read_before
        if now is None or before is None or now.queries <= before.queries:
            return ""
        read = now.since(before)
        each = f"{read.reads / read.queries:,.0f} reads"
        return f" · {each} a query, {formatting.bytes_text(read.bytes / read.queries)}"

    def _count_reads(self) -> None:
        """Count what is read from now on."""
        backend = self.session.backend
        self._read_before = None if backend is None else backend.reads()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "stop":
            self.action_stop()
        else:
            self.action_start_pause()

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        yield "Start or pause the load", "Search without pause and watch the latency", self.action_start_pause
        yield "Stop the load", "End the load generator", self.action_stop
        yield "Clear the plot", "Forget what was measured", self.action_clear


def _tiles(totals: Totals | None) -> dict[str, str]:
    if totals is None:
        return dict.fromkeys(("p50", "p95", "p99", "maximum", "qps", "n", "recall"), "–")
    return {
        "p50": formatting.micros(totals.p50),
        "p95": formatting.micros(totals.p95),
        "p99": formatting.micros(totals.p99),
        "maximum": formatting.micros(totals.maximum),
        "qps": formatting.count(totals.qps),
        "n": formatting.count(totals.n),
        "recall": "–" if totals.recall != totals.recall else formatting.recall_text(totals.recall),
    }
