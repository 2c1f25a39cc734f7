"""The progress of a job: a bar, the rate, and the time left."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import ProgressBar, Static

from edgevec.printable import printable

from .. import formatting

__all__ = ["JobProgress"]


class JobProgress(Horizontal):
    """A progress bar, hidden (class "gone") until it is of something. unit: what is counted, such as "rows"."""

    DEFAULT_CSS = """
    JobProgress {
        height: 1;
        #bar { width: 1fr; max-width: 60; }
        #bar Bar { width: 1fr; }
        #status { width: auto; padding: 0 1; }
    }
    """

    def __init__(self, unit: str, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="gone")
        self._unit, self._start = unit, 0.0

    def compose(self) -> ComposeResult:
        yield ProgressBar(id="bar", show_eta=False)
        yield Static(id="status", markup=False)

    def begin(self, what: str, now: float) -> None:
        self._start = now
        self.query_one(ProgressBar).update(total=None, progress=0)
        self.query_one("#status", Static).update(printable(what))

    def advance(self, done: int, total: int, now: float) -> None:
        self.query_one(ProgressBar).update(total=max(1, total), progress=done)
        spent = now - self._start
        if done and spent > 0:
            rate = done / spent
            left = (total - done) / rate
            status = f"{done:,} of {total:,} {self._unit}  {rate:,.0f}/s  {formatting.duration(left)} left"
            self.query_one("#status", Static).update(status)
