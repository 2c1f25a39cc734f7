"""The app itself: its screens, keys, themes and the dialogs at quitting."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from .app_base import AppBase
from .file_watch import FileWatch
from .models import SAMPLE
from .screens.base import BaseScreen
from .screens.dialogs import UnsavedDialog
from .screens.help import HelpScreen
from .screens.open import OpenScreen
from .themes import THEMES, next_theme
from .widgets import topbar

__all__ = ["EdgevecApp", "run"]

_LAZY = (
    "backends.open",
    "screens.data",
    "screens.search",
    "backends.collection",
    "query_set",
    "sweep",
    "screens.latency",
    "screens.compare",
)
"""Modules that are imported only after the first screen is shown."""


_BUILD_FIRST = "Build an index first: F2, then Build"

_LAZY_SECONDS = 0.3
"""From the start on: the first screen is painted by then, which a thread that imports would hold up."""


def _lazy_screen(module: str, name: str) -> Screen[None]:
    screen: Screen[None] = getattr(importlib.import_module(f".screens.{module}", __package__), name)()
    return screen


def _import_lazy() -> None:
    for module in _LAZY:
        importlib.import_module(f".{module}", __package__)


class EdgevecApp(AppBase):
    """The terminal app. It opens `file` at start; tests replace services, settings and history."""

    TITLE = "edgevec"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {
        "open": OpenScreen,
        "data": partial(_lazy_screen, "data", "DataScreen"),
        "search": partial(_lazy_screen, "search", "SearchScreen"),
        "latency": partial(_lazy_screen, "latency", "LatencyScreen"),
        "compare": partial(_lazy_screen, "compare", "CompareScreen"),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1,ctrl+o", "go('open')", "Open", show=False),
        Binding("f2", "go('data')", "Data and index", show=False),
        Binding("f3", "go('search')", "Search", show=False),
        Binding("f4", "go('latency')", "Latency", show=False),
        Binding("f5", "go('compare')", "Compare", show=False),
        Binding("question_mark,f12", "help", "Help", key_display="?"),
        Binding("ctrl+t", "next_theme", "Next theme", show=False),
        Binding("f6", "reload", "Read the file again", show=False),
        Binding("ctrl+z", "suspend_process", "To the shell, until fg", show=False),
        Binding("ctrl+q", "quit", "Quit", priority=True),
    ]

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.settings.theme if self.settings.theme in self.available_themes else THEMES[0].name
        self.theme_changed_signal.subscribe(self, lambda theme: self.save_theme(theme.name))
        # After fg the terminal is empty, but Textual draws only what has changed meanwhile.
        self.app_resume_signal.subscribe(self, lambda _: self.call_after_refresh(self.refresh, layout=True))
        self.switch_mode("open")
        if self.settings_file.notice:
            self.notify(self.settings_file.notice, title="Settings", severity="warning", timeout=12, markup=False)
        FileWatch(self).start()
        self.set_timer(_LAZY_SECONDS, self._import_lazy)

    def _import_lazy(self) -> None:
        if not gc.isenabled():  # as the command starts the app
            gc.freeze()
            gc.enable()
        self.run_worker(_import_lazy, group="imports", thread=True, exit_on_error=False)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """A muted color for Textual's own themes, which define none for text."""
        return {"muted": "#909090"}

    # ---- what is open ----------------------------------------------------------------------------------------------

    def open_file(self, path: Path) -> None:
        if isinstance(self.screen, OpenScreen):
            self.screen.open(path)
        else:
            self.first_file = path
            self.switch_mode("open")

    def confirm_unsaved(self, what: str, go: Callable[[], None]) -> None:
        def answered(answer: str | None) -> None:
            if answer == "leave":
                go()
            elif answer == "save":
                self.switch_mode("data")
                self.call_later(self._save_as)

        if self.session.unsaved:
            self.push_screen(UnsavedDialog(what), answered)
        else:
            go()

    def _save_as(self) -> None:
        from .screens.data import DataScreen

        if isinstance(self.screen, DataScreen):
            self.screen.action_save_as()

    def unavailable_reason(self, mode: str) -> str | None:
        """Why a screen cannot be used yet, or None."""
        if mode == "open":
            return None
        if self.session.data is None:
            if self._busy("open"):
                return "A file is being read: F1 shows how far it is"
            return "Open a file of vectors, an index, a collection or the sample first"
        if mode != "data" and self.session.backend is None:
            return "The index is being built: F2 shows how far it is" if self._busy("build") else _BUILD_FIRST
        return None

    def _busy(self, group: str) -> bool:
        return any(worker.group == group and not worker.is_finished for worker in self.workers)

    # ---- actions ---------------------------------------------------------------------------------------------------

    def action_go(self, mode: str) -> None:
        missing = self.unavailable_reason(mode)
        if missing is not None:
            self.notify(missing, severity="warning")
        elif self.current_mode != mode:
            self.switch_mode(mode)

    def on_screen_tab_chosen(self, event: topbar.ScreenTab.Chosen) -> None:
        self.action_go(event.mode)

    def action_reload(self) -> None:
        """Open the current file again."""
        if self.session.name in ("", SAMPLE):
            self.notify("There is no file to read again", severity="warning")
        else:
            self.open_file(Path(self.session.name))

    def action_help(self) -> None:
        if isinstance(self.screen, BaseScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_next_theme(self) -> None:
        self.theme = next_theme(self.theme)
        self.notify(f"Theme: {self.theme}", timeout=2)

    def save_theme(self, name: str) -> None:
        if self.settings.theme != name:
            self.settings.theme = name
            self.save_settings()

    def on_unmount(self) -> None:
        if self.session.backend is not None:
            self.session.backend.close()

    async def action_quit(self) -> None:
        """Quit at once when every index is saved, or when ctrl+q is pressed again in the dialog that asks."""
        if isinstance(self.screen, UnsavedDialog):
            self._leave()
        else:
            self.confirm_unsaved("Quit", self._leave)

    def _leave(self) -> None:
        """Cancel all jobs, save the settings and exit. A job that is cancelled leaves nothing half written."""
        self.workers.cancel_all()
        self.save_settings()
        self.exit()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)
        for mode, (key, name) in topbar.TABS.items():
            yield SystemCommand(f"Go to {name}", f"The screen {name} ({key})", lambda mode=mode: self.action_go(mode))
        if isinstance(screen, BaseScreen):
            yield from (SystemCommand(*command) for command in screen.commands())


def run(file: Path | None = None) -> None:
    """Run the app on this terminal until the user quits."""
    EdgevecApp(file).run()
