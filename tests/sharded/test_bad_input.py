"""Manifests and shards that are missing, damaged or something else: each is named, and nothing half done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_folder import assert_refused_with, edit

import edgevec
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST, Manifest, ShardContext

DIM, ROWS = 4, 100


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    rows = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    with ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=40) as index:
        index.remove([41])
    return tmp_path / "s"


def test_no_manifest(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing" / MANIFEST):
        with pytest.raises(edgevec.IndexNotFoundError, match="no such manifest of shards") as raised:
            ShardedIndex.open(path)
        assert raised.value.filename == str(path if path.name == MANIFEST else path / MANIFEST)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"format": 1}', b"[" * 100_000, b"\x89EVX"])
def test_something_else(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(edgevec.CorruptIndexError, match="not a manifest of shards"):
        ShardedIndex.open(folder)
    with pytest.raises(edgevec.CorruptIndexError, match="not a manifest of shards"):
        ShardedIndex.build(np.ones((2, 2)), folder)
    assert (folder / MANIFEST).read_bytes() == content


def test_a_manifest_of_a_newer_version(folder: Path) -> None:
    edit(folder, lambda read: read.update(version=2))
    with pytest.raises(edgevec.FormatVersionError, match="version 2"):
        ShardedIndex.open(folder)


SHARD = ("shards", 0)
CHANGES: list[tuple[tuple[Any, ...], Any, str]] = [
    (("version",), "1", "version must be"),
    (("dim",), 0, "dim must be"),
    (("dim",), 5, "dim 4 where the manifest has 5"),
    (("metric",), "l2", "metric cosine where the manifest has l2"),
    (("metric",), "l3", "metric is 'l3'"),
    (("metric",), ["l2"], "metric is"),
    (("parameters", "quantization"), "none", "quantization sq8 where the manifest has none"),
    (("parameters", "M"), 1, "M must be"),
    (("parameters", "more"), 1, "unknown parameters more"),
    (("parameters",), None, "damaged"),
    (("next_id",), -1, "next_id must be"),
    (("generation",), None, "generation must be"),
    (("shards",), {"a": 1}, "damaged"),
    (("shards",), 7, "damaged"),
    ((*SHARD, "count"), 39, "count 40 where the manifest has 39"),
    ((*SHARD, "count"), 41, "41 ids from 0 to 39"),
    ((*SHARD, "last_id"), -5, "last_id must be"),
    ((*SHARD, "bytes"), 77, "where the manifest has 77"),
    ((*SHARD, "sha256"), "0" * 64, "sha256 is not that of"),
    ((*SHARD, "file"), "../x.ev", "file is '../x.ev'"),
    ((*SHARD, "file"), 5, "file is 5"),
    ((*SHARD, "removed"), 5, "damaged"),
    (("shards", 1, "removed", "count"), 2, "where the manifest has 16"),
    (("shards", 1, "removed", "count"), 0, "removed: count must be"),
]


@pytest.mark.parametrize(("place", "value", "error"), CHANGES)
def test_a_manifest_that_says_something_else(folder: Path, place: tuple[Any, ...], value: Any, error: str) -> None:
    assert_refused_with(folder, place, value, error)


@pytest.mark.parametrize("name", ["format", "version", "dim", "parameters", "shards", "next_id"])
def test_a_manifest_that_lacks_something(folder: Path, name: str) -> None:
    edit(folder, lambda read: read.pop(name))
    with pytest.raises(edgevec.CorruptIndexError):
        ShardedIndex.open(folder)


def test_the_same_shard_twice(folder: Path) -> None:
    edit(folder, lambda read: read["shards"].append(read["shards"][0]))
    with pytest.raises(edgevec.CorruptIndexError, match="the same file twice"):
        ShardedIndex.open(folder)


def test_an_id_in_two_shards(folder: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((30, DIM))
    with ShardedIndex.build(rows, folder.parent / "t", ids=[*range(300, 329), 7]) as other:
        entry = json.loads((folder.parent / "t" / MANIFEST).read_text())["shards"][0]
        shutil.copy(folder.parent / "t" / other.shards[0].file, folder)
    with ShardedIndex.open(folder) as reader:
        edit(folder, lambda read: read["shards"].append(entry))
        with pytest.raises(edgevec.CorruptIndexError, match="id 7 is in two shards"):
            ShardedIndex.open(folder)
        with pytest.raises(edgevec.CorruptIndexError, match="id 7 is in two shards"):
            reader.refresh()
        assert len(reader) == ROWS - 1


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "short":
        path.write_bytes(content[:-1])
    else:
        at = len(content) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("which", ["shard", "removed"])
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("missing", edgevec.ShardNotFoundError, "a shard that is not there"),
        ("short", edgevec.CorruptIndexError, "bytes where the manifest has"),
        ("flipped", edgevec.CorruptIndexError, "another checksum than the manifest has"),
    ],
)
def test_a_shard_that_is_damaged(
    folder: Path, which: str, how: str, error: type[Exception], message: str, rng: np.random.Generator
) -> None:
    with ShardedIndex.open(folder) as index:
        shard = index.shards[1]
        assert shard.removed is not None
    file = shard.file if which == "shard" else shard.removed.file
    damage(folder / file, how)
    with pytest.raises(error, match=f"{file}.*{message}"):
        ShardedIndex.open(folder)
    query = rng.standard_normal(DIM)
    with ShardedIndex.open(folder, missing="report") as index:
        assert list(index.problems) == [shard.file]
        assert index.share == pytest.approx(60 / 99)
        context = ShardContext(index)
        found = index.search(query, 200, context=context).ids
        assert sorted(found) == [*range(40), *range(80, 100)]
        assert context.share == pytest.approx(60 / 99)
        assert [stats.problem is None for stats in context.stats] == [True, False, True]
        for change in (
            lambda: index.add([[1] * DIM]),
            lambda: index.remove([1]),
            lambda: index.compact(),
            lambda: index.get([50]),
        ):
            with pytest.raises(error):
                change()
        assert len(index.get([5])) == 1


def test_bytes_that_are_not_verified_are_verified_by_a_change(folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        file = index.shards[0].file
    damage(folder / file, "flipped")
    with ShardedIndex.open(folder, verify=False) as index:
        before = index.manifest
        with pytest.raises(edgevec.CorruptIndexError, match="checksum differs"):
            index.remove([3])
        assert (index.manifest, len(index)) == (before, ROWS - 1)
        assert index.remove([90]) == 1  # which is in another


def test_another_value_of_missing(folder: Path) -> None:
    with pytest.raises(edgevec.ParameterError, match="missing must be"):
        ShardedIndex.open(folder, missing="ignore")


@given(st.binary(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_content_is_anything_but_damaged(content: bytes | str) -> None:
    with pytest.raises(edgevec.CorruptIndexError):
        Manifest.parse(content.encode() if isinstance(content, str) else content, "x")
