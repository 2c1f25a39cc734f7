"""Conditions that columns in memory answer: as SQLite does and as plain Python does, whatever was written since."""

from __future__ import annotations

import sqlite3
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from columns import by_sqlite, check, in_memory, limits, put
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from where_strategies import Metadata, Tree, as_mapping, holds, metadata, names, scalars, trees

import edgevec
from edgevec.collection import Collection, changes, field_columns

SMALL_PAGES = {"_FIRST_PAGE": 2, "_PAGE": 1}
SHAPES: list[dict[str, int]] = [
    {},
    {"MANY_VALUES": 0},
    {"MANY_VALUES": 1, **SMALL_PAGES},
    {"MAX_VALUES": 3},
    {"MAX_VALUES": 0},
    {"MAX_VALUES": 1, "_MAX_CANDIDATES": 2, **SMALL_PAGES},
    {"_MAX_FIELDS": 1},
]
shapes = st.sampled_from(SHAPES)


@settings(max_examples=examples(300), deadline=None)
@given(held=st.lists(metadata, max_size=6), asked=st.lists(trees, min_size=1, max_size=3), shape=shapes)
def test_as_sqlite_and_python_answer(held: list[Metadata], asked: list[Tree], shape: dict[str, int]) -> None:
    with limits(**shape), edgevec.open(":memory:", 2, "l2") as made:
        put(made, dict(enumerate(held)))
        for tree in asked * 2:
            where = as_mapping(tree)
            meant = {at for at, record in enumerate(held) if holds(tree, record) is True}
            assert by_sqlite(made, where) == meant
            answer = in_memory(made, where)
            assert answer == meant or (answer is None and shape)
            assert set(made.ids(where)) == meant
            assert made.count(where) == len(meant)


INTEGERS = [0, 1, -1, 2, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), True, False]
REALS = [-0.0, 1.0, 2.5, -2.5, 0.1, 0.1 + 0.2, 1e22, 2.0**53, 2.0**63, -(2.0**63), 1e300, 5e-324, 123456789.123456789]
numbers = st.sampled_from(INTEGERS) | st.sampled_from(REALS)
number_tests = st.one_of(
    st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), st.just(("n",)), numbers | st.just("1")),
    st.tuples(st.just("in"), st.just(("n",)), st.lists(numbers | st.just("1"), max_size=4)),
    st.tuples(st.sampled_from(["like", "contains"]), st.just(("n",)), st.just("1")),
    st.tuples(st.just("contains"), st.just(("n",)), numbers),
    st.tuples(st.just("null"), st.just(("n",))),
)


@settings(max_examples=examples(400), deadline=None)
@given(held=st.lists(numbers | st.none(), max_size=8), tests=st.lists(number_tests, min_size=1, max_size=6))
def test_numbers_compare_exactly(held: list[Any], tests: list[Tree]) -> None:
    with limits(MANY_VALUES=-1), edgevec.open(":memory:", 2, "l2") as made:
        put(made, {at: {} if value is None else {"n": value} for at, value in enumerate(held)})
        for test in tests:
            for tree in (test, ("not", test)):
                meant = {at for at, value in enumerate(held) if holds(tree, {"n": value}) is True}
                assert by_sqlite(made, as_mapping(tree)) == meant
                assert in_memory(made, as_mapping(tree)) in (meant, None)
                assert made.count(as_mapping(tree)) == len(meant)


small = st.dictionaries(st.sampled_from("ab"), st.sampled_from([0, 1, 2, 2.5, "x", "X", True, None, ["x", 1]]))
writes = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "delete", "clear", "batch", "failed batch", "failed part"]),
        st.lists(st.integers(0, 9), max_size=4, unique=True),
        st.lists(small, min_size=4, max_size=4),
    ),
    max_size=8,
)
QUESTIONS: list[Any] = [
    {"a": 1},
    {"a": {"$ne": "x"}, "b": {"$exists": True}},
    {"$or": [{"a": {"$gt": 1}}, {"b": {"$ilike": "x"}}]},
    {"a": {"$contains": "x"}},
    {"b": None},
    {"c": None},
]


def ask_in_batch(made: Collection) -> None:
    for where in QUESTIONS:
        check(made, where, kept=False)


def fail_to_write(made: Collection, ids: list[int], held: dict[Any, Metadata]) -> None:
    with made.batch():
        made.delete(ids[:1])
        put(made, held)
        ask_in_batch(made)
        raise ZeroDivisionError


def write(made: Collection, how: str, ids: list[int], fields: list[Metadata]) -> None:
    held = dict(zip(ids, fields, strict=False))
    if how == "put":
        put(made, held)
    elif how == "delete":
        made.delete(ids)
    elif how == "clear":
        made.clear()
    elif how == "failed batch":
        with pytest.raises(ZeroDivisionError):
            fail_to_write(made, ids, held)
    else:
        with made.batch():
            put(made, {20: {"a": 1}})
            if how == "failed part":
                with pytest.raises(ZeroDivisionError):
                    fail_to_write(made, ids, held)
            else:
                made.delete(ids[1:2])
            ask_in_batch(made)


beside_or_not = st.just(False) if sys.platform == "emscripten" else st.booleans()
"""Is it a reader beside the writer that asks? A browser has one program."""


@settings(max_examples=examples(80), deadline=None)
@given(first=st.lists(small, max_size=6), steps=writes, shape=shapes, beside=beside_or_not)
def test_it_follows_what_is_written(
    tmp_path_factory: Any, first: list[Metadata], steps: Any, shape: dict[str, int], beside: bool
) -> None:
    path = tmp_path_factory.mktemp("fields") / "c.edgevec"
    with limits(**shape), edgevec.open(path, 2, "l2", durability="fast") as made:
        put(made, dict(enumerate(first)))
        with edgevec.open(path, mode="r" if beside else "a") if beside else closing(made) as reader:
            for step in [None, *steps]:
                if step is not None:
                    write(made, *step)
                for where in QUESTIONS:
                    for one in {made, reader}:
                        answer = in_memory(one, where)
                        assert answer == by_sqlite(made, where) or (answer is None and shape)
                        assert set(one.ids(where)) == by_sqlite(made, where)


def test_columns_are_kept_and_follow() -> None:
    with edgevec.open(":memory:", 2, "l2") as made:
        put(made, {at: {"a": at % 3, "b": str(at)} for at in range(100)})
        assert made.stats()["condition_bytes"] == 0
        check(made, {"a": 1})
        first = made._store.fields._kept
        assert first is not None
        assert first.nbytes == made.stats()["condition_bytes"] > 0
        made.upsert([3], [[1, 0]], [{"a": 1}])
        made.delete([99, 4])
        put(made, {200: {"a": 1}, 3: {"a": "x"}})
        with limits(_FIRST_PAGE=0, _PAGE=0):  # no pass over the records
            check(made, {"a": 1})
            check(made, {"a": {"$contains": "x"}})
        put(made, {3: {"a": [1]}})
        check(made, {"a": {"$contains": 1}})
        made.clear()
        check(made, {"a": None})
        put(made, {200: {"a": 1}})
        check(made, {"a": 1})


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "c.edgevec", 2, "l2", condition_memory=0) as made:
        put(made, {1: {"a": 1}, 2: {}})
        check(made, {"a": 1}, kept=False)
        assert made.stats()["condition_bytes"] == 0
    for wrong in (-1, 1.5, "1"):
        with pytest.raises(edgevec.ParameterError, match="condition_memory"):
            edgevec.open(tmp_path / "c.edgevec", condition_memory=wrong)  # type: ignore[arg-type]


def test_an_index_answers_first() -> None:
    with edgevec.open(":memory:", 2, "l2") as made:
        put(made, {at: {"a": at % 3, "b": at % 5} for at in range(100)})
        made.create_index("a")
        for where in ({"a": 1}, {"a": 2, "b": 1}):
            assert made.count(where) == len(by_sqlite(made, where))
            assert made.stats()["condition_bytes"] == 0
        check(made, {"a": {"$gt": 0}, "b": 1})
        check(made, {"b": 2})


def test_long_texts_are_not_kept() -> None:
    with edgevec.open(":memory:", 2, "l2") as made:
        put(made, {at: {"text": "x" * at} for at in (1, 500, 1000)})
        check(made, {"text": {"$like": "x%"}})
        put(made, {2: {"text": "x" * 1001}})
        check(made, {"text": {"$like": "x%"}}, kept=False)


def test_many_texts_are_kept_as_hashes() -> None:
    with limits(MAX_VALUES=10, _FIRST_PAGE=8, _PAGE=50), edgevec.open(":memory:", 2, "l2") as made:
        values = [1, 1.5, True, "1", "", "x" * 20, 2**53 + 1]
        put(made, {at: {"t": f"text {at}" if at < 90 else values[at - 90]} for at in range(97)} | {98: {}})
        for value in ("text 7", "1", 1, 1.5, 2**53, 2**53 + 1, "none", True):
            check(made, {"t": value})
            check(made, {"t": {"$ne": value}})
        for where in ({"t": None}, {"t": {"$in": [1.5, "text 3", "text 95"]}}, {"t": {"$nin": []}}):
            check(made, where)
        put(made, {3: {"t": "text 7"}, 4: {"t": "text 7"}, 99: {"t": ["text 7"]}, 7: {}})
        check(made, {"t": "text 7"})
        assert isinstance(made._store.fields._kept.columns[("t",)], field_columns.Hashes)  # type: ignore[union-attr]
        check(made, {"t": {"$like": "text%"}}, kept=False)
        with limits(_MAX_CANDIDATES=1):
            check(made, {"t": "text 7"}, kept=False)


def test_memory_is_bounded() -> None:
    rows = 2000
    with edgevec.open(":memory:", 2, "l2", condition_memory=21_000) as made:
        put(made, {at: {"a": at % 3, "b": at % 5, "c": at % 7, "text": f"text {at}"} for at in range(rows)})
        for name in "abcabc":
            check(made, {name: 1})
            assert rows * 8 < made.stats()["condition_bytes"] <= 21_000
        check(made, {"text": "text 7"}, kept=False)
        assert ("text",) in made._store.fields._refused
        check(made, {"a": 1, "text": "text 7"}, kept=False)
        check(made, {"a": 1})
        with limits(_read=None):  # type: ignore[arg-type]
            assert in_memory(made, {"text": "text 7"}) is None  # without another look
        made.delete(list(range(20, rows)))
        check(made, {"text": "text 7"})


def test_what_changes_its_kind_is_read_again() -> None:
    with limits(MANY_VALUES=2), edgevec.open(":memory:", 2, "l2") as made:
        put(made, {at: {"n": at / 4} for at in range(10)})
        check(made, {"n": {"$gt": 1}})
        assert isinstance(made._store.fields._kept.columns[("n",)], field_columns.Numbers)  # type: ignore[union-attr]
        put(made, {3: {"n": 7}, 4: {}})
        check(made, {"n": {"$gt": 1}})
        put(made, {5: {"n": "text"}})
        for where in ({"n": {"$gt": 1}}, {"n": "text"}, {"n": None}):
            check(made, where)


def test_what_other_programs_have_damaged(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 2, "t": "x"} for at in range(6)})
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE records SET metadata = 'no JSON' WHERE id = 3")
        raw.execute("""UPDATE records SET metadata = '{"a" : 10e-1, "a": 3, "t":"\\u0078", "n":1e999}' WHERE id = 5""")
    with edgevec.open(path) as made:
        for where in ({"a": 1}, {"t": "x"}, {"a": None}):
            check(made, where, kept=False)
        put(made, {3: {"a": 1}})
        for where in ({"a": 1}, {"t": "x"}, {"a": None}, {"t": {"$like": "x%"}}, {"n": {"$gt": 1e300}}):
            check(made, where)


def test_what_is_changed_beside_an_open_collection(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 2} for at in range(6)})
        check(made, {"a": 1})
        if sys.platform == "emscripten":
            return
        with edgevec.open(path, mode="r") as reader:
            check(reader, {"a": 1})
            with closing(sqlite3.connect(path)) as raw, raw:
                raw.execute("""UPDATE records SET metadata = '{"a": 1}'""")
            assert reader.count({"a": 1}) == len(reader.ids({"a": 1})) == 6
            assert in_memory(reader, {"a": 1}) == set(range(6))
        made.refresh()
        check(made, {"a": 1})


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_pass_that_ends_early(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory SQLite answers; a signal's exception is raised. Nothing half read is kept."""

    def fail(self: Any, found: Any) -> Any:
        raise error

    def ask(count: int) -> None:
        if error is MemoryError:
            assert made.count({"a": 1}) == count
        else:
            with pytest.raises(KeyboardInterrupt):
                made.count({"a": 1})

    with edgevec.open(":memory:", 2, "l2") as made:
        put(made, {at: {"a": at % 2, "b": at} for at in range(6)})
        check(made, {"b": {"$lt": 3}})
        with monkeypatch.context() as patch:
            patch.setattr(field_columns.Builder, "add", fail)
            ask(3)
        assert made.count({"a": 1}) == 3
        put(made, {7: {"a": 1, "b": 0}})
        check(made, {"a": 1, "b": {"$lt": 3}})
        with monkeypatch.context() as patch:
            patch.setattr(field_columns._Values, "encode", fail)
            put(made, {8: {"a": 1, "b": 0}})
            ask(5)
        assert made.count({"a": 1}) == 5
        put(made, {9: {"a": 1}})
        check(made, {"a": 1})


@pytest.mark.threads
def test_threads_that_write_and_ask(tmp_path: Path) -> None:
    """Records come in pairs, which a condition finds both or none of."""
    failures: list[BaseException] = []
    with edgevec.open(tmp_path / "c.edgevec", 2, "l2", durability="fast") as made:
        put(made, {at: {"a": 0} for at in range(50)})
        stop = threading.Event()

        def ask(where: Any) -> None:
            try:
                while not stop.is_set():
                    found = set(made.ids(where))
                    assert {id ^ 1 for id in found} == found
                    assert made.count(where) % 2 == 0
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask, args=[where]) for where in ({"a": 1}, {"a": {"$gt": 0}, "b": None})]
        for thread in threads:
            thread.start()
        for number in range(100, 180, 2):
            put(made, {number: {"a": 1}, number + 1: {"a": 1}})
            if number % 8 == 0:
                made.delete([number - 2, number - 1])
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        check(made, {"a": 1})


@settings(max_examples=examples(60), deadline=None)
@given(
    held=st.lists(st.dictionaries(names, scalars, max_size=3), max_size=5), path=st.lists(names, min_size=1, max_size=2)
)
def test_every_name(held: list[Metadata], path: list[str]) -> None:
    with edgevec.open(":memory:", 2, "l2") as made:
        put(made, dict(enumerate(held)))
        for tree in (("null", tuple(path)), (">=", tuple(path), 0), ("like", tuple(path), "%")):
            check(made, as_mapping(tree))


needs_two_programs = pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")


@needs_two_programs
def test_what_another_process_writes_is_read_alone(tmp_path: Path) -> None:
    """Not all records again: of new vectors, of new metadata alone, and of what is deleted."""
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as writer, edgevec.open(path, mode="r") as reader:
        put(writer, {at: {"a": at % 3} for at in range(50)})
        check(reader, {"a": 1})
        with limits(_FIRST_PAGE=0, _PAGE=0):  # no pass over the records
            writer.upsert([1, 60], [[3, 3], [4, 4]], [{"a": 1}, {"a": 1}])
            check(reader, {"a": 1})
            put(writer, {1: {"a": 0}, 2: {"a": 1}})
            put(writer, {1: {"a": 1}, 3: {"a": 1}})  # the vectors stay
            check(reader, {"a": 1})
            with writer.batch():
                writer.delete([4])
                put(writer, {5: {"a": 1}})
            check(reader, {"a": 1})
        writer.checkpoint()
        check(reader, {"a": 1})


@needs_two_programs
def test_what_is_not_listed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as writer, edgevec.open(path, mode="r") as reader:
        put(writer, {at: {"a": at % 3} for at in range(50)})
        check(reader, {"a": 1})
        with monkeypatch.context() as patch:  # an earlier edgevec
            patch.setattr(changes, "rewrite", lambda connection, rows: None)
            patch.setattr(
                changes,
                "increment_version",
                lambda connection: (
                    connection.execute("UPDATE state SET version = version + 1") and changes.version(connection)
                ),
            )
            put(writer, {1: {"a": 0}, 2: {"a": 1}})
        check(reader, {"a": 1})
        put(writer, {1: {"a": 1}})
        writer.checkpoint()  # forgets the changes
        writer.upsert([1, 2], [[3, 3], [4, 4]], [{"a": 2}, {"a": 1}])
        writer.checkpoint()
        check(reader, {"a": 1})
        monkeypatch.setattr(changes, "_MAX_REWRITTEN_ROWS", 2)
        monkeypatch.setattr(changes, "_REWRITTEN_PER_TRIM", 1)
        put(writer, {at: {"a": 1} for at in range(9)})
        assert writer._store.database.main.execute("SELECT count(*) FROM rewritten").fetchone() == (2,)
        check(reader, {"a": 1})
        with closing(sqlite3.connect(path)) as raw, raw:  # another program
            raw.execute("""UPDATE records SET metadata = '{"a": 1}' WHERE id = 20""")
        put(writer, {1: {"a": 0}})
        check(reader, {"a": 1})


@needs_two_programs
def test_a_file_of_an_earlier_edgevec(tmp_path: Path) -> None:
    path = tmp_path / "c.edgevec"
    with edgevec.open(path, 2, "l2") as made:
        put(made, {at: {"a": at % 3} for at in range(9)})
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("ALTER TABLE state DROP COLUMN listed")
        raw.execute("DROP TABLE rewritten")
    with edgevec.open(path, mode="r") as reader:
        check(reader, {"a": 1})
        with edgevec.open(path) as writer:
            put(writer, {1: {"a": 0}, 2: {"a": 1}})
            check(reader, {"a": 1})
            put(writer, {3: {"a": 1}})
            check(reader, {"a": 1})
            check(writer, {"a": 1})
