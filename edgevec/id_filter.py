"""Which ids a search may find: a set built once, and the sets made of the arrays that searches were given last."""

from __future__ import annotations

import numpy.typing as npt

from edgevec._native import NativeFilter
from edgevec._validation import as_ids
from edgevec.errors import allocates

__all__ = ["IdFilter", "LatestFilters"]

_KEPT, _MOST_IDS_KEPT = 4, 2**20
"""How many arrays are kept as filters, and the longest of them: 32 MB at most, and a bit for each vector."""


class IdFilter:
    """A set of allowed ids, built once and used in any number of searches, threads and indexes.

    Args:
        ids: int64[n] or anything like it, none of them -1; repeated ids count once

    Raises:
        ParameterError: ids are no list of 64-bit integers, or one is -1
        OutOfMemoryError: there is no room for the set

    Example:
        >>> from edgevec import IdFilter, Index
        >>> index = Index(2)
        >>> _ = index.add([[1, 0], [0, 1], [1, 1]])
        >>> even = IdFilter([0, 2])
        >>> index.search([0, 1], k=3, filter=even).ids
        array([2, 0])
    """

    @allocates
    def __init__(self, ids: npt.ArrayLike) -> None:
        self._native = NativeFilter(as_ids(ids, "filter ids", to_keep=True, ordered=False))

    def __len__(self) -> int:
        return len(self._native)

    def __repr__(self) -> str:
        return f"IdFilter({len(self)} ids)"


class LatestFilters:
    """What an index makes of the ids that its searches are given."""

    __slots__ = ("_kept",)  # thousands of small indexes may be held

    def __init__(self) -> None:
        self._kept: tuple[NativeFilter, ...] = ()  # replaced as a whole, so threads may share it; the latest first

    def of(self, ids: IdFilter | npt.ArrayLike) -> NativeFilter:
        """What the ids allow. Of the last few arrays that were given it is kept, and found again by what is in them."""
        if isinstance(ids, IdFilter):
            return ids._native
        array = as_ids(ids, "filter ids", ordered=False)
        kept = self._kept
        for found in kept:
            if found.is_of(array):
                if found is not kept[0]:
                    self._kept = (found, *(other for other in kept if other is not found))
                return found
        made = NativeFilter(as_ids(array, "filter ids", to_keep=True))
        if made.size <= _MOST_IDS_KEPT:
            self._kept = (made, *kept[: _KEPT - 1])
        return made

    def kept(self, ids: IdFilter | npt.ArrayLike) -> IdFilter:
        """The same, for searches of several indexes."""
        if isinstance(ids, IdFilter):
            return ids
        made = IdFilter.__new__(IdFilter)
        made._native = self.of(ids)
        return made
