"""edgevec db, run as a program would be."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

from command import run

import edgevec


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    rows = [
        {"id": f"r{n}", "vector": np.eye(1, 4, n % 4)[0].tolist(), "text": f"word{n} common", "year": 1990 + n}
        for n in range(20)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def made(lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "notes.edgevec"
    assert run("db", path, "import", lines, "--metric", "l2") == 0
    assert "20 records" in capsys.readouterr().err
    return path


def test_db_imports_and_tells_what_is_there(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db", made, "info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["records"], facts["dim"], facts["metric"], facts["indexes"]) == (20, 4, "l2", [])
    assert facts["file_bytes"] == made.stat().st_size
    assert run("db", made, "info") == 0
    assert "l2" in capsys.readouterr().out


def test_db_import_leaves_out_columns(lines: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.edgevec"
    assert run("db", path, "import", lines, "--skip", "year", "--skip", "text") == 0
    with edgevec.open(path, mode="r") as db:
        record = db.get(["r3"])[0]
    assert (record.metadata, record.document) == ({}, None)


@pytest.mark.skipif(sys.platform == "win32", reason="it is refused there")
def test_db_imports_and_searches_with_vectors_on_disk(
    made: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.edgevec"
    assert run("db", other, "import", lines, "--metric", "l2", "--storage", "disk") == 0
    answers = []
    for path, storage in ((made, "memory"), (made, "disk"), (other, "disk")):
        capsys.readouterr()
        assert run("db", path, "search", "--id", "r2", "-k", "9", "--json", "--storage", storage) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] == answers[2]
    assert run("db", made, "import", lines, "--quantization", "none", "--storage", "disk") == 2
    assert "none" in capsys.readouterr().err


def test_db_searches(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def hits(*arguments: str) -> list[dict[str, Any]]:
        assert run("db", made, "search", "--json", *arguments) == 0
        return list(json.loads(capsys.readouterr().out))

    found = hits("--vector", "[0, 1, 0, 0]", "-k", "3", "--where", "year > 1995")
    assert {hit["id"] for hit in found} <= {"r9", "r13", "r17"}
    assert [hit["distance"] for hit in found] == [0, 0, 0]
    assert [hit["id"] for hit in hits("--text", "word7")] == ["r7"]
    assert hits("--id", "r2", "-k", "1", "--where", "year = 1992")[0]["metadata"] == {"year": 1992}
    assert hits("--vector", "[0, 1, 0, 0]", "--text", "word5", "-k", "1")[0]["id"] == "r5"
    assert run("db", made, "search", "--id", "r2", "--where", "year < 1995", "--explain") == 0
    said = capsys.readouterr()
    assert "word2 common" in said.out
    assert "5 records allowed" in said.err
    assert "SCAN" in said.err


def test_db_search_tells_of_fields_that_no_record_has(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db", made, "search", "--id", "r2", "--where", "yaer > 1995 AND zzz = 1") == 0
    said = capsys.readouterr()
    assert said.out == "nothing found\n"
    assert "no record has a field yaer; there is year\n" in said.err
    assert "no record has a field zzz\n" in said.err
    assert run("db", made, "search", "--id", "r2", "--where", "year > 3000") == 0
    assert "field" not in capsys.readouterr().err


def test_db_exports(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    assert run("db", made, "export", "-o", out, "--where", "year >= 2000") == 0
    assert "10 records" in capsys.readouterr().err
    assert len(out.read_text().splitlines()) == 10


def test_db_checks_and_compacts(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db", made, "check") == 0
    assert "20 records: in order" in capsys.readouterr().out
    with edgevec.open(made) as db:
        db._store.database.main.execute("INSERT INTO texts(rowid, document) VALUES (5, 'nobody said this')")
        db.delete(where="year < 2000")
    assert run("db", made, "check", "--repair") == 0
    assert "10 records: in order, repaired" in capsys.readouterr().out
    assert run("db", made, "compact") == 0
    assert "file bytes" in capsys.readouterr().err


def test_damage_is_an_exit_code(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with edgevec.open(made) as db:
        db._store.database.main.execute("DELETE FROM vectors WHERE row = 3")
    assert run("db", made, "check") == 1
    said = capsys.readouterr()
    assert "damaged" in said.out
    assert "id 'r2': there is no vector" in said.err
    assert run("db", made, "check", "--repair") == 0
    assert "1 damaged records are in the table 'damaged'" in capsys.readouterr().err
    assert run("db", made, "check") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info"], "no such collection"),
        (["compact"], "no such collection"),
        (["check", "--repair"], "no such collection"),
        (["import", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_opening_a_missing_collection_to_read_is_an_error(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("db", tmp_path / "none.edgevec", *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("given", "file"), [("notes.edgevec", "notes.edgevec"), ("--text", "FILE")])
def test_a_command_before_the_file_is_told_to_come_after_it(
    given: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("db", "search", given) == 2
    assert capsys.readouterr().err == f"edgevec: FILE comes first: edgevec db {file} search ...\n"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_a_command_takes_no_file(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db", "search", option) == 0
    assert " db FILE search [OPTIONS]\n" in capsys.readouterr().out


def test_errors_are_one_line(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("db", made, "search", "--id", "r1", "--where", "year > AND") == 2
    first, line, caret = capsys.readouterr().err.rstrip("\n").split("\n")
    assert first == "edgevec: expected a value, found 'AND'"
    assert line[caret.index("^") :] == "AND"
    for arguments, message in [
        (["--id", "nobody"], "no record has the id 'nobody'"),
        (["--vector", "[1"], "not a vector"),
        (["--vector", "[1, 2]"], "2 dimensions"),
        ([], "a vector or a text"),
        (["--vector", "[1]", "--id", "r1"], "not both"),
    ]:
        assert run("db", made, "search", *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1
    with edgevec.open(made):
        assert run("db", made, "compact") == 2
        assert "open for writing already" in capsys.readouterr().err
        assert run("db", made, "info") == 0


@pytest.mark.parametrize("name", ["info", "check", "check --repair", "compact", "export", "import", "search"])
def test_no_command_touches_a_database_of_another_program(name: str, lines: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE t (x)")
    other.close()
    more = {"export": ["-o", tmp_path / "out.jsonl"], "import": [lines], "search": ["--text", "word"]}.get(name, [])
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    assert run("db", path, *name.split(), *more) != 0
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_db_encodes_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, path = tmp_path / "texts.jsonl", tmp_path / "texts.edgevec"
    texts = {"a": "a large yellow fruit", "b": "a device that measures temperature"}
    source.write_text("\n".join(json.dumps({"id": id, "text": text}) for id, text in texts.items()))
    assert run("db", path, "import", source, "--encoder", "word2vec:x") == 2
    assert "no encoder has the name 'word2vec:x'" in capsys.readouterr().err
    assert not path.exists()
    assert run("db", path, "import", source, "--encoder", "example:wordnet") == 0
    assert run("db", path, "info", "--json") == 0
    assert json.loads(capsys.readouterr().out)["encoder"] == "example:wordnet"
    assert run("db", path, "search", "--text", "thermometer", "--json") == 0  # by words
    assert json.loads(capsys.readouterr().out) == []
    assert run("db", path, "search", "--text", "thermometer", "--encoder", "example:wordnet", "--json", "-k", "1") == 0
    assert [hit["id"] for hit in json.loads(capsys.readouterr().out)] == ["b"]
    assert run("db", path, "import", source) == 2
    assert "no field of vectors found" in capsys.readouterr().err
