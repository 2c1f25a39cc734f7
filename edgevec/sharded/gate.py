"""Searches that go on together, and changes that wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Gate"]


class Gate:
    """A lock that any number share, or one has alone. Who waits to have it alone comes before new ones that share."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting = 0

    @property
    def taken(self) -> bool:
        """Whether one has it alone."""
        return self._inside < 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            while self._waiting or self._inside < 0:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            try:
                while self._inside:
                    self._changed.wait()
                self._inside = -1
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._inside = 0
                self._changed.notify_all()
