"""A box of one line to type in: takes pasted text of several lines, and what was typed before."""

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
    """past: gives what was typed here before, the last at the end. Up and down walk through it, as in a shell."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+r", "recall", "Find in the history", show=False)]

    class Recall(Message):
        """A choice from the past is wanted."""

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
        """What is shown of the value; marks of faults are at the same places."""
        text = Text(pictures(self.value), no_wrap=True, overflow="ignore", end="")
        return text if self.highlighter is None else self.highlighter(text)

    def put(self, value: str) -> None:
        """As if it had been typed."""
        self.value = value
        self.cursor_position = len(value)

    def _on_paste(self, event: events.Paste) -> None:
        """All lines, joined by blanks: Input takes the first alone."""
        event.stop()
        event.prevent_default()
        self.replace(printable(" ".join(event.text.split())), *self.selection)

    def on_key(self, event: events.Key) -> None:
        if (event.key == "up" and self._step(-1)) or (event.key == "down" and self._step(1)):
            event.stop()
            event.prevent_default()

    def action_recall(self) -> None:
        self.post_message(self.Recall(self))

    def _step(self, by: int) -> bool:
        """Show the entry before or after this one. Says whether there was one, or might have been."""
        if not self._walk or self._walk[self._at] != self.value:  # typed anew: that is where the walk starts
            past = [typed for typed in self.past() if typed != self.value]
            self._walk, self._at = [*past, self.value], len(past)
        if not 0 <= self._at + by < len(self._walk):
            return by < 0
        self._at += by
        self.put(self._walk[self._at])
        return True
