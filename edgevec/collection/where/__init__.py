"""The language of `where`: a condition on metadata as text or as a dict, compiled to SQL with parameters.

`parser` (text) and `mapping` (dict) make a syntax tree of `nodes`, and `compiler` makes SQL of it. Only field names,
quoted, get from the user's text into the SQL; all values are parameters. `lalr` reads texts by tables that are made of
grammar.lark when the package is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...errors import WhereError
from ..validation import json_default, json_name
from .binding import bind
from .compiler import Condition, compile_node, compile_test, field_raw, field_sql
from .field_names import field_name, parse_field
from .mapping import read_mapping
from .nodes import All, Any_, Field, IsNull, Node, Not, OneOf, Pattern, Test, fields_of

__all__ = [
    "EVERYTHING",
    "All",
    "Any_",
    "Condition",
    "Field",
    "IsNull",
    "Node",
    "Not",
    "OneOf",
    "Pattern",
    "Test",
    "Where",
    "compile_field",
    "compile_node",
    "compile_test",
    "compile_where",
    "field_name",
    "field_raw",
    "field_sql",
    "fields_of",
    "json_default",
    "json_name",
]

Where = str | Mapping[str, Any]

EVERYTHING = Condition("1", ())


def compile_where(where: Where | None, params: Sequence[Any] | None = None) -> Condition:
    """A condition as SQL.

    Args:
        where: text or dict; None: every record
        params: values for the question marks of a text

    Raises:
        WhereError: when the condition is wrong or exceeds a limit of `nodes`; it says what and, for a text, at which
            position

    Example:
        >>> from edgevec.collection.where import compile_where
        >>> compile_where("year >= ?", [1990]).parameters
        (1990,)
    """
    if where is None:
        if params:
            raise WhereError("params without where")
        return EVERYTHING
    if isinstance(where, str):
        return compile_node(bind(_parse(where), params, where)) if params else _compile_text(where)
    if not isinstance(where, Mapping):
        raise WhereError(f"where must be text or a dict, not {type(where).__name__}")
    if params:
        raise WhereError("params go with a text; a dict holds its values itself")
    node = read_mapping(where)
    return EVERYTHING if node is None else compile_node(node)


@lru_cache(maxsize=256)
def _compile_text(where: str) -> Condition:
    return compile_node(bind(_parse(where), (), where))


def _parse(text: str) -> Node:
    from .parser import parse  # for the first text: collections open without it

    return parse(text)


def compile_field(name: str) -> tuple[Field, str]:
    """The names of a field, as nodes.Field, and its value in SQL."""
    field = parse_field(name)
    return field, field_sql(field)
