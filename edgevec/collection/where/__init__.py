"""The language of `where`: a condition on metadata as text or as a dict, compiled to SQL with parameters.

Two front ends (text, mapping) give one syntax tree, and one back end (sql) compiles it. Nothing that the user wrote
gets into the SQL but field names, quoted; all values are parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...errors import WhereError
from ..validation import json_default, json_name
from .compiler import Condition, compile_node, field_sql
from .mapping import read_mapping
from .nodes import Field
from .parser import bind, field_name, parse, parse_field

__all__ = [
    "EVERYTHING",
    "Condition",
    "Where",
    "compile_field",
    "compile_where",
    "field_name",
    "json_default",
    "json_name",
]

Where = str | Mapping[str, Any]

EVERYTHING = Condition("1", ())


def compile_where(where: Where | None, params: Sequence[Any] | None = None) -> Condition:
    """WhereError says what is wrong and, for text, where."""
    if where is None:
        if params:
            raise WhereError("params without where")
        return EVERYTHING
    if isinstance(where, str):
        return compile_node(bind(parse(where), params, where)) if params else _compile_text(where)
    if not isinstance(where, Mapping):
        raise WhereError(f"where must be text or a dict, not {type(where).__name__}")
    if params:
        raise WhereError("params go with a text; a dict holds its values itself")
    node = read_mapping(where)
    return EVERYTHING if node is None else compile_node(node)


@lru_cache(maxsize=256)
def _compile_text(where: str) -> Condition:
    return compile_node(bind(parse(where), (), where))


def compile_field(name: str) -> tuple[Field, str]:
    """The names that lead to a field, and its value in SQL."""
    field = parse_field(name)
    return field, field_sql(field)
