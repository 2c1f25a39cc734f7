"""The two languages of `where` read a second time, by hand, into the trees of `conditions`; and those trees as SQL.

Nothing here is edgevec's: the text is read by recursive descent, where edgevec has a grammar; and the SQL looks fields
up key by key with json_each(), where edgevec has paths.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from where_strategies import COMPARED, Metadata, Tree

EVERYTHING: Tree = ("and", [])
"""What an empty dict means."""


class RefusedError(Exception):
    """A condition that must be a WhereError."""


def read_value(value: Any) -> Any:
    """A value to compare with."""
    if isinstance(value, str):
        if re.search("[\0\ud800-\udfff]", value):
            raise RefusedError
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RefusedError
    elif not isinstance(value, float) or not math.isfinite(value):
        raise RefusedError
    return value


def read_path(names: list[str]) -> tuple[str, ...]:
    if any(re.search("[\0\ud800-\udfff]", name) for name in names):
        raise RefusedError
    return tuple(names)


def read_pattern(value: Any) -> str:
    if not isinstance(value, str):
        raise RefusedError
    return str(read_value(value))


# ---- the text ------------------------------------------------------------------------------------------------------

_NAME = r"`(?:[^`]|``)*`"
_TOKEN = re.compile(
    rf"""(?P<field>(?:{_NAME}|[^\W\d]\w*)(?:\.(?:{_NAME}|\w+))*)
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<sign>==|<>|<=|>=|!=|[=<>(),?])""",
    re.VERBOSE,
)
_WORDS = {"and", "or", "not", "in", "between", "like", "ilike", "escape", "contains", "is", "null", "true", "false"}


class Text:
    """One text: `tree` reads it all."""

    def __init__(self, text: str, params: Sequence[Any]) -> None:
        if len(text) > 65_536:
            raise RefusedError
        self._tokens = list(self._split(text))
        self._at, self._params = 0, list(params)

    def tree(self) -> Tree:
        tree = self._chain("or", lambda: self._chain("and", self._unary))
        if self._at < len(self._tokens) or self._params:
            raise RefusedError
        return tree

    @staticmethod
    def _split(text: str) -> Any:
        at = 0
        while rest := text[at:].lstrip():
            at = len(text) - len(rest)
            found = _TOKEN.match(text, at)
            if not found:
                raise RefusedError
            word = found[0].lower()
            yield ("word", word) if word in _WORDS and word.isascii() else (found.lastgroup, found[0])
            at = found.end()

    def _next(self, *wanted: str) -> bool:
        """Go past a word or sign, if it is next."""
        found = self._at < len(self._tokens) and self._tokens[self._at] in [
            (kind, one) for one in wanted for kind in ("word", "sign")
        ]
        self._at += found
        return found

    def _must(self, wanted: str) -> None:
        if not self._next(wanted):
            raise RefusedError

    def _take(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise RefusedError
        self._at += 1
        return self._tokens[self._at - 1]

    def _chain(self, word: str, part: Callable[[], Tree]) -> Tree:
        parts = [part()]
        while self._next(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else (word, parts)

    def _unary(self) -> Tree:
        if self._next("not"):
            return ("not", self._unary())
        if self._next("("):
            tree = self._chain("or", lambda: self._chain("and", self._unary))
            self._must(")")
            return tree
        return self._test()

    def _test(self) -> Tree:
        kind, name = self._take()
        if kind != "field":
            raise RefusedError
        parts = re.findall(rf"({_NAME})|(\w+)", name)
        path = read_path([quoted[1:-1].replace("``", "`") if quoted else word for quoted, word in parts])
        if self._next("is"):
            negated = self._next("not")
            self._must("null")
            return ("not", ("null", path)) if negated else ("null", path)
        negated = self._next("not")
        tree = self._after(path)
        if tree is None:
            if negated:
                raise RefusedError
            return self._compared(path)
        return ("not", tree) if negated else tree

    def _after(self, path: tuple[str, ...]) -> Tree | None:
        if self._next("in"):
            return ("in", path, self._list())
        if self._next("between"):
            low = self._value()
            self._must("and")
            return ("and", [(">=", path, low), ("<=", path, self._value())])
        if self._next("contains"):
            return ("contains", path, self._value())
        for word in ("like", "ilike"):
            if self._next(word):
                pattern, escape = read_pattern(self._value()), None
                if self._next("escape"):
                    kind, quoted = self._take()
                    escape = quoted[1:-1].replace(quoted[0] * 2, quoted[0])
                    if kind != "text" or len(read_pattern(escape)) != 1:
                        raise RefusedError
                return (word, path, pattern, escape)
        return None

    def _compared(self, path: tuple[str, ...]) -> Tree:
        for sign in ("=", "==", "!=", "<>", "<", "<=", ">", ">="):
            if self._next(sign):
                value = self._value()
                return ("not", ("=", path, value)) if sign in ("!=", "<>") else (sign.replace("==", "="), path, value)
        return ("=", path, 1)

    def _param(self) -> Any:
        if not self._params:
            raise RefusedError
        return self._params.pop(0)

    def _value(self) -> Any:
        kind, text = self._take()
        if kind == "text":
            return read_value(text[1:-1].replace(text[0] * 2, text[0]))
        if kind == "number":
            return read_value(int(text) if re.fullmatch(r"[+-]?\d{1,40}", text) else float(text))
        if (kind, text) == ("sign", "?"):
            return read_value(self._param())
        if kind != "word" or text not in ("true", "false"):
            raise RefusedError
        return text == "true"

    def _list(self) -> list[Any]:
        if self._next("?"):
            values = self._param()
            if not isinstance(values, (list, tuple, set)):
                raise RefusedError
            return [read_value(value) for value in values]
        self._must("(")
        values = []
        while not self._next(")"):
            if values:
                self._must(",")
            values.append(self._value())
        return values


# ---- the dict ------------------------------------------------------------------------------------------------------

_SIGNS = {name: sign for sign, name in COMPARED.items() if sign != "="}


def read_dict(where: Mapping[Any, Any]) -> Tree:
    return _all(where) if where else EVERYTHING


def _all(where: Any) -> Tree:
    if not isinstance(where, Mapping) or not where:
        raise RefusedError
    return ("and", [_entry(key, value) for key, value in where.items()])


def _entry(key: Any, value: Any) -> Tree:
    if not isinstance(key, str):
        raise RefusedError
    if key == "$not":
        return ("not", _all(value))
    if key in ("$and", "$or"):
        if not isinstance(value, (list, tuple)) or not value:
            raise RefusedError
        return (key[1:], [_all(part) for part in value])
    if key[:1] == "$":
        raise RefusedError
    return _field(_key(key), value)


def _key(key: str) -> tuple[str, ...]:
    names, rest = [], key
    while True:
        found = re.match(r"`((?:[^`]|``)*)`(?=\.|\Z)|([^`.][^.]*)", rest)
        if not found:
            raise RefusedError
        names.append(found[2] if found[1] is None else found[1].replace("``", "`"))
        rest = rest[found.end() :]
        if not rest:
            return read_path(names)
        rest = rest[1:]


def _field(path: tuple[str, ...], value: Any) -> Tree:
    if not isinstance(value, Mapping):
        return ("null", path) if value is None else ("=", path, read_value(value))
    if not value:
        raise RefusedError
    return ("and", [_operation(path, name, operand) for name, operand in value.items()])


def _operation(path: tuple[str, ...], name: Any, operand: Any) -> Tree:
    if name == "$not":
        return ("not", _field(path, operand))
    negated = {"$ne": "$eq", "$nin": "$in", "$not_contains": "$contains"}.get(name)
    if negated:
        return ("not", _operation(path, negated, operand))
    if name == "$eq":
        return ("null", path) if operand is None else ("=", path, read_value(operand))
    if name in _SIGNS:
        return (_SIGNS[name], path, read_value(operand))
    if name == "$in" and isinstance(operand, (list, tuple, set)):
        return ("in", path, [read_value(value) for value in operand])
    if name in ("$like", "$ilike"):
        return (name[1:], path, read_pattern(operand))
    if name == "$contains":
        return ("contains", path, read_value(operand))
    if name == "$exists" and isinstance(operand, bool):
        return ("not", ("null", path)) if operand else ("null", path)
    raise RefusedError


# ---- the trees in SQL ----------------------------------------------------------------------------------------------


def by_sqlite(tree: Tree, records: list[Metadata]) -> set[int]:
    """The positions of the records for which SQLite, asked by hand, finds that it holds."""
    sql, params = _sql(tree)
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("PRAGMA case_sensitive_like = 1")
        base.execute("CREATE TABLE r (at INTEGER, m TEXT)")
        texts = [json.dumps(record, ensure_ascii=False) for record in records]
        base.executemany("INSERT INTO r VALUES (?, ?)", enumerate(texts))
        return {at for (at,) in base.execute(f"SELECT at FROM r WHERE {sql}", params)}


def _sql(tree: Tree) -> tuple[str, list[Any]]:
    operator = tree[0]
    if operator == "not":
        sql, params = _sql(tree[1])
        return f"(NOT {sql})", params
    if operator in ("and", "or"):
        parts = [_sql(part) for part in tree[1]] or [("1", [])]
        return f"({f' {operator} '.join(sql for sql, _ in parts)})", [param for _, some in parts for param in some]
    if len(tree[1]) > 20:  # deeper than any record; and SQLite's parser goes no deeper than a hundred
        return "1" if operator == "null" else "NULL", []
    source = "m"
    for _ in tree[1][:-1]:
        source = f"(SELECT CASE type WHEN 'object' THEN value END FROM json_each({source}) WHERE key = ?)"
    names = list(tree[1])
    if operator == "null":
        return f"(coalesce((SELECT type FROM json_each({source}) WHERE key = ?), 'null') = 'null')", names
    test, values = _SQL_TESTS[operator](*tree[2:])
    # The tests stand before the FROM, so their values come first.
    tested = f"CASE f.type WHEN 'null' THEN NULL ELSE coalesce({test}, 0) END"
    return f"(SELECT {tested} FROM json_each({source}) AS f WHERE f.key = ?)", [*values, *names]


_NUMBERS = "('integer', 'real', 'true', 'false')"


def _number(value: Any) -> str:
    """As JSON, so that a fraction is read by the one who reads the record's."""
    return json.dumps([value])


def _compare(sign: str) -> Callable[[Any], tuple[str, list[Any]]]:
    def test(value: Any) -> tuple[str, list[Any]]:
        if isinstance(value, str):
            return f"f.type = 'text' AND f.value {sign} ?", [value]
        return f"f.type IN {_NUMBERS} AND f.value {sign} json_extract(?, '$[0]')", [_number(value)]

    return test


def _one_of(values: list[Any]) -> tuple[str, list[Any]]:
    tests = [_compare("=")(value) for value in values] or [("0", [])]
    return " OR ".join(f"({sql})" for sql, _ in tests), [param for _, params in tests for param in params]


def _like(pattern: str, escape: str | None = None) -> tuple[str, list[Any]]:
    # SQLite refuses a pattern that ends with the escape; here it means nothing.
    if escape is None:
        return "f.type = 'text' AND f.value LIKE ?", [pattern]
    literal = re.sub(
        f"{re.escape(escape)}(.?)", lambda found: "\x01" + found[1] if found[1] else "", pattern, flags=re.S
    )
    return "f.type = 'text' AND f.value LIKE ? ESCAPE ?", [literal, "\x01"]


def _ilike(pattern: str, escape: str | None = None) -> tuple[str, list[Any]]:
    sql, params = _like(pattern, escape)
    return sql.replace("f.value LIKE ?", "lower(f.value) LIKE lower(?)"), params


def _contains(value: Any) -> tuple[str, list[Any]]:
    element, params = _compare("=")(value)
    elements = f"EXISTS (SELECT 1 FROM json_each(f.value) AS e WHERE {element.replace('f.', 'e.')})"
    sql = f"CASE f.type WHEN 'array' THEN {elements} "
    if isinstance(value, str):
        return f"{sql} WHEN 'text' THEN instr(f.value, ?) > 0 END", [*params, value]
    return f"{sql} END", params


_SQL_TESTS: dict[str, Callable[..., tuple[str, list[Any]]]] = {
    **{sign: _compare(sign) for sign in COMPARED},
    "in": _one_of,
    "like": _like,
    "ilike": _ilike,
    "contains": _contains,
}
