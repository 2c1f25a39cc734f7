"""Small windows: what went wrong, and where to write."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.markup import escape
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from ..trouble import Trouble

__all__ = ["PathDialog", "TroubleScreen"]


class TroubleScreen(ModalScreen[None]):
    """An error: the reason, and what to do."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter", "dismiss", "Close")]

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self.trouble = trouble

    def compose(self) -> ComposeResult:
        with Vertical(classes="window trouble") as window:
            window.border_title = escape(f"✗ {self.trouble.title}")
            yield Static(self.trouble.reason, id="reason", markup=False)
            yield Static(self.trouble.advice, id="advice", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Close", variant="primary", compact=True)

    def on_button_pressed(self) -> None:
        self.dismiss()


class PathDialog(ModalScreen[Path | None]):
    """Asks for a path to write to, or to read. A file that exists is replaced on a second Enter only."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, title: str, path: Path, endings: tuple[str, ...], *, write: bool = True) -> None:
        super().__init__()
        self._title, self._path, self._endings, self._write = title, path, endings, write
        self._warned = ""

    def compose(self) -> ComposeResult:
        with Vertical(classes="window") as window:
            window.border_title = self._title
            yield Static(f"The name ends in {', '.join(self._endings)}", classes="muted")
            yield Input(str(self._path), compact=True, id="path")
            yield Static("", id="told", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Write" if self._write else "Read", variant="primary", id="take", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        field = self.query_one(Input)
        field.focus()
        field.cursor_position = len(field.value) - len(self._path.suffix)

    def on_input_changed(self) -> None:
        self._warned = ""
        self.query_one("#told", Static).update("")

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
            self.query_one("#told", Static).update(refusal)
        elif self._write and path.exists() and self._warned != name:
            self._warned = name
            self.query_one("#told", Static).update(f"{path.name} exists: Enter again replaces it")
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
        return ""
