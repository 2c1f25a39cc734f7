"""The base class of the app. Screens are typed against it, since the app itself imports them."""

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
from .stylesheet import CachedStylesheet

__all__ = ["AppBase"]


class AppBase(App[None]):
    """What screens may use of the app.

    session_changed  published when other data were opened or another index came into use
    first_file       opened by the screen Open when it is shown
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        services: Services | None = None,
        settings_file: SettingsFile | None = None,
        history: History | None = None,
    ) -> None:
        super().__init__()
        self.stylesheet = CachedStylesheet(variables=self.get_css_variables())
        self.services = services or Services()
        self.history = history or History()
        self.session = Session()
        self.session_changed: Signal[Session] = Signal(self, "session")
        self.settings_file = settings_file or SettingsFile()
        self.settings = self.settings_file.read()
        self.first_file = file

    def publish_session(self) -> None:
        """Publish session_changed to every screen."""
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
        """One that is shown already is not shown twice, however often a key is pressed."""
        message = printable(message, lines=True)
        if any((shown.message, shown.title) == (message, title) for shown in self._notifications):
            return
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    # ---- implemented by the app ------------------------------------------------------------------------------------

    def action_go(self, mode: str) -> None:
        """Show a screen, or say why it cannot be used yet."""
        raise NotImplementedError

    def open_file(self, path: Path) -> None:
        """Switch to the screen Open and open this file."""
        raise NotImplementedError

    def confirm_unsaved(self, what: str, go: Callable[[], None]) -> None:
        """Call `go`, which closes all indexes; if one is not saved, ask first. `what` names the action."""
        raise NotImplementedError
