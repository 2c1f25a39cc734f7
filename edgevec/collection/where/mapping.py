"""Dict to syntax tree; operators as in Chroma, Pinecone and MongoDB.

    {"year": {"$gte": 1990}, "$or": [{"lang": "de"}, {"tags": {"$contains": "x"}}]}

All keys must hold. A plain value means equal, None means missing. A dot in a key leads into an object. A name that has
a dot, or begins with "$", stands in backticks, as in the text form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import WhereError
from ...printable import brief
from .field_names import parse_field
from .nodes import (
    All,
    Any_,
    Field,
    IsNull,
    Node,
    Not,
    OneOf,
    Pattern,
    Test,
    as_list,
    as_value,
    check_depth,
    check_size,
)

__all__ = ["read_mapping"]


def read_mapping(where: Mapping[str, Any]) -> Node | None:
    """None for an empty dict, which every record satisfies."""
    if not where:
        return None
    node = _all(where, 1)
    check_size(node)
    return node


def _all(where: Any, level: int) -> Node:
    if not isinstance(where, Mapping) or not where:
        raise WhereError(f"expected a dict with a condition, found {brief(where)}")
    check_depth(level)
    return _joined([_entry(key, value, level) for key, value in where.items()])


def _entry(key: Any, value: Any, level: int) -> Node:
    if not isinstance(key, str):
        raise WhereError(f"a key must be a field or an operator, not {brief(key)}")
    key = str.__str__(key)
    if key == "$not":
        return Not(_all(value, level + 1))
    if key in ("$and", "$or"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise WhereError(f"{key} needs a list of dicts, not {brief(value)}")
        parts = tuple(_all(part, level + 1) for part in value)
        return All(parts) if key == "$and" else Any_(parts)
    if key.startswith("$"):
        raise WhereError(f"unknown operator {key!r}: expected a field, $and, $or or $not")
    return _of_field(parse_field(key), value, level)


def _of_field(field: Field, value: Any, level: int) -> Node:
    check_depth(level)
    if not isinstance(value, Mapping):
        if isinstance(value, (list, tuple, set, frozenset)):
            raise WhereError(f"{'.'.join(field)}: a list of values needs $in")
        return _equal(field, value)
    if not value:
        raise WhereError(f"{'.'.join(field)}: empty condition")
    return _joined([_operation(field, name, operand, level) for name, operand in value.items()])


def _operation(field: Field, name: Any, operand: Any, level: int) -> Node:
    if name == "$not":
        return Not(_of_field(field, operand, level + 1))
    build = _OPERATIONS.get(name) if isinstance(name, str) else None
    if build is None:
        raise WhereError(f"unknown operator {brief(name)}: expected one of {', '.join(_OPERATIONS)}, $not")
    return build(field, operand)


def _equal(field: Field, value: Any) -> Node:
    return IsNull(field) if value is None else Test(field, "=", as_value(value))


def _compared(operator: str) -> Callable[[Field, Any], Node]:
    return lambda field, value: Test(field, operator, as_value(value))


def _pattern(field: Field, value: Any, fold: bool) -> Node:
    pattern = as_value(value)
    if not isinstance(pattern, str):
        raise WhereError(f"the pattern must be a string, not {brief(value)}")
    return Pattern(field, pattern, fold=fold)


def _exists(field: Field, wanted: Any) -> Node:
    if not isinstance(wanted, bool):
        raise WhereError(f"$exists needs True or False, not {brief(wanted)}")
    return Not(IsNull(field)) if wanted else IsNull(field)


_OPERATIONS: dict[str, Callable[[Field, Any], Node]] = {
    "$eq": _equal,
    "$ne": lambda field, value: Not(_equal(field, value)),
    "$gt": _compared(">"),
    "$gte": _compared(">="),
    "$lt": _compared("<"),
    "$lte": _compared("<="),
    "$in": lambda field, values: OneOf(field, as_list(values)),
    "$nin": lambda field, values: Not(OneOf(field, as_list(values))),
    "$contains": _compared("CONTAINS"),
    "$not_contains": lambda field, value: Not(Test(field, "CONTAINS", as_value(value))),
    "$like": lambda field, value: _pattern(field, value, False),
    "$ilike": lambda field, value: _pattern(field, value, True),
    "$exists": _exists,
}


def _joined(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else All(tuple(parts))
