"""What a forked child comes to."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

__all__ = ["in_child", "outcome_of", "start_child"]


def start_child(work: Callable[[], object], *, patience: int) -> int:
    """The process id of a child that does this.

    Args:
        patience: seconds after which it has hung
    """
    child = os.fork()
    if child == 0:
        signal.alarm(patience)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    return child


def outcome_of(child: int) -> int:
    """What it exits with: 0 where it came to an end, the signal's number where it hung."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_child(work: Callable[[], object], *, patience: int) -> int:
    """What a child that does this exits with, as outcome_of()."""
    return outcome_of(start_child(work, patience=patience))
