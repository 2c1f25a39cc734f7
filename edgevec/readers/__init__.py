"""Read vectors, with the ids and metadata beside them, from the file formats that people keep them in.

Each family of formats has a module of its own, which imports its library only when such a file is read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .._types import Progress
from ..errors import DataFormatError, DataNotFoundError, EdgevecError, OutOfMemoryError, ParameterError, about_file
from ..files import VECTOR_SUFFIXES, refused
from . import arrow, csv_table, fvecs, hdf5, matrix, npy, safetensors, text_lines
from .dataset import Dataset
from .request import Request, Rows, Stopped, raised

__all__ = ["SUFFIXES", "Dataset", "Request", "Rows", "read", "read_pieces", "read_records", "read_vectors"]

_MATRICES: dict[str, matrix.Open] = {
    ".npy": npy.opened_npy,
    ".npz": npy.opened_npz,
    ".fvecs": fvecs.opened,
    ".bvecs": fvecs.opened,
    ".ivecs": fvecs.opened,
    ".hdf5": hdf5.opened,
    ".h5": hdf5.opened,
    ".safetensors": safetensors.opened,
}

_READERS: dict[str, Callable[[Request], Dataset]] = {
    ".parquet": arrow.read_parquet,
    ".arrow": arrow.read_ipc,
    ".feather": arrow.read_ipc,
    ".jsonl": text_lines.read_jsonl,
    ".jsonl.gz": text_lines.read_jsonl,
    ".csv": csv_table.read_csv,
    **{suffix: partial(matrix.whole, open_file=opened) for suffix, opened in _MATRICES.items()},
}

_PIECES: dict[str, Callable[[Request, int], Iterator[Dataset]]] = {
    ".parquet": arrow.parquet_pieces,
    ".arrow": arrow.ipc_pieces,
    ".feather": arrow.ipc_pieces,
    ".jsonl": text_lines.jsonl_pieces,
    ".jsonl.gz": text_lines.jsonl_pieces,
    ".csv": csv_table.csv_pieces,
    **{suffix: partial(matrix.pieces, open_file=opened) for suffix, opened in _MATRICES.items()},
}

SUFFIXES = VECTOR_SUFFIXES
"""The endings of the files that `read_vectors` knows."""


def read_vectors(
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read a file of vectors; its ending tells the format.

    The numbered columns of a CSV file (x0, x1, ...) are taken in the order of their numbers, and each other column
    has the type that all its cells agree on: integers, floats, booleans or texts; an empty cell is None.

    NaN and infinity are passed on: the index refuses them and names the row. Columns beside the vectors that cannot be
    read (pickled objects among them) are left out and named in `unread` of the result.

    Args:
        path: the file; its ending is one of `edgevec.readers.SUFFIXES`
        column: the array, dataset, tensor, column or field that holds the vectors. Without it: the one called
            "vectors", "embedding" or the like, else the only one that can be meant.
        limit: read the first `limit` rows and no more
        progress: called as progress(done_rows, total_rows) between pieces. The total is an estimate where the file
            does not say; the last call has done == total. Returning False stops, as an exception of your own does.

    Returns:
        The vectors, float32[n, dim], and what the file holds beside them.

    Raises:
        DataNotFoundError: there is no such file (a FileNotFoundError)
        DataFormatError: the file is damaged or holds no vectors; the message names the file and the row
        MissingExtraError: the library for this format is not installed; the message says how to install it
        CancelledError: progress returned False
        ParameterError: the limit is below 1
        StorageError: the system refuses to read it (an OSError)
        OutOfMemoryError: there is no room for the vectors

    Example:
        >>> import numpy as np
        >>> import edgevec
        >>> np.save("points.npy", np.eye(3, dtype=np.float32))
        >>> edgevec.read_vectors("points.npy").vectors.shape
        (3, 3)
    """
    if limit is not None and limit < 1:
        raise ParameterError(f"limit must be at least 1, not {limit}")
    return read(Request(Path(path), column, limit, progress))


def read(request: Request) -> Dataset:
    [whole] = _explained(request, lambda suffix: iter([_READERS[suffix](request)]))
    return whole


def read_pieces(request: Request, size: int) -> Generator[Dataset, None, None]:
    """The rows of a file in pieces of up to `size`, of which memory holds one; without a test set. To be closed.

    What a row becomes depends on that row alone, and in CSV files on the types of the columns.
    """
    return _explained(request, lambda suffix: _PIECES[suffix](request, size))


def read_records(request: Request) -> Generator[dict[str, Any], None, None]:
    """The lines of a JSON lines file, which need not hold vectors, as dicts. To be closed."""
    return _explained(request, lambda suffix: text_lines.jsonl_records(request))


_Part = TypeVar("_Part")


def _explained(request: Request, pieces: Callable[[str], Iterator[_Part]]) -> Generator[_Part, None, None]:
    """pieces(ending of the file), with the errors that read_vectors() raises."""
    path = request.path
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise DataFormatError(f"{path}: unknown ending; supported are {' '.join(SUFFIXES)}")
    try:
        path.open("rb").close()  # so that errors of the system are told apart from those of the libraries
        yield from pieces(suffix)
        return
    except EdgevecError:
        raise
    except ValueError as error:  # what the libraries raise for bytes that make no sense to them
        reason = str(error).partition("\n")[0]
        raise DataFormatError(f"{path}: damaged: {reason}") from error
    except FileNotFoundError as error:
        raise about_file(DataNotFoundError(f"{path}: no such file"), path, errno.ENOENT) from error
    except MemoryError as error:
        raise OutOfMemoryError(f"{path}: not enough memory: {error}") from error
    except OSError as error:
        raise refused(error, path) from error
    except Stopped:
        pass
    raised.reraise()
    raise AssertionError("not reached: what stopped it was kept")
