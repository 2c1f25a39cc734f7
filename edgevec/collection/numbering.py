"""The ids of an import: numbers for rows without one, and none that comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ..errors import DuplicateIdError, ParameterError
from .validation import Id

__all__ = ["Numbers"]

_INT64 = range(-(2**63), 2**63)


class Numbers:
    """Gives ids to rows without one: each is one more than the highest so far. Refuses an id that comes twice."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._integers = _Integers()
        self._others: set[Id] = set()
        """Texts, and integers that are refused later."""

    def complete(self, ids: Sequence[Id | None], start: int) -> list[Id]:
        """The ids of the rows from `start` on. DuplicateIdError names the one that comes twice."""
        complete = [self._number(id, at) for at, id in enumerate(ids, start)]
        fits = [isinstance(id, int) and id in _INT64 for id in complete]
        is_small = np.array(fits, bool)
        again = np.zeros(len(complete), bool)
        again[is_small] = self._integers.add(np.array([*compress(complete, fits)], np.int64))
        for at in np.flatnonzero(~is_small).tolist():
            again[at] = complete[at] in self._others
            self._others.add(complete[at])
        if again.any():
            at = int(np.argmax(again))
            raise DuplicateIdError(f"id {complete[at]!r} comes twice, the second time in row {start + at}")
        return complete

    def _number(self, given: Id | None, at: int) -> Id:
        if given is None and self._next >= 2**63:
            raise ParameterError(f"row {at}: no number is left after {self._next - 1}; give the rows ids")
        id = self._next if given is None else given
        if isinstance(id, int):
            self._next = max(self._next, id + 1)
        return id


class _Integers:
    """A set of many, 8 bytes each: sorted arrays, each longer than all that follow it together."""

    def __init__(self) -> None:
        self._sorted: list[NDArray[np.int64]] = []

    def add(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each whether it was there, or comes before it."""
        _, first = np.unique(values, return_index=True)
        again = np.ones(len(values), bool)
        again[first] = False
        for held in self._sorted:
            again |= held[np.minimum(np.searchsorted(held, values), len(held) - 1)] == values
        new = np.sort(values[~again])
        while self._sorted and len(self._sorted[-1]) <= len(new):
            new = np.sort(np.concatenate([self._sorted.pop(), new]), kind="stable")  # which merges two sorted ones
        if len(new):
            self._sorted.append(new)
        return again
