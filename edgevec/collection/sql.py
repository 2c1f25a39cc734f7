"""Running statements: also where some records are damaged, and in pages."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .sqlite_errors import ERROR, code_of

__all__ = ["BEFORE_ALL", "end_transaction", "pages", "select"]

log = logging.getLogger("edgevec")

BEFORE_ALL = -(2**63)
"""Less than every row."""

_LENIENT = """WITH records AS (
    SELECT row, id, document, CASE
        WHEN typeof(metadata) <> 'text' THEN '{}' WHEN json_valid(metadata) THEN metadata ELSE '{}' END AS metadata
    FROM main.records
) """
"""In front of a statement: what is not JSON counts as no metadata. Only where it is needed: it hides the indexes."""

TextFactory = Callable[[bytes], Any]


def select(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = (), *, text: TextFactory | None = None
) -> list[Any]:
    """The result of a statement, even where some records are damaged.

    Args:
        text: what makes a value of a text's bytes. None: a str, with U+FFFD in place of what is not UTF-8. Metadata
            that are not JSON count as none.
    """
    prefix = ""
    if text is not None:
        connection.text_factory = text
    try:
        while True:
            try:
                return connection.execute(prefix + sql, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if code_of(error) != ERROR:
                    raise
                if "JSON" in str(error) and not prefix:
                    prefix = _LENIENT
                elif "Could not decode" in str(error) and connection.text_factory is str:
                    connection.text_factory = _replacing
                else:
                    raise
                log.warning("some records are damaged (see Collection.check()): %s", error)
    finally:
        connection.text_factory = str


def _replacing(data: bytes) -> str:
    return data.decode(errors="replace")


def pages(
    connection: sqlite3.Connection, sql: str, size: int, *, text: TextFactory | None = None
) -> Iterator[list[Any]]:
    """The result of a statement, `size` rows at a time.

    Args:
        sql: selects `row` first, and ends in the condition `row > ?`
        text: as in select()
    """
    last = BEFORE_ALL
    while page := select(connection, f"{sql} ORDER BY row LIMIT ?", (last, size), text=text):
        yield page
        last = page[-1][0]


def end_transaction(connection: sqlite3.Connection) -> None:
    """Roll back what is open. Not that of the caller's alone: a signal may have ended a call before it did so."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
