"""The first screen: opens the sample, a recent file, one of the file tree, or a typed path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text, TextType
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import DirectoryTree, Input, OptionList, Static
from textual.widgets.option_list import Option

from edgevec.files import VECTOR_SUFFIXES
from edgevec.printable import printable

from .. import workers
from ..file_stamp import stamp
from ..messages import Failed, FileOpened, FolderChosen, Progressed
from ..models import SAMPLE, BuildSettings
from ..session import IndexEntry
from ..widgets.history_input import HistoryInput
from ..widgets.progress import JobProgress
from .base import BaseScreen

__all__ = ["OpenScreen"]

_MANIFEST = "manifest.json"
ENDINGS = (*VECTOR_SUFFIXES, ".ev", ".evd", ".edgevec", _MANIFEST)


class VectorFiles(DirectoryTree):
    """Folders, and the files that can be opened."""

    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "
    ICON_FILE = "· "

    hint = "Folders and the files that edgevec can open: vectors, indexes, collections, manifests. Enter opens"

    def process_label(self, label: TextType) -> Text:
        """The label as plain text: DirectoryTree would read the name of a file as markup."""
        return Text(printable(label)) if isinstance(label, str) else label

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        return [
            path
            for path in paths
            if not path.name.startswith(".") and (path.name.lower().endswith(ENDINGS) or _is_folder(path))
        ]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


class OpenScreen(BaseScreen):
    """Opens files."""

    mode = "open"
    CSS_PATH = "open.tcss"
    about = """
[b]Open[/b]

A file of vectors (.npy .npz .fvecs .hdf5 .parquet .arrow .jsonl .csv .safetensors), an index that was saved \
(.ev, or .evd with its graph on disk), a collection (.edgevec), a folder of shards or the manifest.json in it, or \
the sample: 25,000 dictionary entries that can be searched with words.

A collection is opened for reading: another program may write it meanwhile. Should its graph have to catch up with \
the records, the bar below shows how far it is.

Choose a recent file, or one in the tree, or type a path.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop reading", show=False),
        Binding("slash", "path", "Type a path"),
        Binding("delete", "forget", "Forget this file", show=False),
    ]

    def body(self) -> ComposeResult:
        yield Static(
            Content.from_markup(
                "[b $primary]edgevec[/]  vector search that goes wherever Python goes\n"
                "[$muted]Open vectors, search them, watch what ef, quantization and SIMD do.[/]"
            ),
            id="banner",
        )
        with Horizontal(id="path-row", classes="row"):
            path = HistoryInput(placeholder="path of a file of vectors, an index or a collection", id="path")
            path.tooltip = "A path, ~ allowed. Enter opens it"
            yield path
        with Horizontal(id="places-to-open"):
            with Vertical(id="left"):
                start = OptionList(id="start", classes="box")
                start.border_title = "Start here"
                start.tooltip = "Enter opens; Del forgets a recent file"
                yield start
            tree = VectorFiles(Path.cwd(), id="tree", classes="box")
            tree.border_title = "Files"
            yield tree
        yield JobProgress("rows", id="opening")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#start").focus()

    def on_screen_resume(self) -> None:
        self._fill()
        wanted, self.app.first_file = self.app.first_file, None
        if wanted is not None:
            self.open(wanted)

    def _fill(self) -> None:
        start = self.query_one("#start", OptionList)
        start.clear_options()
        sample = Content.from_markup("[b]WordNet sample[/]\n25,000 dictionary entries")
        start.add_option(Option(sample, id=SAMPLE))
        for name in self.app.settings.recent:
            path = Path(name)
            start.add_option(
                Option(Content.assemble((printable(path.name), "bold"), f"\n{printable(path.parent)}"), id=name)
            )
        start.highlighted = 0

    # ---- opening ---------------------------------------------------------------------------------------------------

    def open(self, path: Path) -> None:
        self.app.confirm_unsaved("Open another file", lambda: self._open(path.expanduser()))

    def _open(self, path: Path) -> None:
        services, companion = self.app.services, self.app.settings.companions.get(str(path.absolute()))

        def work(job: workers.Job) -> FileOpened | FolderChosen | None:
            if _is_folder(path) and not (path / _MANIFEST).exists():
                return FolderChosen(path)
            paths = [path, *([] if companion in (None, SAMPLE) else [Path(str(companion))])]
            before = {path: stamp(path) for path in paths}
            opened = services.open_file(path, companion, job.progress, services.clock)
            if opened is None:
                return None
            entry = None if opened.backend is None else IndexEntry(opened.backend, path=path)
            read = {path, opened.data.path}
            return FileOpened(path, opened.data, entry, {path: before[path] for path in paths if path in read})

        self._begin(f"reading {path.name}")
        workers.start(self, "open", work, f"{path.name} cannot be opened")

    def on_folder_chosen(self, message: FolderChosen) -> None:
        self.query_one("#opening").add_class("gone")
        folder, tree = message.path, self.query_one(VectorFiles)
        tree.path = folder.absolute()
        tree.focus()
        self.notify(f"{folder.name or folder} is a folder without shards: choose a file in it", timeout=6)

    def open_sample(self) -> None:
        self.app.confirm_unsaved("Open the sample", self._open_sample)

    def _open_sample(self) -> None:
        """Open the sample and build its index, so that it can be searched at once."""
        services, kept = self.app.services, self.app.settings
        settings = BuildSettings("cosine", kept.quantization, kept.M, kept.ef_construction)

        def work(job: workers.Job) -> FileOpened | None:
            data = services.read_sample()
            start = services.clock()
            backend = services.build_index(data, settings, job.progress, services.clock)
            return None if backend is None else FileOpened(None, data, IndexEntry(backend, services.clock() - start))

        self._begin("reading the sample")
        workers.start(self, "open", work, "The sample cannot be opened")

    def _begin(self, what: str) -> None:
        progress = self.query_one("#opening", JobProgress)
        progress.remove_class("gone")
        progress.begin(what, self.app.services.clock())

    def on_progressed(self, message: Progressed) -> None:
        self.query_one("#opening", JobProgress).advance(message.done, message.total, message.now)

    def on_file_opened(self, message: FileOpened) -> None:
        self.query_one("#opening").add_class("gone")
        app, before = self.app, self.session.backend
        name = SAMPLE if message.path is None else str(message.path.absolute())
        app.session.open(message.data, message.entry, name, message.stamps)
        if message.path is not None:
            app.settings.remember(message.path)
            app.save_settings()
        app.publish_session()
        if before is not None:  # not here: it waits for searches that still run
            app.run_worker(before.close, group="close", thread=True, exit_on_error=False)
        app.action_go("data" if message.entry is None else "search")

    def failed(self, message: Failed) -> None:
        self.query_one("#opening").add_class("gone")

    def action_stop(self) -> None:
        if workers.cancel(self, "open"):
            self.query_one("#opening").add_class("gone")
            self.notify("Stopped. Nothing was opened.")

    # ---- choosing --------------------------------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#start")
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        if event.option_id == SAMPLE:
            self.open_sample()
        elif event.option_id is not None:
            self.open(Path(event.option_id))

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        self.open(event.path)

    @on(Input.Submitted, "#path")
    def _typed(self, event: Input.Submitted) -> None:
        if event.value.strip():
            self.open(Path(event.value.strip()))

    def action_path(self) -> None:
        self.query_one("#path").focus()

    def action_forget(self) -> None:
        start = self.query_one("#start", OptionList)
        option = start.highlighted_option
        if start.has_focus and option is not None and option.id not in (None, SAMPLE):
            self.app.settings.forget(Path(str(option.id)))
            self._fill()

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        yield "Open the sample", "25,000 dictionary entries", self.open_sample
