"""What a reader of another library's files gives: what it found, and its rows piece by piece."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import Metric
from ..errors import DataFormatError, MissingExtraError, ParameterError
from .graph import Graph

__all__ = ["PIECE", "Options", "Piece", "Source", "choose", "damaged", "library", "signed"]

PIECE = 10_000
"""Rows that are read at a time."""


class Options(NamedTuple):
    """What a person says about a source that may hold several things."""

    table: str | None = None
    """The collection or table."""
    vector: str | None = None
    """The column of the vectors."""
    id: str | None = None
    """The column of the ids."""
    document: str | None = None
    """The column of the documents."""


class Piece(NamedTuple):
    """Some rows of a source."""

    ids: list[Any]
    vectors: NDArray[np.float32]
    metadata: list[dict[str, Any]] | None = None
    documents: list[str | None] | None = None


@dataclass
class Source:
    """
    Attributes:
        kind: What it is, for people: "an index of hnswlib".
        metric: None where the file does not say.
        count: Rows.
        pieces: Reads them, once.
        ids: All of an index, which are known before its vectors; None for records.
        graph: Reads the graph of an index that has one; UnfitGraphError where edgevec cannot have such.
        notes: What is left behind, for people.
        release: Closes what is open.
    """

    kind: str
    metric: Metric | None
    count: int
    pieces: Callable[[], Iterator[Piece]]
    ids: NDArray[np.int64] | None = None
    graph: Callable[[], Graph] | None = None
    notes: list[str] = field(default_factory=list)
    release: Callable[[], None] | None = None

    def close(self) -> None:
        if self.release is not None:
            self.release()


def library(path: Path, module: str, package: str) -> Any:
    """Import the library that a source needs.

    Raises:
        MissingExtraError: when it is not installed
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{path}: is read by {module}, which is missing: pip install {package}") from error


def signed(path: Path, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Ids that others keep without a sign.

    Raises:
        DataFormatError: when one is too large for the ids of edgevec
    """
    large = np.flatnonzero(ids > np.uint64(2**63 - 1))
    if len(large):
        raise DataFormatError(f"{path}: the id {ids[large[0]]} does not fit in a signed integer of 64 bits")
    return ids.astype(np.int64)


def damaged(path: Path, what: str) -> DataFormatError:
    return DataFormatError(f"{path}: damaged: {what}")


def choose(path: Path, what: str, names: list[str], wanted: str | None, option: str) -> str:
    """The one of these names that is wanted, or the only one there is.

    Raises:
        ParameterError: there is no such one, none, or several
    """
    shown = ", ".join(sorted(names)) or "none"
    if wanted is not None:
        if wanted not in names:
            raise ParameterError(f"{path}: there is no {what} {wanted!r}, only {shown}")
        return wanted
    if len(names) != 1:
        raise ParameterError(f"{path}: which {what} is meant? {option} NAME says so; there are {shown}")
    return names[0]
