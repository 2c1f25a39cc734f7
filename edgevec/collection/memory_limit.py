"""How much memory a collection may take, and which part of it has how much of that."""

from __future__ import annotations

from typing import NamedTuple

from .._validation import as_int
from ..errors import ParameterError

__all__ = ["MemoryLimit"]

_CONDITION_BYTES = 2**27
_CONDITION_SHARE = 8
"""Metadata fields have at most this part of a limit, where they are given none."""
_MOST = 2**63 - 1


class MemoryLimit(NamedTuple):
    """Bytes of all, None for no limit, and those of it that metadata fields may take."""

    total: int | None
    of_conditions: int

    @classmethod
    def divided(cls, total: object, of_conditions: object) -> MemoryLimit:
        """What open() was given.

        Raises:
            ParameterError: they are no numbers of bytes, or nothing is left for the graph
        """
        limit = None if total is None else as_int(total, "memory_limit", 1, _MOST)
        if of_conditions is None:
            share = _CONDITION_BYTES if limit is None else min(_CONDITION_BYTES, limit // _CONDITION_SHARE)
        else:
            share = as_int(of_conditions, "condition_memory", 0, _MOST)
        if limit is not None and share >= limit:
            raise ParameterError(f"condition_memory {share:,} leaves nothing of memory_limit {limit:,} for the graph")
        return cls(limit, share)

    @property
    def of_graph(self) -> int | None:
        return None if self.total is None else self.total - self.of_conditions
