"""The records to build from, in blocks of one shard each, of which memory holds one."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._types import Progress
from ..collection.import_export import Columns, Table, stacked, tables
from ..collection.numbering import Numbers
from ..collection.validation import Id
from ..errors import ParameterError
from ..sharded.source import files_in

__all__ = ["Block", "Source", "blocks_of", "no_records"]


@dataclass(eq=False)
class Block:
    """The records of one shard, in tables, with their ids."""

    tables: list[tuple[list[Id], Table]] = field(default_factory=list)
    count: int = 0

    @property
    def dim(self) -> int | None:
        """Of the first vector; None where an encoder makes all of them."""
        vectors = (vector for _, table in self.tables for vector in table.vectors)
        first = next((vector for vector in vectors if vector is not None), None)
        return None if first is None else len(first)


class Source:
    """Tables of a file, of the files of a folder, by name, or of what else Collection.import_from() takes.

    Attributes:
        total: rows, as far as is known
    """

    def __init__(self, data: Any, columns: Columns, *, encodes: bool) -> None:
        self._data, self._columns, self._encodes = data, columns, encodes
        self.total = 0

    def tables(self) -> Iterator[Table]:
        """Their starts count rows from the first of all."""
        data = self._data
        paths = files_in(Path(data)) if isinstance(data, (str, os.PathLike)) and Path(data).is_dir() else [data]
        before = 0
        for each in paths:
            done = 0
            with closing(tables(each, self._columns, self._note(before), encodes=self._encodes)) as read:
                for table in read:
                    done = table.start + len(table.ids)
                    yield table._replace(start=before + table.start)
            before += done
            self.total = max(self.total, before)

    def _note(self, before: int) -> Progress:
        def note(done: int, total: int) -> bool | None:
            self.total = max(self.total, before + total)
            return None

        return note


def blocks_of(found: Callable[[], Iterator[Table]], rows_per_shard: int) -> Generator[Block, None, None]:
    """The records in order, so many at a time. DuplicateIdError names an id that comes twice."""
    numbers, block = Numbers(0), Block()
    for table in found():
        ids = numbers.complete(table.ids, table.start)
        if not any(vector is None for vector in table.vectors):
            table = table._replace(vectors=stacked(table.vectors, table.start))
        done = 0
        while done < len(ids):
            taken = min(len(ids) - done, rows_per_shard - block.count)
            part = slice(done, done + taken)
            block.tables.append((ids[part], _part(table, part)))
            block.count, done = block.count + taken, done + taken
            if block.count == rows_per_shard:
                yield block
                block = Block()
    if block.count:
        yield block


def _part(table: Table, part: slice) -> Table:
    vectors = table.vectors[part]
    if isinstance(vectors, np.ndarray):
        vectors = vectors.copy()  # what it was a part of need not stay
    return Table(table.start + part.start, table.ids[part], vectors, table.metadata[part], table.documents[part])


def no_records(what: Any) -> ParameterError:
    name = os.fspath(what) if isinstance(what, (str, os.PathLike)) else "the source"
    return ParameterError(f"{name}: contains no records")
