"""Syntax tree to SQL. A field name is the only thing of the user's in it, quoted; every value is a parameter.

What SQLite does otherwise than the language says is put right here: it orders numbers before strings, gives lists and
objects as JSON text, and tells no kind apart when it compares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from ...errors import WhereError
from ..dates import Instant
from ..validation import json_name
from .nodes import MAX_PATTERN, All, Any_, Field, IsNull, Node, Not, OneOf, Pattern, Test, depth

__all__ = ["Condition", "compile_node", "field_sql"]

_GROUP = 16
_LOOKED_FOR = 200
"""Letters of a text that are looked for; SQLite's patterns have an end."""


class Condition(NamedTuple):
    """SQL over a row of `records`, true where the condition holds and NULL or false elsewhere; its parameters."""

    sql: str
    parameters: tuple[Any, ...]


def compile_node(node: Node) -> Condition:
    compiler = _Compiler()
    return Condition(compiler.sql(_inward(node, False)), tuple(compiler.parameters))


def field_sql(field: Field) -> str:
    """The value of a field: NULL when it is missing or null. The same text is in the indexes."""
    return f"json_extract(metadata, {_path(field)})"


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
            # Read by the reader that reads the metadata: what is written alike is equal.
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
        """CONTAINS where nothing negates it, so that NULL may be false: most JSON need not be read."""
        if isinstance(test.value, str):
            return f"({self._may_hold(test.value)} AND {self._contains(test, self._among_elements(test))})"
        return self._among_elements(test)  # a number is not a part of a text

    def _holds_not(self, test: Test) -> str:
        if isinstance(test.value, str):  # as a value, SQLite's AND would always look at both sides
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
        """json_each() goes through objects and single values as well, but counts the elements of lists alone."""
        kinds = "('text')" if isinstance(test.value, str) else "('integer', 'real', 'true', 'false')"
        element = f"item.value = {self._value(test.value)} AND item.type IN {kinds} AND typeof(item.key) = 'integer'"
        return f"EXISTS (SELECT 1 FROM json_each(metadata, {_path(test.field)}) AS item WHERE {element})"

    def _may_hold(self, text: str) -> str:
        """Whether the text is anywhere in the metadata, which saves reading the JSON of most: a look at its letters.

        JSON that holds a text and no backslash holds it letter for letter.
        """
        self.parameters.append(f"*{_glob_literal(_LITERAL + text[:_LOOKED_FOR])}*")
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
        # GLOB is LIKE with case; the bounds let an index find a prefix, and say all when nothing else is asked.
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
    """That a field is of one of these kinds, or missing: then the other half of the test is NULL and decides."""
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    return f"(json_type(metadata, {_path(field)}) IN ({listed}) OR {field_sql(field)} IS NULL)"


def _inward(node: Node, negated: bool) -> Node:
    """Every NOT at a test (De Morgan holds for NULL too), so that only AND and OR are nested."""
    node = _dated(node)
    if isinstance(node, Not):
        return _inward(node.part, not negated)
    if isinstance(node, (All, Any_)):
        kind = All if isinstance(node, All) != negated else Any_
        return kind(tuple(_inward(part, negated) for part in node.parts))
    return Not(node) if negated else node


_END = {"<": 0, ">=": 0, "<=": -1, ">": -1}
"""Which of an instant's texts, the least or the greatest, is compared with."""


def _dated(node: Node) -> Node:
    """A test of a date or time as tests of the texts that stand for it."""
    if isinstance(node, OneOf) and isinstance(node.values, tuple):
        return OneOf(node.field, tuple(text for value in node.values for text in _texts(value)))
    if not isinstance(node, Test) or not isinstance(node.value, Instant):
        return node
    if node.operator == "=":
        return OneOf(node.field, node.value.texts)
    if node.operator == "CONTAINS":
        return Any_(tuple(Test(node.field, "CONTAINS", text) for text in node.value.texts))
    return Test(node.field, node.operator, node.value.texts[_END[node.operator]])


def _texts(value: Any) -> tuple[Any, ...]:
    return value.texts if isinstance(value, Instant) else (value,)


def _chain(parts: list[str], operator: str) -> str:
    """In groups: an expression is as deep as a chain is long, and SQLite takes no deeper than 1000."""
    groups = [operator.join(parts[at : at + _GROUP]) for at in range(0, len(parts), _GROUP)]
    return f"({groups[0]})" if len(groups) == 1 else f"({operator.join(f'({group})' for group in groups)})"


# ---- patterns ------------------------------------------------------------------------------------------------------

_ANY_TEXT, _ONE_CHARACTER, _LITERAL = "%", "_", "="
_GLOB = {_ANY_TEXT: "*", _ONE_CHARACTER: "?"}
_LIKE = {_ANY_TEXT: "%", _ONE_CHARACTER: "_"}


def _pieces(pattern: str, escape: str | None) -> list[str]:
    """%, _ or literal text after a =."""
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
    """The least text that is more than every text with this prefix; "" when there is none."""
    code = ord(prefix[-1]) + 1
    if code == 0xD800:
        code = 0xE000  # surrogates are no characters
    return prefix[:-1] + chr(code) if code <= 0x10FFFF else ""
