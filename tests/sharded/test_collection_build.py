"""Building a collection in shards: from files and tables, again after an interruption, and what readers see of it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import in_child
from records_in_shards import NOTE_OPTIONS as OPTIONS
from records_in_shards import NOTES as ROWS
from shard_folder import edit, kill_a_build
from support import HANG, need_module

import edgevec
from edgevec import ShardedCollection, ShardedIndex
from edgevec.sharded import MANIFEST
from edgevec.sharded.folders import open_folder

pytestmark = pytest.mark.threads


def shard_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of shards, and what tells whether they were written anew."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.edgevec*")}


def test_the_manifest_says_what_is_there(made: Path) -> None:
    read = json.loads((made / MANIFEST).read_text())
    assert (read["format"], read["version"], read["generation"]) == ("edgevec collection shards", 1, 1)
    assert read["parameters"]["metric"] == "l2"
    assert [(each["count"], each["first_id"], each["last_id"]) for each in read["shards"]] == [
        (4, 0, 3),
        (4, 4, 7),
        (2, 8, 9),
    ]
    names = {each["file"] + end for each in read["shards"] for end in ("", "-graph")}
    assert {path.name for path in made.iterdir()} == {*names, MANIFEST, "manifest.json-lock"}
    for each in read["shards"]:
        with edgevec.open(made / each["file"], mode="r") as single:  # an ordinary collection
            assert len(single) == each["count"]
            assert single.check().ok
    with ShardedCollection.open(made / MANIFEST) as notes:
        assert notes.ids() == [row["id"] for row in ROWS]
        assert all(report.ok for report in notes.check().values())
        assert [each["records"] for each in notes.stats().values()] == [4, 4, 2]
        usage = notes.memory_usage()
        assert usage["total"] == usage["graph"] + usage["conditions"] > 0
        assert "10 records" in repr(notes)
    assert {path.name for path in made.iterdir()} == {*names, MANIFEST, "manifest.json-lock"}


def test_every_source_gives_the_same_shards(made: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row) + "\n" for row in ROWS]
    (tmp_path / "all.jsonl").write_text("".join(lines))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.jsonl").write_text("".join(lines[:3]))
    (tmp_path / "parts" / "b.jsonl").write_text("".join(lines[3:]))
    wanted = [file.split("-")[0] for file in sorted(shard_files(made))]
    for source in (tmp_path / "all.jsonl", str(tmp_path / "parts"), iter(ROWS)):
        with ShardedCollection.build(source, tmp_path / "s", **OPTIONS) as notes:
            assert sorted(shard.file.split("-")[0] for shard in notes.shards) == wanted[::2]
            assert notes.search(text="note 7", k=1)[0].metadata == {"year": 2007}


def test_parquet_and_named_columns(tmp_path: Path) -> None:
    need_module("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"key": f"k{n}", "v": [n, 1.0], "body": f"b{n}", "left": 1} for n in range(9)])
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=2)
    names: dict[str, Any] = {"id": "key", "vector": "v", "document": "body", "skip": "left"}
    for source in (tmp_path / "rows.parquet", table):
        with ShardedCollection.build(source, tmp_path / "s", **names, **OPTIONS) as notes:
            [record] = notes.get("k8")
            assert (record.vector.tolist(), record.document, record.metadata) == ([8, 1], "b8", {})


def test_rows_without_ids_are_numbered_over_all_shards(tmp_path: Path) -> None:
    rows = [{"vector": [1, n], **({"id": 100} if n == 5 else {})} for n in range(9)]
    with (
        ShardedCollection.build(rows, tmp_path / "s", rows_per_shard=2) as notes,
        edgevec.open(":memory:") as single,
    ):
        single.import_from(rows)
        assert notes.ids() == single.ids() == [0, 1, 2, 3, 4, 100, 101, 102, 103]


def test_a_second_build_takes_what_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    bad = [*ROWS[:9], {"id": 9, "vector": [float("nan"), 1]}]
    with pytest.raises(edgevec.NotFiniteError, match="row"):
        ShardedCollection.build(bad, folder, **OPTIONS)
    with pytest.raises(edgevec.CollectionNotFoundError, match="manifest"):
        ShardedCollection.open(folder)
    left = shard_files(folder)
    assert len(left) == 4
    ShardedCollection.build(ROWS, folder, **OPTIONS).close()
    first = shard_files(folder)
    assert left.items() < first.items()
    for change in ({"text": "another"}, {"year": 1}, {"vector": [5, 2]}, {"id": 77}):
        ShardedCollection.build(ROWS, folder, **OPTIONS).close()
        before = shard_files(folder)
        rows = [{**row, **(change if row["id"] == 5 else {})} for row in ROWS]
        with ShardedCollection.build(rows, folder, **OPTIONS) as notes:
            assert len(shard_files(folder).items() & before.items()) == 4
            assert len(shard_files(folder)) == 6  # what is no longer referred to is gone
            assert notes.manifest.settings.dim == 2
    ShardedCollection.build(ROWS, folder, **OPTIONS, M=8).close()
    assert not shard_files(folder).items() & before.items()


@pytest.mark.parametrize("end", ["", "-graph"])
def test_a_damaged_or_missing_file_is_not_taken_for_finished(folder: Path, end: str) -> None:
    path = sorted(folder.glob(f"*.edgevec{end}"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with ShardedCollection.build(ROWS, folder, **OPTIONS) as notes:
        assert all(report.ok for report in notes.check().values())
    sorted(folder.glob(f"*.edgevec{end}"))[0].unlink()
    ShardedCollection.build(ROWS, folder, **OPTIONS).close()


def test_an_id_twice_leaves_what_was_there(folder: Path) -> None:
    before = (folder / MANIFEST).read_bytes()
    for twice in (3, "t"):
        rows: list[dict[str, Any]] = [*ROWS, {"id": "t", "vector": [1, 1]}, {"id": twice, "vector": [1, 1]}]
        with pytest.raises(edgevec.DuplicateIdError, match=f"{twice!r} comes twice, the second time in row 11"):
            ShardedCollection.build(rows, folder, **OPTIONS)
    assert (folder / MANIFEST).read_bytes() == before
    with ShardedCollection.open(folder) as notes:
        assert len(notes) == 10


def test_progress_and_stopping(folder: Path) -> None:
    told: list[int] = []
    rows = [{**row, "year": 1} for row in ROWS]
    ShardedCollection.build(rows, folder, **OPTIONS, progress=lambda done, total: told.append(done)).close()
    assert told == sorted(told)
    assert told[-1] == len(ROWS)
    with pytest.raises(edgevec.CancelledError):
        ShardedCollection.build(ROWS, folder, **OPTIONS, progress=lambda done, total: done < 5)
    with ShardedCollection.open(folder) as notes:
        assert notes.count("year = 1") == len(ROWS)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rows_per_shard": 0}, "rows_per_shard"),
        ({"metric": "l3"}, "metric"),
        ({"dtype": "int8"}, "dtype"),
        ({"M": 1}, "M must"),
        ({"vector": "v"}, "v"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, Any], error: str) -> None:
    with pytest.raises((edgevec.ParameterError, edgevec.DataFormatError), match=error):
        ShardedCollection.build(ROWS, tmp_path / "s", **options)
    assert not (tmp_path / "s" / MANIFEST).exists()


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([], "no records"),
        ([{"id": 1, "text": "no vector"}], "vector"),
        ([{"vector": [1, 2]}, {"vector": [1, 2, 3]}], "3"),
        ([*({"vector": [1, 2]} for _ in range(4)), {"vector": [1, 2, 3]}], "dim|3"),
    ],
)
def test_bad_sources(tmp_path: Path, rows: list[dict[str, Any]], error: str) -> None:
    with pytest.raises((edgevec.ParameterError, edgevec.DataFormatError), match=error):
        ShardedCollection.build(rows, tmp_path / "s", **OPTIONS)
    assert not (tmp_path / "s" / MANIFEST).exists()


def test_two_builds_of_one_address_do_not_mix(folder: Path) -> None:
    with open_folder(folder).writing():
        with pytest.raises(edgevec.LockedError, match="is written to already"):
            ShardedCollection.build(ROWS[:3], folder, **OPTIONS)
        with ShardedCollection.open(folder) as notes:  # readers do not mind
            assert len(notes) == 10


def test_another_kind_is_named(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    ShardedIndex.build(np.eye(3), index).close()
    with pytest.raises(edgevec.CorruptCollectionError, match=r"of a collection: it is an index .*ShardedIndex"):
        ShardedCollection.open(index)
    with pytest.raises(edgevec.CorruptCollectionError, match=r"it is an index"):
        ShardedCollection.build(ROWS, index)
    with pytest.raises(edgevec.CorruptIndexError, match=r"of an index: it is a collection .*ShardedCollection"):
        ShardedIndex.open(folder)
    with pytest.raises(edgevec.CorruptIndexError, match=r"it is a collection"):
        ShardedIndex.build(np.eye(3), folder)
    with pytest.raises(edgevec.StorageError, match=r"a folder of shards, for ShardedCollection"):
        edgevec.open(folder)
    with pytest.raises(edgevec.CorruptCollectionError, match="not a folder of shards"):
        ShardedCollection.open(next(folder.glob("*.edgevec")))
    with pytest.raises(TypeError, match="open"):
        ShardedCollection()


def first_shard(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    return lambda read: change(read["shards"][0])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda read: read.update(format="other"), "not a manifest of shards"),
        (lambda read: read.pop("parameters"), "lacks 'parameters'"),
        (lambda read: read["parameters"].update(metric="l3"), "metric is 'l3'"),
        (lambda read: read["parameters"].update(more=1), "unknown parameters more"),
        (lambda read: read["parameters"].update(encoder=7), "encoder is 7"),
        (lambda read: read["parameters"].update(dim=3), "a shard of dim 2 where the manifest has 3"),
        (lambda read: read["parameters"].update(metric="ip"), "a shard of metric l2 where the manifest has ip"),
        (lambda read: read["shards"].append(read["shards"][0]), "the same file twice"),
        (first_shard(lambda shard: shard.update(count=5)), "a shard of count 4 where the manifest has 5"),
        (first_shard(lambda shard: shard.update(bytes=5)), "bytes where the manifest has 5"),
        (first_shard(lambda shard: shard.update(sha256="0" * 64)), "sha256 is not that"),
        (first_shard(lambda shard: shard.update(file="../x.edgevec")), "file is '../x.edgevec'"),
        (first_shard(lambda shard: shard.update(first_id=9)), "ids from 9 to 3"),
        (first_shard(lambda shard: shard.update(first_id=None)), "first_id"),
    ],
)
def test_a_damaged_manifest(folder: Path, change: Callable[[dict[str, Any]], object], error: str) -> None:
    edit(folder, change)
    with pytest.raises(edgevec.CorruptCollectionError, match=error):
        ShardedCollection.open(folder)


def test_a_manifest_of_a_newer_version(folder: Path) -> None:
    edit(folder, lambda read: read.update(version=2))
    with pytest.raises(edgevec.FormatVersionError, match="version 2"):
        ShardedCollection.open(folder)


@pytest.mark.parametrize("end", ["", "-graph"])
def test_missing_short_and_changed_files_are_named(folder: Path, end: str) -> None:
    with ShardedCollection.open(folder) as notes:
        path = folder / (notes.shards[1].file + end)
    content = path.read_bytes()
    for other, error, kind in (
        (None, "not there", edgevec.ShardNotFoundError),
        (content[:-1], "bytes where the manifest has", edgevec.CorruptCollectionError),
        (content[:-1] + bytes([content[-1] ^ 1]), "another checksum", edgevec.CorruptCollectionError),
    ):
        path.unlink(missing_ok=True)
        if other is not None:
            path.write_bytes(other)
        with pytest.raises(kind, match=error) as raised:
            ShardedCollection.open(folder)
        assert path.name in str(raised.value)
        with ShardedCollection.open(folder, missing="report") as notes:
            assert notes.share == 0.6
            assert list(notes.problems) == [path.name.removesuffix("-graph")]
            assert [hit.id for hit in notes.search([5, 1], 3)] == [3, 2, 8]
            assert [hit.id for hit in notes.search(text="note 5")] == [0, 1, 2, 3, 8, 9]
            with pytest.raises(kind, match=error):
                notes.get(5)
            path.write_bytes(content)
            assert notes.refresh()
            assert notes.get(5)[0].id == 5
    for path in folder.glob("*.edgevec*"):
        path.unlink()
    with ShardedCollection.open(folder, missing="report") as notes, pytest.raises(edgevec.ShardNotFoundError):
        notes.search([1, 1])


@pytest.mark.parametrize("ids", [[3, 20], ["a", 3]])
def test_ids_in_two_shards_are_named(folder: Path, tmp_path: Path, ids: list[Any]) -> None:
    other = [{"id": id, "vector": [1, 1]} for id in ids]
    with ShardedCollection.build(other, tmp_path / "other", **OPTIONS) as notes:
        file = notes.shards[0].file
    more = json.loads((tmp_path / "other" / MANIFEST).read_text())["shards"]
    for path in (tmp_path / "other").glob("*.edgevec*"):
        shutil.copy(path, folder)
    edit(folder, lambda read: read["shards"].extend(more))
    with pytest.raises(edgevec.CorruptCollectionError, match=f"id 3 is in two shards.*{file}"):
        ShardedCollection.open(folder)


def test_readers_follow_a_new_build(folder: Path) -> None:
    rows = [{**row, "year": 1, "text": "new"} for row in ROWS[:6]]
    with ShardedCollection.open(folder) as reader:
        before = reader.manifest
        ShardedCollection.build(ROWS[:4] + rows[4:], folder, **OPTIONS).close()
        assert [hit.id for hit in reader.search(text="new")] == [4, 5]
        assert (len(reader), reader.count("year = 1")) == (6, 2)
        assert reader.manifest.generation == before.generation + 1
        assert reader.manifest.shards[0] == before.shards[0]
        assert not reader.refresh()


@pytest.mark.core
def test_searches_go_on_while_builds_replace_each_other(folder: Path) -> None:
    """Each answer is of one build, as a whole."""
    failed: list[object] = []
    done = threading.Event()

    def search() -> None:
        with ShardedCollection.open(folder) as reader:
            while not done.is_set():
                years = {hit.metadata["year"] - hit.id for hit in reader.search([5, 1], 10, text="note", exact=True)}
                if len(years) != 1:
                    failed.append(years)

    def watched() -> None:
        try:
            search()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=watched) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            rows = [{**row, "year": row["id"] + number} for row in ROWS]
            ShardedCollection.build(rows, folder, **OPTIONS).close()
    finally:
        done.set()
        for thread in threads:
            thread.join(HANG)
    assert not failed


def test_a_pickle_is_of_the_address(folder: Path) -> None:
    with (
        ShardedCollection.open(folder, verify=False, condition_memory=0) as notes,
        pickle.loads(pickle.dumps(notes)) as other,
    ):
        assert other.search([7, 1], 3) == notes.search([7, 1], 3)
        assert other.count("year > 2005") == 4
        assert other.memory_usage()["conditions"] == 0


def test_use_after_close(folder: Path) -> None:
    with ShardedCollection.open(folder) as notes:
        pass
    notes.close()
    assert notes.closed
    assert "closed" in repr(notes)
    for call in (lambda: notes.search([1, 1]), notes.count, notes.refresh, lambda: notes.get(1), notes.check):
        with pytest.raises(edgevec.ClosedError, match="the collection was closed"):
            call()


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_process_is_told_to_open_it_again(folder: Path) -> None:
    with ShardedCollection.open(folder) as notes:
        notes.search([1, 1])

        def work() -> None:
            with pytest.raises(edgevec.ForkedError, match="open it again"):
                notes.search([1, 1])
            notes.close()
            with ShardedCollection.open(folder) as again:
                assert again.search([7, 1], 1)[0].id == 7

        assert in_child(work, patience=HANG) == 0
        assert notes.search([7, 1], 1)[0].id == 7


KILLED = """
import sys
from edgevec import ShardedCollection
rows = [{"id": n, "vector": [n, 1], "text": f"note {n}"} for n in range(200)]
print("begun", flush=True)
ShardedCollection.build(rows, sys.argv[1], rows_per_shard=30).close()
"""


@pytest.mark.core
@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "s"
    for _ in range(2):
        kill_a_build(KILLED, folder, rng.uniform(0, 0.4))
        if (folder / MANIFEST).exists():
            with ShardedCollection.open(folder) as notes:
                assert len(notes) == 200
    left = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.edgevec")}
    subprocess.run([sys.executable, "-c", KILLED, folder], check=True, stdout=subprocess.DEVNULL)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.edgevec")}
    assert left.items() <= after.items()
    with ShardedCollection.open(folder) as notes:
        assert notes.ids() == list(range(200))
        assert all(report.ok for report in notes.check().values())
        wanted = {name for shard in notes.shards for name in (shard.file, shard.file + "-graph")}
    assert {path.name for path in folder.iterdir()} == {*wanted, MANIFEST, "manifest.json-lock"}


def test_an_address_that_fsspec_knows(address: str) -> None:
    with pytest.raises(edgevec.CollectionNotFoundError, match=address):
        ShardedCollection.open(address)
    with ShardedCollection.build(ROWS, address, **OPTIONS) as notes:
        copies = notes._following.copies()
        assert len(list(copies.iterdir())) == 6
        first = notes.manifest
        assert [hit.id for hit in notes.search([7, 1], 2, text="note 7")] == [7, 6]
        ShardedCollection.build([*ROWS[:8], {"id": 77, "vector": [9, 9]}], address, **OPTIONS).close()
        assert len(notes) == 10
        assert notes.refresh()
        assert notes.ids()[-1] == 77
        assert notes.manifest.shards[:2] == first.shards[:2]
        assert len(list(copies.iterdir())) == 6
    assert not copies.exists()
