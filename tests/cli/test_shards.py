"""edgevec shards: an index in several files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cli_runner

import edgevec

if sys.platform == "emscripten":
    pytest.skip("a browser has no command line", allow_module_level=True)

from click.testing import Result

from edgevec.cli.app import edgevec as app
from edgevec.sharded import ShardContext

ROWS = np.random.default_rng(1).standard_normal((500, 8)).astype(np.float32)


def run(*arguments: object) -> Result:
    return cli_runner().invoke(app, [str(each) for each in arguments])


def succeed(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    np.save("few.npy", ROWS[:3])
    succeed("shards", "build", "rows.npy", "-o", "items", "--rows-per-shard", 200, "--metric", "l2", "-M", 8)
    return tmp_path / "items"


def test_build_makes_what_the_library_makes(folder: Path) -> None:
    with edgevec.ShardedIndex.open(folder) as index:
        assert (len(index), len(index.shards), index.metric, index.manifest.settings.M) == (500, 3, "l2", 8)


def test_search_answers_as_the_library(folder: Path) -> None:
    found = json.loads(succeed("shards", "search", folder, "--query", "few.npy", "-k", 4, "--exact", "--json"))
    with edgevec.ShardedIndex.open(folder) as index:
        assert [each["ids"] for each in found] == index.search(ROWS[:3], 4, exact=True).ids.tolist()
    assert "nothing" not in succeed("shards", "search", folder, "--id", 7)
    shown = [succeed("shards", "search", folder, "--id", 7, "--storage", storage) for storage in ("memory", "disk")]
    assert shown[0] == shown[1]
    assert json.loads(succeed("shards", "search", folder, "--query", "few.npy", "--row", 2, "--json"))[0]["ids"][0] == 2


def test_info_and_a_damaged_shard(folder: Path) -> None:
    told = json.loads(succeed("shards", "info", folder, "--json"))
    assert (told["vectors"], told["share"], [each["vectors"] for each in told["shards"]]) == (500, 1.0, [200, 200, 100])
    assert "0..199" in succeed("shards", "info", folder)
    (folder / told["shards"][2]["file"]).unlink()
    told = json.loads(succeed("shards", "info", folder, "--json"))
    assert told["share"] == 0.8
    assert "not there" in told["shards"][2]["problem"]
    assert "problem" in succeed("shards", "info", folder)
    assert run("shards", "search", folder, "--id", 7).exit_code == 2
    done = run("shards", "search", folder, "--id", 7, "--report")
    assert done.exit_code == 0
    assert "80.0% of the vectors are searched" in done.stderr


def test_few_shards_are_asked(folder: Path) -> None:
    assert not json.loads(succeed("shards", "info", folder, "--json"))["cluster"]
    done = run("shards", "search", folder, "--id", 7, "--nprobe", 1)
    assert done.exit_code == 2
    assert "nprobe is for shards with centroids" in done.stderr
    succeed("shards", "build", "rows.npy", "-o", "near", "--rows-per-shard", 200, "--metric", "l2", "--cluster")
    told = json.loads(succeed("shards", "info", "near", "--json"))
    assert told["cluster"] is True
    assert all(1 <= shard["centroids"] <= 32 for shard in told["shards"])
    assert "cluster" in succeed("shards", "info", "near")
    asked = ("shards", "search", "near", "--query", "few.npy", "-k", 300, "--exact", "--json", "--nprobe")
    found = json.loads(succeed(*asked, 1))
    with edgevec.ShardedIndex.open("near") as index:
        expected = index.search(ROWS[:3], 300, exact=True, nprobe=1).ids
        assert [each["ids"] for each in found] == [ids[ids >= 0].tolist() for ids in expected]
        context = ShardContext(index)
        index.search(ROWS[7], nprobe=1, context=context)
        [nearest] = [stats.file for stats in context.stats if stats.queries]
    Path("near", nearest).unlink()
    kept = next(id for id in range(500) if id not in held(nearest, told))
    done = run("shards", "search", "near", "--id", kept, "--report", "--nprobe", 3)
    assert "of the vectors in the shards that are asked are searched" in done.stderr


def held(file: str, told: dict[str, Any]) -> list[int]:
    """Of the shard that is gone: the ids in no other file."""
    others = [edgevec.Index.load(Path("near", each["file"])) for each in told["shards"] if each["file"] != file]
    return sorted(set(range(500)) - {id for index in others for id in index})


def test_compact(folder: Path) -> None:
    with edgevec.ShardedIndex.open(folder) as index:
        index.remove(range(0, 500, 2))
    assert "3 shards before, 2 now; 250 vectors" in run("shards", "compact", folder).stderr


def test_mistakes_are_one_line(folder: Path) -> None:
    for arguments, word in (
        (("search", "nowhere", "--id", 1), "no such manifest"),
        (("info", "rows.npy"), "not a folder of shards"),
        (("build", "rows.npy", "-o", "rows.npy"), "rows.npy"),
        (("build", "nothing.npy", "-o", "new"), "no such file"),
        (("search", folder), "either --query or --id"),
        (("search", folder, "--id", 9999), "no such id"),
        (("search", folder, "--id", 1, "--row", 1), "--row"),
    ):
        done = run("shards", *arguments)
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1
        assert word in done.stderr


@pytest.mark.parametrize(
    "arguments", [("search", "{}", "--id", 1), ("build", "{}", "-o", "x.ev"), ("db", "{}", "info")]
)
def test_commands_for_one_file_name_those_for_shards(folder: Path, arguments: tuple[object, ...]) -> None:
    done = run(*(folder if each == "{}" else each for each in arguments))
    assert done.exit_code == 2
    assert f"{folder} is a folder of shards; use edgevec shards info or search {folder}" in done.stderr
