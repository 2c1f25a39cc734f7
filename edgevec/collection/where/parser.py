"""The SQL-like language, whose grammar is grammar.lark: text to syntax tree.

    topic = 'noun.animal' AND year >= 1990 AND NOT (lang IN ('de', "fr")) AND title LIKE 'wolf%'
        AND tags CONTAINS 'x' AND deleted IS NULL AND a.b BETWEEN 1 AND ? AND active

Keywords in any case. Both kinds of quotes make a string, and are doubled inside one. A field name with other characters
than letters, digits and _ stands in backticks, which are doubled inside it: a.`b.c` is "b.c" in the object a. A field
alone is true when it is true.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from ...errors import WhereError
from .field_names import names_in
from .lalr import AT_END, Token, UnexpectedCharacterError, UnexpectedTokenError
from .lalr import parse as read
from .nodes import (
    MAX_TEXT,
    All,
    Any_,
    IsNull,
    Node,
    Not,
    OneOf,
    Parameter,
    Pattern,
    Test,
    as_value,
    check_size,
)

__all__ = ["parse"]

_EXPECTED = (
    ("STRING", "a value"),
    ("OPERATOR", "an operator, IN, BETWEEN, LIKE, CONTAINS or IS"),
    ("FIELD", "a field"),
    ("_AND", "AND"),
    ("NULL", "NULL"),
    ("RPAR", "')'"),
    ("LPAR", "a list in parentheses"),
    ("COMMA", "','"),
    (AT_END, "the end"),
)
"""What may come next, for messages. A terminal stands for all that are possible where it is."""


def parse(text: str) -> Node:
    """The syntax tree. WhereError, with the position, when the text is not valid or exceeds a limit."""
    if len(text) > MAX_TEXT:
        raise WhereError(f"the condition has {len(text):,} characters; the limit is {MAX_TEXT:,}")
    return _parse(text)


@lru_cache(maxsize=256)
def _parse(text: str) -> Node:
    try:
        node: Node = read(text, _Builder())
    except UnexpectedCharacterError as error:
        raise _unexpected_character(error.position, text) from None
    except UnexpectedTokenError as error:
        raise _unexpected_token(error, text) from None
    except _ProblemError as error:
        raise WhereError(error.problem, text, error.position) from None
    check_size(node)
    return node


class _ProblemError(Exception):
    def __init__(self, problem: str, token: Token) -> None:
        self.problem = problem
        self.position = token.start


class _Builder:
    """Builds nodes: each method gets the built parts of a rule, None for an optional part that is missing."""

    def start(self, node: Node) -> Node:
        return node

    def any(self, *parts: Node) -> Node:
        return Any_(parts)

    def all(self, *parts: Node) -> Node:
        return All(parts)

    def negated(self, _: Token, part: Node) -> Node:
        return Not(part)

    def truth(self, field: Token) -> Node:
        return Test(names_in(field.text), "=", 1)

    def compare(self, field: Token, operator: Token, value: Any) -> Node:
        if operator.text in ("!=", "<>"):
            return Not(Test(names_in(field.text), "=", value))
        return Test(names_in(field.text), "=" if operator.text == "==" else operator.text, value)

    def one_of(self, field: Token, negated: Token | None, _: Token, values: Any) -> Node:
        return _unless(negated, OneOf(names_in(field.text), values))

    def between(self, field: Token, negated: Token | None, _: Token, low: Any, high: Any) -> Node:
        return _unless(negated, All((Test(names_in(field.text), ">=", low), Test(names_in(field.text), "<=", high))))

    def like(self, field: Token, negated: Token | None, like: Token, pattern: Any, escape: Any) -> Node:
        if not isinstance(pattern, (str, Parameter)):
            raise _ProblemError("the pattern must be a string", like)
        if escape is not None and not (isinstance(escape, str) and len(escape) == 1):
            raise _ProblemError("ESCAPE needs a string of one character", like)
        return _unless(negated, Pattern(names_in(field.text), pattern, escape, like.type == "ILIKE"))

    def contains(self, field: Token, negated: Token | None, _: Token, value: Any) -> Node:
        return _unless(negated, Test(names_in(field.text), "CONTAINS", value))

    def is_null(self, field: Token, _: Token, negated: Token | None, __: Token) -> Node:
        return _unless(negated, IsNull(names_in(field.text)))

    def list(self, *values: Any) -> tuple[Any, ...]:
        return tuple(value for value in values if value is not None)

    def parameter(self, token: Token) -> Parameter:
        return Parameter(token.start)

    def string(self, token: Token) -> str:
        quote = token.text[0]
        return str(self._read(token, token.text[1:-1].replace(quote * 2, quote)))

    def number(self, token: Token) -> Any:
        text = token.text
        return self._read(token, int(text) if re.fullmatch(r"[+-]?\d{1,40}", text) else float(text))

    def true(self, _: Token) -> int:
        return 1

    def false(self, _: Token) -> int:
        return 0

    def _read(self, token: Token, value: Any) -> Any:
        try:
            return as_value(value)
        except WhereError as error:
            raise _ProblemError(error.problem, token) from None


def _unless(negated: Token | None, node: Node) -> Node:
    return node if negated is None else Not(node)


def _unexpected_character(position: int, text: str) -> WhereError:
    rest = text[position]
    problem = "unterminated string" if rest in "'\"" else f"unexpected {rest!r}"
    return WhereError(f"{problem} at position {position}", text, position)


def _unexpected_token(error: UnexpectedTokenError, text: str) -> WhereError:
    token = error.token
    wanted = [words for terminal, words in _EXPECTED if terminal in error.expected]
    if "a field" in wanted:
        wanted = ["a condition"]
    found = "the end" if token.type == AT_END else repr(token.text)
    problem = f"expected {' or '.join(wanted)}, found {found}"
    if token.type == "FIELD" and "STRING" in error.expected:
        problem += " (a string needs quotes)"
    if token.type == "NULL" and "STRING" in error.expected:
        problem += " (use IS NULL)"
    return WhereError(problem, text, token.start)
