"""Syntax tree to SQL. Field names are quoted, and values are parameters.

    year >= 1990   ->   (json_extract(metadata, '$."year"') >= ? AND json_extract(metadata, '$."year"') < '')

SQLite orders numbers before strings, gives lists and objects as JSON text, and does not tell kinds apart when it
compares: the tests on kinds make up for that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeGuard

from ...errors import WhereError
from ..dates import Instant
from ..validation import json_name
from .nodes import MAX_PATTERN, All, Any_, Field, IsNull, Node, Not, OneOf, Pattern, Test, depth

__all__ = ["Condition", "compile_node", "compile_test", "field_raw", "field_sql"]

_TESTS_PER_GROUP = 16
_MAX_LITERAL = 200
"""Characters of a text that a pattern looks for; SQLite limits the length of patterns."""


class _Sql(NamedTuple):
    sql: str
    parameters: tuple[Any, ...]


class Condition(_Sql):
    """SQL over a row of `records`, true where the condition holds and NULL or false elsewhere, and its parameters."""

    node: Node | None = None
    """What was compiled: NOT only in front of tests. Conditions of the same SQL and parameters are equal without it."""


def compile_node(node: Node) -> Condition:
    node = _push_not_down(node, False)
    compiler = _Compiler()
    condition = Condition(compiler.sql(node), tuple(compiler.parameters))
    condition.node = node
    return condition


_ONLY = ("v",)


def compile_test(test: Node) -> Condition:
    """A test, or NOT and a test, over a table of values in place of records.

    Its columns are `type` and `value`, as json_type() and json_extract() give them, and `metadata`, an object that has
    the value under the name "v".
    """
    negated, inner = isinstance(test, Not), test.part if isinstance(test, Not) else test
    assert not isinstance(inner, (Not, All, Any_))
    moved: Node = replace(inner, field=_ONLY)
    compiler = _Compiler()
    sql = compiler.sql(Not(moved) if negated else moved)
    sql = sql.replace(field_sql(_ONLY), "value").replace(f"json_type(metadata, {_path(_ONLY)})", "type")
    return Condition(sql, tuple(compiler.parameters))


def field_sql(field: Field) -> str:
    """The value of a field, NULL when it is missing or null; the very text that indexes are made with."""
    return f"json_extract(metadata, {_path(field)})"


def field_raw(field: Field) -> str:
    """The value of a field as it is written in the JSON; NULL when it is missing."""
    return f"metadata -> {_path(field)}"


def _path(field: Field) -> str:
    for name in field:
        if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
            raise WhereError(f"a field name cannot contain a NUL or an unpaired surrogate: {name!r}")
    path = "$" + "".join(f".{json_name(name)}" for name in field)
    return "'" + path.replace("'", "''") + "'"


class _Compiler:
    def __init__(self) -> None:
        self.parameters: list[Any] = []

    def sql(self, node: Node) -> str:
        if isinstance(node, Not):
            return self._holds_not(node.part) if _is_contains(node.part) else f"(NOT {self.sql(node.part)})"
        if isinstance(node, (All, Any_)):
            # The deepest first, where SQLite's parser has the least on its stack of 100.
            parts = [self.sql(part) for part in sorted(node.parts, key=depth, reverse=True)]
            return _chain(parts, " AND " if isinstance(node, All) else " OR ")
        if isinstance(node, IsNull):
            return f"({field_sql(node.field)} IS NULL)"
        if isinstance(node, OneOf):
            return self._one_of(node)
        if isinstance(node, Pattern):
            return self._pattern(node)
        return self._holds(node) if _is_contains(node) else self._compare(node)

    def _value(self, value: Any) -> str:
        if isinstance(value, float):
            # Parsed as the metadata are: equal texts give equal numbers.
            self.parameters.append(repr(value))
            return "json_extract(?, '$')"
        self.parameters.append(value)
        return "?"

    def _compare(self, test: Test) -> str:
        field, value = field_sql(test.field), self._value(test.value)
        compared = f"{field} {test.operator} {value}"
        if isinstance(test.value, str):
            return f"({compared} AND {_kind(test.field, ('text',))})"
        # No number is less than a string, and every number is less than the empty one.
        return f"({compared} AND {field} < '')" if test.operator in (">", ">=") else f"({compared})"

    def _one_of(self, node: OneOf) -> str:
        if not node.values:  # false, but NULL where the field is missing, which SQLite's IN () is not
            return f"({field_sql(node.field)} <> {field_sql(node.field)})"
        self.parameters.append(json.dumps(node.values, ensure_ascii=False))
        listed = f"{field_sql(node.field)} IN (SELECT value FROM json_each(?))"
        return f"({listed} AND {_kind(node.field, ('text', 'integer', 'real', 'true', 'false'))})"

    def _holds(self, test: Test) -> str:
        """CONTAINS that is not negated, so that NULL may be false: most JSON need not be parsed."""
        if isinstance(test.value, str):
            return f"({self._may_hold(test.value)} AND {self._contains(test, self._among_elements(test))})"
        return self._among_elements(test)  # a number is never a part of a text

    def _holds_not(self, test: Test) -> str:
        if isinstance(test.value, str):  # outside WHERE, SQLite's AND evaluates both sides
            among = f"CASE WHEN {self._may_hold(test.value)} THEN {self._among_elements(test)} ELSE 0 END"
        else:
            among = self._among_elements(test)
        return f"(NOT {self._contains(test, among)})"

    def _contains(self, test: Test, among: str) -> str:
        within = "0"
        if isinstance(test.value, str):
            within = f"instr({field_sql(test.field)}, {self._value(test.value)}) > 0"
        return (
            f"(CASE coalesce(json_type(metadata, {_path(test.field)}), 'null') WHEN 'null' THEN NULL "
            f"WHEN 'array' THEN {among} WHEN 'text' THEN {within} ELSE 0 END)"
        )

    def _among_elements(self, test: Test) -> str:
        """json_each() also goes through objects and single values; only elements of lists have integer keys."""
        kinds = "('text')" if isinstance(test.value, str) else "('integer', 'real', 'true', 'false')"
        element = f"item.value = {self._value(test.value)} AND item.type IN {kinds} AND typeof(item.key) = 'integer'"
        return f"EXISTS (SELECT 1 FROM json_each(metadata, {_path(test.field)}) AS item WHERE {element})"

    def _may_hold(self, text: str) -> str:
        """Whether the metadata may contain the text: a look at the characters, which saves parsing most JSON.

        JSON without a backslash contains its texts character for character.
        """
        self.parameters.append(f"*{_glob_literal(_LITERAL + text[:_MAX_LITERAL])}*")
        return "(metadata GLOB ? OR metadata GLOB '*\\*')"

    def _pattern(self, node: Pattern) -> str:
        pattern = str(node.pattern)
        if not isinstance(node.pattern, str):
            raise WhereError("the pattern must be a string")
        if len(pattern) > MAX_PATTERN:
            raise WhereError(f"the pattern has {len(pattern):,} characters; the limit is {MAX_PATTERN:,}")
        field, kind = field_sql(node.field), _kind(node.field, ("text",))
        pieces = _pieces(pattern, node.escape)
        if node.fold:
            self.parameters.append("".join(_LIKE.get(piece, _like_literal(piece)) for piece in pieces))
            return f"({field} LIKE ? ESCAPE '\\' AND {kind})"
        # GLOB respects case. The bounds let an index find a prefix; for "prefix%" they are enough.
        bounds = ""
        prefix = pieces[0][1:] if pieces and pieces[0] not in _GLOB else ""
        if prefix:
            self.parameters.append(prefix)
            bounds = f"{field} >= ? AND "
            after = _after(prefix)
            if after:
                self.parameters.append(after)
                bounds += f"{field} < ? AND "
                if pieces[1:] == [_ANY_TEXT]:
                    return f"({bounds}{kind})"
        self.parameters.append("".join(_GLOB.get(piece, _glob_literal(piece)) for piece in pieces))
        return f"({bounds}{field} GLOB ? AND {kind})"


def _is_contains(node: Node) -> TypeGuard[Test]:
    return isinstance(node, Test) and node.operator == "CONTAINS"


def _kind(field: Field, kinds: Sequence[str]) -> str:
    """True when a field is of one of these kinds or missing; when it is missing, the comparison itself is NULL."""
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    return f"(json_type(metadata, {_path(field)}) IN ({listed}) OR {field_sql(field)} IS NULL)"


def _push_not_down(node: Node, negated: bool) -> Node:
    """Move every NOT to a test (De Morgan's laws hold for NULL too), so that only AND and OR are nested."""
    node = _expand_instant(node)
    if isinstance(node, Not):
        return _push_not_down(node.part, not negated)
    if isinstance(node, (All, Any_)):
        kind = All if isinstance(node, All) != negated else Any_
        return kind(tuple(_push_not_down(part, negated) for part in node.parts))
    return Not(node) if negated else node


_COMPARED_TEXT = {"<": 0, ">=": 0, "<=": -1, ">": -1}
"""Which of an instant's texts, the first or the last, an operator compares with."""


def _expand_instant(node: Node) -> Node:
    """A test of a date or time as tests of its texts."""
    if isinstance(node, OneOf) and isinstance(node.values, tuple):
        return OneOf(node.field, tuple(text for value in node.values for text in _texts(value)))
    if not isinstance(node, Test) or not isinstance(node.value, Instant):
        return node
    if node.operator == "=":
        return OneOf(node.field, node.value.texts)
    if node.operator == "CONTAINS":
        return Any_(tuple(Test(node.field, "CONTAINS", text) for text in node.value.texts))
    return Test(node.field, node.operator, node.value.texts[_COMPARED_TEXT[node.operator]])


def _texts(value: Any) -> tuple[Any, ...]:
    return value.texts if isinstance(value, Instant) else (value,)


def _chain(parts: list[str], operator: str) -> str:
    """In groups: to SQLite a chain of n tests is n levels deep, and 1000 are its limit."""
    groups = [operator.join(parts[at : at + _TESTS_PER_GROUP]) for at in range(0, len(parts), _TESTS_PER_GROUP)]
    return f"({groups[0]})" if len(groups) == 1 else f"({operator.join(f'({group})' for group in groups)})"


# ---- patterns ------------------------------------------------------------------------------------------------------

_ANY_TEXT, _ONE_CHARACTER, _LITERAL = "%", "_", "="
_GLOB = {_ANY_TEXT: "*", _ONE_CHARACTER: "?"}
_LIKE = {_ANY_TEXT: "%", _ONE_CHARACTER: "_"}


def _pieces(pattern: str, escape: str | None) -> list[str]:
    """A pattern in parts: %, _, or = and literal text."""
    pieces: list[str] = []
    literal = ""
    characters = iter(pattern)
    for character in characters:
        if character == escape:
            literal += next(characters, "")
        elif character in (_ANY_TEXT, _ONE_CHARACTER):
            pieces += [_LITERAL + literal, character] if literal else [character]
            literal = ""
        else:
            literal += character
    return [*pieces, _LITERAL + literal] if literal else pieces


def _glob_literal(piece: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in piece[1:])


def _like_literal(piece: str) -> str:
    return "".join(f"\\{c}" if c in "%_\\" else c for c in piece[1:])


def _after(prefix: str) -> str:
    """The least text greater than every text with this prefix; "" when there is none."""
    code = ord(prefix[-1]) + 1
    if code == 0xD800:
        code = 0xE000  # past the surrogates
    return prefix[:-1] + chr(code) if code <= 0x10FFFF else ""
