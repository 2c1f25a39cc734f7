"""Searches with nprobe: each query is asked of the shards with the nearest centroids, and of no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle import assert_right, clustered, distances, each_metric, unit
from shard_folder import assert_refused_with, edit

import edgevec
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST, ShardContext

ROWS, DIM, SHARD = 1500, 8, 200


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return clustered(np.random.default_rng(5), ROWS, DIM)


@pytest.fixture(scope="module")
def queries(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows[::60] + 0.2 * np.random.default_rng(6).standard_normal((25, DIM)), np.float32)


@pytest.fixture
def folder(rows: np.ndarray, tmp_path: Path) -> Path:
    build(rows, tmp_path / "s", "l2").close()
    return tmp_path / "s"


def build(rows: np.ndarray, folder: Path, metric: str, **options: Any) -> ShardedIndex:
    return ShardedIndex.build(
        rows, folder, cluster=True, rows_per_shard=SHARD, metric=metric, keep_vectors="float32", **options
    )


def ranked(folder: Path, metric: str, query: np.ndarray) -> tuple[list[np.ndarray], bool]:
    """The ids in each shard, nearest shard first, from the files; and whether none of them are about as near."""
    shards = json.loads((folder / MANIFEST).read_text())["shards"]
    ids, near = [], []
    for shard in shards:
        held = np.array(list(edgevec.Index.load(folder / shard["file"])))
        if shard["removed"]:
            held = np.setdiff1d(held, np.fromfile(folder / shard["removed"]["file"], "<i8"))
        centroids = np.fromfile(folder / shard["centroids"]["file"], "<f4").reshape(-1, DIM)
        assert len(centroids) == shard["centroids"]["count"]
        if metric == "cosine":
            centroids = unit(centroids)
        ids.append(held)
        near.append(distances(metric, centroids, query).min())
    order = np.argsort(near)
    return [ids[n] for n in order], bool(np.diff(np.sort(near)).min() > 1e-5)


@each_metric
@pytest.mark.parametrize("nprobe", [1, 2, 5])
def test_exact_answers_are_those_of_the_nearest_shards(
    rows: np.ndarray, queries: np.ndarray, metric: str, nprobe: int, tmp_path: Path
) -> None:
    clear = 0
    with build(rows, tmp_path, metric) as index:
        assert len(index.shards) == 8
        batch = index.search(queries, 7, exact=True, nprobe=nprobe)
        for query, ids, found in zip(queries, *batch, strict=True):
            of_shards, is_clear = ranked(tmp_path, metric, query)
            if is_clear:
                clear += 1
                held = np.concatenate(of_shards[:nprobe])
                assert_right(index.search(query, 7, exact=True, nprobe=nprobe), metric, (held, rows[held]), query, 7)
                assert_right(edgevec.SearchResult(ids, found), metric, (held, rows[held]), query, 7)
    assert clear > 15


@each_metric
def test_all_shards_give_what_a_search_without_gives(
    rows: np.ndarray, queries: np.ndarray, metric: str, tmp_path: Path
) -> None:
    allowed = np.arange(0, ROWS, 7)
    with build(rows, tmp_path, metric) as index:
        for options in ({}, {"exact": True}, {"filter": allowed}, {"filter": []}, {"recall": 0.9}, {"threads": 1}):
            for asked in (queries, queries[0], queries[:0]):
                for k in (1, 10, ROWS + 1):
                    expected = index.search(asked, k, **options)
                    for nprobe in (8, 9, 2**31 - 1):
                        found = index.search(asked, k, nprobe=nprobe, **options)
                        np.testing.assert_array_equal(found.ids, expected.ids)
                        np.testing.assert_array_equal(found.distances, expected.distances)


def test_the_nearest_rows_are_in_the_nearest_shards(rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        truth = index.search(queries, 10, exact=True).ids
        found = [index.search(queries, 10, exact=True, nprobe=nprobe).ids for nprobe in (1, 2, 4)]
        shares = [edgevec.recall(ids, truth) for ids in found]
        assert shares[0] > 0.5
        assert shares[2] > 0.9
        assert shares == sorted(shares)


def test_shapes_padding_and_filters(rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        many = index.search(queries, 400, exact=True, nprobe=1)
        assert many.ids.shape == many.distances.shape == (25, 400)
        for query, ids, found in zip(queries, *many, strict=True):
            held = (ids >= 0).sum()
            assert 0 < held <= SHARD
            assert (ids[held:] == -1).all()
            assert np.isinf(found[held:]).all()
            single = index.search(query, 400, exact=True, nprobe=1)
            assert single.ids.tolist() == ids[:held].tolist()
        allowed = np.arange(0, ROWS, 3)
        some = index.search(queries, 30, filter=allowed, nprobe=2).ids
        assert set(some[some >= 0].tolist()) <= set(allowed.tolist())
        assert index.search(queries[:0], 5, nprobe=2).ids.shape == (0, 5)


def test_statistics_say_which_shards_were_asked(queries: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        context = ShardContext(index)
        index.search(queries[0], 5, nprobe=3, context=context)
        asked = [stats for stats in context.stats if stats.queries]
        assert len(asked) == 3
        assert all(stats.search is not None for stats in asked)
        assert sum(stats.search is not None for stats in context.stats) == 3
        assert (context.share, len(context.stats)) == (1.0, 8)
        index.search(queries, 5, nprobe=2, context=context, threads=1)
        assert sum(stats.queries for stats in context.stats) == 2 * len(queries)
        index.search(queries, 5, context=context, threads=1)
        assert [stats.queries for stats in context.stats] == [len(queries)] * 8


@pytest.mark.parametrize("asked", ["one", "batch"])
def test_only_shards_that_are_asked_can_be_missing(asked: str, queries: np.ndarray, folder: Path) -> None:
    query = queries[0]
    with ShardedIndex.open(folder) as index:
        context = ShardContext(index)
        index.search(query, 5, nprobe=1, context=context)
        [nearest] = [stats.file for stats in context.stats if stats.queries]
    rows = query if asked == "one" else queries[:1]
    (folder / nearest).unlink()
    with ShardedIndex.open(folder, missing="report") as index:
        context = ShardContext(index)
        found = index.search(rows, 5, nprobe=1, context=context).ids
        assert (found == -1).all()  # it is the one that was to be asked
        assert context.share == 0.0
        index.search(rows, 5, nprobe=2, context=context)
        assert 0 < context.share < 1
        assert [stats.file for stats in context.stats if stats.problem and stats.queries] == [nearest]
        far = -query if asked == "one" else -queries[:1]
        index.search(far, 5, nprobe=1, context=context)
        assert context.share == 1.0
        assert not [stats for stats in context.stats if stats.problem and stats.queries]


def test_bad_arguments_are_named(queries: np.ndarray, folder: Path, tmp_path: Path) -> None:
    with ShardedIndex.open(folder) as index:
        for value in (0, -1, 1.5, "2", True):
            with pytest.raises(edgevec.ParameterError, match="nprobe must be"):
                index.search(queries[0], nprobe=value)
        for asked in (queries, queries[:0]):
            with pytest.raises(edgevec.ParameterError, match="ef must be"):
                index.search(asked, ef=0, nprobe=1)
    with (
        ShardedIndex.build(np.eye(3), tmp_path / "plain", rows_per_shard=2) as index,
        pytest.raises(edgevec.ParameterError, match=r"plain.*nprobe is for shards with centroids.*cluster=True"),
    ):
        index.search([1, 0, 0], nprobe=1)


@each_metric
def test_queries_that_no_index_takes(rows: np.ndarray, queries: np.ndarray, metric: str, tmp_path: Path) -> None:
    with build(rows, tmp_path, metric) as index:
        bad = queries.copy()
        bad[13, 2] = np.nan
        with pytest.raises(edgevec.NotFiniteError, match="row 13"):
            index.search(bad, nprobe=1)
        with pytest.raises(edgevec.NotFiniteError):
            index.search(bad[13], nprobe=1)
        bad[13] = 0
        if metric == "cosine":
            with pytest.raises(edgevec.ZeroVectorError, match="row 13"):
                index.search(bad, nprobe=1)
        else:
            assert (index.search(bad, 3, nprobe=1).ids[13] >= 0).all()


def test_additions_removals_and_compaction_go_on_so(rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index, ShardedIndex.open(folder) as reader:
        added = index.add(rows[:450] + 50)
        assert len(index.shards) == 11
        for row in (3, 200, 449):
            assert reader.search(rows[row] + 50, 1, nprobe=1).ids.tolist() == [added[row]]
        index.add([[-70] * DIM], ids=[9999])
        assert reader.search([-70] * DIM, 1, nprobe=1).ids.tolist() == [9999]
        index.remove(range(0, ROWS, 2))
        before = index.search(queries, 10, exact=True)
        for query in queries:
            of_shards, is_clear = ranked(folder, "l2", query)
            if is_clear:
                held = np.concatenate(of_shards[:2])
                rows_of = np.asarray(index.get(held))
                assert_right(reader.search(query, 9, exact=True, nprobe=2), "l2", (held, rows_of), query, 9)
        index.compact()
        assert len(index.shards) == 6 + 1
        assert index.manifest.cluster
        after = reader.search(queries, 10, exact=True)
        np.testing.assert_array_equal(after.ids, before.ids)
        assert edgevec.recall(reader.search(queries, 10, exact=True, nprobe=2).ids, after.ids) > 0.8
        assert {path.name for path in folder.iterdir()} == index.manifest.files() | {MANIFEST, "manifest.json-lock"}
        index.remove(list(index))
        assert (len(index), index.search(queries, 3, nprobe=1).ids.shape) == (0, (25, 0))
        index.add(rows[:3])
        assert index.search(rows[1], 1, nprobe=1).ids.size == 1


def test_a_compaction_brings_near_rows_together(rows: np.ndarray, queries: np.ndarray, tmp_path: Path) -> None:
    """Of additions each of which is spread over everything."""
    with build(rows[:10], tmp_path, "l2") as index:
        for start in range(10, ROWS, 90):
            index.add(rows[start : start + 90])
        truth = index.search(queries, 10, exact=True).ids
        assert edgevec.recall(index.search(queries, 10, exact=True, nprobe=2).ids, truth) < 0.5
        index.compact()
        assert len(index.shards) == 8
        assert edgevec.recall(index.search(queries, 10, exact=True, nprobe=2).ids, truth) > 0.7


# ---- the manifest --------------------------------------------------------------------------------------------------


def test_a_manifest_without_centroids_is_as_before(rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path, rows_per_shard=SHARD).close()
    read = json.loads((tmp_path / MANIFEST).read_text())
    assert read["version"] == 1
    assert "cluster" not in read
    assert "centroids" not in read["shards"][0]


def test_who_knows_no_centroids_asks_all_shards(rows: np.ndarray, queries: np.ndarray, folder: Path) -> None:
    """What a version before them reads of the manifest, and would write."""
    with ShardedIndex.open(folder) as index:
        expected = index.search(queries, 10).ids

    def forget(read: dict[str, Any]) -> None:
        assert read["version"] == 1
        del read["cluster"]
        for shard in read["shards"]:
            del shard["centroids"]

    edit(folder, forget)
    with ShardedIndex.open(folder) as index:
        np.testing.assert_array_equal(index.search(queries, 10).ids, expected)


SHARD_1 = ("shards", 1)


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [
        (("cluster",), False, "shard 0: unexpected centroids"),
        (("cluster",), "yes", "cluster is 'yes'"),
        ((*SHARD_1, "centroids"), None, "shard 1: no centroids"),
        ((*SHARD_1, "centroids"), 5, "damaged"),
        ((*SHARD_1, "centroids", "count"), 0, "shard 1: centroids: count must be"),
        ((*SHARD_1, "centroids", "count"), 31, "bytes where 31 centroids of 8 dimensions have"),
        ((*SHARD_1, "centroids", "sha256"), "0" * 64, "shard 1: centroids: sha256 is not that of"),
        ((*SHARD_1, "centroids", "file"), "../x.centroids", "shard 1: centroids: file is '../x.centroids'"),
        ((*SHARD_1, "centroids", "file"), "x.ev", "shard 1: centroids: file is"),
    ],
)
def test_a_manifest_that_says_something_else(folder: Path, place: tuple[Any, ...], value: Any, error: str) -> None:
    assert_refused_with(folder, place, value, error)


def test_centroids_of_another_dim(folder: Path, rows: np.ndarray) -> None:
    with build(rows[:, :4], folder.parent / "t", "l2") as other:
        entry = other.shards[0].centroids
        assert entry is not None
    (folder / entry.file).write_bytes((folder.parent / "t" / entry.file).read_bytes())
    edit(folder, lambda read: read["shards"][0].update(centroids=entry.__dict__))
    with pytest.raises(edgevec.CorruptIndexError, match=rf"{entry.file}: .* of 8 dimensions"):
        ShardedIndex.open(folder)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("missing", edgevec.ShardNotFoundError, "centroids that are not there"),
        ("short", edgevec.CorruptIndexError, "1,020 bytes where 32 centroids of 8 dimensions have 1,024"),
        ("flipped", edgevec.CorruptIndexError, "another checksum than the manifest has"),
    ],
)
def test_centroids_that_are_damaged(
    folder: Path, queries: np.ndarray, how: str, error: type[Exception], message: str
) -> None:
    with ShardedIndex.open(folder) as index:
        shard = index.shards[2]
        assert shard.centroids is not None
        path = folder / shard.centroids.file
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-4] if how == "short" else b"\x01" + content[1:])
    with pytest.raises(error, match=f"{path.name}.*{message}"):
        ShardedIndex.open(folder)
    with ShardedIndex.open(folder, missing="report") as index:
        assert list(index.problems) == [shard.file]
        context = ShardContext(index)
        found = index.search(queries[0], 5, nprobe=1, context=context)
        assert found.ids.size == 5
        # It cannot be ruled out, and so counts as one that was to be asked.
        assert [stats.file for stats in context.stats if stats.queries and stats.problem] == [shard.file]
        path.write_bytes(content)
        assert index.refresh()
        assert not index.problems


def test_centroids_that_are_no_numbers(folder: Path) -> None:
    from edgevec.sharded import Centroids

    entry, content = Centroids.of(np.full((2, DIM), np.nan, np.float32))
    (folder / entry.file).write_bytes(content)
    edit(folder, lambda read: read["shards"][0].update(centroids=entry.__dict__))
    with pytest.raises(edgevec.CorruptIndexError, match=f"{entry.file}: centroids that hold NaN"):
        ShardedIndex.open(folder)
