"""Builds with cluster=True: each row in one shard, near ones together, the bound kept, whatever the rows are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import clustered, each_metric
from shard_folder import kill_a_build
from support import examples, need_module

import edgevec
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST, Settings
from edgevec.sharded.clusters import find_centroids, pack
from edgevec.sharded.folders import open_folder
from edgevec.sharded.placing import clustered_blocks
from edgevec.sharded.source import Piece

DIM = 6


def ids_of(folder: Path, index: ShardedIndex) -> list[list[int]]:
    """Those of each shard, from its file."""
    return [list(edgevec.Index.load(folder / shard.file)) for shard in index.shards]


def made(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((count, DIM))
    if kind == "equal":
        rows[:] = rows[0]
    elif kind == "few":  # fewer than there are centroids
        rows = rows[rng.integers(min(3, count), size=count)]
    elif kind == "sorted":
        rows += 20 * np.repeat(np.arange(count), 5)[:count, None]
    elif kind == "outlier":
        rows[-1] *= 1e15
    elif kind == "far":
        rows += 1e4
    return rows.astype(np.float32)


@settings(max_examples=examples(60), deadline=None)
@given(
    kind=st.sampled_from(["any", "equal", "few", "sorted", "outlier", "far"]),
    count=st.integers(1, 300),
    most=st.integers(1, 120),
    metric=st.sampled_from(["cosine", "ip", "l2"]),
    seed=st.integers(0, 99),
)
@example(kind="equal", count=300, most=100, metric="l2", seed=0)  # no room to spare
@example(kind="any", count=300, most=100, metric="cosine", seed=0)
@example(kind="any", count=50, most=120, metric="ip", seed=0)  # one shard
def test_each_row_is_in_one_shard(kind: str, count: int, most: int, metric: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, ids = made(kind, count, rng), rng.choice(10_000, count, replace=False)
    with tempfile.TemporaryDirectory() as folder:
        options = {"metric": metric, "rows_per_shard": most, "M": 4, "seed": seed}
        with ShardedIndex.build(rows, folder, ids=ids, cluster=True, quantization="none", **options) as index:
            assert len(index.shards) == -(-count // most)
            assert all(0 < shard.count <= most for shard in index.shards)
            held = ids_of(Path(folder), index)
            assert sorted(id for each in held for id in each) == sorted(ids.tolist())
            if metric != "cosine":
                np.testing.assert_array_equal(index.get(ids), rows)
            for nprobe in (1, len(index.shards)):
                assert index.search(rows[0], 1, nprobe=nprobe).ids.size == 1


@settings(max_examples=examples(300), deadline=None)
@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any),
    most=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_clusters_are_packed_within_the_bound(counts: list[int], most: int, seed: int) -> None:
    centroids = np.random.default_rng(seed).standard_normal((len(counts), 3)).astype(np.float32)
    shards = -(-sum(counts) // most)
    packed = pack(centroids, np.array(counts), shards, most)
    assert packed == sorted(packed)
    of_cluster, of_shard = np.zeros(len(counts), int), np.zeros(shards, int)
    for cluster, shard, rows in packed:
        of_cluster[cluster] += rows
        of_shard[shard] += rows
    assert of_cluster.tolist() == counts
    assert ((of_shard > 0) & (of_shard <= most)).all()


@each_metric
def test_near_rows_come_together(metric: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """Most of the 10 nearest of a row are in its own shard, where in the order of the rows 1 in 8 are."""
    rows = clustered(rng, 4000, 16, clusters=40)
    if metric == "ip":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with ShardedIndex.build(rows, tmp_path, cluster=True, rows_per_shard=500, metric=metric) as index:
        shard_of = np.empty(len(rows), int)
        for number, held in enumerate(ids_of(tmp_path, index)):
            shard_of[held] = number
        few = rng.choice(len(rows), 200, replace=False)
        nearest = index.search(rows[few], 10, exact=True).ids
        assert (shard_of[nearest] == shard_of[few][:, None]).mean() > 0.6
        assert min(shard.count for shard in index.shards) > 300


def test_centroids_are_means_of_what_is_near_them(rng: np.random.Generator) -> None:
    at = np.array([[0, 0], [100, 0], [0, 100]])
    rows = (np.repeat(at, 50, axis=0) + rng.standard_normal((150, 2))).astype(np.float32)
    found = find_centroids(rows, 12, "l2", rng)
    assert len(found) <= 12
    for corner in at:
        near = found[np.linalg.norm(found - corner, axis=1) < 10]
        assert len(near)
        assert np.linalg.norm(near - corner, axis=1).max() < 4
    assert len(find_centroids(np.ones((30, 4), np.float32), 8, "l2", rng)) == 1
    unit = find_centroids(rows[50:], 5, "cosine", rng)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)


def test_clusters_that_are_near_are_packed_together(rng: np.random.Generator) -> None:
    place = rng.permutation(np.repeat(np.arange(8), 4))  # of eight on a line, four clusters each
    centroids = (np.outer(place, [10, 3, 0]) + rng.uniform(-1, 1, (32, 3))).astype(np.float32)
    packed = pack(centroids, np.full(32, 10), 8, 40)
    assert [rows for _, _, rows in packed] == [10] * 32
    assert len({(shard, place[cluster]) for cluster, shard, _ in packed}) == 8


def test_disk_holds_the_rows_once(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((50_000, 2)).astype(np.float32)
    settings = Settings(2, "l2")
    with closing(clustered_blocks(open_folder(tmp_path), [Piece(rows, None)], settings, 10_000)) as blocks:
        left = len(next(blocks).rows)
        files = list(tmp_path.glob(".building-*/*.rows"))
        assert sum(path.stat().st_size for path in files) == rows.nbytes - 8 * left
    assert not list(tmp_path.iterdir())


def test_a_sample_of_more_rows_than_are_read_at_once(tmp_path: Path, rng: np.random.Generator) -> None:
    """Of 40,000 rows, read in three parts, the first ones are all of one kind. The sample has to be of all parts."""
    kinds = np.concatenate([np.zeros(17_000, int), rng.permutation(np.repeat(np.arange(1, 11), 2300))])
    rows = (kinds[:, None] * [100, -100] + rng.standard_normal((40_000, 2))).astype(np.float32)
    with ShardedIndex.build(
        rows, tmp_path, cluster=True, rows_per_shard=2600, metric="l2", quantization="none", M=4, ef_construction=8
    ) as index:
        held = ids_of(tmp_path, index)
        assert sorted(id for each in held for id in each) == list(range(40_000))
        assert len(held) == 16
        assert max(map(len, held)) <= 2600
        assert max(len(np.unique(kinds[each])) for each in held) <= 3


def test_the_same_source_gives_the_same_files(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((700, DIM)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    with ShardedIndex.build(rows, tmp_path / "a", cluster=True, rows_per_shard=200, threads=1) as index:
        files = index.manifest.files()
        centroids = [shard.centroids for shard in index.shards]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("*.ev")}
    with ShardedIndex.build(tmp_path / "rows.npy", tmp_path / "a", cluster=True, rows_per_shard=200) as index:
        assert index.manifest.files() == files
        assert [shard.centroids for shard in index.shards] == centroids
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "a").glob("*.ev")} == before
    with ShardedIndex.build(rows, tmp_path / "a", rows_per_shard=200) as index:  # and without them nothing is left
        assert {path.name for path in (tmp_path / "a").iterdir()} == index.manifest.files() | {
            MANIFEST,
            "manifest.json-lock",
        }


def test_parquet_keeps_its_ids(tmp_path: Path, rng: np.random.Generator) -> None:
    need_module("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, ids = rng.standard_normal((500, DIM)).astype(np.float32), np.arange(500)[::-1] * 3
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)
    pq.write_table(pa.table({"id": ids, "v": vectors}), tmp_path / "rows.parquet", row_group_size=64)
    with ShardedIndex.build(
        tmp_path / "rows.parquet", tmp_path / "s", column="v", rows_per_shard=128, cluster=True
    ) as index:
        assert sorted(index) == sorted(ids.tolist())
        assert index.search(rows[77], 1, exact=True).ids.tolist() == [ids[77]]


def test_what_is_wrong_with_rows_is_named_and_nothing_is_left(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((20_000, 3)).astype(np.float32)
    ShardedIndex.build(rows[:10], tmp_path).close()
    before = sorted(path.name for path in tmp_path.iterdir())
    ids = np.arange(20_000)[::-1].copy()
    ids[19_000] = 5
    with pytest.raises(edgevec.DuplicateIdError, match="id 5"):
        ShardedIndex.build(rows, tmp_path, ids=ids, cluster=True, rows_per_shard=5000)
    for value, error in ((0, edgevec.ZeroVectorError), (np.nan, edgevec.NotFiniteError)):
        bad = rows.copy()
        bad[17_000] = value
        with pytest.raises(error, match="row 17000"):
            ShardedIndex.build(bad, tmp_path, cluster=True, rows_per_shard=5000)
    with pytest.raises(edgevec.CancelledError):
        ShardedIndex.build(rows, tmp_path, cluster=True, rows_per_shard=5000, progress=lambda done, total: False)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_progress_rises_to_the_total(tmp_path: Path, rng: np.random.Generator) -> None:
    told: list[tuple[int, int]] = []
    rows = rng.standard_normal((600, DIM)).astype(np.float32)
    ShardedIndex.build(
        rows, tmp_path, cluster=True, rows_per_shard=200, progress=lambda done, total: told.append((done, total))
    ).close()
    assert told == sorted(told)
    assert (told[0][0], told[-1]) == (0, (600, 600))


def test_at_an_address(rng: np.random.Generator) -> None:
    need_module("fsspec")
    import fsspec

    rows = rng.standard_normal((600, DIM)).astype(np.float32)
    with ShardedIndex.build(rows, "memory://clustered", cluster=True, rows_per_shard=200) as index:
        everything = index.search(rows[:9], 5).ids
        with ShardedIndex.open("memory://clustered") as reader:
            assert (reader.search(rows[:9], 5, nprobe=3).ids == everything).all()
            index.add(rows[:250] + 9)
            index.compact()
            assert reader.refresh()
            assert len(reader) == 850
            assert reader.search(rows[0] + 9, 1, nprobe=1).ids.tolist() == [600]
    fsspec.filesystem("memory").rm("/clustered", recursive=True)


KILLED = """
import sys
import numpy as np
from edgevec import ShardedIndex
rows = np.random.default_rng(0).standard_normal((3000, 16)).astype(np.float32)
print("begun", flush=True)
ShardedIndex.build(rows, sys.argv[1], rows_per_shard=300, cluster=True).close()
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_build_goes_on_where_it_was(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = tmp_path / "s"
    for _ in range(3):
        kill_a_build(KILLED, folder, rng.uniform(0, 0.6))
    left = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.ev")}
    subprocess.run([sys.executable, "-c", KILLED, folder], check=True, stdout=subprocess.DEVNULL)
    assert left.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob("*.ev")}.items()
    with ShardedIndex.open(folder) as index:
        assert sorted(index) == list(range(3000))
        names = {path.name for path in folder.iterdir()}
        assert names == index.manifest.files() | {MANIFEST, "manifest.json-lock"}
    assert json.loads((folder / MANIFEST).read_text())["cluster"] is True
