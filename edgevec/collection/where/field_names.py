"""Names of metadata fields as text: within a condition, and on their own."""

from __future__ import annotations

import re

from ...errors import WhereError
from .nodes import Field

__all__ = ["field_name", "names_in", "parse_field"]

_QUOTED = r"`((?:[^`]|``)*)`"
_SEGMENT = re.compile(rf"{_QUOTED}|(\w+)")
_KEY_SEGMENT = re.compile(rf"{_QUOTED}|([^`.][^.]*)")
_KEY = re.compile(rf"(?:{_KEY_SEGMENT.pattern})(?:\.(?:{_KEY_SEGMENT.pattern}))*")


def parse_field(name: str) -> Field:
    """The names in a field outside a condition, where only dots, and a backtick at the start, need backticks."""
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        raise WhereError(f"invalid field name {name!r} (a name that is empty or has dots goes in backticks)")
    return names_in(name, _KEY_SEGMENT)


def field_name(field: Field) -> str:
    """The canonical text of a field, which parse_field() reads."""
    return ".".join(name if name.isidentifier() else "`" + name.replace("`", "``") + "`" for name in field)


def names_in(field: str, segment: re.Pattern[str] = _SEGMENT) -> Field:
    """The names that a field's text, as the parser found it, is made of."""
    found = segment.finditer(field)
    return tuple(one[2] if one[1] is None else one[1].replace("``", "`") for one in found)
