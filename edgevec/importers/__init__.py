"""Reads what other libraries have stored, for `edgevec convert`: a module for each.

Files whose layout is simple and stable are read here (hnswlib, faiss, sqlite-vec), so that their library need not be
installed; the others are read by their library (usearch, voyager, Chroma, LanceDB), which is imported when such a file
is met. Vectors, ids and records are taken over, and the graphs of hnswlib and faiss; others are built of the vectors.
"""

from __future__ import annotations

import struct
from pathlib import Path

from ..errors import DataFormatError
from ..files import DISK_INDEX_START, INDEX_START, not_found, refused
from . import chroma, faiss, hnswlib, lancedb, sqlite_vec, usearch, voyager
from .source import Options, Piece, Source

__all__ = ["Options", "Piece", "Source", "open_source"]

_KNOWN = (
    "index files of hnswlib, faiss (Flat and HNSWFlat), usearch and Voyager, folders of Chroma and LanceDB, databases "
    "with tables of sqlite-vec"
)


def open_source(path: Path, options: Options) -> Source:
    """What lies there, told by its content.

    Raises:
        DataNotFoundError: there is nothing
        DataFormatError: it is damaged, or nothing that is known here
        ParameterError: the options name nothing in it, or do not say which of several things is meant
        MissingExtraError: its library is not installed
        StorageError: the system refuses to read it
    """
    try:
        if path.is_dir():
            return _of_folder(path, options)
        with path.open("rb") as file:
            head = file.read(4096)
        size = path.stat().st_size
    except FileNotFoundError:
        raise not_found(path) from None
    except OSError as error:
        raise refused(error, path) from error
    try:
        return _of_file(path, head, size, options)
    except struct.error as error:
        raise DataFormatError(f"{path}: damaged: truncated") from error
    except OSError as error:
        raise refused(error, path) from error


def _of_folder(path: Path, options: Options) -> Source:
    if (path / "chroma.sqlite3").is_file():
        return chroma.opened(path, options)
    if path.suffix == ".lance":
        return lancedb.opened(path.parent, options._replace(table=options.table or path.stem))
    if any(entry.suffix == ".lance" and entry.is_dir() for entry in path.iterdir()):
        return lancedb.opened(path, options)
    raise DataFormatError(f"{path}: neither a folder of Chroma's nor of LanceDB's; known are {_KNOWN}")


def _of_file(path: Path, head: bytes, size: int, options: Options) -> Source:
    if head.startswith(b"SQLite format 3\0"):
        if path.name == "chroma.sqlite3":
            return chroma.opened(path.parent, options)
        return sqlite_vec.opened(path, options)
    if head.startswith(INDEX_START):
        raise DataFormatError(f"{path}: an index of edgevec's; it becomes one with its graph on disk, -o FILE.evd")
    if head.startswith(DISK_INDEX_START):
        raise DataFormatError(f"{path}: an index with its graph on disk, which is only searched")
    if head.startswith(b"VOYA"):
        return voyager.opened(path)
    if faiss.is_index(head):
        return faiss.opened(path)
    if usearch.is_index(path, head, size):
        return usearch.opened(path, size)
    if hnswlib.is_index(head):
        return hnswlib.opened(path, size)
    raise DataFormatError(f"{path}: unknown kind of file; known are {_KNOWN}")
