"""Writes what was read: an index or a collection, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgevec

from .. import Index, Metric, Progress, Quantization
from ..errors import DataFormatError, DuplicateIdError, NotFiniteError, ParameterError, ZeroVectorError
from ..files import refused
from .source import Source

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["to_collection", "to_index"]

_WORKSPACE = ".edgevec-convert-"
_ID, _VECTOR, _DOCUMENT = "\x01id", "\x01vector", "\x01document"
"""Columns that no other library has."""


def to_index(
    source: Source,
    target: Path,
    metric: Metric,
    quantization: Quantization | None,
    progress: Progress,
) -> int:
    """Write the vectors of an index as one of edgevec's; how many there are.

    progress(done, total) is of the rows that are read, and then of those that are built into the graph.

    Raises:
        DataFormatError: there are none
        DuplicateIdError: an id comes twice
    """
    vectors, ids = _whole(source, progress)
    index = Index(vectors.shape[1], metric, quantization=quantization or "sq8")
    try:
        index.add(vectors, ids, progress=progress)
    except (NotFiniteError, ZeroVectorError, ParameterError) as error:
        raise type(error)(f"{source.kind}: {error}") from error
    index.save(target)
    return len(index)


def _whole(source: Source, progress: Progress) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ids = source.ids
    if ids is None:
        raise ParameterError(f"{source.kind} has records: write them to a collection, whose name ends in .edgevec")
    if not source.count:
        raise DataFormatError(f"{source.kind} holds no vectors")
    distinct, first = np.unique(ids, return_index=True)
    if len(distinct) < len(ids):
        again = np.setdiff1d(np.arange(len(ids)), first)[0]
        raise DuplicateIdError(f"{source.kind}: id {ids[again]} comes twice")
    vectors, done = np.empty((0, 0), np.float32), 0
    for piece in source.pieces():
        if not done:
            vectors = np.empty((source.count, piece.vectors.shape[1]), np.float32)
        vectors[done : done + len(piece.ids)] = piece.vectors
        done += len(piece.ids)
        progress(done, source.count)
    return vectors, ids


def to_collection(
    source: Source,
    target: Path,
    metric: Metric,
    quantization: Quantization | None,
    progress: Progress,
) -> int:
    """Write the rows of a source as a collection; how many there are.

    Raises:
        DuplicateIdError: an id comes twice
        ParameterError, DataFormatError, ...: as Collection.import_from() raises them, of a row
    """
    # In a folder of its own: a collection has several files beside it while it is written.
    with _workspace(target.parent) as folder:
        new = folder / "new.edgevec"
        with edgevec.open(new, metric=metric, quantization=quantization) as made:
            with made.batch(progress=progress):
                _store(source, made, progress)
            count = len(made)
        _free(target)
        _take_place(new, target)
    return count


def _store(source: Source, made: edgevec.Collection, progress: Progress) -> None:
    seen: set[Any] = set()
    for piece in source.pieces():
        start = len(seen)
        for id in piece.ids:
            if id in seen:
                raise DuplicateIdError(f"{source.kind}: id {id!r} comes twice")
            seen.add(id)
        count = len(piece.ids)
        metadata = piece.metadata or [{}] * count
        documents = piece.documents or [None] * count
        rows = [
            {**fields, _ID: id, _VECTOR: vector, _DOCUMENT: document}
            for id, vector, fields, document in zip(piece.ids, piece.vectors, metadata, documents, strict=True)
        ]
        try:
            made.import_from(rows, id=_ID, vector=_VECTOR, document=_DOCUMENT)
        except (NotFiniteError, ZeroVectorError, ParameterError, DataFormatError) as error:
            counted = f" (counted from row {start})" if start else ""
            raise type(error)(f"{source.kind}: {error}{counted}") from error
        progress(len(seen), source.count)


def _free(target: Path) -> None:
    """Refuse a target that some program has open: its log, left beside the new file, would be taken for that one's."""
    if target.exists() and target.stat().st_size:
        with suppress(edgevec.CorruptCollectionError):
            edgevec.open(target).close()
    for name in ("-wal", "-journal"):
        if Path(f"{target}{name}").exists():
            raise ParameterError(
                f"{target}: is in use, for there is {target.name}{name}: end what uses it, or remove both"
            )


def _take_place(new: Path, target: Path) -> None:
    try:
        os.replace(new, target)
        graph = Path(f"{target}-graph")
        if Path(f"{new}-graph").exists():
            os.replace(f"{new}-graph", graph)
        else:
            graph.unlink(missing_ok=True)
    except OSError as error:
        raise refused(error, target) from error


@contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """A folder that is removed at the end. Those of processes that were killed are removed first."""
    try:
        _remove_left_over(parent)
        while True:
            folder = Path(tempfile.mkdtemp(prefix=_WORKSPACE, dir=parent))
            lock = _locked(folder)
            if lock is None or folder.exists():  # or another has just taken it for one that was left
                break
            os.close(lock)
    except OSError as error:
        raise refused(error, parent) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that has the folder's lock; None where there are no locks, and nobody removes what is left."""
    if fcntl is None:
        return None
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(opened)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return None
    return opened


def _remove_left_over(parent: Path) -> None:
    for folder in parent.glob(f"{_WORKSPACE}*"):
        with suppress(OSError):
            lock = _locked(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
