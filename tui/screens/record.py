"""A dialog that shows a record in full."""

from __future__ import annotations

import json
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from edgevec.printable import decimals, printable

from .. import export
from ..hits import Hit
from ..widgets.key_footer import KeyFooter

__all__ = ["RecordScreen"]


class RecordScreen(ModalScreen[bool]):
    """Shows text and metadata of a record. Its result: whether to search for the neighbors of the record."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,space,q", "dismiss(False)", "Close"),
        Binding("n", "dismiss(True)", "Neighbors of this"),
        Binding("c", "copy", "Copy"),
    ]

    def __init__(self, hit: Hit) -> None:
        super().__init__()
        self._hit = hit

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="window record", can_focus=True) as window:
            window.border_title = "Record"
            window.border_subtitle = "↑ ↓ scroll, c copies, n its neighbors, Esc closes"
            yield Static(_content(self._hit), id="record")
        yield KeyFooter()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(export.as_record(self._hit))
        self.notify("Copied the record, as JSON", timeout=2)


def _content(hit: Hit) -> Content:
    facts = [("id", str(hit.id))]
    facts += [] if hit.distance is None else [("distance", decimals(hit.distance))]
    facts += [] if hit.score is None else [("score", decimals(hit.score))]
    lines = [_line(name, value) for name, value in facts]
    if hit.text:
        lines += [Content(""), Content(printable(hit.text, lines=True))]
    if hit.metadata:
        lines += [Content(""), *(_line(name, _pretty(value)) for name, value in hit.metadata.items())]
    return Content("\n").join(lines)


def _line(name: str, value: str) -> Content:
    return Content.assemble((f"{printable(name)}  ", "$muted"), (printable(value, lines=True), ""))


def _pretty(value: object) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return "–" if value is None else str(value)
