"""The compare screen: recall against latency over ef, for several quantizations, SIMD paths, filters or nprobe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, DataTable, Static

from edgevec import Quantization
from edgevec.evaluation import Point

from .. import export, formatting, workers
from ..messages import Exported, Failed, Measured, Progressed, QueriesReady, SweepDone, VariantReady
from ..models import Curve, Data, Queries, QuerySetSpec
from ..services import build_variant
from ..widgets.controls import Choice, Control, Number
from ..widgets.plots import CurvePlot
from ..widgets.probes import Probes
from ..widgets.progress import JobProgress
from .base import BaseScreen, prepare_queries, query_sources
from .dialogs import PathDialog

__all__ = ["CompareScreen"]

EFS = (10, 16, 24, 40, 64, 100, 160, 250, 400)
TARGETS = (0.95, 0.99)
QUANTIZATION, FILTER, PROBES = "quantization", "filter", "nprobe"
MOST_PROBES = 5
"""Variants that differ in nprobe: as many as the plot has colors."""

_NO_FILTER = "all rows, for there is no filter on the screen Search (F3)"
_DIFFERS = "What differs between the variants"
_KEPT = f"{_DIFFERS}. Another quantization would need the data themselves"


class Variant(NamedTuple):
    """How the queries of one variant are asked. filter: as typed; nprobe: None for all shards."""

    filter: str
    nprobe: int | None


class CompareScreen(BaseScreen):
    """Measures recall and latency over ef for several settings, and compares them."""

    mode = "compare"
    CSS_PATH = "compare.tcss"
    about = """
[b]Compare[/]

The same data and queries in several settings: [b]quantization[/] (none, sq8, binary), the [b]SIMD[/] paths \
of this machine, or with and without the [b]filter[/] of the screen Search. Each is measured over ef, one thread, in a \
process of its own. Of shards that were built with clusters also [b]nprobe[/], how many of them a query is asked of; \
recall is against all of them. Without the data that an index was built from, and in a [b]collection[/], there is one \
quantization; a collection's times are those of the whole search, a query a call.

A curve further to the lower right is better: more recall in less time. The table says what it takes to reach a \
recall of 0.95 and 0.99: the first ef of the sweep that does, P50 of single calls, and the queries a second of \
one batch.

Export writes a picture (.png, .svg) or the points (.csv).
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "Run"),
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+s,e", "export", "Export"),
    ]

    def body(self) -> ComposeResult:
        with Horizontal(id="what", classes="row"):
            yield Button(
                "▶ Run", id="run", variant="primary", compact=True, tooltip="Build what is missing, and measure"
            )
            yield Button("■ Stop", id="stop", compact=True, disabled=True, tooltip="Stop measuring; points so far stay")
            yield Button("Export", id="export", compact=True, disabled=True, tooltip="Write a picture or the points")
            yield Choice("by", [QUANTIZATION, "SIMD", FILTER], QUANTIZATION, id="kind", hint=_DIFFERS)
            yield Number(
                "k", self.app.settings.k, (1, 5, 10, 20, 50, 100), maximum=100, id="k", hint="Neighbors a query wants"
            )
            yield Probes()
            yield Choice("ask", ["rows"], "rows", id="source", hint="Queries: random rows, or the data's own test set")
        with Horizontal(id="now", classes="row"):
            yield Static("", id="status", markup=False)
            yield JobProgress("rows", id="progress")
        yield DataTable(id="table", cursor_type="none", cell_padding=0, classes="box")
        with Horizontal(id="below"):
            plot = CurvePlot(id="curve", classes="box")
            plot.border_title = "P50 of a call against recall"
            yield plot
            points: DataTable[Any] = DataTable(id="points", cursor_type="row", zebra_stripes=True, classes="box")
            points.border_title = "Points"
            yield points

    running = False

    def on_mount(self) -> None:
        self.curves: dict[str, Curve] = {}
        self._data: Data | None = None
        self._k, self._kind = self.app.settings.k, QUANTIZATION
        self._specs: dict[str, QuerySetSpec] = {}
        self._probes: dict[str, int | None] = {}
        table = self.query_one("#table", DataTable)
        table.border_title = "What it takes"
        table.can_focus = False
        for name, width in (("of", 8), ("ef", 4), ("recall", 7), ("P50", 8), ("P99", 8), ("QPS", 8)):
            self._points_table.add_column(_right(name), width=width)
        table.add_column("", width=9)
        for name, width in (("built", 8), ("B/row", 7), *_reach_columns()):
            table.add_column(_right(name), width=width)
        super().on_mount()
        self.query_one("#run").focus()
        self._show()

    @property
    def _points_table(self) -> DataTable[Any]:
        return self.query_one("#points", DataTable)

    def opened(self) -> None:
        data = self.session.data
        if data is None or data is self._data:
            return
        self._data = data
        self.action_stop()
        self.curves = {}
        source = self.query_one("#source", Choice)
        source.options, source.value = query_sources(data)[:-1], "rows"
        kind = self.query_one("#kind", Choice)
        backend, several = self.session.backend, len(self.session.quantizations()) > 1
        most = 0 if backend is None else backend.most_probes
        probed = [PROBES] if most > 1 else []
        kind.options = [*([QUANTIZATION] if several else []), "SIMD", *probed, FILTER]
        kind.value = QUANTIZATION if several else PROBES if probed else FILTER
        kind.hint = _DIFFERS if several else _KEPT
        self.query_one(Probes).offer(most, all_of_them=True)
        self._show_probes()
        self._points_table.clear()
        self._show()

    def on_screen_resume(self) -> None:
        self._show()

    # ---- measuring -------------------------------------------------------------------------------------------------

    def action_run(self) -> None:
        backend = self.session.backend
        if backend is None or self.running:
            return
        self._k, self._kind = self.query_one("#k", Number).value, self.query_one("#kind", Choice).value
        source, metric = self.query_one("#source", Choice).value, backend.settings.metric
        variants = self.variants()
        self._probes = {name: variant.nprobe for name, variant in variants.items()}
        self._specs = {name: QuerySetSpec(source, metric, variant.filter) for name, variant in variants.items()}
        self.curves = {name: Curve(name) for name in self._specs}
        self._points_table.clear()
        self._set_running(True)
        self._go_on()
        self._show()

    def variants(self) -> dict[str, Variant]:
        """What is compared, by name."""
        kind, condition = self.query_one("#kind", Choice).value, self.session.filter
        nprobe = self.query_one(Probes).chosen
        if kind == FILTER:
            conditions = {"all": "", **({"filter": condition} if condition else {})}
            return {name: Variant(condition, nprobe) for name, condition in conditions.items()}
        if kind == PROBES and self.session.backend is not None:
            return _by_probes(self.session.backend.most_probes)
        names = self.app.services.simd_info().available if kind == "SIMD" else self.session.quantizations()
        return dict.fromkeys(names, Variant("", nprobe))

    def on_queries_ready(self, message: QueriesReady) -> None:
        if message.data is self.session.data:
            self.session.queries[message.spec] = message.queries
            if self.running:
                self._go_on()

    def _go_on(self) -> None:
        """Make the queries that are missing, then measure."""
        known = self.session.queries
        missing = [spec for spec in self._specs.values() if spec not in known]
        if missing:
            self._say("finding the true neighbors of the queries …")
            prepare_queries(self, missing[0])
        else:
            self._measure({name: known[spec] for name, spec in self._specs.items()})

    def _measure(self, queries: dict[str, Queries]) -> None:
        session, services, data = self.session, self.app.services, self._data
        assert session.backend is not None
        assert data is not None
        k, by_simd, by_quantization = self._k, self._kind == "SIMD", self._kind == QUANTIZATION
        own = session.backend.settings.quantization
        quantizations = {name: cast("Quantization", name) if by_quantization else own for name in self.curves}
        builders = {name: build_variant(services, session, kind) for name, kind in quantizations.items()}
        efs, probes = [ef for ef in EFS if ef >= k] or [k], dict(self._probes)

        def work(job: workers.Job) -> SweepDone | None:
            for name, build in builders.items():
                entry = build(job.progress)
                if entry is None:
                    return None
                job.post(VariantReady(data, name, entry))
                forced = name if by_simd else None
                for point in services.sweep(
                    entry.backend, queries[name], k, efs, forced, probes[name], lambda done, total: job.active
                ):
                    job.post(Measured(name, point))
                if not job.active:
                    return None
            return SweepDone()

        self._say("building what is missing …")
        workers.start(self, "sweep", work, "The comparison stopped")

    def on_progressed(self, message: Progressed) -> None:
        if message.group == "sweep":
            progress = self.query_one("#progress", JobProgress)
            if progress.has_class("gone"):
                progress.remove_class("gone")
                progress.begin("", message.now)
            progress.advance(message.done, message.total, message.now)

    def on_variant_ready(self, message: VariantReady) -> None:
        self.query_one("#progress").add_class("gone")
        if message.data is not self.session.data or message.name not in self.curves:
            return
        self.session.keep(message.entry)
        if not self.running:
            return
        backend = message.entry.backend
        memory = round(backend.memory()["total"] / max(1, len(backend)))
        self.curves[message.name] = replace(
            self.curves[message.name], bytes_per_vector=memory, build_seconds=message.entry.seconds
        )
        self._say(f"measuring {message.name} …")
        self._show()

    def on_measured(self, message: Measured) -> None:
        curve, point = self.curves.get(message.name), message.point
        if curve is None or not self.running:  # what was on its way when it was stopped
            return
        self.curves[message.name] = replace(curve, points=(*curve.points, point))
        cells = (
            str(point.ef),
            formatting.recall_text(point.recall),
            formatting.micros(point.p50),
            formatting.micros(point.p99),
        )
        self._points_table.add_row(message.name, *map(_right, (*cells, formatting.count(point.qps))))
        self._show()

    def on_sweep_done(self) -> None:
        self._set_running(False)
        only = self._kind == FILTER and len(self.curves) == 1
        self._say(f"done · {_NO_FILTER if only else 'one thread, a process of its own for each'}")
        self._show()

    def failed(self, message: Failed) -> None:
        self._set_running(False)
        self._say("stopped by an error")

    def action_stop(self) -> None:
        if self.running:
            for group in ("queries", "sweep"):
                workers.cancel(self, group)
            self._set_running(False)
            self._say("stopped")

    def _set_running(self, running: bool) -> None:
        self.running = running
        self.refresh_bindings()
        self.query_one("#stop", Button).disabled = not running
        self.query_one("#run", Button).disabled = running
        if not running:
            self.query_one("#progress").add_class("gone")

    # ---- drawing ---------------------------------------------------------------------------------------------------

    def _say(self, what: str) -> None:
        self.query_one("#status", Static).update(what)

    def _show(self) -> None:
        measured = {name: curve.points for name, curve in self.curves.items() if curve.points}
        self.query_one("#export", Button).disabled = not measured
        if not self.is_current:
            return
        plot = self.query_one(CurvePlot)
        plot.show({name: curve.points for name, curve in self.curves.items()}, self._k)
        plot.border_subtitle = "  ".join(f"{at} {name}" for at, name in enumerate(self.curves, 1))
        self._show_table()

    def _show_table(self) -> None:
        table = self.query_one("#table", DataTable)
        table.clear()
        for at, curve in enumerate(self.curves.values(), 1):
            built = "–" if curve.build_seconds is None else formatting.duration(curve.build_seconds)
            memory = formatting.count(curve.bytes_per_vector) if curve.bytes_per_vector else "–"
            reached = [part for target in TARGETS for part in _reach(curve.points, target)]
            table.add_row(f"{at} {curve.name}", *map(_right, (built, memory, *reached)))

    # ---- export ----------------------------------------------------------------------------------------------------

    def action_export(self) -> None:
        if not any(curve.points for curve in self.curves.values()):
            self.notify("There is nothing to export: run the comparison first", severity="warning")
            return
        dialog = PathDialog(
            "Export the comparison",
            Path.cwd() / "recall-latency.svg",
            (".svg", ".png", ".csv"),
            protected=self.session.files,
        )
        self.app.push_screen(dialog, self._export)

    def _export(self, path: Path | None) -> None:
        data, backend, services, k = self.session.data, self.session.backend, self.app.services, self._k
        if path is None or data is None or backend is None:
            return
        curves = [curve for curve in self.curves.values() if curve.points]
        title = f"{data.name}: {self.session.rows:,} × {backend.dim}, {backend.settings.metric}"

        def work(job: workers.Job) -> Exported:
            if path.suffix.lower() == ".csv":
                export.write_curves(path, curves, k)
            else:
                services.save_plot(path, title, {curve.name: list(curve.points) for curve in curves}, k)
            return Exported(path)

        workers.start(self, "export", work, f"{path.name} cannot be written")

    def on_exported(self, message: Exported) -> None:
        self.notify(f"Wrote {message.path}", timeout=4)

    # ---- buttons ---------------------------------------------------------------------------------------------------

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        actions: dict[str | None, Callable[[], None]] = {
            "run": self.action_run,
            "stop": self.action_stop,
            "export": self.action_export,
        }
        actions[event.button.id]()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Stopping is offered while there is something to stop."""
        return self.running if action == "stop" else True

    def on_control_changed(self, event: Control.Changed) -> None:
        event.stop()
        self._show_probes()

    def _show_probes(self) -> None:
        """One nprobe for all variants, unless it is in this that they differ."""
        probes, backend = self.query_one(Probes), self.session.backend
        most = 0 if backend is None else backend.most_probes
        probes.display = most > 1 and self.query_one("#kind", Choice).value != PROBES

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        yield "Run the comparison", "Measure every variant over ef", self.action_run
        yield "Export the comparison", "A picture or the points", self.action_export


def _by_probes(most: int) -> dict[str, Variant]:
    """From one shard to all of them, in steps of about the same factor."""
    steps = [round(most ** (at / (MOST_PROBES - 1))) for at in range(MOST_PROBES)]
    counts = sorted({max(1, count) for count in steps} - {most})
    return {**{f"ask {count}": Variant("", count) for count in counts}, "ask all": Variant("", None)}


def _right(cell: str) -> Text:
    return Text(cell, justify="right")


def _reach_columns() -> list[tuple[str, int]]:
    return [column for target in TARGETS for column in ((f"ef@{target}", 8), ("P50", 8), ("QPS", 9))]


def _reach(points: Iterable[Point], target: float) -> tuple[str, str, str]:
    """ef, P50 and QPS of the first point that reaches the recall."""
    for point in points:
        if point.recall >= target:
            return str(point.ef), formatting.micros(point.p50), formatting.count(point.qps)
    return "–", "–", "–"
