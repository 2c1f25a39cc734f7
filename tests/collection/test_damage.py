"""Records that another program has damaged: the others are found, check() names them, a repair moves them apart."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import METRICS

import edgevec
from edgevec.collection import Collection
from edgevec.collection.maintenance import _file_problems as file_problems

N, DIM = 60, 4
BAD = 7
OTHERS = [id for id in range(N) if id != BAD]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.edgevec"


def vectors() -> Any:
    return np.random.default_rng(3).standard_normal((N, DIM)).astype(np.float32)


def make(path: Path, metric: Any = "l2", *, snapshot: bool = True) -> None:
    with edgevec.open(path, DIM, metric, quantization="none") as made:
        made.upsert(
            range(N), vectors(), [{"n": n, "even": n % 2 == 0} for n in range(N)], [f"text number{n}" for n in range(N)]
        )
        if snapshot:
            made.checkpoint()


def tamper(path: Path, *statements: str, parameters: tuple[Any, ...] = ()) -> None:
    """As the sqlite3 shell would, with its checks off."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        raw.execute(statement, parameters)
    raw.close()


def row(id: Any = BAD) -> str:
    return f"row = (SELECT row FROM records WHERE id = {id})"


# By name: the damage, and what is said of it.
DAMAGES: dict[str, tuple[list[str], str]] = {
    "broken JSON": (["""UPDATE records SET metadata = '{"n": ' WHERE id = 7"""], "not a JSON object"),
    "no JSON object": (["UPDATE records SET metadata = '[1, 2]' WHERE id = 7"], "not a JSON object"),
    "JSON null": (["UPDATE records SET metadata = 'null' WHERE id = 7"], "not a JSON object"),
    "metadata of bytes": (["UPDATE records SET metadata = x'00ff' WHERE id = 7"], "not a JSON object"),
    "metadata not UTF-8": (
        ["""UPDATE records SET metadata = CAST(x'7b2261223a22ff227d' AS TEXT) WHERE id = 7"""],
        "not a JSON object",
    ),
    "no vector": ([f"DELETE FROM vectors WHERE {row()}"], "no vector"),
    "short vector": ([f"UPDATE vectors SET vector = x'0000803f' WHERE {row()}"], "another length"),
    "vector of text": ([f"UPDATE vectors SET vector = 'sixteen letters.' WHERE {row()}"], "another length"),
    "NaN": ([f"UPDATE vectors SET vector = x'0000c07f0000803f0000803f0000803f' WHERE {row()}"], "not finite"),
    "document of bytes": (["UPDATE records SET document = x'00ff' WHERE id = 7"], "not a text"),
    "document not UTF-8": (["UPDATE records SET document = CAST(x'ff61' AS TEXT) WHERE id = 7"], "not a text"),
    "id of bytes": (["UPDATE records SET id = x'07' WHERE id = 7"], "neither a number nor a text"),
    "id not UTF-8": (["UPDATE records SET id = CAST(x'ff07' AS TEXT) WHERE id = 7"], "neither a number nor a text"),
}


def nearest(query: Any, ids: list[int], k: int) -> list[int]:
    distances = ((vectors()[ids] - query) ** 2).sum(axis=1)
    return [ids[at] for at in np.argsort(distances)[:k]]


def assert_others_are_found(made: Collection) -> None:
    """By vector, with and without conditions; by text; by id; and one after the other."""
    for query in vectors()[::7]:
        found = [hit for hit in made.search(query, N, exact=True) if hit.id in OTHERS]
        assert [hit.id for hit in found] == nearest(query, OTHERS, N)
        assert [hit.metadata["n"] for hit in found] == [hit.id for hit in found]
        odd = [id for id in OTHERS if id % 2]
        assert [hit.id for hit in made.search(query, 5, where="even = false AND n >= 0 AND n <> 7")] == nearest(
            query, odd, 5
        )
    for id in (0, 8, N - 1):
        assert [(hit.id, hit.document) for hit in made.search(text=f"number{id}", k=1)] == [(id, f"text number{id}")]
        assert len(made.search(text="text", k=5, where="n >= 0")) == 5
    assert made.ids("n > 50") == list(range(51, N))
    assert made.count("even = true") in (N // 2, N // 2 - 1)
    assert [record.id for record in made.get(OTHERS)] == OTHERS
    assert [record.id for record in made if record.id in OTHERS] == OTHERS


@pytest.fixture(params=DAMAGES)
def damaged(request: pytest.FixtureRequest, path: Path) -> tuple[Path, str]:
    statements, said = DAMAGES[request.param]
    make(path, snapshot="vector" not in request.param)  # with and without vectors to be read again
    tamper(path, *statements)
    return path, said


@pytest.mark.parametrize("mode", ["a", "r"])
def test_the_others_are_found_before_any_repair(damaged: tuple[Path, str], mode: Any) -> None:
    with edgevec.open(damaged[0], mode=mode) as made:
        assert_others_are_found(made)


def test_new_records_can_be_written_before_any_repair(damaged: tuple[Path, str]) -> None:
    with edgevec.open(damaged[0]) as made:
        hits = made.search(vectors()[BAD], 5)
        made.upsert([100], [[9.0, 9, 9, 9]], [{"n": -1}])
        assert made.search([9, 9, 9, 9], 1)[0].id == 100
        made.delete([100])
        assert len([hit.metadata for hit in hits]) == 5
    with edgevec.open(damaged[0]) as made:
        assert_others_are_found(made)


def test_check_names_the_damage(damaged: tuple[Path, str]) -> None:
    path, said = damaged
    for mode in ("r", "a"):
        with edgevec.open(path, mode=mode) as made:  # type: ignore[arg-type]
            report = made.check()
        assert not report.ok
        [line] = [line for line in report.problems if said in line]
        if "neither" not in said:
            assert line.startswith("id 7: ")


def test_a_repair_sets_it_apart(damaged: tuple[Path, str]) -> None:
    path, said = damaged
    raw = sqlite3.connect(path)
    raw.text_factory = bytes
    select = "SELECT CAST(id AS BLOB), CAST(metadata AS BLOB), CAST(document AS BLOB), CAST(vector AS BLOB) FROM "
    before = raw.execute(f"{select} records LEFT JOIN vectors USING (row) WHERE row = 8").fetchall()
    with edgevec.open(path) as made:
        made.create_index("even") if "JSON" not in said else None
        report = made.check(repair=True)
        assert (report.ok, report.repaired, len(report.set_apart)) == (True, True, 1)
        assert report.records == N - 1
        assert_others_are_found(made)
        assert made.check() == report._replace(repaired=False, set_apart=())
    assert raw.execute(f"{select} damaged").fetchall() == before
    assert said in raw.execute("SELECT problem FROM damaged").fetchone()[0].decode()
    raw.close()
    with edgevec.open(path) as made:
        assert_others_are_found(made)
        assert made.check().ok
        made.upsert([BAD], vectors()[[BAD]], [{"n": BAD, "even": False}], ["text number7"])
        assert made.search(vectors()[BAD], 1)[0].id == BAD


@pytest.mark.parametrize("name", [name for name in DAMAGES if not name.startswith("id")])
def test_get_raises_for_a_damaged_record(path: Path, name: str) -> None:
    if name in ("NaN", "metadata not UTF-8", "document not UTF-8"):  # Python can read these
        return
    make(path)
    tamper(path, *DAMAGES[name][0])
    with edgevec.open(path) as made:
        with pytest.raises(edgevec.CorruptCollectionError, match="id 7"):
            made.get([6, 7, 8])
        assert [record.id for record in made.get([6, 7, 8], missing="skip")] == [6, 8]


@pytest.mark.parametrize("name", [name for name in DAMAGES if not name.startswith("id")])
def test_upsert_replaces_a_damaged_record(path: Path, name: str) -> None:
    make(path)
    tamper(path, *DAMAGES[name][0])
    with edgevec.open(path) as made:
        made.upsert([BAD], vectors()[[BAD]], [{"n": BAD, "even": False}], ["text number7"])
        made.check(repair=True)
        assert made.get([BAD])[0].metadata == {"n": BAD, "even": False}
        assert made.search(vectors()[BAD], 1)[0].id == BAD
        assert len(made) == N


def test_damaged_metadata_count_as_none(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(path)
    tamper(path, *DAMAGES["broken JSON"][0])
    with edgevec.open(path) as made, caplog.at_level(logging.WARNING, "edgevec"):
        assert made.ids("n IS NULL") == [BAD]
        hit = made.search(vectors()[BAD], 1)[0]
        assert (hit.id, hit.metadata) == (BAD, {})
    assert "id 7" in caplog.text


# ---- rows without their counterpart --------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mode", ["a", "r"])
@pytest.mark.parametrize("gone", ["record", "record and vector"])
def test_a_deleted_record_is_skipped_and_replaced_by_the_next(path: Path, metric: Any, mode: Any, gone: str) -> None:
    """A search returns as many hits as if the record had never existed."""
    make(path, metric)
    with edgevec.open(path) as made:
        expected = [[hit.id for hit in made.search(q, 12, exact=True)] for q in vectors()]
    doomed = [1, 7, 30]
    if gone == "record and vector":
        tamper(path, "DELETE FROM vectors WHERE row IN (SELECT row FROM records WHERE id IN (1, 7, 30))")
    tamper(path, "DELETE FROM records WHERE id IN (1, 7, 30)")
    with edgevec.open(path, mode=mode) as made:
        for query, ids in zip(vectors(), expected, strict=True):
            hits = made.search(query, 5, exact=True)
            assert [hit.id for hit in hits] == [id for id in ids if id not in doomed][:5]
        assert hits.stats.vanished in range(4)
        everything = made.search(vectors()[7], N, exact=True)
        assert len(everything) == N - 3
        assert everything.stats.vanished == 3
        assert len(made.search(vectors()[7], 5, text="text")) == 5


def test_a_text_without_its_record_is_skipped(path: Path) -> None:
    make(path)
    tamper(path, "DROP TRIGGER text_removed", "DELETE FROM records WHERE id = 7")
    with edgevec.open(path) as made:
        assert made.search(text="number7") == []
        assert len(made.search(text="text", k=N)) == N - 1
        report = made.check()
        assert any("text_removed is missing" in line for line in report.problems)
        assert made.check(repair=True).ok
        made.delete([8])
        assert made.search(text="number8") == []
        assert made.check().ok


def test_a_repair_drops_vectors_without_a_record(path: Path) -> None:
    make(path)
    tamper(path, "DELETE FROM records WHERE id = 7", f"INSERT INTO vectors VALUES (5000, zeroblob({DIM * 4}))")
    with edgevec.open(path) as made:
        report = made.check()
        assert "2 vectors without a record" in report.problems
        report = made.check(repair=True)
        assert (report.ok, report.set_apart, report.records) == (True, (), N - 1)
        assert_others_are_found(made)
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT count(*) FROM vectors").fetchone() == (N - 1,)
    raw.close()


@pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")
def test_a_record_that_goes_while_it_is_a_hit(path: Path) -> None:
    """It shows what it was at the time of the search; the next search is right."""
    make(path)
    with edgevec.open(path) as made:
        made.search(vectors()[BAD])
        hits = made.search(vectors()[BAD], 5)
        tamper(path, "DELETE FROM records WHERE id = 7")
        assert hits[0].id == BAD
        assert [hit.metadata["n"] for hit in hits] == [hit.id for hit in hits]
        assert [hit.id for hit in made.search(vectors()[BAD], 5)] == nearest(vectors()[BAD], OTHERS, 5)
        made.upsert([100], np.ones((1, DIM)))
        assert BAD not in made


def test_a_reader_beside_a_writer_skips_it_too(path: Path) -> None:
    make(path)
    tamper(path, "DELETE FROM records WHERE id = 7")
    with edgevec.open(path) as made, made.batch():
        hits = made.search(vectors()[BAD], 5)
        assert [hit.id for hit in hits] == nearest(vectors()[BAD], OTHERS, 5)


# ---- what is derived -----------------------------------------------------------------------------------------------

LOGS = {
    "a change is missing": ["DELETE FROM changes WHERE seq = (SELECT max(seq) - 3 FROM changes)"],
    "all are missing": ["DELETE FROM changes"],
    "one too many": ["INSERT INTO changes VALUES (100000, 1)", "UPDATE sqlite_sequence SET seq = 80"],
    "they start again": ["DELETE FROM changes", "DELETE FROM sqlite_sequence"],
}


@pytest.mark.parametrize("name", LOGS)
def test_a_list_of_changes_with_gaps_is_not_used(path: Path, name: str) -> None:
    """The graph is built from the records, and stays right when more is written."""
    make(path)
    with edgevec.open(path) as made:
        made.upsert(range(100, 110), vectors()[:10] + 100)
    tamper(path, *LOGS[name])
    with edgevec.open(path, mode="r") as made:
        assert made.check().problems == ("the list of changes is damaged",)
    for start in (200, 300):
        with edgevec.open(path) as made:
            made.upsert(range(start, start + 5), vectors()[:5] + start)
            assert made.search(vectors()[2] + start, 1)[0].id == start + 2
            assert made.search(vectors()[3] + 100, 1)[0].id == 103
    with edgevec.open(path) as made:
        assert made.search(vectors()[2] + 200, 1)[0].id == 202
        assert made.check(repair=True).ok
    with edgevec.open(path) as made:
        assert made.search(vectors()[2] + 300, 1)[0].id == 302
        assert made.check().ok


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM state",
        "UPDATE state SET version = 'x'",
        "DELETE FROM settings WHERE name = 'metric'",
        "UPDATE settings SET value = 'sideways' WHERE name = 'metric'",
        "DELETE FROM settings WHERE name = 'dim'",
        "UPDATE settings SET value = -1 WHERE name = 'dim'",
        "DROP TABLE vectors",
        "DROP TABLE state",
    ],
)
def test_a_collection_without_settings_is_corrupt(path: Path, statement: str) -> None:
    make(path)
    tamper(path, statement)
    for mode in ("a", "r"):
        with pytest.raises(edgevec.CorruptCollectionError):
            edgevec.open(path, mode=mode)  # type: ignore[arg-type]


def test_a_full_text_index_that_differs_is_rebuilt(path: Path) -> None:
    make(path)
    tamper(path, "INSERT INTO texts(texts, rowid, document) VALUES ('delete', 8, 'text number7')")
    with edgevec.open(path) as made:
        assert made.search(text="number7") == []
        assert any("full-text" in line for line in made.check().problems)
        assert made.check(repair=True).ok
        assert [hit.id for hit in made.search(text="number7", k=1)] == [7]


def test_messages_name_some_of_many(path: Path) -> None:
    make(path)
    tamper(path, "UPDATE records SET metadata = 'no'")
    with edgevec.open(path) as made:
        [line] = made.check().problems
        assert line == "ids 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 50 more: the metadata are not a JSON object"
        assert made.check(repair=True).set_apart == tuple(range(N))
        assert len(made) == 0


def test_what_is_left_out_of_an_export_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(path)
    tamper(path, *DAMAGES["broken JSON"][0])
    out = path.with_name("out.jsonl")
    with edgevec.open(path) as made, caplog.at_level(logging.WARNING, "edgevec"):
        assert made.export(out) == N - 1
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == OTHERS
    assert "left out: the record with id 7" in caplog.text


@pytest.mark.parametrize("statement", ["DELETE FROM texts_data", "DELETE FROM texts_docsize", "DROP TABLE texts_data"])
def test_a_damaged_full_text_index_is_rebuilt(path: Path, statement: str) -> None:
    make(path)
    tamper(path, statement)
    with edgevec.open(path) as made:
        assert [hit.id for hit in made.search(vectors()[7], 1)] == [7]
        report = made.check(repair=True)
        assert report.repaired
        assert made.check().ok
        assert [hit.id for hit in made.search(text="number7", k=1)] == [7]
        assert_others_are_found(made)


class Newer(sqlite3.Connection):
    """As SQLite from 3.44 on, whose check of all tables ends at a full-text index that cannot be opened."""

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "PRAGMA integrity_check(20)":
            raise sqlite3.DatabaseError("vtable constructor failed: texts")
        return super().execute(sql, *parameters)


def test_other_tables_are_checked_where_the_full_text_index_cannot_be_opened() -> None:
    connection = sqlite3.connect(":memory:", factory=Newer)
    connection.execute('CREATE TABLE "it\'s" (n)')
    connection.execute('CREATE INDEX by_n ON "it\'s" (n)')
    connection.executemany('INSERT INTO "it\'s" VALUES (?)', [(n,) for n in range(5)])
    assert file_problems(connection) == []
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = sql || ' WHERE n < 3' WHERE name = 'by_n'")
    connection.commit()
    connection.execute("PRAGMA writable_schema = RESET")
    assert any("by_n" in line for line in file_problems(connection))
    connection.close()


@pytest.mark.parametrize("index", ["whole", "lost"])
def test_a_text_that_was_changed_without_its_words_is_indexed_again(path: Path, index: str) -> None:
    """What is written without spaces is indexed by pairs of characters, which the sqlite3 shell does not make."""
    make(path)
    with edgevec.open(path) as made:
        made.upsert([BAD], vectors()[[BAD]], [{"n": BAD, "even": False}], ["東京都庁"])
    tamper(path, "UPDATE records SET document = '大阪城公園' WHERE id = 7")
    if index == "lost":
        tamper(path, "DELETE FROM texts_data")
    with edgevec.open(path) as made:
        assert any("words of 1 documents" in line for line in made.check().problems)
        assert made.check(repair=True).ok
        assert made.search(text="京都") == []
        assert [hit.id for hit in made.search(text="阪城")] == [7]
        assert made.check().ok
