"""`where`: both languages agree with plain Python, nothing of theirs is run as SQL, and errors show the position."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import ROOT, examples
from where_oracle import RefusedError, Text, by_sqlite, read_dict
from where_strategies import (
    Metadata,
    Tree,
    Writer,
    as_mapping,
    field_text,
    holds,
    in_backticks,
    key_text,
    metadata,
    trees,
)

import edgevec
from edgevec.collection import Collection


def collection(records: list[Metadata]) -> Collection:
    """Ids are positions in the list."""
    made = edgevec.open(":memory:", dim=2, metric="l2")
    made.upsert(range(len(records)), np.eye(2, dtype=np.float32)[np.arange(len(records)) % 2], records)
    return made


def selected(made: Collection, where: Any, params: Any = None) -> set[Any]:
    """The ids of the records, by every way that takes a condition."""
    ids = {record.id for page in made.pages(size=2, where=where, params=params) for record in page}
    assert made.count(where, params) == len(ids)
    assert {hit.id for hit in made.search([1, 0], max(1, len(made)), where=where, params=params)} == ids
    return ids


def expected(tree: Tree, records: list[Metadata]) -> set[int]:
    return {at for at, record in enumerate(records) if holds(tree, record) is True}


@settings(max_examples=examples(300))
@given(data=st.data(), records=st.lists(metadata, max_size=6), tree=trees)
def test_both_languages_mean_what_python_and_sqlite_mean(
    data: st.DataObject, records: list[Metadata], tree: Tree
) -> None:
    assert by_sqlite(tree, records) == expected(tree, records)
    with collection(records) as made:
        writer = Writer(data.draw)
        text = writer.text(tree)
        assert expected(Text(text, writer.params).tree(), records) == expected(tree, records)
        assert expected(read_dict(as_mapping(tree)), records) == expected(tree, records)
        assert selected(made, text, writer.params) == expected(tree, records)
        assert selected(made, as_mapping(tree)) == expected(tree, records)


@settings(max_examples=examples(100))
@given(
    records=st.lists(metadata, max_size=6), tree=trees, paths=st.sets(st.sampled_from([("a",), ("a", "b")]), min_size=1)
)
def test_an_index_changes_no_answer(records: list[Metadata], tree: Tree, paths: set[tuple[str, ...]]) -> None:
    with collection(records) as made:
        for path in paths:
            made.create_index(field_text(path))
        assert selected(made, as_mapping(tree)) == expected(tree, records)


@settings(max_examples=examples(300))
@given(fields=st.dictionaries(st.text(max_size=4), st.integers(0, 3) | st.just({"x": 1}), max_size=4))
def test_every_name_that_can_be_stored_can_be_asked_for(fields: dict[str, Any]) -> None:
    with collection([{}]) as made:
        if any("\0" in name for name in fields):
            with pytest.raises(edgevec.ParameterError, match="NUL in the field"):
                made.upsert([1], [[1, 0]], [fields])
            return
        made.upsert([1], [[1, 0]], [{**fields, "in": dict(fields)}])
        assert made.get(1)[0].metadata == {**fields, "in": dict(fields)}
        for name, value in fields.items():
            for path in ((name,), ("in", name)) if name != "in" else (("in", "in"),):
                path, wanted = (*path, "x") if isinstance(value, dict) else path, value if value in range(4) else 1
                assert made.ids(".".join(map(in_backticks, path)) + " = ?", [wanted]) == [1]
                assert made.ids({key_text(path): wanted}) == [1]
                made.create_index(key_text(path))
                assert made.ids({key_text(path): wanted}) == [1]
                assert len(made.indexes()) == 1
                made.drop_index(".".join(map(in_backticks, path)))
                assert made.indexes() == []


# What JSON writes in several ways, what looks like the space between two elements, and what patterns are made of.
NASTY = [
    *",\"\\'[]{}^-*?%_\n\t\x01\x1f\x7fé",
    "",
    '","',
    "],[",
    ", ",
    "true",
    "null",
    "1",
    "1,2",
    "\\u00e9",
    "e\u0301",
    "\u2028",
]
NASTY += [
    "\ud7ff\ue000\uffff",
    "\U0001f600",
    "wolf",
    "Wolf",
    "a" * 199 + "*",
    "a" * 300,
    "a" * 2000,
    "\\",
    '\\"',
    "/",
    "</",
]
nasty_texts = st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
nasty_numbers = st.sampled_from(
    [0, -0.0, 1, 1.0, -1, 5, 5.0, 0.1, 1e22, 10**18, 2**53, 2**53 + 1, 2.0**53, 2**63 - 1, 2.0**63, -(2**63), 5e-324]
)
nasty = nasty_texts | nasty_numbers | st.booleans()
held = st.one_of(
    nasty,
    st.none(),
    st.lists(
        nasty | st.none() | st.lists(nasty, max_size=2) | st.dictionaries(nasty_texts, nasty, max_size=2), max_size=4
    ),
    st.dictionaries(st.just("a") | nasty_texts, nasty, max_size=2),
)


@settings(max_examples=examples(400))
@given(data=st.data(), fields=st.lists(held, min_size=1, max_size=5))
def test_contains_with_special_characters(data: st.DataObject, fields: list[Any]) -> None:
    records: list[Metadata] = [{"b": data.draw(nasty), "a": field} for field in fields]
    texts = [text for field in fields for text in (field if isinstance(field, list) else [field])]
    some = data.draw(st.sampled_from([*texts, 0]))
    if isinstance(some, str) and some:  # a part of one that is there
        first = data.draw(st.integers(0, len(some) - 1))
        some = some[first : data.draw(st.integers(first + 1, len(some)))]
    wanted = data.draw(nasty) if not isinstance(some, (str, int, float)) or data.draw(st.booleans()) else some
    tree: Tree = ("contains", ("a",), wanted)
    with collection(records) as made:
        for asked in (tree, ("not", tree), ("or", [tree, ("null", ("b",))]), ("not", ("and", [tree, tree]))):
            assert selected(made, as_mapping(asked)) == expected(asked, records)


def test_contains_a_long_text() -> None:
    long = "ab" * 50_000
    with collection([{"a": [long]}, {"a": long}, {"a": [long + "b"]}, {"a": "b" + long}]) as made:
        assert selected(made, {"a": {"$contains": long}}) == {0, 1, 3}
        assert selected(made, {"a": {"$not_contains": long}}) == {2}


@pytest.mark.parametrize(
    ("written", "wanted", "found"),
    [
        (r'{"a": ["\u0077olf"]}', "wolf", True),
        (r'{"a": "a \u0077olf"}', "wolf", True),
        (r'{"a" : [ "x" , "wolf" ] }', "wolf", True),
        (r'{"a": ["x" , "y"]}', " , ", False),
        (r'{"a": [1e0]}', 1, True),
        (r'{"a": [10e-1, 2]}', True, True),
        (r'{"a": [0.50E1]}', 5, True),
        (r'{"a": [true]}', 1.0, True),
        (r'{"a": [[1], {"b": 1}, "1"]}', 1, False),
        (r'{"a": {"b": "wolf"}}', "wolf", False),
    ],
)
def test_contains_in_json_written_by_another_program(tmp_path: Path, written: str, wanted: Any, found: bool) -> None:
    with edgevec.open(tmp_path / "c.edgevec") as made:
        made.upsert([1], [[1, 0]])
    with closing(sqlite3.connect(tmp_path / "c.edgevec")) as raw, raw:
        raw.execute("UPDATE records SET metadata = ?", (written,))
    with edgevec.open(tmp_path / "c.edgevec") as made:
        assert made.count({"a": {"$contains": wanted}}) == found
        assert made.count({"a": {"$not_contains": wanted}}) == (not found)


RECORDS: list[Metadata] = [
    {"topic": "noun.animal", "year": 1990, "title": "wolf", "tags": ["x", 1, True], "a": {"b": 1.5}, "active": True},
    {"topic": "noun.plant", "year": 2001, "title": "Wolfsbane", "tags": "xyz", "a": {"b": 3}, "active": False},
    {"topic": "it's", "lang": "de", "deleted": None, "notes": "x", "note": 3, "b": 2, "two words": 5, "dc:title": "x"},
    {},
]


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("topic = 'noun.animal' AND year >= 1990 AND NOT (year IN (1, 2)) AND a.b BETWEEN 1 AND 2", {0}),
        ('topic == "noun.plant"', {1}),
        ("topic = 'it''s'", {2}),
        ('topic = "it\'s"', {2}),
        ("title LIKE 'wolf%'", {0}),
        ("title ILIKE 'WOLF%'", {0, 1}),
        ("title NOT LIKE '%s_ane'", {0}),
        ("title LIKE 'w!olf' ESCAPE '!'", {0}),
        ("tags CONTAINS 'x'", {0, 1}),
        ("tags CONTAINS 1", {0}),
        ("deleted IS NULL AND lang IS NOT NULL", {2}),
        ("active", {0}),
        ("NOT active", {1}),
        ("year <> 1990", {1}),
        ("year > 1e3 AND year < +1.9905e3", {0}),
        # A word that begins with a keyword is a word of its own.
        ('notes = "x"', {2}),
        ("note = 3 and notes = 'x'", {2}),
        # What is missing is neither equal nor different; the other side of an OR decides.
        ("a.b = 1 OR b = 2", {2}),
        ("b = 2 OR a.b = 1", {2}),
        ("NOT (year = 1990)", {1}),
        ("year != 1990 OR year IS NULL", {1, 2, 3}),
        # AND binds closer than OR, NOT closest.
        ("year = 2001 OR year = 1990 AND title = 'none'", {1}),
        ("NOT year = 2001 AND title = 'wolf'", {0}),
        ("title BETWEEN 'a' AND 'z' AND year BETWEEN 1 AND 1995", {0}),
        # Kinds do not mix.
        ("year = '1990'", set()),
        ("year < 'a'", set()),
        ("title > 5", set()),
        ("NOT title > 5", {0, 1}),
        ("tags = '[\"x\",1,true]'", set()),
        ("a LIKE '%'", set()),
        ({}, {0, 1, 2, 3}),
        ({"year": 1990}, {0}),
        ({"year": {"$gte": 1990, "$lt": 2000}}, {0}),
        ({"$or": [{"year": {"$gt": 2000}}, {"lang": {"$in": ["de", "fr"]}}]}, {1, 2}),
        ({"a.b": {"$ne": 3}}, {0}),
        ({"lang": {"$exists": True}}, {2}),
        ({"lang": {"$exists": False}, "year": {"$nin": [1990]}}, {1}),
        ({"tags": {"$not_contains": "y"}}, {0}),
        ({"year": {"$not": {"$gt": 2000}}}, {0}),
        ({"two words": 5}, {2}),
        ({"dc:title": {"$exists": True}}, {2}),
        ({"`two words`": 5, "`dc:title`": "x"}, {2}),
        ({"year = 1990 OR year": 1990}, set()),
        ({"year": np.int64(1990), "a.b": np.float32(1.5)}, {0}),
    ],
)
def test_conditions_by_example(where: Any, ids: set[int]) -> None:
    with collection(RECORDS) as made:
        assert selected(made, where) == ids


def test_parameters_take_the_place_of_question_marks() -> None:
    with collection(RECORDS) as made:
        assert selected(made, "year > ? AND title LIKE ?", [1990, "W%"]) == {1}
        assert selected(made, "lang IN ?", [{"de", "en"}]) == {2}
        assert selected(made, "lang IN (?, 'fr')", ("de",)) == {2}
        assert made.delete(where="year = ?", params=[1990]) == 1
        assert made.search([1, 0], where="year > ?", params=[0])[0].id == 1


@pytest.mark.parametrize("terms", [60, 1000])
def test_a_long_chain_is_not_deep(terms: int) -> None:
    with collection(RECORDS) as made:
        assert selected(made, " OR ".join(f"year = {1989 + at}" for at in range(terms))) == {0, 1}
        assert selected(made, {"$or": [{"year": 1989 + at} for at in range(terms)]}) == {0, 1}


def test_long_lists_are_conditions_too() -> None:
    with collection(RECORDS) as made:
        assert selected(made, "year IN ?", [list(range(2000, 102_000))]) == {1}
        assert selected(made, {"year": {"$in": list(range(1, 5000))}}) == {0, 1}


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message", "position"),
    [
        ("year > AND x = 1", "expected a value, found 'AND'", 7),
        ("", "expected a condition, found the end", 0),
        ("year = 19x", "unexpected '1' at position 7", 7),
        ("year = nineteen", "a string needs quotes", 7),
        ("year = NULL", "IS NULL", 7),
        ("(year = 1", "expected", 9),
        ("year = 1)", "found ')'", 8),
        ("year = 'abc", "unterminated string at position 7", 7),
        ("year = 1; DROP TABLE records", "unexpected ';' at position 8", 8),
        ("year -- comment", "unexpected '-' at position 5", 5),
        ("year /* comment */ = 1", "unexpected '/' at position 5", 5),
        ("year BETWEEN 1 OR 2", "expected AND, found 'OR'", 15),
        ("year LIKE 5", "the pattern must be a string", 5),
        ("year LIKE 'x' ESCAPE 'yz'", "one character", 5),
        ("lower(year) = 1", "found '('", 5),
        ("year = 99999999999999999999", "does not fit in 64 bits", 7),
        ("year = 1e999", "inf", 7),
        ("year = ?", "no param for this '?'", 7),
        ("SELECT = 1 FROM", "found 'FROM'", 11),
    ],
)
def test_an_error_shows_its_position(where: str, message: str, position: int) -> None:
    with collection(RECORDS) as made, pytest.raises(edgevec.WhereError) as raised:
        made.count(where)
    assert message in raised.value.problem
    assert raised.value.position == position
    _, line, caret = str(raised.value).split("\n")
    assert line[2:].rstrip() == where.rstrip()
    assert caret.index("^") == position + 2


def test_an_error_in_a_long_text_shows_its_surroundings() -> None:
    where = " AND ".join(["year = 1"] * 50 + ["year ="] + ["year = 1"] * 50)
    with collection([]) as made, pytest.raises(edgevec.WhereError) as raised:
        made.count(where)
    _, line, caret = str(raised.value).split("\n")
    assert line[caret.index("^") :].startswith("AND year = 1")
    assert where[raised.value.position :].startswith("AND year = 1")
    assert len(line) < 100


def nested(levels: int) -> Any:
    where: Any = {"a": 1}
    for _ in range(levels):
        where = {"$not": where}
    return where


@pytest.mark.parametrize(
    ("where", "params", "message"),
    [
        ("year = ?", [1, 2], "2 for 1"),
        ("year = ?", [None], "IS NULL"),
        ("year = ?", [[1]], "not with list"),
        ("year = ?", [float("nan")], "nan"),
        ("year IN ?", ["abc"], "a list"),
        ("year LIKE ?", [5], "the pattern must be a string"),
        ("year = ?", "x", "params must be a list"),
        ("year = ?", ["\ud800"], "surrogate"),
        ("`a\0b` = 1", None, "a field name cannot contain a NUL"),
        ({"a\ud800b": 1}, None, "a field name cannot contain a NUL or an unpaired surrogate"),
        (None, [1], "params without where"),
        ({"year": 1}, [1], "params go with a text"),
        (5, None, "must be text or a dict"),
        ({"year": [1, 2]}, None, "needs \\$in"),
        ({"year": {"$regex": "x"}}, None, "unknown operator '\\$regex'"),
        ({"$nor": []}, None, "unknown operator '\\$nor'"),
        ({"$and": []}, None, "\\$and needs a list"),
        ({"$or": [{}]}, None, "expected a dict with a condition"),
        ({"year": {}}, None, "empty condition"),
        ({"": 1}, None, "invalid field name"),
        ({"a..b": 1}, None, "invalid field name"),
        ({"`a` b": 1}, None, "invalid field name"),
        ({1: 2}, None, "a key must be"),
        ({"year": {"$exists": 1}}, None, "True or False"),
        ({"year": {"$like": 1}}, None, "the pattern must be a string"),
        ({"year": {"$gt": None}}, None, "IS NULL"),
        # What cannot be written into a message in full.
        ({"year": 10**5000}, None, "an integer of 16,610 bits does not fit in 64 bits"),
        ("year = ?", [-(10**5000)], "does not fit in 64 bits"),
        ({"$and": nested(100_000)}, None, "\\$and needs a list"),
        ({"$not": [nested(100_000)]}, None, "expected a dict"),
        ({"year": {"$exists": [10**5000]}}, None, r"True or False, not (list|\[)"),  # as of Python 3.14
    ],
)
def test_invalid_conditions_are_refused(where: Any, params: Any, message: str) -> None:
    with collection(RECORDS) as made, pytest.raises(edgevec.WhereError, match=message):
        made.count(where, params)


@pytest.mark.parametrize(
    "where",
    [
        "a = '" + "x" * 65_536 + "'",
        "NOT " * 30 + "a",
        nested(30),
        nested(100_000),
        " OR ".join(["a"] * 1001),
        {"$and": [{"a": 1}] * 1001},
        {"a": {"$in": list(range(100_001))}},
        {"a": {"$like": "x" * 10_001}},
    ],
    ids=["length", "depth", "depth of a dict", "depth beyond the stack", "tests", "tests of a dict", "list", "pattern"],
)
def test_conditions_beyond_the_limits_are_refused(where: Any) -> None:
    with collection(RECORDS) as made, pytest.raises(edgevec.WhereError):
        made.count(where)


MAX_TEXT, MAX_DEPTH, MAX_TESTS, MAX_LIST, MAX_PATTERN = 65_536, 30, 1_000, 100_000, 10_000
AT_LIMITS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "text": lambda over: ("active" + " " * (MAX_TEXT - 6 + over), None),
    "depth": lambda over: ("NOT " * (MAX_DEPTH - 2 + over) + "NOT active", None),
    "depth of parts": lambda over: (alternating(MAX_DEPTH + over), None),
    "depth of a dict": lambda over: (nested(MAX_DEPTH - 1 + over), None),
    "depth below a field": lambda over: ({"active": below(MAX_DEPTH - 1 + over)}, None),
    "tests": lambda over: (" OR ".join(["active"] * (MAX_TESTS + over)), None),
    "tests of a dict": lambda over: ({"$or": [{"active": True}] * (MAX_TESTS + over)}, None),
    "tests of ranges": lambda over: (" OR ".join(["year BETWEEN 1 AND 2"] * (MAX_TESTS // 2 + over)), None),
    "list": lambda over: ("year IN ?", [list(range(MAX_LIST + over))]),
    "list of a dict": lambda over: ({"year": {"$in": list(range(MAX_LIST + over))}}, None),
    "pattern": lambda over: ("title LIKE ?", ["\U0001f43a" * (MAX_PATTERN + over)]),
    "pattern of signs": lambda over: ("title LIKE ?", ["*" * (MAX_PATTERN + over)]),
    "pattern of escapes": lambda over: ({"title": {"$ilike": "\\" * (MAX_PATTERN + over)}}, None),
    "number": lambda over: ("year < ?", [2**63 - 1 + over]),
    "negative number": lambda over: ({"year": {"$gt": -(2**63) - over}}, None),
}


def alternating(levels: int) -> str:
    """AND and OR in turns; the innermost test is a level too."""
    where = "active"
    for level in range(levels - 1):
        where = f"({where}) {('AND', 'OR')[level % 2]} active"
    return where


def below(levels: int) -> Any:
    where: Any = {"$eq": True}
    for _ in range(levels):
        where = {"$not": where}
    return where


@pytest.mark.parametrize("limit", AT_LIMITS)
def test_a_limit_is_where_it_is_said_to_be(limit: str) -> None:
    with collection(RECORDS) as made:
        assert made.count(*AT_LIMITS[limit](0)) <= len(RECORDS)
        with pytest.raises(edgevec.WhereError, match=r"the limit is|64 bits"):
            made.count(*AT_LIMITS[limit](1))


def test_the_limits_are_stated() -> None:
    guide = ROOT / "docs" / "guides" / "filters.md"
    if not guide.is_file():
        pytest.skip("the documentation is not beside the tests")
    text = guide.read_text(encoding="utf-8")
    for limit in (MAX_TEXT, MAX_DEPTH, MAX_TESTS, MAX_LIST, MAX_PATTERN):
        assert f"| {limit:,} " in text


def test_conditions_within_the_limits_are_evaluated() -> None:
    with collection(RECORDS) as made:
        assert made.count("(" * 20_000 + "active" + ")" * 20_000) == 1
        assert made.count("NOT " * 28 + "active") == 1
        assert made.count(nested(29)) == 2  # where a is an object, and no number
        assert made.count({"title": {"$like": "%" * 9_999}}) == 2
        assert made.count({"title": {"$like": "%a" * 4_999}}) == 0


@pytest.mark.parametrize("first", [True, False])
def test_the_widest_and_deepest_that_is_allowed(first: bool) -> None:
    where = "year = 1990"
    for level in range(27):
        others = [
            f"title CONTAINS '{level}' OR tags = '{at}'" if level % 2 else f"year > {at} OR active" for at in range(16)
        ]
        operator = " OR " if level % 2 else " AND "
        parts = [f"({part})" for part in others]
        where = operator.join([f"({where})", *parts] if first else [*parts, f"({where})"])
    with collection(RECORDS) as made:
        assert selected(made, where) == {0}


# ---- what comes from outside ---------------------------------------------------------------------------------------

HOSTILE = [
    "'; DROP TABLE records; --",
    "' OR '1'='1",
    "x' UNION SELECT id FROM records --",
    '" OR ""="',
    "\\' OR 1=1 --",
    "'||(SELECT group_concat(id) FROM records)||'",
    "%' AND 1=randomblob(1000000000) --",
    "$.a') OR 1=1 --",
    "a\") OR json_extract(metadata, '$.x",
    "?1",
    ":name",
    "@name",
    "[metadata]",
    "*",
    "')); ATTACH 'x' AS y; --",
    "\n; PRAGMA writable_schema=1;",
    "\uff07 OR 1=1",
    "\u202e' OR 1=1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_only_texts(text: str) -> None:
    records = [{"a": text}, {"a": "other"}, {}]
    quoted = text.replace("'", "''")
    with collection(records) as made:
        assert selected(made, f"a = '{quoted}'") == {0}
        assert selected(made, "a = ?", [text]) == {0}
        assert selected(made, {"a": text}) == {0}
        assert selected(made, {"a": {"$contains": text}}) == {0}
        assert selected(made, "a IN ?", [[text]]) == {0}
        for where in (text, {text: 1}, f"`{text}` = 1", f"a = '{text}'", f'a = "{text}"', f"a {text} 1"):
            try:
                assert made.count(where) in (0, 1)
            except edgevec.WhereError:
                continue
        assert made.search(text=text, k=5) == []
        assert [record.metadata for record in made] == records
        assert made.check().ok


FUZZED: list[Metadata] = [
    *RECORDS,
    {"a": 1, "notes": "x", "z w": True, "%": "y"},
    {"a": ["x", 1, None], "notes": "1", "b": {"c": "x"}, "%": -1.5},
    {"a": {"a": {"a": 1}}, "notes": None, "z w": "", "b": {"c": 1e5}, "é": False},
]


@cache
def fuzzed() -> Collection:
    return collection(FUZZED)


def compare(where: Any, params: Any, read: Callable[[], Tree]) -> None:
    """Refused by both, or selecting the same by edgevec, by Python and by SQLite."""
    try:
        tree = read()
    except RefusedError:
        with pytest.raises(edgevec.WhereError):
            fuzzed().count(where, params)
        return
    assert set(fuzzed().ids(where, params)) == expected(tree, FUZZED) == by_sqlite(tree, FUZZED)


WORDS = """
a notes not AND or IN between like escape contains is null true false = == <> <= ( ) , . ? 1 -1.5 1e5 'x' "y" `z w` ; --
% é \\ ' " `
"""
words = st.sampled_from([*WORDS.split(), "\0", "\n"])


@settings(max_examples=examples(500))
@given(where=st.lists(words, max_size=25).map(" ".join) | st.text(max_size=40))
@example("a" * 65_537)
@example("`" * 1000)
@example("a" + ".a" * 10_000 + " = 1")
def test_any_text_means_what_a_second_parser_reads_or_is_refused(where: str) -> None:
    params = [([1, "x"], "x%", 1)[at % 3] for at in range(where.count("?"))]
    compare(where, params, lambda: Text(where, params).tree())


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b.c", "$and", "$or", "$not", "$in", "$gt", "$like", "$exists", "$x", "", "`"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=examples(500))
@given(
    where=st.dictionaries(
        st.sampled_from(["a", "$and", "$or", "$not", "b"]) | st.text(max_size=3), anything, max_size=3
    )
)
def test_any_dict_means_what_a_second_reader_reads_or_is_refused(where: dict[str, Any]) -> None:
    compare(where, None, lambda: read_dict(where))


# ---- indexes -------------------------------------------------------------------------------------------------------


def test_an_index_is_used_and_shown() -> None:
    records = [{"year": year % 200, "who": {"name": f"n{year}"}, "two words": year} for year in range(3000)]
    with collection(records) as made:
        assert made.explain("year = 5").indexes == ()
        for field in ("year", "who.name", "`two words`"):
            made.create_index(field)
            made.create_index(field)
        assert made.indexes() == ["`two words`", "who.name", "year"]
        for where, field in [
            ("year = 5", "year"),
            ("year BETWEEN 5 AND 6", "year"),
            ("year IN (1, 2)", "year"),
            ("who.name = 'n5'", "who.name"),
            ("who.name LIKE 'n12%'", "who.name"),
            ({"two words": {"$lt": 10}}, "`two words`"),
        ]:
            plan = made.explain(where)
            assert plan.indexes == (field,), where
            assert "USING" in str(plan)
        assert made.count("year BETWEEN 5 AND 6") == 30
        made.drop_index("year")
        assert made.explain("year = 5").indexes == ()
        assert made.count("year BETWEEN 5 AND 6") == 30
        with pytest.raises(edgevec.WhereError, match="invalid field name"):
            made.create_index("`year")


def test_fields_that_differ_by_case_have_indexes_of_their_own() -> None:
    fields = ["year", "Year", "YEAR", "who.Name", "Who.name"]
    records = [{"year": at, "Year": at, "YEAR": at, "who": {"Name": at}, "Who": {"name": at}} for at in range(500)]
    with collection(records) as made:
        for field in fields:
            made.create_index(field)
        assert made.indexes() == sorted(fields)
        for value, field in enumerate(fields):
            assert made.explain({field: value}).indexes == (field,)
            assert made.ids({field: value}) == [value]
        made.drop_index("YEAR")
        made.drop_index("yEAR")
        assert made.indexes() == sorted(set(fields) - {"YEAR"})


def test_indexes_of_an_earlier_version_are_known(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec") as made:
        made.upsert(range(500), np.ones((500, 2)), [{"Year": at, "year": -at} for at in range(500)])
    with closing(sqlite3.connect(tmp_path / "c.edgevec")) as raw:
        raw.execute("""CREATE INDEX "field:Year" ON records (json_extract(metadata, '$."Year"'))""")
    with edgevec.open(tmp_path / "c.edgevec") as made:
        assert made.indexes() == ["Year"]
        made.create_index("Year")
        made.create_index("year")
        made.drop_index("YEAR")
        assert made.indexes() == ["Year", "year"]
        assert made.explain("Year = 1").indexes == ("Year",)
        assert made.explain("year = -1").indexes == ("year",)
        made.drop_index("Year")
        assert made.indexes() == ["year"]


@pytest.mark.parametrize("where", ["a IN ()", "a NOT IN ()", {"a": {"$in": []}}, {"a": {"$nin": []}}, "NOT (a IN ())"])
def test_no_test_of_a_missing_field_holds_with_an_empty_list_either(where: Any) -> None:
    negated = "NOT" in where if isinstance(where, str) else where == {"a": {"$nin": []}}
    with collection([{"a": 1}, {}, {"a": None}, {"a": "x"}, {"a": []}]) as made:
        assert selected(made, where) == ({0, 3, 4} if negated else set())
        made.create_index("a")
        assert selected(made, where) == ({0, 3, 4} if negated else set())


# ---- values by what they are worth ---------------------------------------------------------------------------------


class Color(str, enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Loud(str):
    def __str__(self) -> str:
        return self.upper()


class Half(float):
    def __repr__(self) -> str:
        return "half"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Color.RED, "red"),
        (Size.BIG, 3),
        (Loud("red"), "red"),
        (np.str_("red"), "red"),
        (Half(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int8(3), 3),
        (True, 1),
        (np.bool_(True), 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("indexed", [False, True])
def test_subclasses_count_by_their_value(value: Any, plain: Any, indexed: bool) -> None:
    with collection([{"a": value}, {"a": plain}, {"a": [value]}, {"a": "other"}]) as made:
        assert made.get(0)[0].metadata == {"a": plain}
        if indexed:
            made.create_index("a")
        for wanted in (value, plain):
            assert selected(made, {"a": wanted}) == {0, 1}
            assert selected(made, "a = ?", [wanted]) == {0, 1}
            assert selected(made, {"a": {"$in": [wanted]}}) == {0, 1}
            assert selected(made, "a IN ?", [[wanted]]) == {0, 1}
            assert 2 in selected(made, "a CONTAINS ?", [wanted])
            if isinstance(wanted, str):
                assert selected(made, {"a": {"$like": wanted}}) == {0, 1}


def test_ids_documents_and_names_count_by_their_value() -> None:
    with collection([]) as made:
        made.upsert([Color.RED, Size.BIG], np.eye(2), [{Color.RED: 1}, None], [Loud("quiet"), Color.RED])
        assert made.ids() == ["red", 3]
        assert Color.RED in made
        assert "red" in made
        assert made.count({Color.RED: 1}) == 1
        assert made.count("red = 1") == 1
        assert [record.document for record in made] == ["quiet", "red"]
        assert all(type(part) in (int, str) for record in made for part in (record.id, record.document))
        assert made.search(text=Color.RED)[0].id == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({1: "a", "1": "b"}, "two fields that are '1' as a text"),
        ({"a": {True: 1, "true": 2}}, "two fields that are 'true'"),
        ({"a": [{None: 1, "null": 2}]}, "two fields that are 'null'"),
        ({"a": "x\0y"}, "a NUL in the field 'a'"),
        ({"b": {"a": ["x", ["y\0"]]}}, "a NUL in the field 'a'"),
        ({"a\0b": 1}, "a NUL in the field"),
        ({"a": ["\udfff"]}, "unpaired surrogate in the field 'a'"),
        ({"\ud800": 1}, "unpaired surrogate in the field"),
    ],
)
def test_what_conditions_would_not_see_is_refused(fields: Any, message: str) -> None:
    with collection([{"a": "before"}]) as made:
        with pytest.raises(edgevec.ParameterError, match=f"metadata 1 .*{message}"):
            made.upsert([0, 1], np.eye(2), [None, fields])
        assert made.get(0)[0].metadata == {"a": "before"}


def test_numbers_as_names_become_texts() -> None:
    with collection([{1: "a", "2": "b", "\\u0000": "not a NUL"}]) as made:
        assert made.get(0)[0].metadata == {"1": "a", "2": "b", "\\u0000": "not a NUL"}
        assert made.ids({"1": "a", "\\u0000": "not a NUL"}) == [0]
