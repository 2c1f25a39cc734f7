"""The parser of conditions reads what Lark reads by the same grammar, and refuses the rest at the same place."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import ROOT, examples

from edgevec.collection.where import lalr

GRAMMAR = ROOT / "edgevec" / "collection" / "where" / "grammar.lark"
KEYWORDS = ("AND", "OR", "ESCAPE", "NOT", "IN", "BETWEEN", "LIKE", "ILIKE", "CONTAINS", "IS", "NULL", "TRUE", "FALSE")
OPERATORS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=")

lark = pytest.importorskip("lark")
pytestmark = pytest.mark.skipif(not GRAMMAR.is_file(), reason="the grammar is not beside the tests")


class Tree:
    """A builder whose every method returns its own name and what it was given."""

    def __getattr__(self, name: str) -> Any:
        return lambda *parts: (name, parts)


@cache
def larks_parser() -> Any:
    silent = KEYWORDS[:3]

    def as_keyword(token: Any) -> Any:
        if token.upper() in KEYWORDS:
            token.type = f"_{token.upper()}" if token.upper() in silent else token.upper()
        return token

    return lark.Lark(
        GRAMMAR.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        maybe_placeholders=True,
        lexer_callbacks={"FIELD": as_keyword},
    )


def as_tuples(node: Any) -> Any:
    if isinstance(node, lark.Tree):
        return (str(node.data), tuple(map(as_tuples, node.children)))
    return node and (node.type, str(node), node.start_pos)


def by_lark(text: str) -> Any:
    try:
        return as_tuples(larks_parser().parse(text))
    except lark.UnexpectedCharacters as error:
        return "no terminal", error.pos_in_stream
    except lark.UnexpectedToken as error:
        start = len(text) if error.token.type == "$END" else error.token.start_pos
        return "no rule", error.token.type, str(error.token), start, error.expected


def by_edgevec(text: str) -> Any:
    try:
        return lalr.parse(text, Tree())
    except lalr.UnexpectedCharacterError as error:
        return "no terminal", error.position
    except lalr.UnexpectedTokenError as error:
        return "no rule", *error.token, error.expected


values = st.sampled_from(["'x'", '"y"', "''''", "1", "-1.5", "+.5e3", "?", "true", "False"])
fields = st.sampled_from(["a", "a.b", "`z w`.c", "notes", "é", "nulls"])
maybe_not = st.sampled_from(["", "NOT "])
lists = st.lists(values, max_size=3).map(lambda parts: f"({', '.join(parts)})") | st.just("?")
tests = st.one_of(
    fields,
    st.builds("{} {} {}".format, fields, st.sampled_from(OPERATORS), values),
    st.builds("{} {}IN {}".format, fields, maybe_not, lists),
    st.builds("{} {}between {} And {}".format, fields, maybe_not, values, values),
    st.builds("{} {}LIKE {}".format, fields, maybe_not, values),
    st.builds("{} {}ilike {} ESCAPE {}".format, fields, maybe_not, values, values),
    st.builds("{} {}CONTAINS {}".format, fields, maybe_not, values),
    st.builds("{} IS {}NULL".format, fields, maybe_not),
)
conditions = st.recursive(
    tests,
    lambda inner: st.one_of(
        inner.map("NOT {}".format),
        inner.map("({})".format),
        st.lists(inner, min_size=2, max_size=4).map(" AND ".join),
        st.lists(inner, min_size=2, max_size=4).map(" OR ".join),
    ),
    max_leaves=12,
)
SIGNS = """a notes <= ( ) , . ? 1 -1.5 'x' "y" `z` ; -- % ' " ` \u0131s"""  # which is IS in capitals
words = st.sampled_from([*KEYWORDS, *OPERATORS, *SIGNS.split(), "\n"])


@settings(max_examples=examples(300))
@given(text=conditions)
def test_conditions_are_read_as_lark_reads_them(text: str) -> None:
    tree = by_lark(text)
    assert tree[0] == "start", tree
    assert by_edgevec(text) == tree


@settings(max_examples=examples(500))
@given(text=st.lists(words, max_size=15).map(" ".join) | st.text(max_size=20), begun=conditions | st.just(""))
@example(text="", begun="")
@example(text="\n", begun="a")
def test_anything_else_is_refused_where_lark_refuses_it(text: str, begun: str) -> None:
    for whole in (text, f"{begun} {text}", begun[: len(text)]):
        assert by_edgevec(whole) == by_lark(whole)


def test_depth_takes_no_stack() -> None:
    text = "NOT " * 20_000 + "(" * 20_000 + "a" + ")" * 20_000
    assert by_edgevec(text)[0] == "start"
