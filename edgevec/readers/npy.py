"""NumPy's files: .npy, and .npz with ids and metadata in further arrays. Pickled objects are never loaded."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .matrix import Cells, Matrix
from .request import Request

__all__ = ["opened_npy", "opened_npz"]

_OBJECTS = "contains pickled Python objects, which are never loaded; save texts with array.astype(str)"


_MAX_HEADER = 1 << 16
"""Bytes. NumPy itself reads what a header declares, up to 4 GB, before it refuses one of more than 10,000."""

_DAMAGED: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    RuntimeError,
    OverflowError,
)
with contextlib.suppress(ImportError):  # Pyodide has none, nor have some builds of Python
    from lzma import LZMAError

    _DAMAGED += (LZMAError,)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def claimed(self) -> int:
        """The bytes that the array takes; pickled objects are not read."""
        return 0 if self.dtype.hasobject else math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def opened_npy(request: Request) -> Iterator[Matrix]:
    with request.path.open("rb") as stream:
        header = _read_header(request, stream)
        held = request.path.stat().st_size - stream.tell()
        if header.claimed > held:
            raise request.error(f"truncated: {held:,} of {header.claimed:,} bytes of data")
        vectors = _rows(request, stream, header)
        yield Matrix(header.shape[0], header.shape[1], vectors)


@contextmanager
def opened_npz(request: Request) -> Iterator[Matrix]:
    try:
        with zipfile.ZipFile(request.path) as archive, ExitStack() as streams:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            headers = {}
            for name, member in members.items():
                with archive.open(member) as stream:
                    headers[name] = _read_header(request, stream)
            # All together: members of a malicious archive can share their bytes.
            claimed = sum(header.claimed for header in headers.values())
            request.check_claim(claimed, request.path.stat().st_size)
            chosen = request.choose([name for name, header in headers.items() if len(header.shape) == 2], kind="array")

            def start_of(name: str) -> IO[bytes]:
                stream = streams.enter_context(archive.open(members[name]))
                _read_header(request, stream)
                return stream

            vectors = _rows(request, start_of(chosen), headers[chosen])
            rows, dim = headers[chosen].shape
            columns: dict[str, Cells] = {}
            unread: dict[str, str] = {}
            for name, header in headers.items():
                if header.shape != (rows,):
                    continue
                if header.dtype.kind in "biufUSmM":
                    columns[name] = _cells(request, start_of(name), header.dtype)
                else:
                    unread[name] = _OBJECTS if header.dtype.hasobject else f"unsupported type {header.dtype}"
            yield Matrix(rows, dim, vectors, columns, unread)
    except _DAMAGED as error:
        raise request.error(f"damaged: {error}") from error
    except OSError as error:  # of bz2, or of a position that the archive names and no file can have
        if error.errno not in (None, errno.EINVAL):
            raise
        raise request.error(f"damaged: {error}") from error


def _read_header(request: Request, stream: IO[bytes]) -> _Header:
    try:
        version = npy.read_magic(stream)
        prefix = stream.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(prefix, "little")
        if size > _MAX_HEADER:
            raise ValueError(f"its header has {size:,} bytes; the limit is {_MAX_HEADER:,}")
        text = io.BytesIO(prefix + stream.read(size))
        header = _Header(*(npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(text))
    except Exception as error:  # the header is parsed as Python, so damage can raise nearly anything
        reason = str(error).partition("\n")[0]
        raise request.error(f"not a NumPy array, or damaged: {reason}") from error
    if min(header.shape, default=0) < 0:
        raise request.error(f"damaged: shape {header.shape}")
    return header


def _cells(request: Request, stream: IO[bytes], dtype: np.dtype[Any]) -> Cells:
    return lambda start, stop: request.read_items(stream, dtype, stop - start)


def _rows(request: Request, stream: IO[bytes], header: _Header) -> Callable[[int, int], NDArray[Any]]:
    request.check_matrix(header.shape, header.dtype.kind)
    total, dim = header.shape
    if header.fortran:  # stored by columns: a row is spread over the whole file
        whole = request.read_items(stream, header.dtype, total * dim).reshape(dim, total).T
        return lambda start, stop: whole[start:stop]
    return lambda start, stop: request.read_items(stream, header.dtype, (stop - start) * dim).reshape(-1, dim)
