"""An input of one line with a history, which also accepts pasted text of several lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from edgevec.printable import pictures, printable

__all__ = ["HistoryInput"]


class HistoryInput(Input):
    """An input with a history that up and down walk through, as in a shell. past: returns the entries, latest last."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+r", "recall", "Find in the history", show=False)]

    class Recall(Message):
        """The user wants to choose from the history."""

        def __init__(self, entry: HistoryInput) -> None:
            super().__init__()
            self.entry = entry

        @property
        def control(self) -> HistoryInput:
            return self.entry

    def __init__(self, value: str | None = None, *, id: str, **settings: Any) -> None:
        super().__init__(value, compact=True, id=id, **settings)
        self.past: Callable[[], Sequence[str]] = tuple
        self._walk: list[str] = []
        self._at = 0

    @property
    def _value(self) -> Text:
        """The value as shown: one character for each, so that marks of errors fit."""
        text = Text(pictures(self.value), no_wrap=True, overflow="ignore", end="")
        return text if self.highlighter is None else self.highlighter(text)

    def put(self, value: str) -> None:
        """Set the value, with the cursor at the end, as if it had been typed."""
        self.value = value
        self.cursor_position = len(value)

    def _on_paste(self, event: events.Paste) -> None:
        """Paste all lines, joined by spaces; Input would take only the first."""
        event.stop()
        event.prevent_default()
        self.replace(printable(" ".join(event.text.split())), *self.selection)

    def on_key(self, event: events.Key) -> None:
        if (event.key == "up" and self._step(-1)) or (event.key == "down" and self._step(1)):
            event.stop()
            event.prevent_default()

    def action_recall(self) -> None:
        self.post_message(self.Recall(self))

    def _step(self, delta: int) -> bool:
        """Show the previous (-1) or next (1) entry. Returns whether the key is used up."""
        if not self._walk or self._walk[self._at] != self.value:  # typed anew: that is where the walk starts
            past = [typed for typed in self.past() if typed != self.value]
            self._walk, self._at = [*past, self.value], len(past)
        if not 0 <= self._at + delta < len(self._walk):
            return delta < 0
        self._at += delta
        self.put(self._walk[self._at])
        return True
