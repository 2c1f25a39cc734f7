"""Makes of what was read an index, or writes it as a collection, whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import edgevec

from .. import Index, Metric, Progress, Quantization
from ..errors import DataFormatError, DuplicateIdError, NotFiniteError, ParameterError, ZeroVectorError
from ..files import refused
from ..workspace import Workspace
from .graph import UnfitGraphError
from .source import Source

__all__ = ["GraphChoice", "as_index", "to_collection"]

_LEAST_M, _LEAST_EF_CONSTRUCTION = 16, 100
"""A graph that was built with less finds less at the same effort than one that is built anew."""
_WORKSPACE = ".edgevec-convert-"
_ID, _VECTOR, _DOCUMENT = "\x01id", "\x01vector", "\x01document"
"""Columns that no other library has."""


GraphChoice = Literal["keep", "rebuild"]


def as_index(
    source: Source,
    metric: Metric,
    quantization: Quantization | None,
    progress: Progress,
    graph: GraphChoice | None = None,
) -> Index:
    """The vectors of an index in one of edgevec's.

    progress(done, total) is of the rows that are read, and then of those that are built into the graph.

    Args:
        graph: "keep" takes over the one that there is, "rebuild" builds one. None takes over one that was built as
            thoroughly as edgevec builds, if that can be done; source.notes say which it was.

    Raises:
        DataFormatError: there are none
        DuplicateIdError: an id comes twice
        ParameterError: the graph is to be kept, and there is none, or none that can be
    """
    _check_ids(source)
    quantization = quantization or "sq8"
    try:
        index = None if graph == "rebuild" else _taken_over(source, metric, quantization, graph == "keep", progress)
        if index is None:
            vectors, ids = _whole(source, progress)
            index = Index(vectors.shape[1], metric, quantization=quantization)
            index.add(vectors, ids, progress=progress)
    except (NotFiniteError, ZeroVectorError, ParameterError) as error:
        raise type(error)(f"{source.kind}: {error}") from error
    return index


def _taken_over(
    source: Source, metric: Metric, quantization: Quantization, wanted: bool, progress: Progress
) -> Index | None:
    """An index with the source's graph, or None: there is none, or none to be had or to be preferred."""
    if source.graph is None:
        if wanted:
            raise ParameterError("there is no graph that could be kept")
        return None
    try:
        if source.metric not in (None, metric):
            raise UnfitGraphError(f"is of another metric, {source.metric}")
        found = source.graph()
        built = f"M={found.M} and ef_construction={found.ef_construction}"
        if not wanted and (found.M < _LEAST_M or found.ef_construction < _LEAST_EF_CONSTRUCTION):
            source.notes.append(f"its graph, built with {built}, is built anew; --graph keep takes it over")
            return None
        found.check()
        index = found.index(metric, quantization, progress)
    except UnfitGraphError as error:
        if wanted:
            raise ParameterError(f"its graph {error}, so it cannot be kept") from None
        source.notes.append(f"its graph {error}: it is built anew")
        return None
    source.notes.append(f"its graph, built with {built}, is taken over")
    return index


def _check_ids(source: Source) -> None:
    ids = source.ids
    if ids is None:
        raise ParameterError(f"{source.kind} has records: write them to a collection, whose name ends in .edgevec")
    if not source.count:
        raise DataFormatError(f"{source.kind} holds no vectors")
    distinct, first = np.unique(ids, return_index=True)
    if len(distinct) < len(ids):
        again = np.setdiff1d(np.arange(len(ids)), first)[0]
        raise DuplicateIdError(f"{source.kind}: id {ids[again]} comes twice")


def _whole(source: Source, progress: Progress) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    ids = np.empty(0, np.int64) if source.ids is None else source.ids
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


def _workspace(parent: Path) -> Workspace:
    try:
        return Workspace(_WORKSPACE, parent)
    except OSError as error:
        raise refused(error, parent) from error
