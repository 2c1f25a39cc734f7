"""Searching an index for one vector after the other, for what makes objects of the results at once."""

from __future__ import annotations

from ._native import NativeSearches
from .index import Index, SearchContext

__all__ = ["SingleSearches"]


class SingleSearches(NativeSearches):
    """Searches one index with a context, in a fraction of the time that Index.search() takes beside the core.

    For one thread at a time. Nothing is checked but what the core checks.

    Attributes:
        index: The one that is searched.
        context: The one that is used, for searches of other kinds.
    """

    MOST = 256
    """Results of a search, at most."""

    def __init__(self, index: Index) -> None:
        self.index, self.context = index, SearchContext(index)
        super().__init__(index._native, self.context._native, self.MOST)
