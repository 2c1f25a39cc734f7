"""Columns of fields in the file: conditions answer as SQLite does, whoever wrote since they were saved."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from columns import by_sqlite, check, in_memory, limits, put
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from where_strategies import Metadata

import edgevec
from edgevec.collection import Collection, field_cache, field_columns, saved_fields

QUESTIONS: list[Any] = [
    {"a": 1},
    {"a": {"$gt": 1}},
    {"a": {"$contains": "x"}},
    {"b": {"$ilike": "x"}},
    {"b": None},
    {"o.n": {"$lte": 2}},
    {"never": None},
]
fields = st.fixed_dictionaries(
    {},
    optional={
        "a": st.sampled_from([0, 1, 2, 2.5, "x", True, None, ["x", 1]]),
        "b": st.sampled_from(["x", "X", "Ä", 1, 2**53 + 1]),
        "o": st.fixed_dictionaries({"n": st.sampled_from([1, 2.5, -3, "1"])}),
    },
)
SHAPES: list[dict[str, int]] = [{}, {"MANY_VALUES": -1}, {"MAX_VALUES": 0}, {"MANY_VALUES": 2, "MAX_VALUES": 3}]


@pytest.fixture(autouse=True)
def save_of_few() -> Iterator[None]:
    with limits(_MIN_SAVED_RECORDS=0):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.edgevec"


def saved(path: Path) -> dict[str, bytes]:
    with closing(sqlite3.connect(path)) as raw:
        return dict(raw.execute("SELECT field, content FROM fields"))


def change(path: Path, *statements: str) -> None:
    """As another program does."""
    with closing(sqlite3.connect(path)) as raw, raw:
        for statement in statements:
            raw.execute(statement)


def check_loaded(made: Collection, where: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered without a pass over the records."""

    def read(*_: object) -> Any:
        raise AssertionError("the records are read")

    with monkeypatch.context() as patch:
        patch.setattr(field_cache, "_read", read)
        assert in_memory(made, where) == by_sqlite(made, where)


OTHERS = (
    """UPDATE records SET metadata = '{"a": 1, "b": "x", "o": {"n": 2}}' WHERE id % 3 = 0""",
    "DELETE FROM records WHERE id % 4 = 1",
    """INSERT INTO records(id, metadata) VALUES (77, '{"a": 1}') ON CONFLICT DO NOTHING""",
    """INSERT OR REPLACE INTO records(row, id, metadata) SELECT max(row) + 1, min(id), '{"b": "x"}' FROM records""",
    "UPDATE records SET rowid = rowid + 1000",
    "UPDATE records SET metadata = json_set(metadata, '$.a', 2) WHERE id = (SELECT max(id) FROM records)",
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "checkpoint", "open", "open", "other", "failed", "batch"]),
        st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
        st.lists(fields, min_size=4, max_size=4),
        st.sampled_from(OTHERS),
    ),
    max_size=8,
)


def fail_to_write(made: Collection, held: dict[Any, Metadata]) -> None:
    with made.batch():
        put(made, held)
        raise ZeroDivisionError


def write(made: Collection, how: str, ids: list[int], held: dict[Any, Metadata]) -> None:
    if how == "delete":
        made.delete(ids)
    elif how == "checkpoint":
        made.checkpoint()
    elif how == "put":
        put(made, held)
    else:
        with made.batch():
            made.delete(ids[:1])
            with pytest.raises(ZeroDivisionError):
                fail_to_write(made, held)
            if how == "batch":
                put(made, dict([*held.items()][:2]))


@settings(max_examples=examples(80), deadline=None)
@given(first=st.lists(fields, min_size=1, max_size=8), done=steps, shape=st.sampled_from(SHAPES), asked=st.booleans())
def test_they_are_what_sqlite_finds(
    tmp_path_factory: Any, first: list[Metadata], done: Any, shape: dict[str, int], asked: bool
) -> None:
    path = tmp_path_factory.mktemp("saved") / "c.edgevec"
    with limits(_MIN_SAVED_RECORDS=0, _MIN_WRITTEN=1, **shape):
        made = edgevec.open(path, 2, "l2", durability="fast")
        try:
            put(made, dict(enumerate(first)))
            for how, ids, metadata, other in done:
                if how in ("open", "other"):
                    made.close()
                    if how == "other":
                        change(path, other)
                    made = edgevec.open(path, durability="fast")
                else:
                    write(made, how, ids, dict(zip(ids, metadata, strict=False)))
                for where in QUESTIONS if asked else QUESTIONS[:1]:
                    meant = by_sqlite(made, where)
                    answer = in_memory(made, where)
                    assert answer == meant or (answer is None and shape)
                    assert set(made.ids(where)) == meant
        finally:
            made.close()
        with edgevec.open(path, mode="r") as reader:
            for where in QUESTIONS:
                assert set(reader.ids(where)) == by_sqlite(reader, where)


def test_they_are_loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that nobody has asked for, and by readers; what was written since is read again, alone."""
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"year": at % 7, "o": {"n": at / 4}, "tags": [f"t{at % 3}"]} for at in range(600)})
    questions = ({"year": 3}, {"o.n": {"$lt": 10}}, {"tags": {"$contains": "t1"}}, {"year": 3, "o.n": {"$gt": 2}})
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            for where in questions:
                check_loaded(made, where, monkeypatch)
    before = saved(path)
    with edgevec.open(path) as made:
        put(made, {1: {"year": 3}, 900: {"year": 3}})
        made.delete([10, 3])
        check_loaded(made, {"year": 3}, monkeypatch)
    assert saved(path) == before  # so few changes are read again
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            for where in questions:
                check_loaded(made, where, monkeypatch)
    with edgevec.open(path) as made:
        made.checkpoint()
        check_loaded(made, {"year": 3}, monkeypatch)
    assert saved(path) != before


def test_a_field_that_is_asked_for_is_saved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3} for at in range(9)})
    with edgevec.open(path) as made:
        check(made, {"rare": None})
    assert set(saved(path)) == {"", '["a"]', '["rare"]'}
    with edgevec.open(path, mode="r") as made:
        check_loaded(made, {"rare": None, "a": 1}, monkeypatch)


def test_what_could_not_be_saved_is_once_it_can(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3, "b": "x" if at else "x" * 2000} for at in range(9)})
    assert '["b"]' not in saved(path)
    with edgevec.open(path) as made:
        put(made, {0: {"b": "x"}})
        check(made, {"b": "x"})
    with edgevec.open(path, mode="r") as made:
        check_loaded(made, {"b": "x", "a": 1}, monkeypatch)
    before = saved(path)
    with edgevec.open(path) as made:
        check(made, {"b": "x"})
    assert saved(path) == before


@pytest.mark.parametrize("shape", [{"MAX_VALUES": 0}, {"MANY_VALUES": -1}])
def test_texts_and_numbers_of_many_values(path: Path, shape: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with limits(**shape):
        with edgevec.open(path, 2, "l2") as made:
            put(made, {at: {"n": at, "r": at / 8, "t": f"text {at}"} if at % 5 else {} for at in range(50)})
        with edgevec.open(path, mode="r") as made:
            for where in ({"n": 7}, {"r": 3 / 8}, {"t": "text 9"}, {"t": {"$in": ["text 8", 7]}}, {"t": None}):
                check_loaded(made, where, monkeypatch)


def test_hashes_are_of_every_process() -> None:
    assert field_columns._hash("text") == 0x3B8BA7C7
    assert field_columns._hash(7.0) == field_columns._hash(7) == 7


@pytest.mark.parametrize("other", OTHERS)
def test_what_other_programs_write_is_seen(path: Path, other: str) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3, "b": "y"} for at in range(9)})
        check(made, {"a": 1})
    change(path, other)
    for mode in ("r", "a", "r"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            for where in ({"a": 1}, {"a": 2}, {"b": "x"}):
                assert in_memory(made, where) == set(made.ids(where)) == by_sqlite(made, where)


def test_without_triggers_nothing_is_loaded(path: Path) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3} for at in range(9)})
    change(path, "DROP TRIGGER record_changed", """UPDATE records SET metadata = '{"a": 1}'""")
    with edgevec.open(path, mode="r") as made:
        check(made, {"a": 1})
    with edgevec.open(path) as made:
        assert not made.check().ok
        assert made.check(repair=True).ok
        check(made, {"a": 1})
    with edgevec.open(path, mode="r") as made:
        check(made, {"a": 1})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fields SET content = zeroblob(length(content)) WHERE field = '[\"a\"]'",
        "UPDATE fields SET content = x'' WHERE field = ''",
        "UPDATE fields SET about = '{}'",
        "UPDATE fields SET checksum = 0",
        "DELETE FROM fields WHERE field = ''",
        "DROP TABLE fields",
        "UPDATE fields SET field = '[5]' WHERE field = '[\"a\"]'",
    ],
)
def test_damaged_columns_are_not_used(path: Path, statement: str) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3} for at in range(9)})
    change(path, statement)
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            check(made, {"a": 1})


@pytest.mark.parametrize(
    ("about", "content"),
    [
        ({"type": "|u1"}, bytes([0, 1, 2, 3, 0, 1, 2, 0, 1])),
        ({"type": "|u1"}, bytes(8)),
        ({"type": "|i1"}, bytes([0, 255] + [0] * 7)),
        ({"type": "<f8"}, bytes(72)),
    ],
)
def test_codes_that_stand_for_nothing_are_not_used(path: Path, about: dict[str, str], content: bytes) -> None:
    """Made to do harm: the checksum is right."""
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3} for at in range(9)})
    with closing(sqlite3.connect(path)) as raw, raw:
        (text,) = raw.execute("SELECT about FROM fields WHERE field = '[\"a\"]'").fetchone()
        said = json.dumps(json.loads(text) | about)
        values = (said, content, saved_fields._checksum(said, content))
        raw.execute("UPDATE fields SET about = ?, content = ?, checksum = ? WHERE field = '[\"a\"]'", values)
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            check(made, {"a": 1})


def test_what_is_deleted_with_secure_delete_is_in_no_column(path: Path) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": f"secret {at % 3}"} for at in range(9)})
    assert b"secret 1" in b"".join(map(str.encode, _abouts(path)))
    with edgevec.open(path, secure_delete=True) as made:
        check(made, {"a": "secret 1"})
        made.delete(where={"a": "secret 1"})
    assert saved(path) == {}
    assert b"secret 1" not in path.read_bytes()


def test_what_is_deleted_is_in_no_column_after_compact(path: Path) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": f"secret {at:04}"} for at in range(2000)})
    with edgevec.open(path) as made:
        check(made, {"a": "secret 0001"})
        made.delete([*range(1000, 2000)])
        check(made, {"a": "secret 0001"})
        made.compact()
    assert set(saved(path)) == {"", '["a"]'}
    assert b"secret 1" not in path.read_bytes()
    assert b"secret 0" in path.read_bytes()


def _abouts(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        return [about for (about,) in raw.execute("SELECT about FROM fields")]


def test_they_are_bounded(path: Path) -> None:
    with edgevec.open(path, 2, "l2", condition_memory=3_000) as made:
        put(made, {at: {f"f{number}": at * number for number in range(9)} for at in range(500)})
    held = saved(path)
    assert held
    assert sum(map(len, held.values())) <= 4_000
    with edgevec.open(path, condition_memory=0) as made:
        made.delete([*range(400)])
        made.checkpoint()
    assert saved(path) == held
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[call-overload]
            assert set(made.ids({"f2": 2 * 450})) == {450}
            assert set(made.ids({"f8": {"$gt": 8 * 497}})) == {498, 499}


def test_few_records_are_not_saved(path: Path) -> None:
    with limits(_MIN_SAVED_RECORDS=10), edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": 1} for at in range(9)})
        check(made, {"a": 1})
    assert saved(path) == {}


def test_damaged_records_are_no_reason_to_fail(path: Path) -> None:
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3} for at in range(9)})
    change(path, "UPDATE records SET metadata = 'no JSON' WHERE id = 3")
    with edgevec.open(path) as made:
        made.checkpoint()
        assert by_sqlite(made, {"a": 1}) == set(made.ids({"a": 1})) == {1, 4, 7}


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_readers_beside_a_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with edgevec.open(path, 2, "l2") as writer, edgevec.open(path, mode="r") as reader:
        put(writer, {at: {"a": at % 3} for at in range(50)})
        writer.checkpoint()
        put(writer, {1: {"a": 0}, 60: {"a": 1}})
        check_loaded(reader, {"a": 1}, monkeypatch)
        change(path, """UPDATE records SET metadata = '{"a": 1}' WHERE id < 5""")
        with edgevec.open(path, mode="r") as second:
            check(second, {"a": 1})
        check(reader, {"a": 1})
        writer.refresh()
        check(writer, {"a": 1})


def test_rows_are_kept_as_runs() -> None:
    rng = np.random.default_rng(1)
    for rows in ([5], [1, 2, 3], [-4, -3, 0, 1, 9], np.flatnonzero(rng.random(999) < 0.5), [-(2**63), 2**63 - 1]):
        made = saved_fields._from_runs(saved_fields._as_runs(np.array(rows, np.int64)), 10_000)
        assert made.tolist() == list(rows)
    for runs in ([], [0, 2**60], [0, 5, 2**62, 2**62], [0, -1], [0, 0], [0, 5, 20_000, -19_000]):
        with pytest.raises(ValueError, match="rows"):
            saved_fields._from_runs(np.array(runs, np.int64), 10_000)


def test_names_of_every_kind_are_found(path: Path) -> None:
    odd = {"a b": 1, "$": 2, '"': 3, "ä": {"é": {"deep": {"er": 5}}}, "\ud800": 1, "long": "x" * 2000, "": 4}
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: json.loads(json.dumps({"a": at})) for at in range(3)})
    change(path, f"UPDATE records SET metadata = '{json.dumps(odd)}' WHERE id = 1")
    with edgevec.open(path) as made:
        made.checkpoint()
    names = {tuple(json.loads(name)) for name in saved(path) if name}
    assert {("a",), ("a b",), ("$",), ('"',), ("ä", "é", "deep", "er")} <= names
    assert not {("\ud800",), ("long",)} & names
