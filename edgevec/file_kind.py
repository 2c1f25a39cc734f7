"""What a file is, by its content: an index, a collection, another SQLite database, vectors, or something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from .errors import DataFormatError
from .files import DISK_INDEX_START, INDEX_START, VECTOR_SUFFIXES

__all__ = ["KIND_NAMES", "Kind", "kind_of", "require"]

Kind = Literal["missing", "empty", "index", "disk_index", "collection", "database", "vectors", "other"]

_SQLITE = b"SQLite format 3\0"
_APPLICATION = slice(68, 72)
"""Where SQLite's header says whose database it is."""

KIND_NAMES: dict[Kind, str] = {
    "index": "an index",
    "disk_index": "an index with its graph on disk",
    "collection": "a collection",
    "database": "an SQLite database of another program",
    "vectors": "a file of vectors",
    "empty": "an empty file",
    "other": "another kind of file",
}
"""What a message calls each kind but "missing"."""

_SUFFIXES: dict[Kind, str] = {"index": ".ev", "collection": ".edgevec"}
_TAKEN_BY: dict[Kind, str] = {
    "index": "use edgevec search {path} --query ...",
    "disk_index": "use edgevec search {path} --query ..., or edgevec.DiskIndex in Python",
    "collection": "use edgevec db {path} info, search, export, ...",
    "vectors": "use edgevec build {path} -o INDEX, or edgevec db NEW.edgevec import {path}",
}


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """Say what a file is by its first bytes; only "vectors" is told by its name, where these say nothing.

    Never disturbs a collection that this process has open. Raises the OSError of a file that cannot be read.

    Example:
        >>> kind_of("nothing.ev")
        'missing'
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
    """Asked through SQLite: to open and close the file of a connection drops the locks that the process has on it.

    "immutable": no lock is taken, and no file is made beside it.
    """
    import sqlite3  # not at the top: Pyodide has it as a package of its own

    from .collection.identify import looks_like_collection

    if looks_like_collection(path):
        return "collection"
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        try:
            application: int = connection.execute("PRAGMA application_id").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return None  # no database, or no right to read it, and so no lock on it either
    return _whose(application)


def _whose(application: int) -> Kind:
    from .collection.schema import APPLICATION_ID  # which needs sqlite3

    return "collection" if application == APPLICATION_ID else "database"


def _by_start(path: Path) -> Kind:
    with path.open("rb") as stream:
        start = stream.read(_APPLICATION.stop)
    if start.startswith(_SQLITE):  # damaged behind its header
        return _whose(int.from_bytes(start[_APPLICATION], "big"))
    if start.startswith(INDEX_START):
        return "index"
    if start.startswith(DISK_INDEX_START):
        return "disk_index"
    return "vectors" if path.name.lower().endswith(VECTOR_SUFFIXES) else "other"


def require(path: str | os.PathLike[str], wanted: Kind) -> None:
    """Raise DataFormatError, with the command that takes it, for a file of another kind than is wanted.

    A file that is missing or empty, or that may be a damaged one of this kind, passes: reading it says what is wrong.
    """
    path, kind = Path(path), kind_of(path)
    if kind in _TAKEN_BY and kind != wanted:
        advice = _TAKEN_BY[kind].format(path=path)
        raise DataFormatError(f"{path}: {KIND_NAMES[kind]}, not {KIND_NAMES[wanted]}; {advice}")
    if kind == "database" or (kind == "other" and path.is_file() and path.suffix != _SUFFIXES.get(wanted, path.suffix)):
        raise DataFormatError(f"{path}: {KIND_NAMES[kind]}, not {KIND_NAMES[wanted]}")
