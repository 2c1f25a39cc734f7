"""Jobs on worker threads, exclusive by group, with progress and cancellation.

    workers.start(screen, "build", lambda job: Built(data, build(job.progress)), "Cannot build")

A job ends in one message: the one that the work returns, or `Failed`. A job that was cancelled, or replaced by a later
one of its group, posts no more messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from textual.message import Message
from textual.screen import Screen
from textual.worker import Worker, get_current_worker

from .errors import explain
from .messages import Failed, Progressed
from .models import Clock

if TYPE_CHECKING:
    from .app_base import AppBase

__all__ = ["Job", "cancel", "start"]

_REPORT_SECONDS = 0.1
"""Least time between two progress messages of a job, in seconds."""


class Job:
    """What a running job can do: report progress, post messages to its screen, and ask whether to go on."""

    def __init__(self, screen: Screen[Any], group: str, clock: Clock) -> None:
        self._screen, self.group, self._clock = screen, group, clock
        self._worker = get_current_worker()
        self._reported = -_REPORT_SECONDS

    @property
    def active(self) -> bool:
        """False once the job was cancelled or replaced: nobody waits for its outcome."""
        return not self._worker.is_cancelled

    def progress(self, done: int, total: int) -> bool:
        """Report how far the work is. Returns whether to go on."""
        now = self._clock()
        if self.active and (now - self._reported >= _REPORT_SECONDS or done == total):
            self._reported = now
            self.post(Progressed(self.group, done, total, now))
        return self.active

    def post(self, message: Message) -> None:
        if self.active and self._screen.is_running:
            self._screen.post_message(message)


def start(screen: Screen[Any], group: str, work: Callable[[Job], Message | None], title: str) -> Worker[None]:
    """Run the work on a thread, in place of what its group was doing before.

    work   returns the message that ends it, or None when it was stopped
    title  heads the error message when it fails
    """
    clock = cast("AppBase", screen.app).services.clock

    def run() -> None:
        job = Job(screen, group, clock)
        try:
            outcome: Message | None = work(job)
        except Exception as error:  # an exception on a thread would end the app with a traceback
            outcome = Failed(group, explain(title, error))
        if outcome is not None:
            job.post(outcome)

    return screen.run_worker(run, group=group, exclusive=True, thread=True, exit_on_error=False)


def cancel(screen: Screen[Any], group: str) -> bool:
    """Tell the group's job to stop. Returns whether there was one."""
    return bool(screen.workers.cancel_group(screen, group))
