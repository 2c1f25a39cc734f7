"""The line of keys at the bottom."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Footer

__all__ = ["KeyFooter"]


class KeyFooter(Footer):
    """Textual's, whose keys begin as compact or not as they stay.

    Textual's begin compact and change to what the footer is: each key of each screen has its styles applied three times
    then, a tenth of what the first screen takes.
    """

    def compose(self) -> ComposeResult:
        for part in super().compose():
            # That of the command palette stays compact.
            if hasattr(type(part), "compact") and not part.has_class("-command-palette"):
                part.set_reactive(type(part).compact, self.compact)  # type: ignore[attr-defined]
            yield part
