"""The rows to build from, in blocks of one shard each, of which memory holds one."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import Metric
from .._validation import as_array, as_ids, as_rows, length_of_rows
from ..errors import DataFormatError, ParameterError
from ..files import refused
from ..printable import brief
from ..readers import SUFFIXES, Request, read_pieces
from .shards import Block

__all__ = ["Piece", "Source", "blocks_of", "files_in", "open_source"]

_ROWS_AT_ONCE = 16384
"""Of a file."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Some rows of a source; without ids they are numbered."""

    rows: npt.NDArray[np.float32]
    ids: npt.NDArray[np.int64] | None
    metric: Metric | None = None


class Source:
    """Pieces, the dimensions of their rows, and what is known of the whole."""

    def __init__(self, pieces: Iterator[Piece], name: str) -> None:
        first = next(pieces, None)
        if first is None or not first.rows.shape[0]:
            raise ParameterError(f"{name}: contains no vectors")
        self.dim = first.rows.shape[1]
        self.metric = first.metric
        self.total = 0
        """Rows, as far as is known."""
        self._first, self._rest, self._name = first, pieces, name

    def pieces(self) -> Iterator[Piece]:
        yield self._first
        for piece in self._rest:
            if piece.rows.shape[1] != self.dim:
                raise ParameterError(f"{self._name}: vectors of {self.dim} and of {piece.rows.shape[1]} dimensions")
            if piece.metric != self.metric:
                raise ParameterError(f"{self._name}: files for {self.metric} and for {piece.metric}")
            yield piece


def open_source(
    source: Any, ids: npt.ArrayLike | None = None, *, column: str | None = None, limit: int | None = None
) -> Source:
    """A file that read_vectors() knows, a folder of such files, or an array [n, dim], which may be mapped.

    Or a column of vectors, as pandas has it.
    """
    if isinstance(source, (str, os.PathLike)):
        if ids is not None:
            raise ParameterError("ids are for arrays; of a file they are read")
        path = Path(source)
        return _of_files(path, files_in(path) if path.is_dir() else [path], column, limit)
    if column is not None:
        raise ParameterError("column is for files")
    array = as_array(source, "vectors")
    dim = length_of_rows(array)
    if dim is None:
        what = f"{array.ndim}-dimensional" if array.ndim else brief(source)
        raise ParameterError(f"the source must be [n, dim], a file or a folder, not {what}")
    given = None if ids is None else as_ids(ids, "ids", to_keep=True)
    if given is not None and len(given) != len(array):
        raise ParameterError(f"{len(array)} vectors but {len(given)} ids")
    made = Source(_of_array(array[:limit], dim, None if given is None else given[:limit]), "the source")
    made.total = len(array[:limit])
    return made


def _of_array(array: npt.NDArray[Any], dim: int, ids: npt.NDArray[np.int64] | None) -> Iterator[Piece]:
    for start in range(0, len(array), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        what = f"vectors from row {start} on" if start else "vectors"
        yield Piece(as_rows(array[part], dim, what), None if ids is None else ids[part])


def files_in(folder: Path) -> list[Path]:
    """The files of vectors in it, by name, without what other programs hide: marks of success, files being written."""
    try:
        files = sorted(path for path in folder.iterdir() if path.name[0] not in "._")
    except OSError as error:
        raise refused(error, folder) from error
    files = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    if not files:
        raise DataFormatError(f"{folder}: a folder without files of vectors; supported are {' '.join(SUFFIXES)}")
    return files


def _of_files(name: Path, files: Sequence[Path], column: str | None, limit: int | None) -> Source:
    done = total = 0

    def note(of_file: int, total_of_file: int) -> None:
        nonlocal total
        total = done + total_of_file

    def pieces() -> Iterator[Piece]:
        nonlocal done
        for path in files:
            left = None if limit is None else limit - done
            if left == 0:
                return
            before = done
            with closing(read_pieces(Request(path, column, left, note), _ROWS_AT_ONCE)) as read:
                for dataset in read:
                    yield Piece(dataset.vectors, dataset.ids, dataset.metric)
                    made.total = max(made.total, total)
                    before += len(dataset.vectors)
            done = before

    made = Source(pieces(), str(name))
    made.total = total
    return made


def blocks_of(pieces: Iterable[Piece], dim: int, rows_per_shard: int) -> Generator[Block, None, None]:
    """The rows of the pieces, in order, so many at a time. A block is valid until the next one is asked for."""
    room = min(rows_per_shard, _ROWS_AT_ONCE)
    rows, ids = np.empty((room, dim), np.float32), np.empty(room, np.int64)
    start = filled = 0
    numbered: bool | None = None
    for piece in pieces:
        if numbered is None:
            numbered = piece.ids is None
        if numbered != (piece.ids is None):
            raise ParameterError("some rows have ids and some have none")
        done, count = 0, len(piece.rows)
        while done < count:
            if filled == room:
                room = min(rows_per_shard, 2 * room)
                rows, ids = _grown(rows, room), _grown(ids, room)
            taken = min(count - done, room - filled)
            part = slice(filled, filled + taken)
            rows[part] = piece.rows[done : done + taken]
            first = start + filled
            ids[part] = np.arange(first, first + taken) if piece.ids is None else piece.ids[done : done + taken]
            filled, done = filled + taken, done + taken
            if filled == rows_per_shard:
                yield Block(rows, ids, start)
                start, filled = start + filled, 0
    if filled:
        yield Block(rows[:filled], ids[:filled], start)


def _grown(array: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    larger = np.empty((room, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
