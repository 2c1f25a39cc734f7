"""Building in shards: from arrays and files, again after an interruption, and never two builds in one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_folder import kill_a_build
from support import need_module

import edgevec
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST
from edgevec.sharded.folders import open_folder

ROWS, DIM = 500, 6


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, DIM)).astype(np.float32)


def shard_files(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of shards, and what tells whether they were written anew."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.ev")}


def test_an_array_a_mapped_one_and_a_file_give_the_same_shards(rows: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    column = np.empty(len(rows), object)  # as pandas and Arrow have vectors
    column[:] = list(rows)
    sources = (rows, rows.tolist(), np.load(tmp_path / "rows.npy", mmap_mode="r"), tmp_path / "rows.npy", column)
    shards = []
    for number, source in enumerate(sources):
        with ShardedIndex.build(source, tmp_path / f"{number}", rows_per_shard=200, threads=1) as index:
            shards.append(index.shards)
            assert [shard.count for shard in index.shards] == [200, 200, 100]
    assert shards[1:] == shards[:1] * 4


def test_parquet_is_read_in_pieces_with_its_ids(rows: np.ndarray, tmp_path: Path) -> None:
    need_module("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = np.arange(ROWS)[::-1] * 3
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)
    pq.write_table(pa.table({"id": ids, "v": vectors}), tmp_path / "rows.parquet", row_group_size=64)
    with ShardedIndex.build(tmp_path / "rows.parquet", tmp_path / "s", column="v", rows_per_shard=128) as index:
        assert sorted(index) == sorted(ids.tolist())
        assert index.search(rows[77], 1).ids.tolist() == [ids[77]]


def test_the_manifest_says_what_is_there(rows: np.ndarray, tmp_path: Path) -> None:
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=200, metric="l2", M=8, seed=5) as index:
        read = json.loads((tmp_path / "s" / MANIFEST).read_text())
        assert (read["version"], read["dim"], read["metric"], read["generation"]) == (1, DIM, "l2", 1)
        assert read["parameters"]["M"] == 8
        assert read["parameters"]["seed"] == 5
        assert [(each["count"], each["first_id"], each["last_id"]) for each in read["shards"]] == [
            (200, 0, 199),
            (200, 200, 399),
            (100, 400, 499),
        ]
        for each, shard in zip(read["shards"], index.shards, strict=True):
            single = edgevec.Index.load(tmp_path / "s" / each["file"])  # an ordinary index file
            assert (len(single), single.M, single.metric) == (shard.count, 8, "l2")


def test_a_second_build_takes_what_is_finished(rows: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    bad = rows.copy()
    bad[450, 2] = np.nan
    with pytest.raises(edgevec.NotFiniteError, match="row 450"):
        ShardedIndex.build(bad, folder, rows_per_shard=200)
    with pytest.raises(edgevec.IndexNotFoundError):
        ShardedIndex.open(folder)
    left = shard_files(folder)
    assert len(left) == 2
    ShardedIndex.build(rows, folder, rows_per_shard=200).close()
    made = shard_files(folder)
    assert left.items() < made.items()
    ShardedIndex.build(rows, folder, rows_per_shard=200).close()
    assert shard_files(folder) == made
    changed = rows.copy()
    changed[250] += 1
    ShardedIndex.build(changed, folder, rows_per_shard=200).close()
    assert len(shard_files(folder).items() & made.items()) == 2
    made = shard_files(folder)
    ShardedIndex.build(changed, folder, rows_per_shard=200, M=8).close()
    assert not shard_files(folder).items() & made.items()
    assert len(shard_files(folder)) == 3  # what is no longer referred to is gone


def test_a_damaged_file_is_not_taken_for_finished(rows: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ShardedIndex.build(rows, folder, rows_per_shard=200).close()
    name = sorted(shard_files(folder))[0]
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with ShardedIndex.build(rows, folder, rows_per_shard=200) as index:
        assert len(index) == ROWS


@pytest.mark.parametrize("ids", [[*range(ROWS - 1), 3], [*range(ROWS - 1), ROWS - 2]], ids=["apart", "beside"])
def test_an_id_twice_leaves_what_was_there(rows: np.ndarray, tmp_path: Path, ids: list[int]) -> None:
    folder = tmp_path / "s"
    ShardedIndex.build(rows[:10], folder).close()
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(edgevec.DuplicateIdError, match=str(ids[-1])):
        ShardedIndex.build(rows, folder, ids=ids, rows_per_shard=200)
    assert (folder / MANIFEST).read_bytes() == before
    with ShardedIndex.open(folder) as index:
        assert len(index) == 10


def test_what_killed_builds_have_left_is_removed(rows: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for left in (folder / ".building-0123abcd", folder / ".building-xyz" / "more"):
        left.mkdir(parents=True)
        (left / "new.ev").write_bytes(b"half an index")
    (folder / f"{'0' * 32}-{'1' * 32}.ev").write_bytes(b"of another build")
    (folder / "notes.txt").write_text("not ours")
    with ShardedIndex.build(rows, folder, rows_per_shard=200) as index:
        names = {path.name for path in folder.iterdir()}
        assert names == index.manifest.files() | {MANIFEST, "manifest.json-lock", "notes.txt"}


def test_progress_and_stopping(rows: np.ndarray, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    ShardedIndex.build(
        rows, tmp_path / "s", rows_per_shard=200, progress=lambda done, total: told.append((done, total))
    ).close()
    assert told == sorted(told)
    assert told[-1] == (ROWS, ROWS)
    with pytest.raises(edgevec.CancelledError):
        ShardedIndex.build(rows, tmp_path / "t", rows_per_shard=200, progress=lambda done, total: done < 200)
    assert not (tmp_path / "t" / MANIFEST).exists()


def test_two_builds_of_one_address_do_not_mix(rows: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    ShardedIndex.build(rows[:50], folder).close()
    with open_folder(folder).writing():
        with pytest.raises(edgevec.LockedError, match="is written to already"):
            ShardedIndex.build(rows, folder)
        with ShardedIndex.open(folder) as index:  # readers do not mind
            assert len(index) == 50
            with pytest.raises(edgevec.LockedError):
                index.add(rows[:1])
            with pytest.raises(edgevec.LockedError):
                index.remove([1])
            with pytest.raises(edgevec.LockedError):
                index.compact()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rows_per_shard": 0}, "rows_per_shard"),
        ({"metric": "l3"}, "metric"),
        ({"M": 1}, "M must"),
        ({"ids": [1, 2]}, "500 vectors but 2 ids"),
        ({"ids": [-1, *range(ROWS - 1)]}, "-1"),
        ({"column": "v"}, "for files"),
    ],
)
def test_bad_arguments(rows: np.ndarray, tmp_path: Path, options: dict[str, object], error: str) -> None:
    with pytest.raises(edgevec.ParameterError, match=error):
        ShardedIndex.build(rows, tmp_path / "s", **options)


BAD_SOURCES: dict[str, tuple[Callable[[], Any], str]] = {
    "one vector": (lambda: np.ones(3), "not 1-dimensional"),
    "empty": (lambda: np.ones((0, 3)), "contains no vectors"),
    "texts": (lambda: np.array([["a", "b"]]), "real numbers"),
    "ragged lists": (lambda: [[1, 2], [1]], "cannot be read as an array"),
    "a generator": (lambda: (row for row in np.eye(2)), "a file or a folder, not <generator"),
    "masked": (lambda: np.ma.masked_array(np.eye(2), [[0, 0], [1, 0]]), "masked element in row 1"),
    "a ragged column": (lambda: np.array([np.ones(2), np.ones(3)], object), "row 1 is 3 numbers"),
    "a far row of a column": (
        lambda: np.array([*([[1.0, 2.0]] * 16_390), None], object),
        "from row 16384 on must have 2 numbers each, but row 6 is None",
    ),
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_bad_sources(name: str, tmp_path: Path) -> None:
    make, error = BAD_SOURCES[name]
    with pytest.raises(edgevec.ParameterError, match=error):
        ShardedIndex.build(make(), tmp_path / "s")
    assert not list(tmp_path.glob("s/*.json"))


def test_it_is_made_by_open_or_build() -> None:
    with pytest.raises(TypeError, match="open"):
        ShardedIndex()


KILLED = """
import sys
import numpy as np
from edgevec import ShardedIndex
rows = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
print("begun", flush=True)
ShardedIndex.build(rows, sys.argv[1], rows_per_shard=300).close()
print("built", flush=True)
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "s"
    for _ in range(4):
        kill_a_build(KILLED, folder, rng.uniform(0, 0.4))
        if (folder / MANIFEST).exists():
            with ShardedIndex.open(folder) as index:
                assert len(index) == 3000
    left = shard_files(folder)
    subprocess.run([sys.executable, "-c", KILLED, folder], check=True, stdout=subprocess.DEVNULL)
    assert left.items() <= shard_files(folder).items()
    with ShardedIndex.open(folder) as index:
        assert sorted(index) == list(range(3000))
    assert {path.suffix for path in folder.iterdir()} <= {".ev", ".json", ".json-lock"}, os.listdir(folder)
