"""edgevec.open(): find or make the file, agree on its parameters, bring the graph up to date."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from typing import Any, Literal

from .._types import Metric, Progress, Quantization
from .._validation import as_int
from ..errors import CollectionNotFoundError, CorruptCollectionError, EdgevecError, ParameterError, about_file
from ..index import Index
from . import schema
from .collection import Collection
from .database import Database, Durability, resolve
from .graph import Graph
from .snapshot import Snapshot
from .sqlite_errors import translated
from .store import Store
from .validation import Encoder

__all__ = ["open"]

log = logging.getLogger("edgevec")

_SQLITE = (3, 38)
"""The first with JSON functions in every build."""
_DEFAULTS: dict[str, Any] = {
    "metric": "cosine",
    "quantization": "sq8",
    "M": 16,
    "ef_construction": 200,
    "dtype": "float32",
}


def open(
    path: str | os.PathLike[str],
    dim: int | None = None,
    metric: Metric | None = None,
    *,
    mode: Literal["a", "r"] = "a",
    encoder: Encoder | None = None,
    quantization: Quantization | None = None,
    M: int | None = None,
    ef_construction: int | None = None,
    dtype: schema.Dtype | None = None,
    durability: Durability = "full",
    mmap: bool = False,
    progress: Progress | None = None,
) -> Collection:
    """Open a collection, or make one.

    Args:
        path: the file; ":memory:" for a collection that ends with the program. A symbolic link is followed. Nothing
            is done to a file that is no collection, or empty.
        dim: of the vectors; without it, a new collection takes that of the first ones
        metric, quantization, M, ef_construction: as in edgevec.Index, "cosine" and so on by default. Of a
            collection that exists they may be left out, and must agree when given.
        mode: "a" to read and write, and to make it if need be; "r" to read, while another process may write
        encoder: a function from a list of texts to vectors: upsert() and search() then take texts alone
        dtype: "float32", or "float16" for half the file and a little less accuracy
        durability: "full": what was committed survives a crash of the program and loss of power. "fast" does not
            flush the disk at each commit: loss of power may take the last recent_writes, whole ones, and nothing else.
        mmap: use the graph's file (path + "-graph") in place where it need not change: less to read at opening, and
            processes share the memory. Only where nothing but edgevec touches that file: if something truncates it
            or copies another over it meanwhile, the process dies of a signal. Otherwise, and on Windows and in a
            browser always, it is read into memory.
        progress: progress(done, total) while the documents of a collection that an earlier version made are indexed
            again, and while the graph is built from the records, where that is necessary

    With mode "r" the folder need not be one that can be written to. Files that edgevec makes beside it have its owner
    and permissions.

    Raises LockedError when something else writes to it or has it open under another of its names (a hard link),
    CollectionNotFoundError (mode "r"), CorruptCollectionError when it is something else, FormatVersionError,
    StorageError, ParameterError.

    Example:
        >>> import edgevec
        >>> with edgevec.open("notes.edgevec", dim=2) as notes:
        ...     notes.upsert(["a", "b"], [[1, 0], [0, 1]], [{"year": 1999}, {"year": 2020}])
        2
        >>> with edgevec.open("notes.edgevec", mode="r") as notes:
        ...     notes.count("year >= 2000")
        1
    """
    if mode not in ("a", "r"):
        raise ParameterError(f"mode must be 'a' or 'r', not {mode!r}")
    if durability not in ("full", "fast"):
        raise ParameterError(f"durability must be 'full' or 'fast', not {durability!r}")
    if sqlite3.sqlite_version_info < _SQLITE:
        raise EdgevecError(f"collections need SQLite 3.38 or newer; this Python has {sqlite3.sqlite_version}")
    given = {
        "dim": dim,
        "metric": metric,
        "quantization": quantization,
        "M": M,
        "ef_construction": ef_construction,
        "dtype": dtype,
    }
    given = _checked({name: value for name, value in given.items() if value is not None})
    file = None if os.fspath(path) == ":memory:" else resolve(path)
    if file is None and mode == "r":
        raise ParameterError("a collection in memory cannot be opened to read")
    database = Database(file, writable=mode == "a")
    try:
        with translated(database.name):
            _agree(database, given, writable=mode == "a")
            if file is not None and mode == "a":
                database.set_journal(durability)
            _index_texts(database, progress, writable=mode == "a")
        snapshot = None if file is None else Snapshot(file, mmap=mmap)
        graph = Graph(database.name, snapshot)
        return Collection(Store(database, graph, writable=mode == "a", progress=progress), encoder)
    except BaseException:
        database.close()
        raise


def _index_texts(database: Database, progress: Progress | None, *, writable: bool) -> None:
    """Of a collection that an earlier version made."""
    if not schema.is_old(database.main):
        return
    if writable:
        log.info("%s: its documents are indexed again, once, as this version of edgevec does", database.name)
        schema.upgrade(database.main, database.name, progress)
    else:
        log.warning(
            "%s: an earlier edgevec indexed its documents: what is written without spaces is found as whole sentences "
            "only, until the collection is opened for writing",
            database.name,
        )


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """ParameterError for what no index takes, before a file is made."""
    if "dtype" in given and given["dtype"] not in ("float32", "float16"):
        raise ParameterError(f"dtype must be 'float32' or 'float16', not {given['dtype']!r}")
    if "dim" in given:
        given["dim"] = as_int(given["dim"], "dim", 1, 65535)
    Index(**{"dim": 1, **{name: value for name, value in given.items() if name != "dtype"}})
    return given


def _agree(database: Database, given: dict[str, Any], *, writable: bool) -> None:
    """Make a new file a collection; of an old one make sure that it is what was asked for."""
    if not schema.verify(database.main, database.name):
        if not writable:
            raise about_file(CollectionNotFoundError(f"{database.name} is empty"), database.name, errno.ENOENT)
        schema.create(database.main, {**_DEFAULTS, **given})
        return
    schema.check_tables(database.main, database.name)
    stored = schema.read_settings(database.main)
    try:
        _checked({name: stored[name] for name in (*_DEFAULTS, *(("dim",) if stored.get("dim") is not None else ()))})
    except (KeyError, TypeError, ParameterError) as error:
        raise CorruptCollectionError(f"{database.name}: its settings are damaged: {error}") from error
    if stored.get("dim") is None and database.main.execute("SELECT 1 FROM vectors").fetchone():
        raise CorruptCollectionError(f"{database.name}: its settings are damaged: dim is missing")
    for name, value in given.items():
        if name == "dim" and stored.get("dim") is None:
            if writable:
                schema.write_setting(database.main, "dim", value)
        elif stored[name] != value:
            raise ParameterError(f"{database.name} has {name} {stored[name]!r}, not {value!r}")
