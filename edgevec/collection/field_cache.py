"""Metadata fields in memory, which answer conditions in place of SQLite: columns, each made when it is first asked for.

They are of one version of the records. Rows that were written since are read again. What a column cannot answer as
SQLite does, or what is not known to be of the version that is asked for, SQLite answers. A file of many records holds
columns too, so that they need not be made by whoever opens it.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from . import changes, saved_fields
from .changes import RecentWrites
from .field_columns import Builder, Change, Column, Mask, NotKeptError
from .records import RowIds, count, explain
from .saved_fields import SavedFields
from .sqlite_errors import reraise_interrupt
from .where import All, Any_, Condition, Field, Node, fields_of

__all__ = ["FieldCache"]

log = logging.getLogger("edgevec")

_MAX_FIELDS = 64
_FIELDS_PER_PASS = 8
_FIRST_PAGE, _PAGE = 512, 16_384
"""Records that are read at a time. The first page shows what cannot be kept."""
_MAX_WRITTEN_SHARE, _FEW_WRITTEN = 4, 2_000
"""When more than a fourth of the records was written, and more than a few, the columns are made again."""
_MIN_SAVED_RECORDS = 5_000
"""Of fewer records, columns are made as quickly as they would be loaded."""
_MIN_WRITTEN, _WRITTEN_DIVISOR = 200, 100
"""The columns in the file are of old when more records were written since than the first, and than all divided by the
second."""

_LEFT_TO_INDEXES = 2
"""So many questions for a new column are left to SQLite, where it uses an index."""


class _Kept(NamedTuple):
    """What is kept. Never changed: what follows it is another."""

    version: int
    """Of the records."""
    mark: changes.Mark | None
    commits: int
    """Of others, whether they made a version or not."""
    rows: RowIds
    """All of them, ascending."""
    columns: Mapping[Field, Column]
    """The least recently used first."""

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + sum(column.nbytes for column in self.columns.values())


class FieldCache:
    """Safe to use from several threads: they take turns."""

    def __init__(self, max_bytes: int, commits: Callable[[], int]) -> None:
        """max_bytes: of all columns; 0: keep none. commits: a number that changes when another program commits."""
        self._max_bytes = max_bytes
        self._commits = commits
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._refused: dict[Field, int] = {}
        """Fields that do not pay, with the number of records when that was found."""
        self._left: Counter[Field] = Counter()
        """How often a column was not made because of an index."""
        self._failed_at: int | None = None
        """The version at which nothing could be kept: records are damaged, or there was no memory."""

    @property
    def nbytes(self) -> int:
        """What the columns take."""
        kept = self._kept
        return 0 if kept is None else kept.nbytes

    def forget(self) -> None:
        """Drop what is kept. Nobody asks meanwhile."""
        self._kept = None

    def rows_where(
        self, connection: sqlite3.Connection, version: int | None, condition: Condition, recent_writes: RecentWrites
    ) -> RowIds | None:
        """The rows whose records satisfy a condition, ascending; None where SQLite has to be asked.

        Args:
            version: of the records that the connection sees; None inside a batch
        """
        if not self._max_bytes or version in (None, self._failed_at) or condition.node is None:
            return None
        assert version is not None
        wanted = dict.fromkeys(fields_of(condition.node))
        with self._lock:
            try:
                kept = self._with_columns(connection, version, wanted, condition, recent_writes)
                if kept is None:
                    return None
                return kept.rows[_holding(condition.node, kept, connection)]
            except NotKeptError:
                return None
            except (sqlite3.Error, MemoryError) as error:
                reraise_interrupt(error)
                self._kept, self._failed_at = None, version
                log.debug("a condition is answered by SQLite: %s", error)
                return None

    def _with_columns(
        self,
        connection: sqlite3.Connection,
        version: int,
        wanted: Mapping[Field, None],
        condition: Condition,
        recent_writes: RecentWrites,
    ) -> _Kept | None:
        """What is kept at this version, with the columns of these fields; None where some are not kept."""
        commits = self._commits()
        kept = self._kept
        if kept is not None and kept.version == version and kept.commits != commits:
            # Another program may have written, which tells no version; but triggers have counted that.
            is_same = kept.mark is not None and saved_fields.is_watched(connection)
            self._kept = kept if is_same and kept.mark == changes.mark(connection) else None
        kept = self._brought_up(connection, version, recent_writes)
        if kept is not None and kept.version > version:
            return None
        missing = _lacking(kept, wanted)
        if any(self._is_refused(connection, field) for field in missing):
            return None
        if missing:
            kept = self._with_saved(connection, version, commits, kept, missing)
            missing = _lacking(kept, wanted)
        columns = dict(kept.columns) if kept is not None else {}
        if missing and self._is_left_to_indexes(connection, missing, condition):
            return None
        for at in range(0, len(missing), _FIELDS_PER_PASS):
            rows = _all_rows(connection) if kept is None else kept.rows
            made = _read(connection, rows, missing[at : at + _FIELDS_PER_PASS], self._max_bytes)
            columns.update(made)
            kept = _Kept(version, changes.mark(connection), commits, rows, columns)
        if kept is None:
            return None
        for field in wanted:
            if field in columns:  # the most recently used last
                columns[field] = columns.pop(field)
        self._kept = kept = self._within_limits(kept._replace(commits=commits, columns=columns))
        lost = wanted.keys() - kept.columns.keys()
        self._refused.update(dict.fromkeys(lost, len(kept.rows)))
        return None if lost else kept

    def _brought_up(self, connection: sqlite3.Connection, version: int, recent_writes: RecentWrites) -> _Kept | None:
        """What is kept, with what was written since; None where that is not known, or too much."""
        kept = self._kept
        if kept is None or kept.version >= version:
            return kept
        self._kept = None
        written = recent_writes.rows_between(kept.version, version)
        if written is None and kept.mark is not None:
            written = changes.written_since(connection, kept.mark)
        if written is None or _are_many(written, kept.rows):
            return None
        self._kept = _changed(connection, kept, version, written)
        return self._kept

    def _with_saved(
        self, connection: sqlite3.Connection, version: int, commits: int, kept: _Kept | None, missing: Sequence[Field]
    ) -> _Kept | None:
        """What is kept, with those of the missing columns that the file holds."""
        saved = saved_fields.read(connection, missing)
        if saved is None or saved.mark.version > version:
            return kept
        loaded = _brought_to(connection, saved, version)
        if loaded is None or not loaded.columns:
            return kept
        if kept is None:
            return loaded._replace(commits=commits)
        if len(kept.rows) != len(loaded.rows):
            raise NotKeptError
        return kept._replace(columns={**kept.columns, **loaded.columns})

    # ---- in the file -------------------------------------------------------------------------------------------------

    def is_saving_due(self, connection: sqlite3.Connection, *, soon: bool) -> bool:
        """Whether the columns in the file lack any that conditions have asked for, or much that was written since.

        Args:
            soon: much is anything, and fields that nobody has asked for are to be there too
        """
        if not self._max_bytes or count(connection) < max(1, _MIN_SAVED_RECORDS):
            return False
        saved = saved_fields.read(connection, ())
        if saved is None or not saved.names.issuperset(self._asked()):
            return True
        written = changes.written_since(connection, saved.mark)
        least = 0 if soon else max(_MIN_WRITTEN, len(saved.rows) // _WRITTEN_DIVISOR)
        return written is None or len(written) > least

    def save(self, connection: sqlite3.Connection) -> None:
        """Write columns into the file: of the fields that were asked for, that it holds, and that a sample shows.

        connection: in a transaction that writes, and has written nothing else. Others may ask meanwhile.
        """
        mark, kept = changes.mark(connection), self._kept
        if mark is None:
            return
        saved = saved_fields.read(connection, ())
        is_current = saved is not None and saved.mark == mark
        also: frozenset[Field] = saved.names if saved is not None and is_current else frozenset()
        columns: dict[Field, Column] = {}
        if saved is not None and not is_current:
            held = saved_fields.read(connection, saved.names)
            loaded = None if held is None else _brought_to(connection, held, mark.version)
            columns.update({} if loaded is None else loaded.columns)
        if kept is not None and kept.mark == mark:
            columns.update((field, column) for field, column in kept.columns.items() if field not in also)
        rows = saved.rows if saved is not None and is_current else _all_rows(connection)
        asked = self._asked()
        # What could not be saved is tried again when all of it is made again.
        refused = {*self._refused, *(saved.refused if saved is not None and (is_current or columns) else ())} - {*asked}
        known = (*asked, *(saved.names if saved is not None else ()), *saved_fields.found_fields(connection, rows))
        missing = [field for field in dict.fromkeys(known) if field not in {*columns, *also, *refused}]
        for at in range(0, len(missing), _FIELDS_PER_PASS):
            room = self._max_bytes - sum(column.nbytes for column in columns.values())
            columns.update(_read(connection, rows, missing[at : at + _FIELDS_PER_PASS], room))
        refused.update(field for field in missing if field not in columns)
        saved_fields.write(connection, mark, rows, columns, also, refused)

    def _asked(self) -> tuple[Field, ...]:
        kept = self._kept
        return () if kept is None else tuple(kept.columns)

    def _is_refused(self, connection: sqlite3.Connection, field: Field) -> bool:
        """Whether it did not pay when there were half to twice as many records."""
        then = self._refused.get(field)
        return then is not None and then <= 2 * count(connection) <= 4 * then

    def _is_left_to_indexes(self, connection: sqlite3.Connection, missing: list[Field], condition: Condition) -> bool:
        """Whether SQLite has an index for a condition whose columns were not made for that reason but a few times."""
        often = max(self._left[field] for field in missing) >= _LEFT_TO_INDEXES
        if often or not explain(connection, *condition).indexes:
            return False
        self._left.update(missing)
        return True

    def _within_limits(self, kept: _Kept) -> _Kept:
        columns = dict(kept.columns)
        while columns and (kept.nbytes > self._max_bytes or len(columns) > _MAX_FIELDS):
            del columns[next(iter(columns))]
            kept = kept._replace(columns=dict(columns))
        return kept


def _lacking(kept: _Kept | None, wanted: Mapping[Field, None]) -> list[Field]:
    return [field for field in wanted if kept is None or field not in kept.columns]


def _are_many(written: RowIds, rows: RowIds) -> bool:
    """Whether so many rows were written that reading them again does not pay."""
    return len(written) > max(_FEW_WRITTEN, len(rows) // _MAX_WRITTEN_SHARE)


def _brought_to(connection: sqlite3.Connection, saved: SavedFields, version: int) -> _Kept | None:
    """Columns from the file with what was written since; None where that is not known, or too much."""
    written = changes.written_since(connection, saved.mark)
    if written is None or _are_many(written, saved.rows):
        return None
    kept = _Kept(saved.mark.version, saved.mark, 0, saved.rows, saved.columns)
    return _changed(connection, kept, version, written) if len(written) else kept._replace(version=version)


def _holding(node: Node, kept: _Kept, connection: sqlite3.Connection) -> Mask:
    """bool[records]: for which the condition is true. Above the tests are AND and OR alone: there NULL is as false."""
    if isinstance(node, (All, Any_)):
        parts = (_holding(part, kept, connection) for part in node.parts)
        return reduce(np.logical_and if isinstance(node, All) else np.logical_or, parts)
    [field] = fields_of(node)
    return kept.columns[field].holding(node, connection, kept.rows)


# ---- reading ---------------------------------------------------------------------------------------------------------


class _FieldNotKeptError(Exception):
    def __init__(self, field: Field, *, is_too_big: bool) -> None:
        self.field, self.is_too_big = field, is_too_big


def _read(connection: sqlite3.Connection, rows: RowIds, fields: list[Field], max_bytes: int) -> dict[Field, Column]:
    """The columns of those fields that can be kept. rows: all that there are."""
    raw = dict.fromkeys(fields, False)
    while True:
        builders = {field: Builder(field, raw=raw[field]) for field in raw}
        try:
            _read_pages(connection, rows, builders, max_bytes)
            return {field: builder.made() for field, builder in builders.items()}
        except _FieldNotKeptError as error:
            if error.is_too_big or raw[error.field]:
                del raw[error.field]
            else:
                raw[error.field] = True


def _read_pages(
    connection: sqlite3.Connection, rows: RowIds, builders: Mapping[Field, Builder], max_bytes: int
) -> None:
    """Let the builders take what they select of all rows. _FieldNotKeptError for the first that cannot, or is too big.

    In pages, between which signals are seen. The connection sees the same records in each.
    """
    start, size = 0, _FIRST_PAGE
    while start < len(rows):
        page = rows[start : start + size]
        for field, values in _values(connection, builders, page).items():
            if len(values) != len(page):  # another program has changed the file meanwhile
                raise NotKeptError
            try:
                builders[field].add(values)
            except NotKeptError:
                raise _FieldNotKeptError(field, is_too_big=False) from None
        if sum(builder.nbytes for builder in builders.values()) > max_bytes:
            raise _FieldNotKeptError(max(builders, key=lambda field: builders[field].nbytes), is_too_big=True)
        start, size = start + size, _PAGE


def _all_rows(connection: sqlite3.Connection) -> RowIds:
    # One text of all: a tuple for each would take four times as long.
    [(joined,)] = connection.execute("SELECT group_concat(row) FROM records")
    return np.sort(np.fromstring(joined or "", np.int64, sep=","))


def _values(
    connection: sqlite3.Connection, builders: Mapping[Field, Builder], page: RowIds
) -> dict[Field, Sequence[Any]]:
    """What the builders select of these rows, which are all that there are in their range."""
    where, ends = "FROM records NOT INDEXED WHERE row BETWEEN ? AND ?", (int(page[0]), int(page[-1]))
    # In the order of rows, since no index is used, and as one JSON text. It rounds numbers with a fraction: where there
    # are any, each is fetched by itself.
    found: dict[Field, Sequence[Any]] = {}
    joined = [field for field, builder in builders.items() if not builder.has_reals]
    if joined:
        arrays = ", ".join(f"json_group_array({builders[field].sql})" for field in joined)
        [texts] = connection.execute(f"SELECT {arrays} {where}", ends)
        for field, text in zip(joined, texts, strict=True):
            with suppress(ValueError, RecursionError):  # what SQLite writes of infinity is no JSON
                found[field] = json.loads(text)
    for field, builder in builders.items():
        if field not in found or float in set(map(type, found[field])):
            builder.has_reals = True
            found[field] = [value for (value,) in connection.execute(f"SELECT {builder.sql} {where}", ends)]
    return found


def _changed(connection: sqlite3.Connection, kept: _Kept, version: int, written: RowIds) -> _Kept:
    """What is kept as of a later version. written: all rows that may differ, ascending."""
    selected = ", ".join(["row", *(column.sql(field) for field, column in kept.columns.items())])
    page = connection.execute(
        f"SELECT {selected} FROM records WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row",
        (json.dumps(written.tolist()),),
    ).fetchall()
    rows, *found = zip(*page, strict=True) if page else [()] * (1 + len(kept.columns))
    change = Change(kept.rows, written, np.array(rows, np.int64))
    columns: dict[Field, Column] = {}
    for (field, column), values in zip(kept.columns.items(), found, strict=True):
        with suppress(NotKeptError):  # it is made again when it is asked for
            columns[field] = column.changed(change, values)
    return _Kept(version, changes.mark(connection), kept.commits, change.rows, columns)
