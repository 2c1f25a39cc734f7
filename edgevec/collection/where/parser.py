"""The SQL-like language: text to syntax tree.

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

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken, v_args

from ...errors import WhereError
from .field_names import names_in
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

_SILENT = ("AND", "OR", "ESCAPE")
_KEYWORDS = (*_SILENT, "NOT", "IN", "BETWEEN", "LIKE", "ILIKE", "CONTAINS", "IS", "NULL", "TRUE", "FALSE")
_TERMINALS = {word: f"_{word}" if word in _SILENT else word for word in _KEYWORDS}
"""lark leaves terminals that begin with _ out of the tree."""

_FIELD = r"(`(?:[^`]|``)*`|[^\W\d]\w*)(\.(`(?:[^`]|``)*`|\w+))*"

_GRAMMAR = rf"""
start: either
?either: both
       | both (_OR both)+                       -> any
?both: unary
     | unary (_AND unary)+                      -> all
?unary: NOT unary                               -> negated
      | "(" either ")"
      | test
?test: FIELD                                    -> truth
     | FIELD OPERATOR value                     -> compare
     | FIELD [NOT] IN list                      -> one_of
     | FIELD [NOT] BETWEEN value _AND value     -> between
     | FIELD [NOT] (LIKE | ILIKE) value [_ESCAPE value]  -> like
     | FIELD [NOT] CONTAINS value               -> contains
     | FIELD IS [NOT] NULL                      -> is_null
list: "(" [value ("," value)*] ")"
    | PARAMETER                                 -> parameter
?value: STRING                                  -> string
      | NUMBER                                  -> number
      | PARAMETER                               -> parameter
      | TRUE                                    -> true
      | FALSE                                   -> false

FIELD: /{_FIELD}/
STRING: /'(?:[^']|'')*'|"(?:[^"]|"")*"/
NUMBER: /[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?(?![\w.])/
OPERATOR: /==|=|!=|<>|<=|>=|<|>/
PARAMETER: "?"
%declare {" ".join(_TERMINALS.values())}
%ignore /\s+/
"""

_EXPECTED = (
    ("STRING", "a value"),
    ("OPERATOR", "an operator, IN, BETWEEN, LIKE, CONTAINS or IS"),
    ("FIELD", "a field"),
    ("_AND", "AND"),
    ("NULL", "NULL"),
    ("RPAR", "')'"),
    ("LPAR", "a list in parentheses"),
    ("COMMA", "','"),
    ("$END", "the end"),
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
        node: Node = _parser().parse(text)  # type: ignore[assignment]
    except UnexpectedInput as error:
        raise _explained(error, text) from None
    except _ProblemError as error:
        raise WhereError(error.problem, text, error.position) from None
    check_size(node)
    return node


class _ProblemError(Exception):
    def __init__(self, problem: str, token: Token) -> None:
        self.problem = problem
        self.position = token.start_pos or 0


@v_args(inline=True)
class _Builder(Transformer):  # type: ignore[type-arg]
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
        return Test(names_in(field), "=", 1)

    def compare(self, field: Token, operator: Token, value: Any) -> Node:
        if operator in ("!=", "<>"):
            return Not(Test(names_in(field), "=", value))
        return Test(names_in(field), "=" if operator == "==" else str(operator), value)

    def one_of(self, field: Token, negated: Token | None, _: Token, values: Any) -> Node:
        return _unless(negated, OneOf(names_in(field), values))

    def between(self, field: Token, negated: Token | None, _: Token, low: Any, high: Any) -> Node:
        return _unless(negated, All((Test(names_in(field), ">=", low), Test(names_in(field), "<=", high))))

    def like(self, field: Token, negated: Token | None, like: Token, pattern: Any, escape: Any) -> Node:
        if not isinstance(pattern, (str, Parameter)):
            raise _ProblemError("the pattern must be a string", like)
        if escape is not None and not (isinstance(escape, str) and len(escape) == 1):
            raise _ProblemError("ESCAPE needs a string of one character", like)
        return _unless(negated, Pattern(names_in(field), pattern, escape, like.type == "ILIKE"))

    def contains(self, field: Token, negated: Token | None, _: Token, value: Any) -> Node:
        return _unless(negated, Test(names_in(field), "CONTAINS", value))

    def is_null(self, field: Token, _: Token, negated: Token | None, __: Token) -> Node:
        return _unless(negated, IsNull(names_in(field)))

    def list(self, *values: Any) -> tuple[Any, ...]:
        return tuple(value for value in values if value is not None)

    def parameter(self, token: Token) -> Parameter:
        return Parameter(token.start_pos or 0)

    def string(self, token: Token) -> str:
        quote = token[0]
        return str(self._read(token, token[1:-1].replace(quote * 2, quote)))

    def number(self, token: Token) -> Any:
        return self._read(token, int(token) if re.fullmatch(r"[+-]?\d{1,40}", token) else float(token))

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


def _as_keyword(token: Token) -> Token:
    word = token.upper()
    if word in _KEYWORDS:
        token.type = _TERMINALS[word]
    return token


@lru_cache(maxsize=1)
def _parser() -> Lark:
    # Only a whole word becomes a keyword: `notes` is a field.
    return Lark(
        _GRAMMAR,
        parser="lalr",
        lexer="basic",
        transformer=_Builder(),
        lexer_callbacks={"FIELD": _as_keyword},
        maybe_placeholders=True,
    )


def _explained(error: UnexpectedInput, text: str) -> WhereError:
    if isinstance(error, UnexpectedCharacters):
        position = int(error.pos_in_stream or 0)
        rest = text[position]
        problem = "unterminated string" if rest in "'\"" else f"unexpected {rest!r}"
        return WhereError(f"{problem} at position {position}", text, position)
    assert isinstance(error, UnexpectedToken)
    token = error.token
    at_end = token.type == "$END"
    wanted = [words for terminal, words in _EXPECTED if terminal in error.expected]
    if "a field" in wanted:
        wanted = ["a condition"]
    problem = f"expected {' or '.join(wanted)}, found {'the end' if at_end else repr(str(token))}"
    if token.type == "FIELD" and "STRING" in error.expected:
        problem += " (a string needs quotes)"
    if token.type == "NULL" and "STRING" in error.expected:
        problem += " (use IS NULL)"
    return WhereError(problem, text, len(text) if at_end else token.start_pos or 0)
