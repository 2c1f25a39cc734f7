"""Conditions on metadata in plain Python: a tree that can be written in both languages of `where`, and its meaning."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

Tree = tuple[Any, ...]
"""(operator, path, operand, and the escape of LIKE) or ("not", tree), ("and", trees), ("or", trees)."""
Metadata = dict[str, Any]

PLAIN_NAMES = ["a", "b", "notes", "android", "in_", "nullable", "Größe", "order"]
QUOTED_NAMES = ["not", "IN", "two words", "it's", "a.b", "semi;colon", "--", "tab)le", "$x", "%", "A", "Notes"]
QUOTED_NAMES += [
    "",
    "`",
    "a`b",
    'a"b',
    "a\\",
    "\\u0061",
    "nb\xa0sp",
    "zero\u200dwidth",
    "new\nline",
    "\x1f",
    "é",
    "e\u0301",
]
COMPARED = {"=": "$eq", "<": "$lt", "<=": "$lte", ">": "$gt", ">=": "$gte"}

# ---- what is drawn -------------------------------------------------------------------------------------------------

# Few of each, so that they meet. The last two floats are what a reader of JSON may round.
numbers = st.sampled_from(
    [-2, -1, 0, 1, 2, 3, 1.0, 0.5, -1.5, 2.5, 0.1, 1e300, 2**53 + 1, 2.0**53, 2**63 - 1, -(2**63)]
)
texts = st.text("aAbB%_*?[]^éÉ'\"\\ \n", max_size=4) | st.sampled_from(["", "wolf", "wolfram", "Wolf", "1", "true"])
scalars = st.booleans() | numbers | texts
names = st.sampled_from(PLAIN_NAMES + QUOTED_NAMES)
values = st.none() | scalars | st.lists(scalars | st.none(), max_size=3) | st.dictionaries(names, scalars, max_size=2)
metadata = st.dictionaries(names, values | st.dictionaries(names, values, max_size=2), max_size=4)
paths = st.lists(names, min_size=1, max_size=2).map(tuple)
tests = st.one_of(
    st.tuples(st.sampled_from(list(COMPARED)), paths, scalars),
    st.tuples(st.just("in"), paths, st.lists(scalars, max_size=4)),
    st.tuples(st.sampled_from(["like", "ilike"]), paths, texts),
    st.tuples(st.just("contains"), paths, scalars),
    st.tuples(st.just("null"), paths),
)
trees: st.SearchStrategy[Tree] = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)

# ---- what it means -------------------------------------------------------------------------------------------------


def holds(tree: Tree, record: Metadata) -> bool | None:
    """True, False, or None for SQL's NULL."""
    operator = tree[0]
    if operator == "not":
        inner = holds(tree[1], record)
        return None if inner is None else not inner
    if operator in ("and", "or"):
        decisive = operator == "or"
        parts = [holds(part, record) for part in tree[1]]
        return decisive if decisive in parts else None if None in parts else not decisive
    value = _lookup(record, tree[1])
    if operator == "null":
        return value is None
    return None if value is None else _TESTS[operator](value, *tree[2:])


def _lookup(record: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(record, dict) or name not in record:
            return None
        record = record[name]
    return record


def _kind(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _same_kind(a: Any, b: Any) -> bool:
    return _kind(a) == _kind(b) != "other"


def _equal(a: Any, b: Any) -> bool:
    return _same_kind(a, b) and a == b


def _like(value: Any, pattern: str, escape: str | None, fold: bool) -> bool:
    if not isinstance(value, str):
        return False
    regex, characters = "", iter(pattern)
    for c in characters:
        regex += {"%": ".*", "_": "."}.get(c, re.escape(c)) if c != escape else re.escape(next(characters, ""))
    if fold:
        regex, value = (re.sub("[A-Z]", lambda found: found[0].lower(), text) for text in (regex, value))
    return re.fullmatch(regex, value, re.DOTALL) is not None


def _contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, list):
        return any(_equal(item, wanted) for item in value)
    return isinstance(value, str) and isinstance(wanted, str) and wanted in value


_TESTS: dict[str, Any] = {
    "=": _equal,
    "<": lambda a, b: _same_kind(a, b) and a < b,
    "<=": lambda a, b: _same_kind(a, b) and a <= b,
    ">": lambda a, b: _same_kind(a, b) and a > b,
    ">=": lambda a, b: _same_kind(a, b) and a >= b,
    "in": lambda value, wanted: any(_equal(value, one) for one in wanted),
    "like": lambda value, pattern, escape=None: _like(value, pattern, escape, False),
    "ilike": lambda value, pattern, escape=None: _like(value, pattern, escape, True),
    "contains": _contains,
}

# ---- how it is written ---------------------------------------------------------------------------------------------


class Writer:
    """To text, in one of the ways that are allowed; `draw` chooses, and `params` collects the question marks'."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.params: list[Any] = []

    def _coin(self) -> bool:
        return bool(self._draw(st.booleans()))

    def text(self, tree: Tree) -> str:
        operator = tree[0]
        if operator == "not":
            return f"{self._word('not')} ({self.text(tree[1])})"
        if operator in ("and", "or"):
            return f" {self._word(operator)} ".join(f"({self.text(part)})" for part in tree[1])
        field = field_text(tree[1])
        if operator == "null":
            return f"{field} {self._word('is')} {self._word('null')}"
        if operator == "in":
            return f"{field} {self._word('in')} {self._list(tree[2])}"
        if operator in ("like", "ilike", "contains"):
            return f"{field} {self._word(operator)} {self._value(tree[2])}"
        if operator == "=" and self._coin():
            operator = "=="
        return (
            f"{field}{operator}{self._value(tree[2])}" if self._coin() else f"{field} {operator} {self._value(tree[2])}"
        )

    def _word(self, word: str) -> str:
        return word.upper() if self._coin() else word

    def _list(self, items: list[Any]) -> str:
        if self._coin():
            self.params.append(items)
            return "?"
        return f"({', '.join([self._value(item) for item in items])})"

    def _value(self, value: Any) -> str:
        if self._coin():
            self.params.append(value)
            return "?"
        if isinstance(value, bool):
            return self._word(str(value).lower())
        if isinstance(value, str):
            quote = "'" if self._coin() else '"'
            return quote + value.replace(quote, quote * 2) + quote
        return repr(value)


def field_text(path: tuple[str, ...]) -> str:
    return ".".join(name if name in PLAIN_NAMES else in_backticks(name) for name in path)


def in_backticks(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def key_text(path: tuple[str, ...]) -> str:
    """In a dict, where few names need backticks."""
    return ".".join(in_backticks(name) if "." in name or name[:1] in ("", "`", "$") else name for name in path)


def as_mapping(tree: Tree) -> dict[str, Any]:
    operator = tree[0]
    if operator == "not":
        return {"$not": as_mapping(tree[1])}
    if operator in ("and", "or"):
        return {f"${operator}": [as_mapping(part) for part in tree[1]]}
    field = key_text(tree[1])
    if operator == "null":
        return {field: None}
    return {field: {COMPARED.get(operator, f"${operator}"): tree[2]}}
