"""The files of a part of a larger collection: written at once, or changed while nobody reads them yet.

They are two, the database and its graph, whole, durable and without a log: who reads them makes no files beside them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .._types import Progress
from ..encoders import TextEncoder
from ..errors import ParameterError, StorageError, about_file
from ..files import refused
from . import encoding, operations, validation
from .collection import Collection
from .factory import open as open_collection
from .import_export import Table
from .parts import Part
from .sqlite_errors import translated
from .updating import Changes, as_changes, update
from .validation import Id, NewRecords
from .where import EVERYTHING

__all__ = ["GRAPH", "change_part", "prepared", "prepared_changes", "update_part", "upsert_part", "write_part"]

GRAPH = "-graph"
"""The end of the name of a collection's second file."""


def write_part(path: Path, tables: Sequence[tuple[list[Id], Table]], encoder: TextEncoder | None, **given: Any) -> None:
    """Write a new collection.

    Args:
        path: of the new file
        tables: rows and their ids
        encoder: makes the vectors that the rows lack; the collection keeps its name also where they lack none
        given: parameters of a new collection, and `progress`, which is told while the graph takes the rows in
    """
    progress = given.pop("progress", None)
    with change_part(path, encoder=encoder, **given) as made, made.batch(progress=progress):
        for ids, table in tables:
            operations.import_table(made._store, ids, table, encoder)


@contextmanager
def change_part(path: Path, **given: Any) -> Iterator[Collection]:
    """A block with a collection to write to, whose files are whole at its end. After an error they are nothing.

    Args:
        given: as of edgevec.open()
    """
    with open_collection(path, durability="fast", **given) as made:
        made._store.database.main.execute("PRAGMA synchronous = OFF")  # all is flushed at the end, and then it counts
        yield made
        made.checkpoint()
    with translated(str(path)), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # It fails after it has said what the mode is, or says that it is still the old one.
        [(mode,)] = connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    if mode != "delete":  # readers would make files beside it
        raise about_file(StorageError(f"{path}: the system refused to copy SQLite's log back"), path, errno.EIO)
    for file in (path, Path(f"{path}{GRAPH}")):
        try:
            with file.open("r+b") as stream:
                os.fsync(stream.fileno())
        except OSError as error:
            raise refused(error, file) from error


def prepared(part: Part, new: NewRecords, vectors: Any) -> NDArray[Any]:
    """The vectors of records that are to be stored, [n, dim] in the type that is stored, checked as by upsert().

    Args:
        part: one that has the settings of the collection
        vectors: as they were given; None: the encoder makes them of the documents
    """
    store = part.collection._store
    if vectors is None:
        vectors = encoding.documents(store, _encoder_of(part), new)
    return validation.as_vectors(vectors, len(new.ids), store.dim, store.metric, store.dtype)


def prepared_changes(part: Part, ids: list[Id] | None, metadata: Any, documents: Any, vectors: Any) -> Changes:
    """What records are to hold, checked as by update(). part: as of prepared()"""
    encoder = None if documents is None or vectors is not None else _encoder_of(part)
    # Shards have the name of the encoder already.
    return as_changes(part.collection._store, ids, metadata, documents, vectors, encoder)._replace(encoder=None)


def _encoder_of(part: Part) -> TextEncoder | None:
    """Which may make vectors. ParameterError where all shards would be to keep its name."""
    store, encoder = part.collection._store, part.collection._encoder
    if encoder is not None and encoding.keep_name(store, encoder):
        raise ParameterError(
            f"the collection was built without an encoder, so it cannot keep the name of {encoder.label}, "
            "by which vectors of another one would be refused: give vectors, or build it with encoder="
        )
    return encoder


def update_part(made: Collection, ids: list[Id], changes: Changes, progress: Progress | None = None) -> int:
    """As Collection.update(), of what is checked already."""
    return update(made._store, ids, EVERYTHING, changes, progress)


def upsert_part(made: Collection, new: NewRecords, vectors: NDArray[Any], progress: Progress | None = None) -> int:
    """As Collection.upsert(), of what is checked already."""
    return operations.upsert(made._store, new, vectors, progress)
