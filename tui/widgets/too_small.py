"""Shown in place of a screen when the terminal is too small."""

from __future__ import annotations

from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

__all__ = ["MIN_SIZE", "TooSmall"]

MIN_SIZE = (60, 16)
"""The smallest usable terminal, in columns and rows."""


class TooSmall(Widget):
    """Says how large the terminal is and should be. Reads the size when drawn: hidden screens get no resize."""

    def render(self) -> RenderResult:
        size = self.app.size
        return Content(
            f"This window is {size.width} × {size.height}. It needs at least {MIN_SIZE[0]} × {MIN_SIZE[1]}; "
            "80 × 24 shows everything. ctrl+q quits."
        )
