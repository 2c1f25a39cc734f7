"""The table of search results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from edgevec.printable import decimals, printable

from ..hits import Hit
from ..models import Data

__all__ = ["ResultsTable"]

_BAR = 8
_FIELD = "field:"
"""Before the key of a metadata column, since one may be called id or text."""
_WIDEST = 18
_WIDEST_ID = 24


def bar(share: float, width: int) -> str:
    full, half = divmod(round(share * width * 2), 2)
    return ("━" * full + "╸" * half).ljust(width)


class ResultsTable(DataTable[Any]):
    """A table of hits. Rows are keyed by rank, so that a new answer changes only cells and the cursor stays."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "select_cursor", "Whole record", show=True),
        Binding("n", "follow", "Neighbors", show=True),
    ]

    class Chosen(Message):
        """The user wants to see this hit in full."""

        def __init__(self, hit: Hit) -> None:
            super().__init__()
            self.hit = hit

    class Followed(Message):
        """The user wants the neighbors of this hit."""

        def __init__(self, hit: Hit) -> None:
            super().__init__()
            self.hit = hit

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self.hits: list[Hit] = []
        self._shown: tuple[tuple[str, int], ...] = ()
        self._source: Data | None = None
        self.hint = "Enter shows the whole record, n searches for what is near it; c copies the row, C all of them"

    def show(self, found: Sequence[Hit], data: Data) -> None:
        self.hits, self._source = list(found), data
        layout = self._layout(data)
        if layout != self._shown:
            self.clear(columns=True)
            for name, width in layout:
                self.add_column(Text(printable(name.removeprefix(_FIELD))), width=width, key=name)
            self._shown = layout
        for hit in found:
            self._put(hit)
        for rank in range(len(found) + 1, self.row_count + 1):
            self.remove_row(str(rank))

    def _put(self, hit: Hit) -> None:
        cells = self._cells(hit)
        key = str(hit.rank)
        if key not in self.rows:
            self.add_row(*cells, key=key)
            return
        for (name, _), cell in zip(self._shown, cells, strict=True):
            if self.get_cell(key, name) != cell:
                self.update_cell(key, name, cell)

    def _layout(self, data: Data) -> tuple[tuple[str, int], ...]:
        """Columns and widths that fit; other metadata is shown only below the table."""
        tight = self.size.width < 70
        id_width = max((len(str(hit.id)) for hit in self.hits), default=6)
        id_width = min(max(5, id_width), _WIDEST_ID // 2 if tight else _WIDEST_ID)
        measure = "score" if any(hit.distance is None for hit in self.hits) else "distance"
        layout = [("#", 2 if tight else 3), ("id", id_width), (measure, 8)]
        layout.append(("near", _BAR - 3 if tight else _BAR))
        texts = data.texts is not None
        room = self.size.width - 2 - sum(width + 2 for _, width in layout)
        fields = []
        for name in data.columns:
            longest = max((len(hit.fields.get(name, "")) for hit in self.hits), default=0)
            width = min(_WIDEST, max(len(name), longest, 8))
            if room - width - 2 >= (30 if texts else 0):
                fields.append((f"{_FIELD}{name}", width))
                room -= width + 2
        if texts:
            layout.append(("text", max(10, room - 2)))
        return tuple(layout + fields)

    def _cells(self, hit: Hit) -> list[Text]:
        assert self._source is not None
        fixed = {
            "#": Text(str(hit.rank), justify="right"),
            "id": Text(printable(hit.id), justify="right" if isinstance(hit.id, int) else "left"),
            "distance": Text("" if hit.distance is None else decimals(hit.distance), justify="right"),
            "score": Text("" if hit.score is None else decimals(hit.score), justify="right"),
            "near": Text(bar(hit.closeness, dict(self._shown)["near"]), style=self.app.theme_variables["primary"]),
        }
        cells = []
        for name, width in self._shown:
            cell = fixed.get(name)
            if cell is None:
                content = hit.text if name == "text" else hit.fields.get(name.removeprefix(_FIELD), "")
                cell = Text(printable(content), no_wrap=True)
            if name not in ("#", "near"):
                cell.truncate(width, overflow="ellipsis")
            cells.append(cell)
        return cells

    def redraw(self) -> None:
        """Redraw after a change of size or theme."""
        if self._source is not None:
            row = self.cursor_row
            self.clear(columns=True)
            self._shown = ()
            self.show(self.hits, self._source)
            self.move_cursor(row=row)

    def on_resize(self, event: events.Resize) -> None:
        if self._source is not None and self._layout(self._source) != self._shown:
            self.redraw()

    def current(self) -> Hit | None:
        return self.hits[self.cursor_row] if 0 <= self.cursor_row < len(self.hits) else None

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        event.stop()
        hit = self.current()
        if hit is not None:
            self.post_message(self.Chosen(hit))

    def action_follow(self) -> None:
        hit = self.current()
        if hit is not None:
            self.post_message(self.Followed(hit))
