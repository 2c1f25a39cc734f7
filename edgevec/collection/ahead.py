"""Vectors of a large call that are stored before the call's own transaction, so that the log need not hold all of them.

They lie under rows that no record has yet, in short transactions, between which SQLite copies its log back. A setting
names the first of these rows until the call's own transaction adds the records: it makes all of it visible, or, where
it fails or the process ends, vectors from that row on are none, and are deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from .schema import write_setting
from .sql import end_transaction

__all__ = [
    "BYTES_PER_COMMIT",
    "EVERY_ROW",
    "MIN_BYTES",
    "MIN_RECORDS",
    "add",
    "begin",
    "finish",
    "highest_row",
    "last_row",
    "remove",
    "store",
]

MIN_RECORDS, MIN_BYTES = 1_000, 32 * 2**20
"""Of fewer records, or fewer bytes of new vectors, the log is short enough."""
BYTES_PER_COMMIT = 16 * 2**20
"""Of vectors."""
_SETTING = "ahead"
EVERY_ROW = 2**63 - 1
"""No row is higher."""


def last_row(connection: sqlite3.Connection) -> int:
    """Vectors of later rows belong to no record as yet; EVERY_ROW where there are none such."""
    if _first_row(connection) is None:
        return EVERY_ROW
    return highest_row(connection)


def highest_row(connection: sqlite3.Connection) -> int:
    """Of the records; 0 where there are none."""
    return int(connection.execute("SELECT coalesce(max(row), 0) FROM records").fetchone()[0])


def _first_row(connection: sqlite3.Connection) -> int | None:
    """None where nothing is stored ahead."""
    found = connection.execute("SELECT value FROM settings WHERE name = ?", (_SETTING,)).fetchone()
    return found[0] if found and isinstance(found[0], int) else None


def store(
    connection: sqlite3.Connection,
    first: int,
    vectors: NDArray[Any],
    places: Sequence[int],
    copy_log: Callable[[], None],
) -> None:
    """Store vectors [n, dim] of some places under the rows from `first` on, which are all free.

    No transaction is open, and nobody else writes before the call's own has ended. When that or this fails, or has
    ended without finish(), remove() is to follow.
    """
    begin(connection, first)
    step = max(1, BYTES_PER_COMMIT // vectors[0].nbytes)
    for start in range(0, len(places), step):
        add(connection, first + start, vectors[places[start : start + step]], copy_log)


def begin(connection: sqlite3.Connection, first: int) -> None:
    """As store(), of vectors that add() is to store one after the other."""
    remove(connection)  # what an earlier call may have left
    write_setting(connection, _SETTING, first)


def add(connection: sqlite3.Connection, row: int, vectors: NDArray[Any], copy_log: Callable[[], None]) -> None:
    """Store vectors [n, dim] under the rows from `row` on."""
    step = max(1, BYTES_PER_COMMIT // vectors[0].nbytes)
    for start in range(0, len(vectors), step):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR REPLACE INTO vectors(row, vector) VALUES (?, ?)",
            ((row + at, vector.tobytes()) for at, vector in enumerate(vectors[start : start + step], start)),
        )
        connection.execute("COMMIT")
        copy_log()


def finish(connection: sqlite3.Connection) -> None:
    """In the call's own transaction: what was stored ahead belongs to its records."""
    connection.execute("DELETE FROM settings WHERE name = ?", (_SETTING,))


def remove(connection: sqlite3.Connection) -> None:
    """Delete what was stored ahead of a call that has not come to its end, or nothing."""
    end_transaction(connection)
    first = _first_row(connection)
    if first is None:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("DELETE FROM vectors WHERE row >= ? AND row NOT IN (SELECT row FROM records)", (first,))
        finish(connection)
        connection.execute("COMMIT")
    finally:
        end_transaction(connection)
