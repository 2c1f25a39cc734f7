"""Work off the event loop: one thread for each kind of work, which can be stopped and reports its progress.

    workers.start(self, "build", lambda job: Built(data, build(job.progress)), "Cannot build")

A job ends in one message: the one that the work returns, or `Failed`. A job that was cancelled, or replaced by a later
one of its group, says nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.dom import DOMNode
from textual.message import Message
from textual.worker import Worker, get_current_worker

from .errors import explain
from .messages import Failed, Progressed
from .models import Clock

__all__ = ["Job", "cancel", "start"]

_REPORT_SECONDS = 0.1
"""Seconds between two messages about progress; what comes in between is passed over."""


class Job:
    """What the work sees of its worker."""

    def __init__(self, node: DOMNode, group: str, clock: Clock) -> None:
        self._node, self.group, self._clock = node, group, clock
        self._worker = get_current_worker()
        self._reported = -_REPORT_SECONDS

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for the outcome."""
        return not self._worker.is_cancelled

    def progress(self, done: int, total: int) -> bool:
        """Say how far the work is, and learn whether to go on."""
        now = self._clock()
        if self.wanted and (now - self._reported >= _REPORT_SECONDS or done == total):
            self._reported = now
            self.post(Progressed(self.group, done, total, now))
        return self.wanted

    def post(self, message: Message) -> None:
        if self.wanted and self._node.is_running:
            self._node.post_message(message)


def start(
    node: DOMNode, group: str, work: Callable[[Job], Message | None], title: str, *, clock: Clock
) -> Worker[None]:
    """Run the work on a thread, in place of what its group was doing before.

    work   returns the message that ends it, or None when it was stopped
    title  heads the message when it fails
    """

    def run() -> None:
        job = Job(node, group, clock)
        try:
            outcome: Message | None = work(job)
        except Exception as error:  # an exception on a thread would end the app with a traceback
            outcome = Failed(group, explain(title, error))
        if outcome is not None:
            job.post(outcome)

    return node.run_worker(run, group=group, exclusive=True, thread=True, exit_on_error=False)


def cancel(node: DOMNode, group: str) -> bool:
    """Tell the group's job to stop. Says whether there was one."""
    return bool(node.workers.cancel_group(node, group))
