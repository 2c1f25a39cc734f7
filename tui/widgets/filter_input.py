"""The filter box: completes fields, keywords and values of the `where` language, and marks errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.highlighter import Highlighter
from rich.text import Text
from textual.content import Content
from textual.suggester import Suggester

from edgevec.printable import printable

from ..filters import fields_of
from ..models import Data
from .history_input import HistoryInput

__all__ = ["FilterInput"]

_WORDS = ("AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "ILIKE", "CONTAINS", "IS NULL", "IS NOT NULL")
_PART = re.compile(r"""('(?:[^']|'')*|"(?:[^"]|"")*|`[^`]*|[^\W\d][\w.]*)$""")
"""What is being typed at the end: an open string, or a name."""
_WHOLE = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")
_NAME = re.compile(r"[^\W\d]\w*")


class FilterInput(HistoryInput):
    """An input for a `where` condition."""

    def __init__(self, *, id: str) -> None:
        self._fault = _Fault()
        super().__init__(id=id, highlighter=self._fault, suggester=_Completion([], []))

    def set_schema(self, data: Data) -> None:
        """Complete the fields and values of this data set, or of the first records of this collection."""
        names = [name for name in dict.fromkeys(_paths(data)) if printable(name) == name]
        self.suggester = _Completion(names, sorted(_values(data)))
        example = names[0] if names else "id"
        self.placeholder = f"{example} = …  ({', '.join(names) or 'id'})"
        self.tooltip = Content(f"{example} = 'a' AND NOT (year < 1990 OR lang IN ('de', 'fr')); → takes the suggestion")

    def mark(self, position: int | None) -> None:
        """Mark the word at this position as an error; None removes the mark."""
        self._fault.position = position
        self.refresh()

    def column_of(self, position: int) -> int:
        """The column of the screen at which this character stands, or would stand beyond the end."""
        region = self.content_region
        column = Text(self.value[:position]).cell_len
        return region.x + min(max(0, column - self.scroll_offset.x), max(0, region.width - 1))


class _Fault(Highlighter):
    position: int | None = None

    def highlight(self, text: Text) -> None:
        if self.position is not None:
            rest = re.match(r"\w+|.", text.plain[self.position :], re.DOTALL)
            text.stylize("bold underline reverse", self.position, self.position + (rest.end() if rest else 0))


class _Completion(Suggester):
    def __init__(self, names: list[str], values: list[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._names, self._values = names, values

    async def get_suggestion(self, value: str) -> str | None:
        before = _WHOLE.sub(lambda whole: " " * len(whole[0]), value)
        typed = _PART.search(before)
        if typed is None or not typed[0].strip("'\"`"):
            return None
        part, start = value[typed.start() :], value[: typed.start()]
        for candidate in self._candidates(part):
            if len(candidate) > len(part) and candidate.lower().startswith(part.lower()):
                return start + part + candidate[len(part) :]
        return None

    def _candidates(self, part: str) -> Iterable[str]:
        if part[0] in "'\"":
            quote = part[0]
            return (f"{quote}{value.replace(quote, quote * 2)}{quote}" for value in self._values)
        return (*self._names, *(word.lower() if part.islower() else word for word in _WORDS))


def _paths(data: Data) -> Iterator[str]:
    """Fields as a condition names them, nested ones too."""
    for name, column in data.columns.items():
        inner = [path for value in column[:200] if isinstance(value, dict) for path in _inside(value)]
        yield from (f"{_quoted(name)}.{path}" for path in inner) if inner else (_quoted(name),)
    yield from fields_of(data)[len(data.columns) :]


def _inside(value: Mapping[str, Any]) -> Iterator[str]:
    for name, inner in value.items():
        deeper = list(_inside(inner)) if isinstance(inner, dict) else []
        yield from (f"{_quoted(name)}.{path}" for path in deeper) if deeper else (_quoted(name),)


def _quoted(name: str) -> str:
    return name if _NAME.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def _values(data: Data) -> set[str]:
    """Short texts of the metadata."""
    return {value for column in data.columns.values() for value in column[:5000] if _short(value)}


def _short(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 40 and value.isprintable()
