"""The help dialog of a screen."""

from __future__ import annotations

from pathlib import PurePath
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from .base import BaseScreen

__all__ = ["HelpScreen"]


class HelpScreen(ModalScreen[None]):
    """Shows what a screen is for, and its keys."""

    CSS_PATH: ClassVar[list[str | PurePath] | None] = ["dialogs.tcss", "help.tcss"]
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,f12,q,enter", "dismiss", "Close")]

    def __init__(self, screen: BaseScreen) -> None:
        super().__init__()
        self._about = screen.about.strip()
        self._keys = _keys(screen)

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="window", can_focus=True) as window:
            window.border_title = "Help"
            window.border_subtitle = "Esc closes"
            yield Static(Content.from_markup(self._about))
            yield Static(self._key_table(), id="keys")

    def _key_table(self) -> Content:
        width = max((len(keys) for keys, _ in self._keys), default=0)
        return Content("\n").join(
            Content.assemble((f"{keys:>{width}}", "bold $accent"), f"  {what}") for keys, what in self._keys
        )


def _keys(screen: BaseScreen) -> list[tuple[str, str]]:
    """(keys, what they do): those of the screen first, then those of the app; without the keys of text editing."""
    by_action: dict[str, tuple[list[str], str]] = {}
    order = sorted(screen.active_bindings.values(), key=lambda active: active.node is screen.app)
    for active in order:
        binding = active.binding
        if not binding.description or isinstance(active.node, Input) or binding.action.startswith("app.copy"):
            continue
        key = screen.app.get_key_display(binding)
        keys, _ = by_action.setdefault(binding.action, ([], binding.description))
        if key not in keys:
            keys.append(key)
    return [(" ".join(keys), what) for keys, what in by_action.values()]
