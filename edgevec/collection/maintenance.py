"""Checking and repairing, checkpoints, compaction, sizes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import CheckReport, Progress
from ..errors import CancelledError
from ..index import Index
from . import changes, fulltext, saved_fields, schema
from .damage import find_damage, set_apart
from .graph import Graph
from .records import count, vector_count, vector_pages
from .sql import pages
from .sqlite_errors import reraise_interrupt
from .store import Store
from .validation import are_valid
from .words import indexed

__all__ = ["CollectionReport", "check", "checkpoint", "compact", "refresh", "stats"]

CHECK_PAGE = 8192
_TOLERANCE = 1e-5
"""Times the vector's length: a difference below this is rounding."""
_ROUNDING = 2e-6
"""Times the greatest length, in addition: the index rounds coordinates by their distance from the mean of all vectors,
several times as it grows."""


class CollectionReport(NamedTuple):
    """What Collection.check() found.

    Example:
        >>> import edgevec
        >>> with edgevec.open(":memory:", dim=2) as notes:
        ...     _ = notes.upsert(["a", "b"], [[1, 0], [0, 1]])
        ...     report = notes.check()
        >>> report.ok, report.records, report.problems
        (True, 2, ())
    """

    records: int
    """How many there are."""
    missing: int
    """Records that the graph lacks."""
    extra: int
    """Vectors in the graph that no record has."""
    stale: int
    """Vectors in the graph that are not those of their records."""
    graph: CheckReport | None
    """Index.check() of the graph; None while no vector was ever stored."""
    problems: tuple[str, ...]
    """What is wrong in the database or in the full-text index, a line each."""
    repaired: bool
    """Whether anything was repaired; the other fields tell what is wrong now."""
    set_apart: tuple[Any, ...] = ()
    """The ids of the records that this repair has moved to the table `damaged`."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong (any more)."""
        agrees = not (self.missing or self.extra or self.stale or self.problems)
        return agrees and (self.graph is None or self.graph.ok)


class Difference(NamedTuple):
    missing: list[int]
    extra: list[int]
    stale: list[int]


def _file_problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite's own check finds.

    From 3.44 on it opens the full-text index too, and fails where that cannot be opened. Then it is asked about each
    other table; the full-text index has a check of its own.
    """
    try:
        return _integrity_problems(connection, "20")
    except sqlite3.DatabaseError as error:
        if "vtable constructor failed" not in str(error):
            raise
    ordinary = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL %'"
    quoted = ["'" + name.replace("'", "''") + "'" for (name,) in connection.execute(ordinary).fetchall()]
    return [line for name in quoted for line in _integrity_problems(connection, name)]


def _integrity_problems(connection: sqlite3.Connection, of: str) -> list[str]:
    """of: a table in quotes, or the most problems to find in all of them."""
    try:
        return [line for (line,) in connection.execute(f"PRAGMA integrity_check({of})") if line != "ok"]
    except sqlite3.OperationalError as error:
        if "JSON" not in str(error):
            raise
        return ["an index over metadata that are not JSON"]


def _text_problems(connection: sqlite3.Connection) -> list[str]:
    """Whether the full-text index matches the documents, and has the triggers that keep it so."""
    missing = [name for name, _ in schema.missing(connection)]
    problems = [f"the full-text index: {name} is missing" for name in missing if name not in schema.WATCHING]
    problems += [f"the saved fields: the trigger {name} is missing" for name in missing if name in schema.WATCHING]
    stale = sum(1 for _ in _stale_words(connection))
    if stale:
        problems.append(f"the full-text index: the words of {stale:,} documents are not theirs")
    try:
        connection.execute("INSERT INTO texts(texts, rank) VALUES ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        reraise_interrupt(error)
        problems.append(f"the full-text index: {error}")
    return problems


def _stale_words(connection: sqlite3.Connection) -> Iterator[tuple[str | None, int]]:
    """(words, row) of each document whose stored words are not those of its text."""
    sql = "SELECT row, document, words FROM records WHERE document IS NOT NULL AND row > ?"
    for page in pages(connection, sql, CHECK_PAGE):
        for row, document, words in page:
            if words != (meant := indexed(document)):
                yield meant, row


def _repair_texts(connection: sqlite3.Connection) -> None:
    for _, sql in schema.missing(connection):
        connection.execute(sql)
    try:
        connection.executemany("UPDATE records SET words = ? WHERE row = ?", list(_stale_words(connection)))
    except sqlite3.DatabaseError as error:  # the triggers need an index to work with
        reraise_interrupt(error)
        schema.remake_texts(connection)
        connection.executemany("UPDATE records SET words = ? WHERE row = ?", list(_stale_words(connection)))
    try:
        connection.execute("INSERT INTO texts(texts) VALUES ('rebuild')")
    except sqlite3.DatabaseError as error:
        reraise_interrupt(error)
        schema.remake_texts(connection)


def _compare(connection: sqlite3.Connection, graph: Graph, progress: Progress | None) -> Difference:
    """The rows on which records and graph differ."""
    index = graph.index
    if index is None:
        return Difference([], [], [])
    settings = schema.read_settings(connection)
    total = vector_count(connection)
    difference, seen = Difference([], [], []), 0
    extra = set(index)
    for rows, vectors in vector_pages(connection, CHECK_PAGE, index.dim, str(settings["dtype"])):
        sound = are_valid(vectors, index.metric)
        rows, vectors = rows[sound], vectors[sound]
        held = [row in extra for row in rows.tolist()]
        difference.missing.extend(rows[~np.array(held)].tolist())
        extra.difference_update(rows.tolist())
        rows, vectors = rows[held], vectors[held]
        difference.stale.extend(rows[_differ(index, rows, vectors)].tolist())
        seen += len(held)
        if progress is not None:
            progress(seen, total)
    difference.extra.extend(sorted(extra))
    return difference


def _differ(index: Index, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    held, meant = index.get(rows).astype(np.float64), vectors.astype(np.float64)
    lengths = np.linalg.norm(meant, axis=1, keepdims=True)
    if index.metric == "cosine":
        meant, lengths = meant / lengths, np.ones_like(lengths)
    bound = _TOLERANCE * np.maximum(lengths[:, 0], 1e-30) + _ROUNDING * lengths.max(initial=0)
    different: NDArray[np.bool_] = np.abs(held - meant).max(axis=1, initial=0) > bound
    return different


def checkpoint(store: Store) -> None:
    """As Collection.checkpoint()."""
    store.write_snapshot()
    store.copy_log_back()


def compact(store: Store, progress: Progress | None) -> None:
    """As Collection.compact()."""
    with store.exclusive() as connection:
        if store.graph.index is not None:
            store.graph.index.compact(progress=store.progress_guard.wrap(progress))
        connection.execute("INSERT INTO texts(texts) VALUES ('optimize')")
        saved_fields.drop(connection)  # they may hold what was deleted; the checkpoint saves what there is
        connection.execute("VACUUM")
    checkpoint(store)


def refresh(store: Store, progress: Progress | None) -> int:
    """As Collection.refresh()."""
    store.detect_external_changes()
    try:
        with store.read(progress=progress, whole=True) as connection:
            return changes.version(connection)
    except CancelledError:
        raise CancelledError("stopped by its progress function: the next search takes in the rest") from None


def stats(store: Store) -> dict[str, Any]:
    """As Collection.stats()."""
    path, graph = store.path, store.graph
    with store.read() as connection:
        usage = {} if graph.index is None else graph.index.memory_usage()
        memory = usage.get("total", 0)
        if graph.behind is not None:
            memory += graph.behind.nbytes
        return {
            "records": count(connection),
            "documents": fulltext.count(connection),
            "file_bytes": _size(path),
            "log_bytes": _size(Path(f"{path}-wal")) if path else 0,
            "snapshot_bytes": _size(graph.snapshot.path if graph.snapshot else None),
            "changes_since_snapshot": graph.seq - graph.saved_seq,
            "memory_bytes": memory,
            "disk_bytes": usage.get("on_disk", 0),
            "condition_bytes": store.fields.nbytes,
            "memory_held": graph.nbytes + store.fields.nbytes,
        }


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0


def check(store: Store, *, repair: bool, progress: Progress | None) -> CollectionReport:
    """As Collection.check()."""
    progress = store.progress_guard.wrap(progress)
    if not repair and not store.writable:
        with store.read(whole=True) as connection:
            return _report(connection, store.graph, [], _compare(connection, store.graph, progress))
    with store.exclusive() as connection:
        texts, difference = _text_problems(connection), _compare(connection, store.graph, progress)
        report = _report(connection, store.graph, texts, difference)
        if not repair or report.ok:
            return report
    with store.write() as connection:
        report = _repair(connection, store, bool(texts), progress)
    store.write_snapshot()
    return report


def _repair(
    connection: sqlite3.Connection, store: Store, texts_differ: bool, progress: Progress | None
) -> CollectionReport:
    """Repair what is derived, and set damaged records apart, in the transaction that the caller has begun."""
    saved_fields.drop(connection)  # nobody may have watched what was written
    if texts_differ:
        _repair_texts(connection)
    if any("index" in problem for problem in _file_problems(connection)):
        connection.execute("REINDEX")
    damage = find_damage(connection)
    if damage:
        store.add_rows(np.array(set_apart(connection, damage), np.int64))
    store.apply_writes(connection, progress)
    _repair_graph(connection, store.graph, _compare(connection, store.graph, progress), progress)
    if _text_problems(connection):
        _repair_texts(connection)
    store.database.close_idle()
    report = _report(connection, store.graph, _text_problems(connection), _compare(connection, store.graph, progress))
    return report._replace(repaired=True, set_apart=tuple(key for key, _ in damage.records.values()))


def _report(connection: sqlite3.Connection, graph: Graph, texts: list[str], difference: Difference) -> CollectionReport:
    return CollectionReport(
        records=count(connection),
        missing=len(difference.missing),
        extra=len(difference.extra),
        stale=len(difference.stale),
        graph=None if graph.index is None else graph.index.check(),
        problems=(*_file_problems(connection), *find_damage(connection).problems(), *texts),
        repaired=False,
    )


def _repair_graph(
    connection: sqlite3.Connection, graph: Graph, difference: Difference, progress: Progress | None
) -> None:
    """Make the graph agree with the records; rebuild it when its structure is damaged."""
    wrong = sorted({*difference.missing, *difference.extra, *difference.stale})
    graph.fix_rows(connection, np.array(wrong, np.int64))
    if graph.index is not None and not graph.index.check().ok:
        graph.rebuild(connection, progress)
