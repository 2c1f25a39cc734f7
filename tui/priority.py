"""Long work on all cores, behind the thread that answers the keys."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["run_behind"]

_NICE = 10

T = TypeVar("T")


def run_behind(work: Callable[[], T]) -> T:
    """What work() returns, which runs at a lower priority where the system has one for a thread, as Linux does.

    In a thread of its own, since one cannot take its priority back; those that it starts have it too.
    """
    if sys.platform != "linux":
        return work()
    with ThreadPoolExecutor(1, "behind", _lower) as pool:
        return pool.submit(copy_context().run, work).result()


def _lower() -> None:
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
