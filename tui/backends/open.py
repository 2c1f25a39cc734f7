"""Opens a file as data, an index or a collection, by its content; and a folder as an index of shards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgevec
from edgevec import samples
from edgevec.file_kind import Kind, kind_of, require
from edgevec.files import not_found, refused
from edgevec.sharded import kind_of_shards

from ..models import SAMPLE, Clock, Data, Progress
from .base import Opened, SearchBackend
from .disk import DiskBackend
from .index import IndexBackend
from .shards import folder_of_shards, open_shards

__all__ = ["open_file", "read_sample"]


def open_file(path: Path, companion: str | None, progress: Progress, clock: Clock) -> Opened | None:
    shards = folder_of_shards(path)
    if shards is not None:
        return _open_folder(shards, clock)
    kind = _kind(path)
    if kind in ("collection", "database") or path.suffix == ".edgevec":
        from .collection import open_collection  # not at the top: it takes long

        return open_collection(path, progress, clock)
    backend: SearchBackend
    if kind == "disk_index":
        backend = DiskBackend(path, clock)
    elif kind == "index" or path.suffix == ".ev":
        backend = IndexBackend(edgevec.Index.load(path), clock)
    else:
        data = _read(path, progress)
        return None if data is None else Opened(data, None)
    data = _companion(companion, backend, progress) or Data(
        path.name, backend.dim, backend.ids(), metric=backend.settings.metric
    )
    return Opened(data, backend)


def _open_folder(shards: Path, clock: Clock) -> Opened:
    if kind_of_shards(shards) == "index":
        return open_shards(shards, clock)
    from .shards_of_collection import open_sharded_collection  # not at the top: it takes long

    return open_sharded_collection(shards, clock)


def read_sample() -> Data:
    wordnet = samples.wordnet()
    return Data(
        "WordNet sample",
        wordnet.dim,
        wordnet.ids,
        wordnet.vectors,
        wordnet.texts,
        {"topic": np.array(wordnet.topics, object), "pos": np.array(wordnet.pos, object)},
        "cosine",
        encode=wordnet.encode,
        unknown_words=wordnet.unknown_words,
    )


def _kind(path: Path) -> Kind:
    if path.is_dir():
        raise edgevec.DataFormatError(f"{path}: a folder without a manifest of shards; open a file in it")
    try:
        kind = kind_of(path)
    except OSError as error:
        raise refused(error, path) from error
    if kind == "missing":
        raise not_found(path)
    if kind == "empty" and path.suffix != ".edgevec":  # of which the collection says so
        kind_of_error = edgevec.CorruptIndexError if path.suffix in (".ev", ".evd") else edgevec.DataFormatError
        raise kind_of_error(f"{path}: an empty file")
    return kind


def _read(path: Path, progress: Progress) -> Data | None:
    require(path, "vectors")
    try:
        dataset = edgevec.read_vectors(path, progress=progress)
    except edgevec.CancelledError:
        return None
    columns = _columns(dataset.metadata)
    texts = dataset.texts
    if texts is not None:
        columns = {name: column for name, column in columns.items() if column.tolist() != texts}
    ids = np.arange(len(dataset), dtype=np.int64) if dataset.ids is None else dataset.ids
    return Data(
        path.name, dataset.dim, ids, dataset.vectors, texts, columns, dataset.metric, dataset.queries, path=path
    )


def _columns(metadata: list[dict[str, Any]] | None) -> dict[str, NDArray[Any]]:
    if not metadata:
        return {}
    names = dict.fromkeys(name for row in metadata for name in row)
    columns = {}
    for name in names:
        column = np.empty(len(metadata), object)  # np.array(list of lists, object) would make a matrix
        column[:] = [row.get(name) for row in metadata]
        columns[name] = column
    return columns


def _companion(name: str | None, backend: SearchBackend, progress: Progress) -> Data | None:
    """The data that an index was built from; None if they are gone or do not match the index."""
    if name is None:
        return None
    try:
        data = read_sample() if name == SAMPLE else _read(Path(name), progress)
    except edgevec.EdgevecError:
        return None  # the index can do without
    if data is None or data.dim != backend.dim or not np.array_equal(np.sort(data.ids), backend.ids()):
        return None
    return dataclasses.replace(data, metric=backend.settings.metric)
