"""What a file is, by its content: an index, a collection, another SQLite database, vectors, or something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from .errors import DataFormatError
from .readers import SUFFIXES

__all__ = ["KIND_NAMES", "Kind", "kind_of", "require"]

Kind = Literal["missing", "empty", "index", "collection", "database", "vectors", "other"]

_INDEX = b"\x89EVX\r\n\x1a\n"
_SQLITE = b"SQLite format 3\0"
_APPLICATION = slice(68, 72)
"""Where SQLite's header says whose database it is."""


KIND_NAMES: dict[Kind, str] = {
    "index": "an index",
    "collection": "a collection",
    "database": "an SQLite database of another program",
    "vectors": "a file of vectors",
    "empty": "an empty file",
    "other": "another kind of file",
}
_SUFFIXES: dict[Kind, str] = {"index": ".ev", "collection": ".edgevec"}
_TAKEN_BY: dict[Kind, str] = {
    "index": "use edgevec search {path} --query ...",
    "collection": "use edgevec db {path} info, search, export, ...",
    "vectors": "use edgevec build {path} -o INDEX, or edgevec db NEW.edgevec import {path}",
}


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """What a file is; a collection that this process has open is not disturbed.

    Returns:
        "vectors" goes by the name, where the content is none of the others; "other" is anything else, or no regular
        file.

    Raises:
        OSError: the file cannot be read
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
    """Read through SQLite, since closing a file drops the POSIX locks that this process has on it.

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
        return None  # not a database, or not readable, and so not locked by this process either
    return _whose(application)


def _whose(application: int) -> Kind:
    from .collection.schema import APPLICATION_ID  # which needs sqlite3

    return "collection" if application == APPLICATION_ID else "database"


def _by_start(path: Path) -> Kind:
    with path.open("rb") as stream:
        start = stream.read(_APPLICATION.stop)
    if start.startswith(_SQLITE):  # damaged behind its header
        return _whose(int.from_bytes(start[_APPLICATION], "big"))
    if start.startswith(_INDEX):
        return "index"
    return "vectors" if path.name.lower().endswith(SUFFIXES) else "other"


def require(path: str | os.PathLike[str], wanted: Kind) -> None:
    """Refuse a file that is known to be of another kind than is wanted.

    A file that is missing or empty is left to its reader, and so is one that may be a damaged file of the kind, going
    by its name.

    Raises:
        DataFormatError: the file is of another kind; the message names it and the command that takes it
    """
    path, kind = Path(path), kind_of(path)
    if kind in _TAKEN_BY and kind != wanted:
        advice = _TAKEN_BY[kind].format(path=path)
        raise DataFormatError(f"{path}: {KIND_NAMES[kind]}, not {KIND_NAMES[wanted]}; {advice}")
    if kind == "database" or (kind == "other" and path.is_file() and path.suffix != _SUFFIXES.get(wanted, path.suffix)):
        raise DataFormatError(f"{path}: {KIND_NAMES[kind]}, not {KIND_NAMES[wanted]}")
