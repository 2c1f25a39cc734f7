"""What every place has: the two lines at the top, the hint, the footer, jobs, and how errors are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import Footer, Static

from .. import workers
from ..messages import Failed
from ..session import Session
from ..widgets.hint import Hint
from ..widgets.topbar import TopBar
from .dialogs import ErrorDialog

if TYPE_CHECKING:
    from ..app import EdgevecApp

__all__ = ["BaseScreen"]


MIN_SIZE = (60, 16)
"""Columns and rows without which nothing can be read."""


class BaseScreen(Screen[None]):
    """place: its name among the modes; about: what it is for and what one should know, shown by the help."""

    # Annotated as in Screen.
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012
        (0, "-tiny"),
        (MIN_SIZE[0], "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (MIN_SIZE[1], "-short"), (32, "-tall")]  # noqa: RUF012

    place: ClassVar[str]
    about: ClassVar[str]

    @property
    def host(self) -> EdgevecApp:
        return cast("EdgevecApp", self.app)

    @property
    def session(self) -> Session:
        return self.host.session

    def compose(self) -> ComposeResult:
        yield TopBar(self.place)
        with Vertical(id="page"):
            yield from self.body()
        yield Hint()
        yield Footer()
        yield Static(id="too-small", markup=False)

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.host.session_changed.subscribe(self, lambda _: self._refresh_session())
        self._refresh_session()

    def _refresh_session(self) -> None:
        self.query_one(TopBar).show(self.session, self.host.engine.simd())
        self.opened()

    def opened(self) -> None:
        """Something else is open or in use."""

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """As it stands: a screen tells the names of files, whose brackets are no markup."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        """For the command palette: title, what it does, and how."""
        return ()

    # ---- jobs ------------------------------------------------------------------------------------------------------

    def job(self, group: str, work: Callable[[workers.Job], Message | None], title: str) -> None:
        workers.start(self, group, work, title, clock=self.host.clock)

    def on_failed(self, message: Failed) -> None:
        self.failed(message)
        self.app.push_screen(ErrorDialog(message.error))

    def failed(self, message: Failed) -> None:
        """Tidy up after a job that failed."""

    def on_resize(self, event: events.Resize) -> None:
        size = event.size
        self.query_one("#too-small", Static).update(
            f"This window is {size.width} × {size.height}. It needs at least {MIN_SIZE[0]} × {MIN_SIZE[1]}; "
            "80 × 24 shows everything. ctrl+q quits."
        )

    # ---- hints -----------------------------------------------------------------------------------------------------

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.query_one(Hint).show(getattr(event.widget, "hint", "") or event.widget.tooltip or "")
