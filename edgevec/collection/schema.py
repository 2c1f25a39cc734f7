"""What is in the SQLite file, and its versions.

records    what the user keeps, under a row number of our own. `id` has no type: 1 and '1' are two ids. `words` is what
           the full-text index reads in place of the document, where that differs; version 1 had none.
vectors    apart from the records, so that a filter does not read past them.
texts      the full-text index of the documents; triggers keep it in step.
changes    the rows whose vector changed, in order, since the snapshot of the graph: what a graph has to catch up with.
snapshots  the graph files that may lie beside this file, each with the last change it holds.
state      counts the recent_writes, and the changes that were cut from the start of `changes`.
damaged    what a repair has set apart; made when it is first needed.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from .._types import Progress
from ..errors import CorruptCollectionError, EdgevecError, FormatVersionError
from .sql import pages
from .words import indexed

__all__ = [
    "Dtype",
    "Settings",
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

_TEXTS = (
    "CREATE VIEW documents AS "
    "SELECT row, coalesce(words, document) AS document FROM records WHERE document IS NOT NULL",
    # Marks are a part of words: in many scripts they are the vowels.
    "CREATE VIRTUAL TABLE texts USING fts5(document, content='documents', content_rowid='row', "
    "tokenize=\"unicode61 remove_diacritics 2 categories 'L* N* Co M*'\")",
)
_TRIGGERS = (
    """CREATE TRIGGER text_added AFTER INSERT ON records WHEN new.document IS NOT NULL BEGIN
        INSERT INTO texts(rowid, document) VALUES (new.row, coalesce(new.words, new.document));
    END""",
    """CREATE TRIGGER text_removed AFTER DELETE ON records WHEN old.document IS NOT NULL BEGIN
        INSERT INTO texts(texts, rowid, document) VALUES ('delete', old.row, coalesce(old.words, old.document));
    END""",
    # One trigger, since the old text must go before the new one comes and several would fire in no given order.
    """CREATE TRIGGER text_changed AFTER UPDATE OF document, words ON records
    WHEN old.document IS NOT new.document OR old.words IS NOT new.words BEGIN
        INSERT INTO texts(texts, rowid, document)
            SELECT 'delete', old.row, coalesce(old.words, old.document) WHERE old.document IS NOT NULL;
        INSERT INTO texts(rowid, document)
            SELECT new.row, coalesce(new.words, new.document) WHERE new.document IS NOT NULL;
    END""",
)

_SCRIPT = ";".join((_TABLES, *_TEXTS, *_TRIGGERS))

DOCUMENTS_PER_PAGE = 1000
"""Documents that are indexed again at a time."""


def create(connection: sqlite3.Connection, settings: Settings) -> None:
    """Make an empty file a collection, or nothing at all."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCRIPT}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    )
    for name, value in settings.items():
        write_setting(connection, name, value)
    connection.execute("COMMIT")


def verify(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file holds a collection already; an empty one does not.

    CorruptCollectionError when it is something else, FormatVersionError when it is of a newer version.
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
    """CorruptCollectionError names a table that is not there."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    for name in ("settings", "records", "vectors", "texts", "changes", "snapshots", "state"):
        if name not in there:
            raise CorruptCollectionError(f"{path}: damaged: the table {name} is missing")


def missing(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The triggers and views that there should be and are not: the name of each, and the SQL that makes it."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    return [(name, sql) for kind, name, sql in _meant() if kind in ("trigger", "view") and name not in there]


def remake_texts(connection: sqlite3.Connection) -> None:
    """The full-text index anew, where what is left of it is too little for FTS5 to work with."""
    [sql] = [sql for _, name, sql in _meant() if name == "texts"]
    connection.execute("BEGIN IMMEDIATE")
    try:
        _drop_texts(connection)
        connection.execute(sql)
        connection.execute("INSERT INTO texts(texts) VALUES ('rebuild')")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _drop_texts(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("DROP TABLE IF EXISTS texts")
    except sqlite3.Error:  # too little is left of it for FTS5 to drop it
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.execute("DELETE FROM sqlite_schema WHERE name = 'texts'")
        finally:
            connection.execute("PRAGMA writable_schema = RESET")
        parts = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'texts_*'")
        for (name,) in parts.fetchall():
            connection.execute(f"DROP TABLE {name}")


def _meant() -> list[tuple[str, str, str]]:
    """What there is in a new collection: type, name, SQL."""
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        fresh.executescript(_SCRIPT)
        return fresh.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    finally:
        fresh.close()


def drop_field_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop the indexes over metadata; the SQL that makes them again."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'records' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in found:
        quoted = name.replace('"', '""')
        connection.execute(f'DROP INDEX "{quoted}"')
    return [sql for _, sql in found]


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether the full-text index is one of version 1: of the documents as they are."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0]) < 2


def upgrade(connection: sqlite3.Connection, name: str, progress: Progress | None) -> None:
    """Make a collection of version 1 one of this version, or nothing at all: its documents are indexed anew.

    EdgevecError when progress(done, total), of documents, returns False.
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
            if progress is not None and progress(done, total) is False:
                raise EdgevecError(f"{name}: stopped by its progress function, and left as it was")
        for statement in (*_TRIGGERS, f"PRAGMA user_version = {VERSION}", "COMMIT"):
            connection.execute(statement)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def read_settings(connection: sqlite3.Connection) -> Settings:
    return dict(connection.execute("SELECT name, value FROM settings"))


def write_setting(connection: sqlite3.Connection, name: str, value: Any) -> None:
    connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
