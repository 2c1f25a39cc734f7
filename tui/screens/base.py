"""What every screen has: the two lines at the top, the hint, the footer, jobs, and how errors are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import Footer

from edgevec.readers import SUFFIXES

from .. import workers
from ..app_base import AppBase
from ..messages import Failed, QueriesReady
from ..models import Data, QuerySetSpec
from ..session import Session
from ..widgets.hint import Hint
from ..widgets.too_small import MIN_SIZE, TooSmall
from ..widgets.topbar import TopBar
from .dialogs import ErrorDialog

__all__ = ["FILE_ENDINGS", "FROM_FILE", "BaseScreen", "prepare_queries", "query_sources"]

FROM_FILE = "file …"
FILE_ENDINGS = SUFFIXES


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

    if TYPE_CHECKING:
        app: AppBase  # Textual declares App[Any]

    @property
    def session(self) -> Session:
        return self.app.session

    def compose(self) -> ComposeResult:
        yield TopBar(self.place)
        with Vertical(id="page"):
            yield from self.body()
        yield Hint()
        yield Footer()
        yield TooSmall(id="too-small")

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.app.session_changed.subscribe(self, lambda _: self._refresh_session())
        self._refresh_session()

    def _refresh_session(self) -> None:
        self.query_one(TopBar).show(self.session, self.app.services.simd_info())
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
        workers.start(self, group, work, title, clock=self.app.services.clock)

    def on_failed(self, message: Failed) -> None:
        self.failed(message)
        self.app.push_screen(ErrorDialog(message.error))

    def failed(self, message: Failed) -> None:
        """Tidy up after a job that failed."""

    # ---- hints -----------------------------------------------------------------------------------------------------

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.query_one(Hint).show(getattr(event.widget, "hint", "") or event.widget.tooltip or "")


# ---- queries for the screens that measure -------------------------------------------------------------------------


def query_sources(data: Data) -> list[str]:
    """What can be asked: random rows, the data's own test set, or a file's vectors."""
    return ["rows", *(["test set"] if data.queries is not None else []), FROM_FILE]


def prepare_queries(screen: BaseScreen, wanted: QuerySetSpec) -> None:
    """Get queries and their truth on a worker; the screen is told with QueriesReady."""
    data, backend, services = screen.session.data, screen.session.backend, screen.app.services
    if data is None or backend is None:
        return

    def work(job: workers.Job) -> QueriesReady | None:
        allowed = backend.filter(wanted.filter, data)
        queries = services.make_query_set(data, backend, wanted.source, job.progress, allowed=allowed)
        return None if queries is None else QueriesReady(data, wanted, queries)

    screen.job("queries", work, "The queries cannot be used")
