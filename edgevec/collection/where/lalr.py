"""The lexer and the LALR(1) parser that read a text by the tables of csrc/parse_tables.py, without recursion.

Aho, Lam, Sethi and Ullman, Compilers, section 4.5 and after. The first token that cannot be right ends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from ._tables import ACTIONS, END, GOTO, IGNORED, KEYWORDS, PATTERN, RULES

__all__ = ["Token", "UnexpectedCharacterError", "UnexpectedTokenError", "parse"]

AT_END = "$END"


class Token(NamedTuple):
    """A terminal; at the end of the text one of the type AT_END."""

    type: str
    text: str
    start: int


class UnexpectedCharacterError(Exception):
    """No terminal begins there."""

    def __init__(self, position: int) -> None:
        self.position = position


class UnexpectedTokenError(Exception):
    """No text of the language goes on so.

    Attributes:
        expected: Types of the tokens by which it may.
    """

    def __init__(self, token: Token, expected: frozenset[str]) -> None:
        self.token = token
        self.expected = expected


def parse(text: str, builder: Any) -> Any:
    """What the builder's method for the first rule returns.

    Args:
        text: what to read
        builder: has a method for each rule or alias of the grammar, which is called with what those of the rule's parts
            have returned, tokens as they are, and None for an optional part that is missing

    Raises:
        UnexpectedCharacterError: from the lexer
        UnexpectedTokenError: from the parser
    """
    states, values = [0], list[Any]()
    for token in _tokens(text):
        while (action := ACTIONS[states[-1]].get(token.type)) is None or action < 0:
            if action is None:
                raise UnexpectedTokenError(token, frozenset(ACTIONS[states[-1]]))
            origin, length, name, parts = RULES[~action]
            left = len(values) - length
            value = _reduce(builder, name, parts, values[left:])
            del values[left:], states[left + 1 :]
            values.append(value)
            states.append(GOTO[states[-1]][origin])
            if states[-1] == END:
                return value
        states.append(action)
        values.append(token)
    raise AssertionError("the tables do not end")


def _reduce(builder: Any, name: str, parts: tuple[int | None, ...], values: list[Any]) -> Any:
    if not name:
        return values[parts[0]]  # type: ignore[index]
    taken: list[Any] = []
    for part in parts:
        if part is None:
            taken.append(None)
        elif part < 0:
            taken += values[~part]
        else:
            taken.append(values[part])
    return taken if name.startswith("_") else getattr(builder, name)(*taken)


def _tokens(text: str) -> Iterator[Token]:
    pattern, position = _pattern(), 0
    while position < len(text):
        found = pattern.match(text, position)
        if found is None:
            raise UnexpectedCharacterError(position)
        kind, word = str(found.lastgroup), found.group()
        if kind not in IGNORED:
            # Words are keywords as a whole: `notes` is none.
            yield Token(KEYWORDS.get(word.upper(), kind), word, position)
        position = found.end()
    yield Token(AT_END, "", position)


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    return re.compile(PATTERN)
