"""The data screen: a preview of the open data, and building and saving its index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast, get_args

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, DataTable

from edgevec import Metric, Quantization
from edgevec.printable import printable

from .. import formatting, workers
from ..backends.base import SearchBackend
from ..file_stamp import stamp
from ..hits import shown
from ..messages import Built, Checked, Exported, Failed, InfoLoaded, Progressed
from ..models import SAMPLE, BuildSettings, CollectionInfo, Data, Part
from ..session import IndexEntry
from ..widgets.controls import Choice, Control, Number
from ..widgets.facts import Facts
from ..widgets.progress import JobProgress
from .base import ASKED_FIRST, BaseScreen
from .dialogs import PathDialog

__all__ = ["DataScreen"]

_PREVIEW = 200
_CHECKING = "checking …"


class DataScreen(BaseScreen):
    """Shows the data, and builds and saves indexes."""

    mode = "data"
    CSS_PATH = "data.tcss"
    about = """
[b]Data and index[/]

[b]metric[/]  cosine compares directions, l2 distances, ip inner products.
[b]quantization[/]  what a search reads while it walks the graph. none: whole float vectors. sq8: a byte per \
dimension, a quarter of that. binary: a bit per dimension, for vectors of hundreds of dimensions. The vectors, \
kept beside, put the results in order at the end, so distances stay exact.
[b]M[/]  links per node: more memory, better recall.
[b]ef_construction[/]  how hard building looks for good links: more is slower to build and better to search.

Stopping a build leaves the index that was in use as it is. Quitting or opening another file asks first while an \
index that was built is not saved. Should a file change on disk, the line at the top says so, and [b]F6[/] reads \
it again.

A [b]collection[/] keeps its own index and is open for reading only: nothing is built or saved here. [b]r[/] looks \
again, and takes in what other programs wrote, with a bar when it is much. Its [b]snapshot[/] is the graph on the \
disk; changes that it lacks are caught up with at each opening, until the writer's next checkpoint.

An [b]index[/] or [b]collection of shards[/] is searched as one. Its files are listed below; edgevec shards adds, \
removes and compacts.

An index with its [b]graph on disk[/] (.evd) is searched in its file: nothing is built, changed or saved here. \
[b]Check[/] reads all of a file; a large one is not checked unasked.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "build", "Build"),
        Binding("escape", "stop", "Stop building"),
        Binding("ctrl+s", "save", "Save"),
        Binding("s", "save_as", "Save as"),
        Binding("c", "check", "Check"),
        Binding("r", "reload", "Reload"),
    ]

    def body(self) -> ComposeResult:
        settings = self.app.settings
        with Horizontal(id="settings", classes="row"):
            yield Choice(
                "metric", get_args(Metric), "cosine", id="metric", hint="What near means: angle, distance or dot"
            )
            yield Choice(
                "quantization",
                get_args(Quantization),
                settings.quantization,
                id="quantization",
                hint="What a search reads on its way: none 32 bits a dimension, sq8 8, binary 1. Fewer is faster",
            )
            yield Number(
                "M",
                settings.M,
                (4, 8, 12, 16, 24, 32, 48, 64),
                minimum=2,
                maximum=256,
                id="M",
                hint="Links per node. More finds more, and takes more memory and time to build",
            )
            yield Number(
                "ef_construction",
                settings.ef_construction,
                (50, 100, 150, 200, 300, 400, 600, 800),
                id="ef_construction",
                hint="How hard building looks for links. More builds slower and finds more later",
            )
        with Horizontal(id="actions", classes="row"):
            yield Button(
                "Build", id="build", variant="primary", compact=True, tooltip="Build an index with these settings"
            )
            yield Button(
                "Stop", id="stop", compact=True, disabled=True, tooltip="Stop building; nothing is left half done"
            )
            yield Button("Save", id="save", compact=True, tooltip="Write the index to its file")
            yield Button("Save as", id="save-as", compact=True, tooltip="Write the index to another file")
            yield Button("Check", id="check", compact=True, tooltip="Verify the whole index")
            yield Button("Reload", id="reload", compact=True, tooltip="Read the file again; look at a collection again")
        yield JobProgress("rows", id="progress")
        with Horizontal(id="summary"):
            for name, title in (("data-facts", "Data"), ("index-facts", "Index")):
                facts = Facts(id=name, classes="box")
                facts.border_title = title
                yield facts
        table: DataTable[Any] = DataTable(id="preview", cursor_type="row", zebra_stripes=True, classes="box")
        table.border_title = "Preview"
        yield table

    building = False

    def on_mount(self) -> None:
        self._health = ""
        self._info: CollectionInfo | None = None
        self._previewed: Data | None = None
        self._checked: SearchBackend | None = None
        super().on_mount()
        self.query_one("#build").focus()

    # ---- what is shown ---------------------------------------------------------------------------------------------

    def opened(self) -> None:
        session = self.session
        if session.data is None:
            return
        if session.data is not self._previewed:
            self._building(False)
            workers.cancel(self, "build")
            self._previewed, self._info = session.data, None
            self._preview(session.data)
            self._fix_settings(session.data.collection, self._fixed() is not None)
            self._load_info()
            if session.backend is None:
                self.query_one("#metric", Choice).value = session.data.metric or "cosine"
        if session.backend is not None:
            self._show_settings(session.backend.settings)
        self._show_facts()
        self._check()

    def _show_settings(self, settings: BuildSettings) -> None:
        self.query_one("#metric", Choice).value = settings.metric
        self.query_one("#quantization", Choice).value = settings.quantization
        self.query_one("#quantization").display = bool(settings.M)
        for name, value in (("M", settings.M), ("ef_construction", settings.ef_construction)):
            number = self.query_one(f"#{name}", Number)
            number.display = bool(value)
            if value:
                number.value = value

    def _fixed(self) -> str | None:
        """Why nothing is built or saved here, or None."""
        backend = self.session.backend
        return None if backend is None else backend.fixed

    def _fix_settings(self, collection: bool, fixed: bool) -> None:
        """Disable the settings of a collection or of shards, which were chosen when they were made."""
        for control in self.query_one("#settings").query(Control):
            control.disabled = fixed
        for name, title in (("data-facts", "Collection" if collection else "Data"), ("index-facts", "Index")):
            self.query_one(f"#{name}").border_title = title
        self.query_one("#reload" if fixed else "#build").focus()

    def _show_facts(self) -> None:
        session, data = self.session, self.session.data
        assert data is not None
        self.query_one("#data-facts", Facts).show(_data_facts(data, session.current, self._info))
        facts = self.query_one("#index-facts", Facts)
        if session.current is None:
            facts.show([("Not built yet.", ""), ("Choose settings, then Build.", "")])
        elif data.collection:
            facts.show(_graph_facts(session.current, self._info, self._health))
        else:
            facts.show(_index_facts(session.current, self._health))
        index = None if self._fixed() else session.backend
        for name, needs in (
            ("save", index),
            ("save-as", index),
            ("build", data.vectors),
            ("check", session.backend),
        ):
            self.query_one(f"#{name}", Button).disabled = needs is None
        self.query_one("#reload", Button).disabled = self._file() is None

    def _preview(self, data: Data) -> None:
        table, backend = self.query_one("#preview", DataTable), self.session.backend
        table.clear(columns=True)
        parts = () if backend is None else backend.parts()
        if parts:
            _show_parts(table, parts)
            return
        names = [Text(printable(name)) for name in data.columns]
        table.add_columns("row", "id", *names, *(["text"] if data.texts is not None else []))
        for row in range(min(len(data), _PREVIEW)):
            cells = [str(row), printable(data.ids[row])]
            cells += [_short(column[row], 24) for column in data.columns.values()]
            if data.texts is not None:
                cells.append(_short(data.texts[row], 160))
            table.add_row(*map(Text, cells))
        total = self.session.rows
        more = f", the first {_PREVIEW} of {total:,} {_what(data)}" if total > _PREVIEW else ""
        table.border_title = f"Preview{more}"

    def _check(self) -> None:
        backend = self.session.backend
        if backend is None or backend is self._checked:
            return
        self._checked, self._health = backend, ""
        if backend.whole_scan > ASKED_FIRST:
            self._health = f"not checked: c does ({formatting.bytes_text(backend.whole_scan)})"
            self._show_facts()
        else:
            self.action_check()

    def action_check(self) -> None:
        backend = self.session.backend
        if backend is None:
            self.notify("There is no index to check: build one first", severity="warning")
            return
        if self._health == _CHECKING:  # a second one would only read the same once more
            return
        self._health = _CHECKING
        self._show_facts()
        workers.start(self, "check", lambda job: Checked(backend.health()), "The index cannot be checked")

    def on_checked(self, message: Checked) -> None:
        mark = "✓ sound" if message.health.ok else "✗ not sound"
        self._health = ", ".join((mark, *message.health.lines))
        self._show_facts()
        if not message.health.ok:  # the box above is too narrow for what is wrong
            found = "\n".join(message.health.lines)
            self.notify(found, title="The index is not sound", severity="error", timeout=30)

    # ---- a collection ----------------------------------------------------------------------------------------------

    def _load_info(self) -> None:
        """Read counts and sizes of a collection, after taking in what other processes wrote."""
        backend, data = self.session.backend, self.session.data
        if backend is None or data is None or not data.collection:
            return

        def work(job: workers.Job) -> InfoLoaded | None:
            backend.refresh(job.progress)
            info = backend.info()
            return None if info is None else InfoLoaded(info)

        self.query_one("#progress", JobProgress).begin("catching up with the records", self.app.services.clock())
        workers.start(self, "info", work, "The collection cannot be read")

    def on_info_loaded(self, message: InfoLoaded) -> None:
        self._building(False)
        data = self.session.data
        if data is not None and data.path is not None and message.info.records and not len(data):
            self.app.open_file(data.path)  # it was empty: now there are fields, perhaps an encoder
            return
        self._info, self._checked = message.info, None
        if data is not None:
            self._preview(data)
        self.app.publish_session()

    # ---- building --------------------------------------------------------------------------------------------------

    def chosen(self) -> BuildSettings:
        return BuildSettings(
            cast("Metric", self.query_one("#metric", Choice).value),
            cast("Quantization", self.query_one("#quantization", Choice).value),
            self.query_one("#M", Number).value,
            self.query_one("#ef_construction", Number).value,
        )

    def action_build(self) -> None:
        data = self.session.data
        fixed = self._fixed()
        if fixed is not None:
            self.notify(fixed, severity="warning", markup=False)
            return
        if data is None or data.vectors is None:
            self.notify("Open the data to build from: the index alone is open", severity="warning")
            return
        if self.building:
            self.notify("An index is being built already: Esc stops that", severity="warning")
            return
        services, settings = self.app.services, self.chosen()

        def work(job: workers.Job) -> Built | None:
            start = services.clock()
            backend = services.build_index(data, settings, job.progress, services.clock)
            return None if backend is None else Built(data, IndexEntry(backend, services.clock() - start))

        self._building(True)
        self.query_one("#progress", JobProgress).begin("starting", services.clock())
        workers.start(self, "build", work, "The index cannot be built")

    def _building(self, running: bool) -> None:
        self.building = running
        self.refresh_bindings()
        self.query_one("#progress").set_class(not running, "gone")
        self.query_one("#stop", Button).disabled = not running

    def on_progressed(self, message: Progressed) -> None:
        if message.group == "info":
            self.query_one("#progress").remove_class("gone")
        if message.group in ("build", "info"):
            self.query_one("#progress", JobProgress).advance(message.done, message.total, message.now)

    def on_built(self, message: Built) -> None:
        if message.data is not self.session.data:
            return
        self._building(False)
        message.entry.unsaved = True
        self.session.use(message.entry)
        self._keep_settings(message.entry.backend.settings)
        self.app.publish_session()
        self.notify(f"Built in {formatting.duration(message.entry.seconds or 0)}. F3 searches it.", timeout=4)

    def _keep_settings(self, settings: BuildSettings) -> None:
        kept = self.app.settings
        kept.quantization, kept.M, kept.ef_construction = settings.quantization, settings.M, settings.ef_construction
        self.app.save_settings()

    def failed(self, message: Failed) -> None:
        if message.group in ("build", "info"):
            self._building(False)
        if message.group == "check":
            self._health = "could not be checked"
            self._show_facts()

    def action_stop(self) -> None:
        if self.building:
            workers.cancel(self, "build")
            self._building(False)
            self.notify(
                "Stopped. The index in use is as it was." if self.session.backend else "Stopped. No index was built."
            )

    # ---- files -----------------------------------------------------------------------------------------------------

    def action_save(self) -> None:
        fixed = self._fixed()
        if fixed is not None:
            self.notify(fixed, severity="warning", markup=False)
        elif self.session.backend is None:
            self.notify("There is no index to save: build one first", severity="warning")
        elif self.session.current is None or self.session.current.path in (None, self.session.changed):
            self.action_save_as()  # where the file is another one by now, too
        else:
            self._save(self.session.current.path)

    def action_save_as(self) -> None:
        data, entry = self.session.data, self.session.current
        fixed = self._fixed()
        if fixed is not None:
            self.notify(fixed, severity="warning", markup=False)
            return
        if entry is None or data is None:
            self.notify("There is no index to save: build one first", severity="warning")
            return
        name = entry.path or Path.cwd() / f"{_file_stem(data)}.ev"
        protected = [path for path in [data.path] if path is not None]
        dialog = PathDialog("Save the index", name, (".ev",), protected=protected, replace="index")
        self.app.push_screen(dialog, self._save)

    def _save(self, path: Path | None) -> None:
        entry = self.session.current
        if path is None or entry is None:
            return

        session = self.session
        known = session.stamps.pop(path, None)  # that it is another one by then is our doing

        def work(job: workers.Job) -> Exported:
            try:
                entry.backend.save(path)
            except BaseException:
                if known is not None:
                    session.stamps[path] = known
                raise
            entry.path, entry.unsaved = path, False
            if (now := stamp(path)) is not None:
                session.stamps[path] = now
            if session.changed == path:
                session.changed = None
            return Exported(path)

        workers.start(self, "save", work, f"{path.name} cannot be written")

    def on_exported(self, message: Exported) -> None:
        session, settings = self.session, self.app.settings
        settings.remember(message.path)
        if session.data is not None and session.data.vectors is not None:
            own = SAMPLE if session.data.path is None else str(session.data.path.absolute())
            settings.companions[str(message.path.absolute())] = own
        self.app.save_settings()
        self.app.publish_session()
        self._show_facts()
        self.notify(f"Saved {message.path}", timeout=4)

    def _file(self) -> Path | None:
        """The file of the index, else that of the data."""
        data, entry = self.session.data, self.session.current
        return (entry.path if entry is not None else None) or (data.path if data is not None else None)

    def action_reload(self) -> None:
        path, data = self._file(), self.session.data
        if data is not None and data.collection:
            self._load_info()
            return
        if path is None:
            self.notify("The sample has no file to read again", severity="warning")
            return
        self.app.open_file(path)

    # ---- buttons ---------------------------------------------------------------------------------------------------

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        actions: dict[str | None, Callable[[], None]] = {
            "build": self.action_build,
            "stop": self.action_stop,
            "save": self.action_save,
            "save-as": self.action_save_as,
            "check": self.action_check,
            "reload": self.action_reload,
        }
        actions[event.button.id]()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Stopping is offered while there is something to stop."""
        return self.building if action == "stop" else True

    def on_control_changed(self, event: Control.Changed) -> None:
        event.stop()

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        yield "Build", "Build an index with the settings chosen", self.action_build
        yield "Save", "Write the index to its file", self.action_save
        yield "Save as", "Write the index to another file", self.action_save_as
        yield "Check", "Verify the whole index", self.action_check
        yield "Reload", "Read the file again", self.action_reload


def _show_parts(table: DataTable[Any], parts: Sequence[Part]) -> None:
    table.add_columns("shard", "vectors", "removed", "ids", "size")
    for part in parts:
        size = formatting.bytes_text(part.bytes)
        table.add_row(*map(Text, (part.file, f"{part.vectors:,}", f"{part.removed:,}", part.ids, size)))
    table.border_title = f"{formatting.plural(len(parts), 'shard')}"


def _data_facts(data: Data, entry: IndexEntry | None, info: CollectionInfo | None) -> list[tuple[str, str]]:
    if data.collection and entry is not None:
        return _collection_facts(data, entry, info)
    facts = [("name", data.name), ("rows", f"{len(data):,} × {data.dim}")]
    if data.vectors is None:
        facts.append(("vectors", "only in the index"))
    else:
        facts.append(("vectors", f"float32, {formatting.bytes_text(data.vectors.nbytes)}"))
    facts.append(("metric", data.metric or "not stated"))
    facts.append(("columns", ", ".join(data.columns) or "none"))
    facts.append(("texts", "yes" if data.texts is not None else "none"))
    facts.append(("encoder", "yes: ask with words" if data.encode is not None else "none: ask by row or vector"))
    if data.queries is not None:
        facts.append(("test set", f"{len(data.queries):,} queries"))
    return facts


def _what(data: Data) -> str:
    return "records" if data.collection else "rows"


def _collection_facts(data: Data, entry: IndexEntry, info: CollectionInfo | None) -> list[tuple[str, str]]:
    backend = entry.backend
    facts = [
        ("records", f"{len(backend):,} × {backend.dim or 'no vectors yet'}"),
        ("metric", backend.settings.metric),
    ]
    if info is None:
        facts.append(("documents", "counting …"))
    else:
        documents = f"{info.documents:,}, indexed for words" if info.documents else "none: no search by words"
        facts += [("vectors", info.dtype), ("documents", documents)]
    facts.append(("fields", ", ".join(data.columns) or "none"))
    if info is not None:
        facts.append(("indexed", ", ".join(info.indexes) or "no field"))
    ways = "the sample's: ask with words" if data.encode is not None else "none: ask by words, row or vector"
    facts.append(("encoder", ways))
    return facts


def _graph_facts(entry: IndexEntry, info: CollectionInfo | None, health: str) -> list[tuple[str, str]]:
    settings = entry.backend.settings
    facts = [("kind", _kind(settings))]
    if info is None:
        facts.append(("graph", "being caught up with the records …"))
    else:
        rows = max(1, info.records)
        lacks = f"; its snapshot lacks {formatting.plural(info.changes, 'change')}" if info.changes else ""
        facts += [
            ("graph", f"current{lacks}" if info.snapshot else "current; no snapshot yet: made at each opening"),
            ("bytes a row", f"{info.memory / rows:,.0f} ({formatting.bytes_text(info.memory)} in all)"),
            ("on disk", f"{formatting.bytes_text(info.file)}, log {formatting.bytes_text(info.log)}"),
            ("snapshot", formatting.bytes_text(info.snapshot) if info.snapshot else "none"),
        ]
    return [*facts, ("health", health), ("file", f"{entry.path.name if entry.path else '–'}, open for reading")]


def _kind(settings: BuildSettings) -> str:
    if not settings.M:  # a graph on disk
        return "vectors, links and 1-bit codes on disk"
    return f"{settings.quantization}, M {settings.M}, ef_construction {settings.ef_construction}"


def _index_facts(entry: IndexEntry, health: str) -> list[tuple[str, str]]:
    backend, seconds = entry.backend, entry.seconds
    settings, rows, memory = backend.settings, max(1, len(backend)), backend.memory()
    parts = [
        (f"  {name.replace('_', ' ')}", f"{memory[name] / rows:,.0f}")
        for name in ("vectors", "codes", "links")
        if memory.get(name, 0) >= rows
    ]
    if memory.get("on_disk"):
        parts.append(("on disk", formatting.bytes_text(memory["on_disk"])))
    if (read := backend.reads()) is not None:
        parts.append(("read", f"{formatting.bytes_text(read.bytes)} in {formatting.plural(read.reads, 'read')}"))
    built = "–" if seconds is None else f"{formatting.duration(seconds)}, {rows / max(seconds, 1e-9):,.0f} rows/s"
    return [
        ("kind", _kind(settings)),
        *([("built in", built)] if settings.M else []),
        ("bytes a row", f"{memory['total'] / rows:,.0f} ({formatting.bytes_text(memory['total'])} in all)"),
        *parts,
        ("health", health),
        ("file", "not saved" if entry.path is None else entry.path.name),
    ]


def _short(value: object, width: int) -> str:
    line = printable(" ".join(shown(value).split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _file_stem(data: Data) -> str:
    return "wordnet" if data.path is None else data.path.name.partition(".")[0]
