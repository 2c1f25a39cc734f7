"""How many shards are asked, where an index in shards was built with clusters."""

from __future__ import annotations

from .controls import Number

__all__ = ["Probes"]

_ALL = 65_535
"""Before it is known how many there are."""


class Probes(Number):
    """Shown only where there is something to choose."""

    def __init__(self) -> None:
        hint = "Shards that a query is asked of, the nearest ones: fewer is quicker and finds less"
        rungs = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
        super().__init__("nprobe", _ALL, rungs, maximum=_ALL, hint=hint, id="nprobe")
        self.display = False

    @property
    def chosen(self) -> int | None:
        """None: all."""
        return self.value if self.display and self.value < self.maximum else None

    def offer(self, most: int, *, all_of_them: bool = False) -> None:
        """Let so many be chosen; all at first, or where it is said so."""
        self.display = most > 1
        if self.display and self.maximum != most:
            self.limit(most)
        if self.display and all_of_them:
            self.value = most
