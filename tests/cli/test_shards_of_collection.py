"""edgevec shards on a collection in several files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import cli_runner

import edgevec

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

from click.testing import Result

from edgevec.cli.app import edgevec as app
from edgevec.sharded import kind_of_shards

ROWS = [
    {"id": n if n % 2 else f"t{n}", "vector": [n, 1], "text": f"note {n}", "year": 2000 + n, "left": 1}
    for n in range(9)
]


def run(*arguments: object) -> Result:
    return cli_runner().invoke(app, ["shards", *map(str, arguments)])


def succeed(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("queries.jsonl").write_text("".join(json.dumps({"vector": [n, 1]}) + "\n" for n in (3, 6)))
    done = run("import", "rows.jsonl", "-o", "notes", "--rows-per-shard", 4, "--metric", "l2", "--skip", "left")
    assert done.exit_code == 0, done.output
    assert "9 records, 2 dimensions, l2, in 3 shards" in done.stderr
    return tmp_path / "notes"


def test_import_makes_what_the_library_makes(folder: Path) -> None:
    assert kind_of_shards(folder) == "collection"
    with edgevec.ShardedCollection.open(folder) as notes:
        assert (notes.metric, [shard.count for shard in notes.shards]) == ("l2", [4, 4, 1])
        assert notes.get(7)[0].metadata == {"year": 2007}


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--query", "[3, 1]", "-k", 2), [3, "t2"]),
        (("--query", "queries.jsonl", "--row", 1, "-k", 1), ["t6"]),
        (("--id", "t4", "-k", 1), ["t4"]),
        (("--id", 5, "-k", 1, "--exact", "--storage", "disk"), [5]),
        (("--text", "7", "--where", "year > 2000"), [7]),
        (("--query", "[3, 1]", "--where", "year > 2006", "-k", 1), [7]),
        (("--query", "[3, 1]", "--text", "8", "-k", 1), ["t8"]),
    ],
)
def test_search_answers_as_the_library(folder: Path, options: tuple[object, ...], ids: list[object]) -> None:
    assert [hit["id"] for hit in json.loads(succeed("search", folder, *options, "--json"))] == ids
    assert str(ids[0]) in succeed("search", folder, *options)


def test_info_and_what_is_missing(folder: Path) -> None:
    assert "9" in succeed("info", folder)
    read = json.loads(succeed("info", folder, "--json"))
    assert (read["records"], read["metric"], read["share"], len(read["shards"])) == (9, "l2", 1.0, 3)
    (folder / read["shards"][0]["file"]).unlink()
    read = json.loads(succeed("info", folder, "--json"))
    assert (read["records"], read["share"], read["shards"][1]["problem"]) == (5, 5 / 9, None)
    assert "not there" in read["shards"][0]["problem"]
    assert "not there" in run("search", folder, "--text", "note").stderr
    done = run("search", folder, "--text", "note", "--report", "--json")
    assert len(json.loads(done.stdout)) == 5
    assert "55.6% of the records" in done.stderr


def test_a_field_that_no_record_has_is_told(folder: Path) -> None:
    done = run("search", folder, "--text", "note", "--where", "nosuch = 1")
    assert (done.exit_code, "nothing found" in done.stdout) == (0, True)
    assert "no record has a field nosuch\n" in done.stderr


def test_compaction_and_nothing_left(folder: Path) -> None:
    with edgevec.ShardedCollection.open(folder) as notes:
        notes.delete([1, "t2", 3, 5, 7])
    done = run("compact", folder)
    assert (done.exit_code, "3 shards before, 1 now; 4 records" in done.stderr) == (0, True), done.output
    with edgevec.ShardedCollection.open(folder) as notes:
        assert notes.ids() == ["t0", "t4", "t6", "t8"]
        notes.clear()
    read = json.loads(succeed("info", folder, "--json"))
    assert (read["records"], read["share"], read["shards"], read["generation"]) == (0, 1.0, [], 4)
    assert "generation" in succeed("info", folder)
    assert "nothing found" in succeed("search", folder, "--text", "note")
    assert json.loads(succeed("search", folder, "--query", "[1, 2]", "--json")) == []
    assert "0 shards before, 0 now; 0 records" in run("compact", folder).stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("search", "notes"), "a vector or a text"),
        (("search", "notes", "--query", "queries.jsonl"), "--row chooses one"),
        (("search", "notes", "--query", "[1, 2]", "--id", 1), "not both"),
        (("search", "notes", "--id", "none"), "none"),
        (("search", "notes", "--query", "[1, 2]", "--nprobe", 1), "this is a collection"),
        (("search", "notes", "--text", "a", "--where", "year >"), "year >"),
        (("search", "items", "--text", "a"), "this is an index"),
        (("search", "items", "--id", "t"), "a number"),
        (("search", "nothing", "--text", "a"), "no such manifest"),
        (("build", "queries.jsonl", "-o", "notes"), "a collection in shards"),
        (("import", "rows.jsonl", "-o", "items"), "an index in shards"),
    ],
)
def test_mistakes_are_named(folder: Path, arguments: tuple[object, ...], error: str) -> None:
    succeed("build", "queries.jsonl", "-o", "items")
    done = run(*arguments)
    assert done.exit_code != 0
    assert error in done.stderr
