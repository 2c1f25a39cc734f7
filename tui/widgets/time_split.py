"""The time of a query as a bar: core, Python and screen; or search and screen."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content
from textual.widgets import Static

__all__ = ["TimeSplit"]

_MARKS = {
    "core": ("█", "$primary"),
    "search": ("█", "$primary"),
    "Python": ("▓", "$secondary"),
    "screen": ("░", "$muted"),
}


class TimeSplit(Static):
    """A bar of parts that differ in pattern and color."""

    _seconds: Mapping[str, float] | None = None

    DEFAULT_CSS = "TimeSplit { height: 2; text-wrap: nowrap; }"

    def show(self, seconds: Mapping[str, float] | None) -> None:
        """Show the seconds of each part, in order."""
        self._seconds = seconds
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        total = sum(self._seconds.values()) if self._seconds else 0.0
        if not self._seconds or total <= 0:
            self.update("")
            return
        room = max(3, self.size.width)
        widths = [max(1, round(room * part / total)) for part in self._seconds.values()]
        widths[widths.index(max(widths))] -= sum(widths) - room
        parts = [(name, *_MARKS[name]) for name in self._seconds]
        bar = [(mark * width, color) for (_, mark, color), width in zip(parts, widths, strict=True)]
        names = [(f"{mark} {name}  ", color) for name, mark, color in parts]
        self.update(Content.assemble(*bar, "\n", *names))
