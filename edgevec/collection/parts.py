"""A collection that is a part of a larger one: what it answers row by row, so that results of all parts can be merged.

It is open for reading, and nobody writes to it: `part_files` makes the files.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .._types import Storage
from ..encoders import TextEncoder
from . import on_disk, operations, records, schema
from .collection import Collection
from .factory import agree_on_encoder
from .factory import open as open_collection
from .hits import Hit, HitStats
from .part_ranking import PartRanking, TextStats
from .ranking import best
from .records import Record, RowIds, rows_where
from .search import SearchRequest, as_request, as_requests
from .sqlite_errors import translated
from .validation import Id
from .where import EVERYTHING, Where

__all__ = ["Facts", "Part", "facts_of", "key_of", "repeated_id"]


class Facts(NamedTuple):
    """What a collection says of itself; of its ids, numbers come before texts."""

    settings: dict[str, Any]
    records: int
    first_id: Id
    last_id: Id


def facts_of(path: Path) -> Facts:
    """Of a file that nobody writes to."""
    with _immutable(path) as connection:
        rows = connection.execute("SELECT count(*), min(id), max(id) FROM records").fetchone()
        return Facts(schema.read_settings(connection), *rows)


def repeated_id(paths: Sequence[Path]) -> tuple[Id, int, int] | None:
    """An id that two of these collections have, and which of them; None where there is none such. Memory holds few."""
    with ExitStack() as stack:

        def ids_of(at: int, path: Path) -> Iterator[tuple[tuple[bool, Any], int]]:
            for (id,) in stack.enter_context(_immutable(path)).execute("SELECT id FROM records ORDER BY id"):
                yield key_of(id), at

        before: tuple[tuple[bool, Any], int] | None = None
        for found in heapq.merge(*(ids_of(at, path) for at, path in enumerate(paths))):
            if before is not None and before[0] == found[0]:
                is_text, id = found[0]
                return id.decode() if is_text else id, before[1], found[1]
            before = found
    return None


def key_of(id: Id) -> tuple[bool, Any]:
    """By which SQLite sorts ids: numbers, then texts by their UTF-8."""
    return (True, id.encode()) if isinstance(id, str) else (False, id)


@contextmanager
def _immutable(path: Path) -> Iterator[sqlite3.Connection]:
    """SQLite takes no lock, and makes no file, in the place of one that is gone neither."""
    uri = f"{path.absolute().as_uri()}?immutable=1&mode=ro"
    with translated(str(path)), closing(sqlite3.connect(uri, uri=True)) as opened:
        yield opened


class Part:
    """A collection that is open for reading, and what is kept for searches. Safe to use from several threads.

    Args:
        path: of the file, which is named in errors
        encoder, mmap, storage, condition_memory: as of edgevec.open()
    """

    def __init__(
        self,
        path: Path,
        *,
        encoder: TextEncoder | None,
        mmap: bool,
        storage: Storage,
        condition_memory: int | None,
    ) -> None:
        self._take(
            open_collection(
                path, mode="r", encoder=encoder, mmap=mmap, storage=storage, condition_memory=condition_memory
            )
        )

    @classmethod
    def of_nothing(cls, name: str, settings: dict[str, Any], *, encoder: TextEncoder | None, storage: Storage) -> Part:
        """One without records, which sees what is wrong with arguments and finds nothing.

        Args:
            name: what messages call it
            settings: those that a collection keeps
            encoder, storage: as of edgevec.open(). ParameterError where a file with these settings would not be opened.
        """
        given = dict(settings)
        stored = given.pop(schema.ENCODER, None)
        if encoder is not None:
            agree_on_encoder(name, encoder, stored)
        on_disk.check_quantization(storage, given["quantization"], name)
        made = cls.__new__(cls)
        made._take(open_collection(":memory:", **given))
        made.collection._encoder = encoder
        if stored is not None:
            with made._store.write() as connection:
                made._store.set_encoder(connection, stored)
        return made

    def _take(self, collection: Collection) -> None:
        self.collection = collection
        self._store = self.collection._store
        self._executor = self.collection._searcher
        self._ranking = PartRanking(self._store.read)

    def close(self) -> None:
        self.collection.close()

    def request(self, *given: Any, **options: Any) -> SearchRequest:
        """As as_request()."""
        return as_request(self._store, self.collection._encoder, *given, **options)

    def requests(self, *given: Any, **options: Any) -> list[SearchRequest]:
        """As as_requests()."""
        return as_requests(self._store, self.collection._encoder, *given, **options)

    def nearest(self, request: SearchRequest, k: int) -> tuple[RowIds, list[float], HitStats]:
        """Up to k rows that are allowed, nearest first, their distances, and how they were found."""
        with self._store.read(graph=True) as connection:
            return self._executor.nearest(connection, request, k)

    def text_stats(self, words: Sequence[str]) -> TextStats:
        """What scores need to know of these documents."""
        return self._ranking.stats(words)

    def matching(
        self, request: SearchRequest, words: Sequence[str], every: TextStats, k: int
    ) -> tuple[RowIds, list[float]]:
        """Up to k rows that are allowed and hold one of the words, best first, and their scores.

        Args:
            every: of all parts
        """
        scores = self._ranking.scores(words, every)
        if request.condition == EVERYTHING:
            found = best(scores, k, None)
        else:
            with self._store.read() as connection:
                found = best(scores, k, partial(rows_where, connection, *request.condition))
        return np.array([row for row, _ in found], np.int64), [score for _, score in found]

    def scores(self, distances: list[float]) -> list[float]:
        """Of hits by vector alone."""
        return self._executor.scores(distances)

    def hits(
        self, request: SearchRequest, rows: RowIds, scores: Sequence[float], distances: Sequence[float | None]
    ) -> list[Hit | None]:
        """The hit of each row, with what the request includes; None where something has deleted its record.

        Args:
            distances: from the vector that is searched for; None where they are not known yet
        """
        if request.vector is not None and None in distances:
            with self._store.read(graph=True):
                missing = [row for row, distance in zip(rows.tolist(), distances, strict=True) if distance is None]
                known = self._executor.distances_of(request, missing)
            distances = [known.get(row, distance) for row, distance in zip(rows.tolist(), distances, strict=True)]
        with self._store.read() as connection:
            found = self._executor.hits(connection, request, rows, scores, distances, _NOTHING)
            if len(found) == len(rows):
                return list(found)
            single = zip(rows[:, None], scores, distances, strict=True)
            return [
                next(iter(self._executor.hits(connection, request, row, [score], [distance], _NOTHING)), None)
                for row, score, distance in single
            ]

    def known(self, ids: Sequence[Id]) -> list[Id]:
        """Those of these ids that are here."""
        with self._store.read() as connection:
            return list(records.rows_of(connection, ids))

    def all_ids(self) -> list[Id]:
        """In no order; also where its file was removed since it was opened."""
        database = self._store.database
        with translated(database.name):
            return [id for (id,) in database.main.execute("SELECT id FROM records").fetchall()]

    def count(self, where: Where | None, params: Sequence[Any] | None) -> int:
        """As Collection.count()."""
        return self.collection.count(where, params)

    def unknown_fields(self, where: Where, params: Sequence[Any] | None) -> dict[str, list[str]] | None:
        """As Collection.unknown_fields(); None where there are no records."""
        return self.collection.unknown_fields(where, params) if len(self.collection) else None

    def ids(self, where: Where | None, params: Sequence[Any] | None) -> list[Id]:
        """As Collection.ids()."""
        return self.collection.ids(where, params)

    def get(self, ids: list[Id], missing: Literal["raise", "skip"]) -> list[Record]:
        """The records of those ids that are here."""
        return operations.get(self._store, self.known(ids), missing)


_NOTHING = HitStats("exact", None, 0, 0)
