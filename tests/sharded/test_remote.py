"""Sharded indexes at an address that fsspec knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import need_module

import edgevec
from edgevec import ShardedIndex


def test_all_that_a_local_one_does(address: str, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((300, 6)).astype(np.float32)
    with pytest.raises(edgevec.IndexNotFoundError, match=address):
        ShardedIndex.open(address)
    with ShardedIndex.build(rows, address, rows_per_shard=100) as index, ShardedIndex.open(address) as reader:
        index.add(rows[:5] + 1, ids=range(5))
        index.remove([20])
        assert len(reader) == 300
        assert reader.refresh()
        assert sorted(reader) == sorted(index) == [*range(20), *range(21, 300)]
        index.compact()
        reader.refresh()
        found = reader.search(rows[:9], 4, exact=True)
        np.testing.assert_array_equal(found.ids, index.search(rows[:9], 4, exact=True).ids)
        assert reader.search(rows[7], 1).ids.tolist() == [7]
    with ShardedIndex.open(f"{address}/manifest.json") as index:
        assert len(index) == 299


def test_finished_shards_and_missing_ones(address: str, rng: np.random.Generator) -> None:
    import fsspec

    rows = rng.standard_normal((300, 6)).astype(np.float32)
    ShardedIndex.build(rows, address, rows_per_shard=100).close()
    system = fsspec.filesystem("memory")
    before = {name: system.modified(name) for name in system.find(address)}
    with ShardedIndex.build(rows, address, rows_per_shard=100) as index:
        file = index.shards[1].file
    after = {name: system.modified(name) for name in system.find(address)}
    assert {name for name in before if before[name] != after[name]} == {f"/{address[9:]}/manifest.json"}
    system.rm(f"{address}/{file}")
    with pytest.raises(edgevec.ShardNotFoundError, match=file):
        ShardedIndex.open(address)


def test_the_copies_are_removed(
    address: str, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ShardedIndex.build(rng.standard_normal((30, 4)), address):
        assert len(list(tmp_path.rglob("*.ev"))) == 1
    assert not list(tmp_path.iterdir())


def test_shards_that_are_not_taken_in_leave_no_copies(address: str, rng: np.random.Generator) -> None:
    import fsspec

    rows = rng.standard_normal((90, 4)).astype(np.float32)
    with ShardedIndex.build(rows, address, rows_per_shard=30) as index:
        copies = index._following.copies()
        held = sorted(copies.iterdir())
        with ShardedIndex.build(rows + 1, address, rows_per_shard=30) as other:
            files = [shard.file for shard in other.shards]
        system = fsspec.filesystem("memory")
        whole = system.cat_file(f"{address}/{files[2]}")
        system.pipe_file(f"{address}/{files[2]}", whole[:-1])
        with pytest.raises(edgevec.CorruptIndexError, match=files[2]):
            index.refresh()
        assert sorted(copies.iterdir()) == held
        with ShardedIndex.open(address, missing="report") as some:
            assert [*some.problems] == files[2:]
            assert {path.name for path in some._following.copies().iterdir()} == {*files[:2]}
        system.pipe_file(f"{address}/{files[2]}", whole)
        assert index.refresh()
        assert {path.name for path in copies.iterdir()} == {*files}


def test_an_unknown_scheme_is_named() -> None:
    need_module("fsspec")
    with pytest.raises(edgevec.StorageError, match="nosuch://x"):
        ShardedIndex.open("nosuch://x/y")


@pytest.mark.subprocess
def test_without_fsspec_the_extra_is_named() -> None:
    program = "import sys; sys.modules['fsspec'] = None; import edgevec; edgevec.ShardedIndex.open('s3://b/x')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "MissingExtraError" in done.stderr
    assert "edgevec[remote]" in done.stderr


@pytest.mark.subprocess
def test_without_ray_the_extra_is_named() -> None:
    program = "import sys; sys.modules['ray'] = None; import edgevec.ray; edgevec.ray.serve('x')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "MissingExtraError" in done.stderr
    assert "edgevec[ray]" in done.stderr


def test_an_address_of_a_local_folder(tmp_path: Path) -> None:
    ShardedIndex.build(np.eye(3), f"file://{tmp_path}/s").close()
    with ShardedIndex.open(tmp_path / "s") as index:
        assert len(index) == 3
