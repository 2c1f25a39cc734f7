"""What a screen shows where nothing else has room: how large the terminal is, and how large it should be."""

from __future__ import annotations

from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

__all__ = ["MIN_SIZE", "TooSmall"]

MIN_SIZE = (60, 16)
"""Columns and rows without which nothing can be read."""


class TooSmall(Widget):
    """Reads the size as it is drawn: a screen that is not on top hears of no resize."""

    def render(self) -> RenderResult:
        size = self.app.size
        return Content(
            f"This window is {size.width} × {size.height}. It needs at least {MIN_SIZE[0]} × {MIN_SIZE[1]}; "
            "80 × 24 shows everything. ctrl+q quits."
        )
