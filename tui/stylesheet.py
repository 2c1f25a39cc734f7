"""Textual's stylesheet, which parses each source once.

Textual parses all styles anew when a screen brings its own, and when a theme is set, even to the one there is. That is
most of what a first visit to a screen takes.
"""

from __future__ import annotations

from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet

__all__ = ["CachedStylesheet"]

_MAX_SOURCES = 1024
"""Each widget has one, and each of its base classes; Textual keeps what it has parsed of 64."""


class CachedStylesheet(Stylesheet):
    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._parse_cache = LRUCache(_MAX_SOURCES)

    def set_variables(self, variables: dict[str, str]) -> None:
        """As Textual's, which forgets what it has parsed; not where they are the same."""
        if variables != self._variables:
            super().set_variables(variables)

    def reparse(self) -> None:
        """Parse what is new, or everything after other variables were set."""
        self.parse()
