"""One query's time as a bar of three parts: core, Python around it, and the screen around that."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

__all__ = ["TimeSplit"]

_PARTS = (("█", "$primary", "core"), ("▓", "$secondary", "Python"), ("░", "$muted", "screen"))


class TimeSplit(Static):
    """The parts differ in pattern as well as in colour."""

    _seconds: tuple[float, float, float] | None = None

    DEFAULT_CSS = "TimeSplit { height: 2; text-wrap: nowrap; }"

    def show(self, seconds: tuple[float, float, float] | None) -> None:
        """Of core, Python and screen, one after the other."""
        self._seconds = seconds
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        total = sum(self._seconds) if self._seconds else 0.0
        if not self._seconds or total <= 0:
            self.update("")
            return
        room = max(3, self.size.width)
        widths = [max(1, round(room * part / total)) for part in self._seconds]
        widths[widths.index(max(widths))] -= sum(widths) - room
        bar = [(mark * width, colour) for (mark, colour, _), width in zip(_PARTS, widths, strict=True)]
        names = [(f"{mark} {name}  ", colour) for mark, colour, name in _PARTS]
        self.update(Content.assemble(*bar, "\n", *names))
