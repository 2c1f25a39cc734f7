"""The line above the footer that explains the focused widget."""

from __future__ import annotations

from textual.widgets import Static

from edgevec.printable import printable

__all__ = ["Hint"]


class Hint(Static):
    """A line of plain text, without markup."""

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show(self, what: object) -> None:
        self.update(printable(what))

    DEFAULT_CSS = """
    Hint {
        height: 1;
        padding: 0 1;
        color: $muted;
        background: $background;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """
