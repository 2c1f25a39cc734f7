"""The line of keys at the bottom."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Footer

__all__ = ["KeyFooter"]


class KeyFooter(Footer):
    """Textual's, whose keys begin as compact or not as they stay, and are made anew only where others are to be shown.

    Textual's begin compact and change to what the footer is: each key of each screen has its styles applied three times
    then, a tenth of what the first screen takes. And they are made anew whenever the focus moves, six times for the
    first screen.
    """

    _shown: object = None

    def compose(self) -> ComposeResult:
        for part in super().compose():
            # That of the command palette stays compact.
            if hasattr(type(part), "compact") and not part.has_class("-command-palette"):
                part.set_reactive(type(part).compact, self.compact)  # type: ignore[attr-defined]
            yield part

    async def recompose(self) -> None:
        if not self.is_attached:  # it is called later than it was asked for
            return
        palette = self.app.COMMAND_PALETTE_BINDING
        active = self.screen.active_bindings.items()
        shown = [(key, *what[1:]) for key, what in active if what.binding.show or key == palette]
        if shown != self._shown:
            self._shown = shown
            await super().recompose()
