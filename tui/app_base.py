"""What screens may ask of the app. They know this class, and not the app itself, which knows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.app import App
from textual.notifications import SeverityLevel
from textual.signal import Signal

from edgevec.printable import printable

from .history import History
from .services import Services
from .session import Session
from .settings import SettingsFile

__all__ = ["AppBase"]


class AppBase(App[None]):
    """session_changed is published when something else is open or in use; first_file is opened by the screen Open."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        services: Services | None = None,
        settings_file: SettingsFile | None = None,
        history: History | None = None,
    ) -> None:
        super().__init__()
        self.services = services or Services()
        self.history = history or History()
        self.session = Session()
        self.session_changed: Signal[Session] = Signal(self, "session")
        self.settings_file = settings_file or SettingsFile()
        self.settings = self.settings_file.read()
        self.first_file = file

    def publish_session(self) -> None:
        """Tell every screen that something else is open or in use."""
        self.session_changed.publish(self.session)

    def save_settings(self) -> None:
        self.settings_file.write(self.settings)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        message = printable(message, lines=True)
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    # ---- the way between screens, which the app knows --------------------------------------------------------------

    def action_go(self, place: str) -> None:
        """Show a screen, or say why it cannot be used yet."""
        raise NotImplementedError

    def open_file(self, path: Path) -> None:
        """Go where files are opened, and open this one."""
        raise NotImplementedError

    def confirm_unsaved(self, what: str, go: Callable[[], None]) -> None:
        """Do what closes all indexes; ask before, when one was built here that is not saved."""
        raise NotImplementedError
