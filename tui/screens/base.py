"""The base class of the screens, with top bar, hint and footer; and the queries for the screens that measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.notifications import SeverityLevel
from textual.screen import Screen

from .. import workers
from ..app_base import AppBase
from ..messages import Failed, QueriesReady
from ..models import Data, QuerySetSpec
from ..session import Session
from ..widgets.hint import Hint
from ..widgets.key_footer import KeyFooter
from ..widgets.too_small import MIN_SIZE, TooSmall
from ..widgets.topbar import TopBar
from .dialogs import ErrorDialog

__all__ = ["ASKED_FIRST", "FROM_FILE", "BaseScreen", "prepare_queries", "query_sources"]

FROM_FILE = "file …"

ASKED_FIRST = 256_000_000
"""Bytes of a file above which it is not read as a whole unasked, as to check it or to find the truth of a query."""


class BaseScreen(Screen[None]):
    """A screen of the app. mode: its name in App.MODES; about: the text of its help."""

    # Annotated as in Screen.
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012
        (0, "-tiny"),
        (MIN_SIZE[0], "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (MIN_SIZE[1], "-short"), (32, "-tall")]  # noqa: RUF012

    mode: ClassVar[str]
    about: ClassVar[str]

    _was_suspended = False

    if TYPE_CHECKING:
        app: AppBase  # Textual declares App[Any]

    @property
    def session(self) -> Session:
        return self.app.session

    def compose(self) -> ComposeResult:
        self._add_size_classes()
        yield TopBar(self.mode)
        with Vertical(id="page"):
            yield from self.body()
        yield Hint()
        yield KeyFooter()
        yield TooSmall(id="too-small")

    def body(self) -> ComposeResult:
        raise NotImplementedError

    def _add_size_classes(self) -> None:
        """As Textual does when the size is known, which applies all styles anew if the widgets are there before."""
        for size, breakpoints in zip(
            self.app.size, (self.HORIZONTAL_BREAKPOINTS, self.VERTICAL_BREAKPOINTS), strict=True
        ):
            reached = [name for least, name in breakpoints or () if size >= least]
            self.add_class(*reached[-1:])

    @on(events.ScreenSuspend)
    def _suspended(self) -> None:
        self._was_suspended = True

    @on(events.ScreenResume)
    def _resumed(self, event: events.ScreenResume) -> None:
        # Twice for a new screen, whose widgets have had their styles applied when they were mounted.
        event.refresh_styles = self._was_suspended

    def on_mount(self) -> None:
        self.app.session_changed.subscribe(self, lambda _: self._refresh_session())
        self._refresh_session()

    def _refresh_session(self) -> None:
        self.query_one(TopBar).show(self.session, self.app.services.simd_info())
        self.opened()

    def opened(self) -> None:
        """Called when the screen is mounted, other data were opened, or another index came into use."""

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Without markup by default, since messages hold names of files, which may hold brackets."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        """Entries for the command palette: title, explanation, and the function to call."""
        return ()

    # ---- errors ----------------------------------------------------------------------------------------------------

    def on_failed(self, message: Failed) -> None:
        self.failed(message)
        self.app.push_screen(ErrorDialog(message.error))

    def failed(self, message: Failed) -> None:
        """Called when a job failed, before the error is shown."""

    # ---- hints -----------------------------------------------------------------------------------------------------

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.query_one(Hint).show(getattr(event.widget, "hint", "") or event.widget.tooltip or "")


# ---- queries for the screens that measure -------------------------------------------------------------------------


def query_sources(data: Data) -> list[str]:
    """Where queries may come from: random rows, the data's own test set if there is one, or a file."""
    return ["rows", *(["test set"] if data.queries is not None else []), FROM_FILE]


def prepare_queries(screen: BaseScreen, spec: QuerySetSpec) -> None:
    """Make queries and their true answers in a job that ends with QueriesReady."""
    data, backend, services = screen.session.data, screen.session.backend, screen.app.services
    if data is None or backend is None:
        return

    def work(job: workers.Job) -> QueriesReady | None:
        filter_result = backend.filter(spec.filter, data)
        queries = services.make_query_set(data, backend, spec.source, job.progress, filter_result=filter_result)
        return None if queries is None else QueriesReady(data, spec, queries)

    workers.start(screen, "queries", work, "The queries cannot be used")
