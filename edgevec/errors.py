"""Every exception and warning of the package.

Each error is an `EdgevecError` and also the builtin that a caller would catch anyway, so both
`except edgevec.EdgevecError` and `except ValueError` work.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "BusyError",
    "CancelledError",
    "ClosedError",
    "CollectionNotFoundError",
    "CorruptCollectionError",
    "CorruptIndexError",
    "DataFormatError",
    "DataNotFoundError",
    "DuplicateIdError",
    "EdgevecError",
    "ForkedError",
    "FormatVersionError",
    "IndexNotFoundError",
    "LockedError",
    "MemoryLimitError",
    "MissingExtraError",
    "NoVectorsError",
    "NotFiniteError",
    "OutOfMemoryError",
    "ParameterError",
    "ReadOnlyError",
    "RecallError",
    "ShardNotFoundError",
    "SimdError",
    "SimdWarning",
    "StorageError",
    "UnknownIdError",
    "WhereError",
    "ZeroVectorError",
]


class EdgevecError(Exception):
    """The root of every error that the package raises."""


class _SystemError(EdgevecError, OSError):
    """With `errno` and `filename` where they are known, and a text that is the message alone."""

    __str__ = Exception.__str__

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.filename, self.errno)


_AnySystemError = TypeVar("_AnySystemError", bound=_SystemError)


def about_file(
    error: _AnySystemError, filename: str | os.PathLike[str] | None, errno: int | None = None
) -> _AnySystemError:
    """The error, with the attributes that an OSError of the system's has; None: not known."""
    if filename is not None:
        error.filename = os.fspath(filename)
    if errno is not None:
        error.errno, error.strerror = errno, os.strerror(errno)
    return error


def _restored(kind: type[_SystemError], args: tuple[Any, ...], filename: str | None, errno: int | None) -> _SystemError:
    return about_file(kind(*args), filename, errno)


# The caller's input.


class ParameterError(EdgevecError, ValueError):
    """An argument is out of its range or of the wrong shape or type."""


class NotFiniteError(EdgevecError, ValueError):
    """A vector holds NaN or infinity, or is so long that its square overflows."""


class ZeroVectorError(EdgevecError, ValueError):
    """A vector of length zero has no direction, which cosine needs."""


class DuplicateIdError(EdgevecError, ValueError):
    """The same id came twice in one call."""


class UnknownIdError(EdgevecError, KeyError):
    """An id that the index does not hold."""

    # KeyError would show the repr of its argument, quotes and all.
    __str__ = Exception.__str__


class WhereError(EdgevecError, ValueError):
    """A `where` that cannot be understood or that exceeds a limit.

    Args:
        position: the character of the text that it is about, or None for the dict form
    """

    def __init__(self, problem: str, text: str | None = None, position: int | None = None) -> None:
        super().__init__(problem if text is None or position is None else f"{problem}\n{_pointed(text, position)}")
        self.problem = problem
        self.position = position


def _pointed(text: str, position: int) -> str:
    """The part of the text around the position, and below it a caret."""
    start, stop = max(0, position - 40), position + 40
    shown = "".join(c if c.isprintable() else " " for c in text[start:stop])
    before, after = "..." if start else "", "..." if stop < len(text) else ""
    return f"  {before}{shown}{after}\n  {' ' * (len(before) + position - start)}^"


class ClosedError(EdgevecError, ValueError):
    """The index or collection was closed, or the collection belongs to the process that this one was forked from."""


class ReadOnlyError(_SystemError, PermissionError):
    """The collection was opened for reading."""


class NoVectorsError(EdgevecError, ValueError):
    """Vectors were asked of what holds none, such as an index that is open without the data it was built from."""


class RecallError(EdgevecError, ValueError):
    """The recall asked for is out of reach, or cannot be known; the message says why."""


class CancelledError(EdgevecError, RuntimeError):
    """The call's progress function stopped it by returning False; everything is as it was before the call."""


class ForkedError(EdgevecError, RuntimeError):
    """This process was forked while another thread of its parent was changing the index, which is half changed here.

    Load it again from its file, or fork while nothing changes it.
    """


class BusyError(EdgevecError, RuntimeError):
    """The call would have to wait for itself, or for what its own thread has in use.

    A progress function may ask for the size, the parameters and the statistics of what it is called for, and for
    nothing else; and a SearchContext is for one search at a time.
    """


# The machine.


class OutOfMemoryError(EdgevecError, MemoryError):
    """The memory ran out; the index is as it was before the call."""


class MemoryLimitError(OutOfMemoryError):
    """It would take more than the `memory_limit` of the index or collection, which is as it was before the call.

    The message has the limit, what is held of it, and what more was needed.
    """


class SimdError(EdgevecError, RuntimeError):
    """EDGEVEC_SIMD names a path that this machine or this build lacks."""


class MissingExtraError(EdgevecError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class SimdWarning(RuntimeWarning):
    """The slow scalar path is in use."""


# Files.


class StorageError(_SystemError):
    """The system refused to read, write, flush or rename a file."""


class LockedError(_SystemError):
    """Something else writes to the collection: one writer at a time."""


class CollectionNotFoundError(_SystemError, FileNotFoundError):
    """There is no collection at the given path."""


class CorruptCollectionError(EdgevecError, ValueError):
    """Not a collection, or a damaged one."""


class IndexNotFoundError(_SystemError, FileNotFoundError):
    """There is no index file at the given path."""


class ShardNotFoundError(_SystemError, FileNotFoundError):
    """A file that the manifest of a sharded index names is not there."""


class DataNotFoundError(_SystemError, FileNotFoundError):
    """There is no data file at the given path, or the sample data are not installed."""


class CorruptIndexError(EdgevecError, ValueError):
    """Not an index file, or a damaged one; the message names the section."""


class FormatVersionError(EdgevecError, ValueError):
    """The file was written by a newer version of edgevec."""


class DataFormatError(EdgevecError, ValueError):
    """A data file holds something other than the vectors expected; the message names file and place."""


_Given = ParamSpec("_Given")
_Returned = TypeVar("_Returned")


def allocates(call: Callable[_Given, _Returned]) -> Callable[_Given, _Returned]:
    """A call that makes arrays: what NumPy, cffi and Python raise for want of memory is an OutOfMemoryError too."""

    @functools.wraps(call)
    def checked(*args: _Given.args, **kwargs: _Given.kwargs) -> _Returned:
        try:
            return call(*args, **kwargs)
        except MemoryError as error:
            if isinstance(error, EdgevecError):
                raise
            raise OutOfMemoryError(f"{call.__name__}: {error or 'out of memory'}") from error

    return checked
