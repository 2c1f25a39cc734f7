"""The table of what a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from ..model import Answer, Data

__all__ = ["Hit", "ResultsTable", "hits"]

_BAR = 8
_WIDEST = 18


@dataclass(frozen=True)
class Hit:
    """One result. closeness: 0 to 1, what the bar shows; fields: metadata, in the order of the columns."""

    rank: int
    id: int
    distance: float
    closeness: float
    text: str
    fields: tuple[str, ...]


def hits(answer: Answer, data: Data, metric: str) -> list[Hit]:
    """Under cosine the bar is the similarity itself; otherwise it compares the results with each other."""
    distances = answer.distances.astype(float)
    if metric == "cosine":
        closeness = np.clip(1 - distances, 0, 1)
    else:
        spread = float(np.ptp(distances)) if len(distances) else 0.0
        closeness = (
            1 - 0.8 * (distances - distances.min(initial=np.inf)) / spread if spread else np.ones(len(distances))
        )
    rows = data.rows_of(answer.ids)
    found = []
    for rank, (row, id) in enumerate(zip(rows.tolist(), answer.ids.tolist(), strict=True)):
        text = "" if data.texts is None or row < 0 else data.texts[row]
        fields = tuple("" if row < 0 or column[row] is None else str(column[row]) for column in data.columns.values())
        found.append(Hit(rank + 1, id, float(distances[rank]), float(closeness[rank]), text, fields))
    return found


def bar(share: float, width: int) -> str:
    full, half = divmod(round(share * width * 2), 2)
    return ("━" * full + "╸" * half).ljust(width)


class ResultsTable(DataTable[Any]):
    """Rows are told apart by rank, so that a new answer changes cells and leaves the rest, cursor included, alone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Neighbours of this", show=True),
    ]

    class Followed(Message):
        """The neighbours of this hit are wanted."""

        def __init__(self, hit: Hit) -> None:
            super().__init__()
            self.hit = hit

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self.hits: list[Hit] = []
        self._shown: tuple[tuple[str, int], ...] = ()
        self._source: Data | None = None
        self.hint = "Enter searches for what is near this row; c copies it, C copies all"

    def show(self, found: Sequence[Hit], data: Data) -> None:
        self.hits, self._source = list(found), data
        layout = self._layout(data)
        if layout != self._shown:
            self.clear(columns=True)
            for name, width in layout:
                self.add_column(name, width=width, key=name)
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
        """Columns and widths for the room there is; metadata that does not fit is left to the line of details."""
        id_width = max((len(str(hit.id)) for hit in self.hits), default=6)
        tight = self.size.width < 70
        layout = [("#", 2 if tight else 3), ("id", max(5, id_width)), ("distance", 8)]
        layout.append(("near", _BAR - 3 if tight else _BAR))
        texts = data.texts is not None
        room = self.size.width - 2 - sum(width + 2 for _, width in layout)
        fields = []
        for position, name in enumerate(data.columns):
            longest = max((len(hit.fields[position]) for hit in self.hits), default=0)
            width = min(_WIDEST, max(len(name), longest, 8))
            if room - width - 2 >= (30 if texts else 0):
                fields.append((name, width))
                room -= width + 2
        if texts:
            layout.append(("text", max(10, room - 2)))
        return tuple(layout + fields)

    def _cells(self, hit: Hit) -> list[Text]:
        assert self._source is not None
        by_name = dict(zip(self._source.columns, hit.fields, strict=True))
        fixed = {
            "#": Text(str(hit.rank), justify="right"),
            "id": Text(str(hit.id), justify="right"),
            "distance": Text(f"{hit.distance:.4f}", justify="right"),
            "near": Text(bar(hit.closeness, dict(self._shown)["near"]), style=self.app.theme_variables["primary"]),
        }
        cells = []
        for name, width in self._shown:
            if name in fixed:
                cells.append(fixed[name])
            else:
                text = hit.text if name == "text" else by_name[name]
                cell = Text(text.replace("\n", " "), no_wrap=True)
                cell.truncate(width, overflow="ellipsis")
                cells.append(cell)
        return cells

    def redraw(self) -> None:
        """After a change of size or theme."""
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
            self.post_message(self.Followed(hit))
