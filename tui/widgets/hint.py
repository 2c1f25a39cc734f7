"""The line above the footer that says what the focused thing is for."""

from __future__ import annotations

from textual.widgets import Static

from edgevec.printable import printable

__all__ = ["Hint"]


class Hint(Static):
    """Its text may hold any brackets."""

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
