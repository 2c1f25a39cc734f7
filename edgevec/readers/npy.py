"""NumPy's files: .npy, and .npz with ids and metadata in further arrays. Pickled objects are never loaded."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import struct
import zipfile
import zlib
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from .dataset import Dataset
from .request import Request

__all__ = ["read_npy", "read_npz"]

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


def read_npy(request: Request) -> Dataset:
    with request.path.open("rb") as stream:
        header = _read_header(request, stream)
        held = request.path.stat().st_size - stream.tell()
        if header.claimed > held:
            raise request.error(f"truncated: {held:,} of {header.claimed:,} bytes of data")
        return request.dataset(_read_matrix(request, stream, header))


def read_npz(request: Request) -> Dataset:
    try:
        with zipfile.ZipFile(request.path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            headers = {}
            for name, member in members.items():
                with archive.open(member) as stream:
                    headers[name] = _read_header(request, stream)
            # All together: members of a malicious archive can share their bytes.
            claimed = sum(header.claimed for header in headers.values())
            request.check_claim(claimed, request.path.stat().st_size)
            chosen = request.choose([name for name, header in headers.items() if len(header.shape) == 2], kind="array")
            with archive.open(members[chosen]) as stream:
                vectors = _read_matrix(request, stream, _read_header(request, stream))
            columns, unread = {}, {}
            for name, header in headers.items():
                if header.shape != headers[chosen].shape[:1]:
                    continue
                if header.dtype.kind in "biufUSmM":
                    with archive.open(members[name]) as stream:
                        _read_header(request, stream)
                        columns[name] = request.read_items(stream, header.dtype, len(vectors))
                else:
                    unread[name] = _OBJECTS if header.dtype.hasobject else f"unsupported type {header.dtype}"
    except _DAMAGED as error:
        raise request.error(f"damaged: {error}") from error
    except OSError as error:  # of bz2, or of a position that the archive names and no file can have
        if error.errno not in (None, errno.EINVAL):
            raise
        raise request.error(f"damaged: {error}") from error
    return request.dataset(vectors, columns, unread=unread)


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


def _read_matrix(request: Request, stream: IO[bytes], header: _Header) -> NDArray[np.float32]:
    request.check_matrix(header.shape, header.dtype.kind)
    total, dim = header.shape
    rows = request.rows(total)
    if header.fortran:  # stored by columns: a row is spread over the whole file
        whole = request.read_items(stream, header.dtype, total * dim).reshape(dim, total).T
        return request.fill(rows, dim, lambda start, stop: whole[start:stop])
    return request.fill(
        rows,
        dim,
        lambda start, stop: request.read_items(stream, header.dtype, (stop - start) * dim).reshape(-1, dim),
    )
