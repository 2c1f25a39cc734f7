"""What a reader is asked for, and the steps that all readers share."""

from __future__ import annotations

import importlib
import math
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._types import Metric, Progress
from ..errors import CancelledError, DataFormatError, MissingExtraError
from ..kept_error import KeptError
from ..printable import brief, printable
from ..progress import says_stop
from .dataset import Dataset
from .plain import listed

__all__ = ["ID_NAMES", "PIECE_BYTES", "Request", "Rows", "Stopped", "raised"]

VECTOR_NAMES = ("vectors", "vector", "embeddings", "embedding", "emb", "train", "data", "arr_0")
ID_NAMES = ("id", "ids")

PIECE_BYTES = 1 << 22
"""How much is read between two calls of progress."""

MAX_EXPANSION = 1032
"""Deflate compresses no further: a file that declares more is refused before memory is allocated."""


_SHOWN_NAMES = 12

raised = KeptError()
"""What a progress function raised, while its reader ends."""


class Stopped(BaseException):
    """Reading ends, whatever errors its reader explains."""


@dataclass(frozen=True)
class Request:
    """One file to read; `column`, `limit` and `progress` as in `read_vectors`."""

    path: Path
    column: str | None = None
    limit: int | None = None
    progress: Progress | None = None
    texts: frozenset[str] = frozenset()
    """Columns whose cells stay texts in formats that do not tell texts from numbers."""

    def error(self, problem: str) -> DataFormatError:
        """In one line: a library may quote what is in the file."""
        return DataFormatError(f"{self.path}: {' '.join(problem.splitlines())}")

    def library(self, module: str, extra: str) -> Any:
        """Import an optional library; MissingExtraError names the extra that installs it."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            package = module.partition(".")[0]
            raise MissingExtraError(
                f"{self.path}: needs {package}; install it with: pip install 'edgevec[{extra}]'"
            ) from error

    def name(self) -> str:
        return self.path.name.partition(".")[0]

    def rows(self, total: int) -> int:
        """How many of the file's `total` rows to read."""
        return total if self.limit is None else min(total, self.limit)

    def report(self, done: int, total: int) -> None:
        """Call progress. What it raises, CancelledError for a False among it, is kept in `raised`.

        Raises Stopped in its place, which readers do not take for damage of the file.
        """
        if self.progress is None:
            return
        try:
            if says_stop(self.progress(done, total)):
                raise CancelledError(f"{self.path}: stopped by its progress function")
        except BaseException as error:
            raised.keep(error)
            raise Stopped from None

    def report_share(self, done: int, share: float) -> None:
        """Report progress in a file of unknown length, of which the fraction `share` is read."""
        self.report(done, max(done, self.rows(round(done / max(share, 1e-9)))))

    def read_items(self, stream: IO[bytes], dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        data = stream.read(count * dtype.itemsize)
        if len(data) < count * dtype.itemsize:
            raise self.error("truncated")
        return np.frombuffer(data, dtype)

    def choose(self, candidates: Sequence[str], *, kind: str) -> str:
        """The name among the file's `candidates` that holds the vectors; `kind` is what to call them in an error."""
        if not candidates:
            raise self.error(f"no {kind} of vectors found")
        if self.column is not None:
            if self.column not in candidates:
                raise self.error(f"no {kind} of vectors is called {self.column!r}; found {_shown(candidates)}")
            return self.column
        name = next((name for name in VECTOR_NAMES if name in candidates), None)
        if name is None and len(candidates) > 1:
            raise self.error(f"several {kind}s could hold the vectors: {_shown(candidates)}; name one with column=")
        return name or candidates[0]

    def check_matrix(self, shape: tuple[int, ...], kind: str) -> None:
        """Refuse an array that is not [n, dim] of real numbers; `kind` is its dtype's."""
        if kind not in "fiu":
            raise self.error("the elements are not real numbers")
        if len(shape) != 2:
            raise self.error(f"expected an array [n, dim], found shape {shape}")
        if min(shape) < 1:
            raise self.error(f"contains no vectors: shape {shape}")

    def check_size(self, shape: tuple[int, ...], itemsize: int, stored: int) -> None:
        """Refuse an array larger than `stored` compressed bytes can decode to, before memory is allocated."""
        self.check_claim(math.prod(shape) * itemsize, stored)

    def check_claim(self, claimed: int, stored: int) -> None:
        if claimed > stored * MAX_EXPANSION:
            raise self.error(f"damaged: declares {claimed:,} bytes of data but contains {stored:,}")

    def dataset(
        self,
        vectors: NDArray[np.float32],
        columns: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None,
        *,
        metric: Metric | None = None,
        queries: NDArray[np.float32] | None = None,
        neighbors: NDArray[np.int64] | None = None,
        unread: Mapping[str, str] | None = None,
    ) -> Dataset:
        """The result, from vectors and the columns beside them; an integer column called id or ids becomes the ids."""
        ids: NDArray[np.int64] | None = None
        id_name: str | None = None
        rest: dict[str, Sequence[Any]] = {}
        for name, column in (columns or {}).items():
            if ids is None and name in ID_NAMES and all_integers(column):
                ids, id_name = self.ids(column), name
            else:
                rest[name] = listed(column) if isinstance(column, np.ndarray) else column
        metadata = [dict(zip(rest, row, strict=True)) for row in zip(*rest.values(), strict=True)] if rest else None
        return Dataset(vectors, ids, metadata, self.name(), metric, queries, neighbors, id_name, unread or {})

    def ids(self, column: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        if isinstance(column, np.ndarray) and column.dtype.kind == "u" and column.itemsize == 8:
            column = column.tolist()  # Python integers, for which the conversion below checks the range
        try:
            return np.array(column, np.int64)
        except OverflowError:
            odd = next(id for id in column if not -(2**63) <= id < 2**63)
            raise self.error(f"id {brief(odd)} does not fit in int64") from None


def _shown(names: Sequence[str]) -> str:
    """Names from a file, as a message can show them: in one line, and a few of them."""
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(printable(name[:100]) for name in names[:_SHOWN_NAMES]) + more


def all_integers(column: Sequence[Any] | NDArray[Any]) -> bool:
    if isinstance(column, np.ndarray):
        return column.dtype.kind in "iu"
    return set(map(type, column)) == {int}


class Rows:
    """Collects vectors one after the other, without knowing how many; the first one sets the dimension.

    Its length counts those that were taken too.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._values = array("f")
        self._taken = 0
        self.dim = 0

    def __len__(self) -> int:
        return self._taken + self.held

    @property
    def held(self) -> int:
        """Those since the last take()."""
        return len(self._values) // self.dim if self.dim else 0

    def is_piece(self, size: int) -> bool:
        """Whether there are `size` rows, or PIECE_BYTES, to be taken."""
        return self.held >= size or 4 * len(self._values) >= PIECE_BYTES

    def append(self, numbers: Collection[float], place: str) -> None:
        """Add a row of Python numbers; `place` is where it is, for errors."""
        self._check_dim(len(numbers), place)
        if not set(map(type, numbers)) <= {float, int}:
            odd = next(value for value in numbers if type(value) not in (float, int))
            raise self._request.error(f"{place}: unexpected {brief(odd)} in the vector")
        try:
            self._values.extend(numbers)
        except OverflowError:
            raise self._request.error(f"{place}: a number is too large for float32") from None

    def append_block(self, block: NDArray[Any], place: str) -> None:
        """Add the rows of an array [n, dim]; `place` is where they are, for errors."""
        self._check_dim(block.shape[1], place)
        with np.errstate(over="ignore"):
            self._values.frombytes(np.ascontiguousarray(block, np.float32).reshape(-1).view(np.uint8).data)

    def take(self) -> NDArray[np.float32]:
        """Those since the last call."""
        if not len(self):
            raise self._request.error("contains no vectors")
        values, self._values = self._values, array("f")
        self._taken += len(values) // self.dim
        return np.frombuffer(values, np.float32).reshape(-1, self.dim)

    def _check_dim(self, dim: int, place: str) -> None:
        if dim < 1:
            raise self._request.error(f"{place}: the vector is empty")
        self.dim = self.dim or dim
        if dim != self.dim:
            raise self._request.error(f"{place}: expected {self.dim} elements, found {dim}")
