"""Dialogs: errors, paths, unsaved indexes and the history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.markup import escape
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from edgevec.file_kind import KIND_NAMES, Kind, kind_of
from edgevec.printable import printable

from ..errors import ErrorMessage
from ..widgets.history_input import HistoryInput

__all__ = ["ErrorDialog", "HistoryDialog", "PathDialog", "UnsavedDialog"]


class ErrorDialog(ModalScreen[None]):
    """Shows an error: its reason, and advice."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter", "dismiss", "Close")]

    def __init__(self, error: ErrorMessage) -> None:
        super().__init__()
        self.error = error

    def compose(self) -> ComposeResult:
        with Vertical(classes="window error") as window:
            window.border_title = escape(f"✗ {printable(self.error.title)}")
            yield Static(printable(self.error.reason, lines=True), id="reason", markup=False)
            yield Static(self.error.advice, id="advice", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Close", variant="primary", compact=True)

    def on_button_pressed(self) -> None:
        self.dismiss()


class PathDialog(ModalScreen[Path | None]):
    """Asks for a path to write to, or to read. A file that exists is replaced on a second Enter only.

    protected  files that are open and must not be written to
    replace    the kind of file that is usually replaced here; of any other kind the dialog warns
    """

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(
        self,
        title: str,
        path: Path,
        endings: tuple[str, ...],
        *,
        write: bool = True,
        protected: Iterable[Path] = (),
        replace: Kind | None = None,
    ) -> None:
        super().__init__()
        self._title, self._path, self._endings, self._write = title, path, endings, write
        self._protected, self._replace = tuple(protected), replace
        self._warned = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="window") as window:
            window.border_title = self._title
            yield Static(f"The name ends in {', '.join(self._endings)}", classes="muted")
            yield HistoryInput(str(self._path), id="path")
            yield Static("", id="status", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Write" if self._write else "Read", variant="primary", id="take", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        field = self.query_one(Input)
        field.focus()
        field.cursor_position = len(field.value) - len(self._path.suffix)

    def on_input_changed(self) -> None:
        self._warned = ""
        self.query_one("#status", Static).update("")

    def on_input_submitted(self) -> None:
        self._take()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "take":
            self._take()
        else:
            self.dismiss(None)

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _take(self) -> None:
        name = self.query_one(Input).value.strip()
        path = Path(name).expanduser()
        refusal = self._refusal(path)
        if refusal:
            self.query_one("#status", Static).update(printable(refusal))
        elif self._write and path.exists() and self._warned != name:
            self._warned = name
            kind = kind_of(path)
            what = "" if kind in (self._replace, "empty", "other") else f" and is {KIND_NAMES[kind]}"
            self.query_one("#status", Static).update(printable(f"{path.name} exists{what}: Enter again replaces it"))
        else:
            self.dismiss(path)

    def _refusal(self, path: Path) -> str:
        if not path.name:
            return "Type the name of a file"
        if not path.parent.is_dir():
            return f"There is no folder {path.parent}"
        if path.is_dir():
            return f"{path} is a folder"
        if not self._write and not path.exists():
            return f"There is no file {path.name}"
        if path.suffix.lower() not in self._endings:
            return f"The name must end in {', '.join(self._endings)}"
        if self._write and path.exists():
            if not path.is_file():
                return f"{path.name} is not a regular file"
            if any(other.exists() and path.samefile(other) for other in self._protected):
                return f"{path.name} is open here: write to another file"
        return ""


class UnsavedDialog(ModalScreen[str]):
    """Asks before closing indexes that are not saved. Its result: "leave", "save" or "stay"."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('stay')", "Cancel")]

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def compose(self) -> ComposeResult:
        with Vertical(classes="window") as window:
            window.border_title = f"{self._what}?"
            yield Static("The index that was built here is not saved.", id="reason")
            with Horizontal(classes="buttons"):
                yield Button("Save it", variant="primary", id="save", compact=True)
                yield Button(f"{self._what}, unsaved", id="leave", compact=True)
                yield Button("Cancel", id="stay", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id or "stay")


class HistoryDialog(ModalScreen[str | None]):
    """Finds entries of the history by any part of them, latest first."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down,ctrl+r", "move(1)", "Older", priority=True),
        Binding("up", "move(-1)", "Newer", priority=True),
    ]

    def __init__(self, past: Sequence[str], part: str) -> None:
        super().__init__()
        self._past, self._part = list(reversed(past)), part

    def compose(self) -> ComposeResult:
        with Vertical(classes="window") as window:
            window.border_title = "Typed before"
            window.border_subtitle = "Enter takes it, Esc leaves"
            yield HistoryInput(self._part, id="part", placeholder="a part of it")
            earlier = OptionList(id="earlier")
            earlier.can_focus = False
            yield earlier

    def on_mount(self) -> None:
        self.query_one(HistoryInput).focus()
        self._find()

    def on_input_changed(self) -> None:
        self._find()

    def _find(self) -> None:
        part, earlier = self.query_one(HistoryInput).value.casefold(), self.query_one(OptionList)
        self._found = [typed for typed in self._past if part in typed.casefold()]
        earlier.clear_options()
        earlier.add_options([Option(Content(printable(typed))) for typed in self._found])
        earlier.highlighted = 0 if self._found else None

    def action_move(self, delta: int) -> None:
        earlier = self.query_one(OptionList)
        if earlier.highlighted is not None:
            earlier.highlighted = min(max(0, earlier.highlighted + delta), len(self._found) - 1)

    def on_input_submitted(self) -> None:
        at = self.query_one(OptionList).highlighted
        self.dismiss(None if at is None else self._found[at])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[event.option_index])
