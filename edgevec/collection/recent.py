"""What lately found records look like, kept in memory for as long as the records stay the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from .records import Shown, shown

__all__ = ["Recent"]

_MOST_CHARACTERS = 16_000_000
_OVERHEAD = 200
"""Bytes or so of a row beside its texts."""


class Recent:
    """All readers of one moment see the same version, so threads may share it: at worst two fetch the same row."""

    def __init__(self) -> None:
        self._kept: tuple[int | None, dict[int, Shown]] = (None, {})
        self._characters = 0

    def get(self, connection: sqlite3.Connection, version: int | None, rows: Sequence[int]) -> dict[int, Shown]:
        """What is shown of each row. version: of the records; None when they have none yet."""
        if version is None:
            return shown(connection, rows)
        kept_version, kept = self._kept
        if kept_version != version or self._characters > _MOST_CHARACTERS:
            kept, self._characters = {}, 0
            self._kept = (version, kept)
        absent = [row for row in rows if row not in kept]
        if absent:
            fresh = shown(connection, absent)
            self._characters += sum(
                _OVERHEAD + len(metadata) + len(document or "") for _, metadata, document in fresh.values()
            )
            kept.update(fresh)
        return kept
