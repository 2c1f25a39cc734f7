"""What a file is, by its content: an index, a collection, another SQLite database, vectors, or something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from .reading import SUFFIXES

__all__ = ["Kind", "kind_of"]

Kind = Literal["missing", "empty", "index", "collection", "database", "vectors", "other"]

_INDEX = b"\x89EVX\r\n\x1a\n"
_SQLITE = b"SQLite format 3\0"
_APPLICATION = slice(68, 72)
"""Where SQLite's header says whose database it is."""


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """vectors: by its name, where the content is none of the others; other: neither, or no regular file.

    Never disturbs a collection that this process has open. Raises the OSError of a file that cannot be read.
    """
    path = Path(path)
    if not path.exists():
        return "missing"
    if not path.is_file():
        return "other"
    if path.stat().st_size == 0:
        return "empty"
    return _as_database(path) or _by_start(path)


def _as_database(path: Path) -> Kind | None:
    """Asked through SQLite: to open and close the file of a connection drops the locks that the process has on it."""
    import sqlite3  # not at the top: Pyodide has it as a package of its own

    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
        try:
            application: int = connection.execute("PRAGMA application_id").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error):
            return None  # no right to read it, or no room for a log's index beside it, and so no lock on it either
        return "collection"  # locked, say: whoever opens it is told
    except sqlite3.DatabaseError:
        return None
    return _whose(application)


def _whose(application: int) -> Kind:
    from .collection.schema import APPLICATION_ID  # which needs sqlite3

    return "collection" if application == APPLICATION_ID else "database"


def _by_start(path: Path) -> Kind:
    with path.open("rb") as stream:
        start = stream.read(_APPLICATION.stop)
    if start.startswith(_SQLITE):  # in a folder that has no room for the log's index
        return _whose(int.from_bytes(start[_APPLICATION], "big"))
    if start.startswith(_INDEX):
        return "index"
    return "vectors" if path.name.lower().endswith(SUFFIXES) else "other"
