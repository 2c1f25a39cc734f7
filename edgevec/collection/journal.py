"""How far things are: the version of the records, and the changes that a graph has yet to take in."""

from __future__ import annotations

import sqlite3

__all__ = ["bump", "changed_since", "known_snapshot", "last_change", "register", "trim", "trimmed", "version"]


def version(connection: sqlite3.Connection) -> int:
    """Counts the commits that changed records; the same version, the same records."""
    return int(connection.execute("SELECT version FROM state").fetchone()[0])


def bump(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE state SET version = version + 1")


def last_change(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'changes'").fetchone()
    return int(found[0]) if found else 0


def trimmed(connection: sqlite3.Connection) -> int:
    """Changes up to this one are no longer listed."""
    return int(connection.execute("SELECT trimmed FROM state").fetchone()[0])


def changed_since(connection: sqlite3.Connection, seq: int) -> list[int]:
    """The rows whose vector came, changed or went after change `seq`, ascending."""
    found = connection.execute("SELECT DISTINCT row FROM changes WHERE seq > ? ORDER BY row", (seq,))
    return [row for (row,) in found]


def known_snapshot(connection: sqlite3.Connection, identity: str) -> int | None:
    """The last change that this graph file holds, if it is one of ours."""
    found = connection.execute("SELECT seq FROM snapshots WHERE identity = ?", (identity,)).fetchone()
    return int(found[0]) if found else None


def register(connection: sqlite3.Connection, identity: str, seq: int) -> None:
    connection.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (identity, seq))


def trim(connection: sqlite3.Connection, identity: str, seq: int) -> None:
    """Forget the other snapshots, and the changes that this one holds."""
    connection.execute("DELETE FROM snapshots WHERE identity <> ?", (identity,))
    connection.execute("DELETE FROM changes WHERE seq <= ?", (seq,))
    connection.execute("UPDATE state SET trimmed = ?", (seq,))
