"""The tables of the SQLite file, and its versions.

records    id, metadata and document by row, a number of our own. `id` has no type: 1 and '1' are two ids. `words` is
           what the full-text index reads in place of the document, where that differs (new in version 2).
vectors    apart from the records, so that conditions do not read them. Those of a large call are stored before their
           records; `settings` names the first such row meanwhile.
texts      the full-text index of the documents, kept up to date by triggers.
changes    the rows whose vector changed since the last snapshot of the graph, in order.
rewritten  the last rows that were written without another vector, in order.
snapshots  the graph files that may lie beside this file, each with the last change that it holds.
state      the number of commits, the last change that was deleted from `changes`, and how many of the commits have
           listed all rows that they wrote in `changes` and `rewritten` (an earlier edgevec writes to the former alone);
           whether the open transaction lists them (`writing`; 0 in every committed state), and how many records were
           written by what lists none (`unlisted`): triggers count what other programs write.
fields     metadata fields as columns, for conditions; derived from the records as they were at a mark.
damaged    records that a repair has moved here; created when it is first needed.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from .._types import Progress
from ..errors import CorruptCollectionError, FormatVersionError
from .sql import end_transaction, pages
from .sqlite_errors import reraise_interrupt
from .words import indexed

__all__ = [
    "ENCODER",
    "WATCHING",
    "Dtype",
    "Settings",
    "add_tables",
    "check_tables",
    "create",
    "drop_field_indexes",
    "is_old",
    "missing",
    "read_settings",
    "remake_texts",
    "upgrade",
    "verify",
    "write_setting",
]

APPLICATION_ID = 0x45564442  # "EVDB"
VERSION = 2
NOT_OURS = "an SQLite database, but not a collection of edgevec's"

Settings = dict[str, Any]
ENCODER = "encoder"
"""The setting with the name of the encoder; missing where it has none."""
Dtype = Literal["float32", "float16"]

_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;
CREATE TABLE records (
    row INTEGER PRIMARY KEY,
    id UNIQUE NOT NULL CHECK (typeof(id) IN ('integer', 'text')),
    metadata TEXT NOT NULL,
    document TEXT,
    words TEXT
);
CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, row INTEGER NOT NULL);
CREATE TABLE snapshots (identity TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (version INTEGER NOT NULL, trimmed INTEGER NOT NULL);
INSERT INTO state VALUES (0, 0);
"""

_LISTED = """
ALTER TABLE state ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE rewritten (seq INTEGER PRIMARY KEY, row INTEGER NOT NULL);

"""

_WATCHED = """
ALTER TABLE state ADD COLUMN writing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN unlisted INTEGER NOT NULL DEFAULT 0;
""" + "".join(
    # REPLACE deletes what it replaces without a trigger, but inserts with one.
    f"CREATE TRIGGER record_{done} AFTER {event} ON records WHEN (SELECT writing FROM state) IS NOT 1 "
    "BEGIN UPDATE state SET unlisted = unlisted + 1; END;\n"
    for done, event in (("added", "INSERT"), ("changed", "UPDATE"), ("removed", "DELETE"))
)
_FIELDS = (
    "CREATE TABLE IF NOT EXISTS fields "
    "(field TEXT PRIMARY KEY, about TEXT NOT NULL, content BLOB NOT NULL, checksum INTEGER NOT NULL)"
)
WATCHING = ("record_added", "record_changed", "record_removed")
"""Triggers that see what other programs write."""

TOKENIZER = "unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
"""Marks are a part of words: in many scripts they are the vowels."""

_TEXTS = (
    "CREATE VIEW documents AS "
    "SELECT row, coalesce(words, document) AS document FROM records WHERE document IS NOT NULL",
    "CREATE VIRTUAL TABLE texts USING fts5(document, content='documents', content_rowid='row', "
    f'tokenize="{TOKENIZER}")',
)
_TRIGGERS = (
    """CREATE TRIGGER text_added AFTER INSERT ON records WHEN new.document IS NOT NULL BEGIN
        INSERT INTO texts(rowid, document) VALUES (new.row, coalesce(new.words, new.document));
    END""",
    """CREATE TRIGGER text_removed AFTER DELETE ON records WHEN old.document IS NOT NULL BEGIN
        INSERT INTO texts(texts, rowid, document) VALUES ('delete', old.row, coalesce(old.words, old.document));
    END""",
    # One trigger: the old text must be deleted before the new one is inserted, and triggers fire in no given order.
    """CREATE TRIGGER text_changed AFTER UPDATE OF document, words ON records
    WHEN old.document IS NOT new.document OR old.words IS NOT new.words BEGIN
        INSERT INTO texts(texts, rowid, document)
            SELECT 'delete', old.row, coalesce(old.words, old.document) WHERE old.document IS NOT NULL;
        INSERT INTO texts(rowid, document)
            SELECT new.row, coalesce(new.words, new.document) WHERE new.document IS NOT NULL;
    END""",
)

_SCRIPT = ";".join((_TABLES, _LISTED, _WATCHED, _FIELDS, *_TEXTS, *_TRIGGERS))

DOCUMENTS_PER_PAGE = 1000
"""Documents that are indexed at a time."""


def create(connection: sqlite3.Connection, settings: Settings) -> None:
    """Create the tables in an empty file, all or none."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCRIPT}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    )
    for name, value in settings.items():
        write_setting(connection, name, value)
    connection.execute("COMMIT")


def verify(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file holds a collection; False when it is empty.

    CorruptCollectionError when it is something else, FormatVersionError when a newer edgevec has written it.
    """
    application, version = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")
    )
    if application == APPLICATION_ID:
        if version > VERSION:
            raise FormatVersionError(f"{path}: a collection of version {version}; this edgevec reads up to {VERSION}")
        return True
    if application or version or connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise CorruptCollectionError(f"{path}: {NOT_OURS}")
    return False


def check_tables(connection: sqlite3.Connection, path: str) -> None:
    """CorruptCollectionError when a table is missing."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for name in ("settings", "records", "vectors", "texts", "changes", "snapshots", "state"):
        if name not in there:
            raise CorruptCollectionError(f"{path}: damaged: the table {name} is missing")


def add_tables(connection: sqlite3.Connection) -> None:
    """Let a file that an earlier edgevec made tell readers which rows are written, and keep its fields as columns."""
    there = {name for _, name, *_ in connection.execute("PRAGMA table_info(state)")}
    for column, script in (("listed", _LISTED), ("writing", _WATCHED)):
        if column not in there:
            connection.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'fields'").fetchone():
        connection.execute(_FIELDS)


def missing(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The triggers and views that are missing: name and SQL of each."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    return [(name, sql) for kind, name, sql in _expected() if kind in ("trigger", "view") and name not in there]


def remake_texts(connection: sqlite3.Connection) -> None:
    """Create the full-text index again, when FTS5 cannot repair it. The caller has begun a transaction."""
    [sql] = [sql for _, name, sql in _expected() if name == "texts"]
    _drop_texts(connection)
    connection.execute(sql)
    connection.execute("INSERT INTO texts(texts) VALUES ('rebuild')")


def _drop_texts(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("DROP TABLE IF EXISTS texts")
    except sqlite3.Error as error:  # too damaged for FTS5 to drop it
        reraise_interrupt(error)
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute("DELETE FROM sqlite_schema WHERE name = 'texts'")
        finally:
            connection.execute("PRAGMA writable_schema = RESET")
        parts = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'texts_*'")
        for (name,) in parts.fetchall():
            connection.execute(f"DROP TABLE {name}")


def _expected() -> list[tuple[str, str, str]]:
    """Type, name and SQL of everything in a new collection."""
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        fresh.executescript(_SCRIPT)
        return fresh.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    finally:
        fresh.close()


def drop_field_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop the indexes over metadata; the SQL that creates them again."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'records' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in found:
        quoted = name.replace('"', '""')
        connection.execute(f'DROP INDEX "{quoted}"')
    return [sql for _, sql in found]


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether the file is of version 1, whose full-text index is of the documents as they are."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0]) < 2


def upgrade(connection: sqlite3.Connection, progress: Progress | None) -> None:
    """Bring a collection of version 1 to this version by indexing its documents again, wholly or not at all.

    progress(done, total) is of documents.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for trigger in ("text_added", "text_removed", "text_changed"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        _drop_texts(connection)
        connection.execute("DROP VIEW IF EXISTS documents")
        connection.execute("ALTER TABLE records ADD COLUMN words TEXT")
        for statement in _TEXTS:
            connection.execute(statement)
        total, done = int(connection.execute("SELECT count(*) FROM documents").fetchone()[0]), 0
        sql = "SELECT row, document FROM records WHERE document IS NOT NULL AND row > ?"
        for page in pages(connection, sql, DOCUMENTS_PER_PAGE):
            words = [(text, row) for row, document in page if (text := indexed(document)) is not None]
            connection.executemany("UPDATE records SET words = ? WHERE row = ?", words)
            connection.executemany(
                "INSERT INTO texts(rowid, document) SELECT row, document FROM documents WHERE row = ?",
                [(row,) for row, _ in page],
            )
            done += len(page)
            if progress is not None:
                progress(done, total)
        for statement in (*_TRIGGERS, f"PRAGMA user_version = {VERSION}", "COMMIT"):
            connection.execute(statement)
    finally:
        end_transaction(connection)


def read_settings(connection: sqlite3.Connection) -> Settings:
    return dict(connection.execute("SELECT name, value FROM settings"))


def write_setting(connection: sqlite3.Connection, name: str, value: Any) -> None:
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
