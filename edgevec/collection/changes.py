"""The version of the records, and the changes since a snapshot of the graph."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import CorruptCollectionError
from .records import RowIds

__all__ = [
    "Mark",
    "RecentWrites",
    "begin_listing",
    "changed_since",
    "increment_version",
    "is_whole",
    "known_snapshot",
    "last_change",
    "low_water_mark",
    "mark",
    "register",
    "restart",
    "rewrite",
    "truncate",
    "version",
    "written_since",
]

_MAX_RECENT_ROWS = 200_000
"""That this process wrote, or that are read of what others wrote."""
_MAX_REWRITTEN_ROWS, _REWRITTEN_PER_TRIM = 50_000, 1_000
"""That are listed, and how many more before the oldest are forgotten."""


def version(connection: sqlite3.Connection) -> int:
    """The number of commits that changed records: while it is the same, so are they."""
    return _state(connection, "version")


def _state(connection: sqlite3.Connection, name: str) -> int:
    found: Any = connection.execute(f"SELECT {name} FROM state").fetchone()
    if found is None or not isinstance(found[0], int):
        raise CorruptCollectionError(f"damaged: the table `state` has no {name}")
    return found[0]


def increment_version(connection: sqlite3.Connection, *, listed: bool = True) -> int:
    """The new version. listed: everything that was written is in `changes` or `rewritten`."""
    connection.execute("UPDATE state SET version = version + 1, listed = listed + ?, writing = 0", (listed,))
    return version(connection)


def begin_listing(connection: sqlite3.Connection) -> None:
    """The open transaction lists what it writes from here on, until increment_version()."""
    connection.execute("UPDATE state SET writing = 1")


def last_change(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(found[0]) if found else 0


def low_water_mark(connection: sqlite3.Connection) -> int:
    """Changes up to and including this one are no longer listed."""
    return _state(connection, "trimmed")


def is_whole(connection: sqlite3.Connection) -> bool:
    """Whether every change is listed since the first, or since the low-water mark: none was deleted by hand."""
    listed, first, last = connection.execute("SELECT count(*), min(seq), max(seq) FROM changes").fetchone()
    start, stop = low_water_mark(connection), last_change(connection)
    return bool(listed == stop - start and (not listed or (first, last) == (start + 1, stop)))


def restart(connection: sqlite3.Connection) -> None:
    """Delete all changes and snapshots. Numbers go on from the highest, so that none is used twice."""
    snapshots, listed = (
        int(connection.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()[0])
        for table in ("snapshots", "changes")
    )
    last = max(snapshots, listed, last_change(connection), low_water_mark(connection))
    connection.execute("DELETE FROM changes")
    connection.execute("DELETE FROM snapshots")
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'changes'")
    connection.execute("INSERT INTO sqlite_sequence VALUES ('changes', ?)", (last,))
    connection.execute("UPDATE state SET trimmed = ?", (last,))


def changed_since(connection: sqlite3.Connection, seq: int) -> RowIds:
    """The rows whose vector was added, replaced or deleted after change `seq`, ascending."""
    found = connection.execute("SELECT DISTINCT row FROM changes WHERE seq > ? ORDER BY row", (seq,))
    return np.fromiter((row for (row,) in found), np.int64)


def rewrite(connection: sqlite3.Connection, rows: Sequence[int]) -> None:
    """List rows that are written without another vector, and now and then forget the oldest."""
    connection.executemany("INSERT INTO rewritten(row) VALUES (?)", ((row,) for row in rows))
    last = int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])
    if last % _REWRITTEN_PER_TRIM < len(rows):
        connection.execute("DELETE FROM rewritten WHERE seq <= ?", (last - _MAX_REWRITTEN_ROWS,))


class Mark(NamedTuple):
    """A state of the records, from which what was written later can be told."""

    version: int
    listed: int
    change: int
    rewritten: int
    unlisted: int


def mark(connection: sqlite3.Connection) -> Mark | None:
    """None for a file of an earlier edgevec."""
    try:
        found = connection.execute(
            "SELECT version, listed, unlisted, (SELECT max(seq) FROM rewritten) FROM state"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" not in str(error):
            raise
        return None
    if found is None or not all(isinstance(number, int) for number in found[:3]):  # damaged
        return None
    return Mark(found[0], found[1], last_change(connection), found[3] or 0, found[2])


def written_since(connection: sqlite3.Connection, old: Mark) -> RowIds | None:
    """The rows that may differ from what they were, of whichever process; None when they are no longer known."""
    new = mark(connection)
    if new is None or new.version - old.version != new.listed - old.listed or new.unlisted != old.unlisted:
        return None
    rows: list[int] = []
    for table, first, last in (("changes", old.change, new.change), ("rewritten", old.rewritten, new.rewritten)):
        found = connection.execute(f"SELECT row FROM {table} WHERE seq > ? LIMIT ?", (first, _MAX_RECENT_ROWS))
        listed = [row for (row,) in found]
        if len(listed) != last - first:
            return None
        rows += listed
    return np.unique(np.array(rows, np.int64))


def known_snapshot(connection: sqlite3.Connection, identity: str) -> int | None:
    """The last change that a graph file holds; None for a file that this collection has not written."""
    found = connection.execute("SELECT seq FROM snapshots WHERE identity = ?", (identity,)).fetchone()
    return int(found[0]) if found else None


def register(connection: sqlite3.Connection, identity: str, seq: int) -> None:
    connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (identity, seq))


def truncate(connection: sqlite3.Connection, identity: str, seq: int) -> None:
    """Delete the other snapshots, and the changes that this one holds."""
    connection.execute("DELETE FROM snapshots WHERE identity <> ?", (identity,))
    connection.execute("DELETE FROM changes WHERE seq <= ?", (seq,))
    connection.execute("UPDATE state SET trimmed = ?", (seq,))


# ---- rows of recent commits ------------------------------------------------------------------------------------------


class RecentWrites:
    """The rows that the last commits of this process wrote.

    The thread whose batch is open adds to it; others read it while no batch is committed.
    """

    def __init__(self) -> None:
        self._done: deque[tuple[int, RowIds]] = deque()
        self._open: list[RowIds] = []
        self._rows = 0

    def add(self, rows: RowIds) -> None:
        """The open batch writes these, whether or not a part of it is rolled back."""
        self._open.append(rows)

    def end_batch(self, version: int | None) -> None:
        """The batch was committed as this version of the records, or (None) rolled back."""
        if version is not None:
            rows = np.unique(np.concatenate([np.empty(0, np.int64), *self._open]))
            self._done.append((version, rows))
            self._rows += len(rows)
            while self._rows > _MAX_RECENT_ROWS:
                self._rows -= len(self._done.popleft()[1])
        self._open.clear()

    def rows_between(self, old: int, new: int) -> RowIds | None:
        """The rows that may differ between two versions; None when they are no longer known."""
        wanted = [rows for version, rows in self._done if old < version <= new]
        return np.unique(np.concatenate(wanted)) if len(wanted) == new - old > 0 else None
