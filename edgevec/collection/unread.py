"""What a hit shows beside its id: read when it is first asked for, and in any case before the records change."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ..errors import ClosedError, CorruptCollectionError
from .records import Shown, shown

__all__ = ["Details", "Unread"]


class Details:
    """Metadata and documents of the rows of one result, as they were at the time of the search."""

    __slots__ = ("__weakref__", "known", "rows", "unread")

    def __init__(
        self, rows: Sequence[int], known: dict[int, Shown] | None = None, unread: Unread | None = None
    ) -> None:
        """known: what is shown of each row; or `unread`, which will have it read."""
        self.rows = rows
        self.known = known
        self.unread = unread

    def of(self, row: int) -> Shown:
        if self.known is None:
            assert self.unread is not None
            self.unread.read(self)
        assert self.known is not None
        try:
            return self.known[row]
        except KeyError:
            raise CorruptCollectionError(
                "the record of this hit is gone: something other than edgevec deleted it after the search"
            ) from None


class Unread:
    """The details that nobody has asked for yet, for as long as somebody holds them.

    Args:
        reading: makes a context with a connection to the committed records, which stay as they are meanwhile. Held
            weakly: a result in someone's hand does not keep a collection open.
        vanished: told, weakly too, when a record is gone that should be there
    """

    def __init__(
        self, reading: Callable[[], AbstractContextManager[sqlite3.Connection]], vanished: Callable[[], None]
    ) -> None:
        self._reading = weakref.WeakMethod(reading)
        self._vanished = weakref.WeakMethod(vanished)
        self._waiting: set[weakref.ref[Details]] = set()

    def later(self, rows: Sequence[int]) -> Details:
        """The details of these rows, to be read while the records are as they are now."""
        details = Details(rows, unread=self)
        self._waiting.add(weakref.ref(details, self._waiting.discard))
        return details

    def read(self, details: Details) -> None:
        reading = self._reading()
        if reading is None:
            raise ClosedError("the collection was closed by another thread at this moment")
        with reading() as connection:
            if details.known is None:  # else the records were about to change
                self._fill([details], connection)

    def read_all(self, connection: sqlite3.Connection) -> None:
        """Before the records change, or can no longer be read. Nobody searches meanwhile."""
        waiting = self._waiting.copy()  # at once: what is let go of leaves the set at any moment
        alive = [details for found in waiting if (details := found()) is not None and details.known is None]
        if alive:
            self._fill(alive, connection)
        self._waiting.difference_update(waiting)

    def _fill(self, those: list[Details], connection: sqlite3.Connection) -> None:
        rows = list({row for details in those for row in details.rows})
        known = shown(connection, rows)
        for details in those:
            details.known = {row: known[row] for row in details.rows if row in known}
        if len(known) < len(rows) and (vanished := self._vanished()) is not None:
            vanished()
