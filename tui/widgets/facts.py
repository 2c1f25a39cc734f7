"""Labels with values: as lines, and as tiles."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from edgevec.printable import printable

__all__ = ["Facts", "Tile", "Tiles"]


class Facts(Static):
    """Lines of label and value, the values below one another."""

    DEFAULT_CSS = "Facts { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }"

    def show(self, facts: Iterable[tuple[str, str]]) -> None:
        """A label "" continues the line before; a value "" makes the label a line of its own."""
        facts = list(facts)
        width = max((len(label) for label, value in facts if value), default=0)
        lines = []
        for label, value in facts:
            if value:
                lines.append(Content.assemble((f"{label:<{width}}  ", "$muted"), (printable(value), "")))
            else:
                lines.append(Content(printable(label)))
        self.update(Content("\n").join(lines))


class Tile(Static):
    """A number above its name."""

    DEFAULT_CSS = """
    Tile { width: 1fr; height: 2; content-align: center top; text-align: center; text-wrap: nowrap; }
    """

    def __init__(self, label: str, *, id: str) -> None:
        super().__init__(id=id)
        self._label = label
        self.show("–")

    def show(self, value: str) -> None:
        self.value = value
        self.update(Content.assemble((f"{value}\n", "bold $primary"), (self._label, "$muted")))


class Tiles(Horizontal):
    """A row of tiles."""

    DEFAULT_CSS = "Tiles { height: 2; }"

    def __init__(self, labels: dict[str, str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._labels = labels

    def compose(self) -> ComposeResult:
        for name, label in self._labels.items():
            yield Tile(label, id=name)

    def show(self, values: dict[str, str]) -> None:
        for name, value in values.items():
            self.query_one(f"#{name}", Tile).show(value)
