"""Builds with cluster=True and searches with nprobe on a cluster: those of one machine."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import s3fs
from object_store import Fault, ObjectStore
from oracle import clustered

import edgevec
import edgevec.ray
from edgevec import ShardedIndex
from edgevec.sharded import ShardContext

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("default")]

ROWS, DIM, SHARD = 1200, 8, 200
OPTIONS: dict[str, Any] = {"rows_per_shard": SHARD, "metric": "l2", "keep_vectors": "float32", "cluster": True}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return clustered(np.random.default_rng(5), ROWS, DIM)


@pytest.fixture
def folder(rows: np.ndarray, tmp_path: Path) -> Path:
    ShardedIndex.build(rows, tmp_path / "s", **OPTIONS).close()
    return tmp_path / "s"


def test_a_build_is_that_of_one_machine(rows: np.ndarray, folder: Path, tmp_path: Path) -> None:
    manifest = edgevec.ray.build(rows, tmp_path / "r", **OPTIONS)
    with ShardedIndex.open(folder) as index:
        for name in ("centroids", "count", "first_id", "last_id"):
            assert [getattr(shard, name) for shard in manifest.shards] == [
                getattr(shard, name) for shard in index.shards
            ]
        assert [shard.file.split("-")[0] for shard in manifest.shards] == [
            shard.file.split("-")[0] for shard in index.shards
        ]
    left = {path.name for path in (tmp_path / "r").iterdir()}
    assert left == manifest.files() | {"manifest.json", "manifest.json-lock"}


def dying_once(mark: Path) -> Callable[..., Any]:
    """What builds a shard, but the first process that does dies when the shard is there, and no centroids are."""
    build = edgevec.ray.building._build_shard

    def attempt(*arguments: Any) -> Any:
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return build(*arguments)
        import edgevec.sharded.shards

        def die(*_: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        edgevec.sharded.shards.write_centroids = die  # type: ignore[assignment]
        return build(*arguments)

    return attempt


@pytest.mark.parametrize("retries", [3, 0])
def test_a_killed_worker_costs_its_shard_alone(
    retries: int, rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that it has left is taken, by Ray's next attempt or by the next build, and gets its centroids."""
    monkeypatch.setattr(edgevec.ray.building, "_build_shard", dying_once(tmp_path / "mark"))
    how = {**OPTIONS, "concurrency": 1, "ray_remote_args": {"max_retries": retries}}
    if not retries:
        with pytest.raises(edgevec.StorageError, match="lost"):
            edgevec.ray.build(rows, tmp_path / "r", **how)
        assert not (tmp_path / "r" / "manifest.json").exists()
        left = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").glob("*.ev")}
        assert len(left) == 1
    manifest = edgevec.ray.build(rows, tmp_path / "r", **how)
    if not retries:
        assert left.items() < {path: path.stat().st_mtime_ns for path in (tmp_path / "r").glob("*.ev")}.items()
    with ShardedIndex.open(tmp_path / "r") as index:
        assert sorted(index) == list(range(ROWS))
        assert index.search(rows[4], 1, nprobe=1).ids.size == 1
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert names == manifest.files() | {"manifest.json", "manifest.json-lock"}


@pytest.mark.parametrize("actors", [1, 3])
def test_a_service_answers_as_the_index(actors: int, rows: np.ndarray, folder: Path, rng: np.random.Generator) -> None:
    queries = rows[::90] + 0.1 * rng.standard_normal((14, DIM)).astype(np.float32)
    allowed = rng.permutation(ROWS)[:80]
    with ShardedIndex.open(folder) as index, edgevec.ray.serve(folder, actors=actors) as service:
        for nprobe in (1, 2, 6, 99):
            for options in ({}, {"filter": allowed}, {"exact": True}, {"filter": [-7]}, {"recall": 0.9}):
                for asked in (queries, queries[0], queries[:0]):
                    for k in (4, 500):
                        found = service.search(asked, k, nprobe=nprobe, **options)
                        expected = index.search(asked, k, nprobe=nprobe, **options)
                        np.testing.assert_array_equal(found.ids, expected.ids)
                        np.testing.assert_array_equal(found.distances, expected.distances)
        before = service.stats.asked
        service.search(queries[0], nprobe=1)
        assert service.stats.asked == before + 1
        bad = queries.copy()
        bad[9] = np.nan
        with pytest.raises(edgevec.NotFiniteError, match="row 9"):
            service.search(bad, nprobe=1)
        for options in ({"nprobe": 0}, {"nprobe": 1.5}, {"nprobe": 1, "ef": 0}):
            with pytest.raises(edgevec.ParameterError):
                service.search(queries, **options)
        index.add(rows[:3] + 70, ids=[5000, 5001, 5002])
        assert service.search(rows[1] + 70, 1, nprobe=1).ids.tolist() == [5001]


def test_an_index_without_centroids(rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=SHARD).close()
    with edgevec.ray.serve(tmp_path / "s") as service:
        with pytest.raises(edgevec.ParameterError, match="nprobe is for shards with centroids"):
            service.search(rows[0], nprobe=1)
        assert service.search(rows[:0], 5).ids.shape == (0, 5)


def test_only_shards_that_are_asked_can_be_missing(rows: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        context = ShardContext(index)
        index.search(rows[0], nprobe=1, context=context)
        [nearest] = [stats.file for stats in context.stats if stats.queries]
        far = next(row for row in rows if nearest not in asked_of(index, row))
    (folder / nearest).unlink()
    with edgevec.ray.serve(folder, actors=1) as service:
        assert service.search(far, 5, nprobe=1).ids.size == 5
        with pytest.raises(edgevec.ShardNotFoundError, match=nearest):
            service.search(rows[0], 5, nprobe=1)
    with edgevec.ray.serve(folder, missing="report", actors=1) as service:
        service.search(np.stack([far, far]), 5, nprobe=1)
        assert (service.problems, service.share) == ({}, 1.0)
        assert service.search(rows[0], 5, nprobe=1).ids.size == 0
        assert (list(service.problems), service.share) == ([nearest], 0.0)
        service.search(np.stack([far, rows[0]]), 5, nprobe=1)
        assert list(service.problems) == [nearest]
        assert 0.2 < service.share < 0.8


def asked_of(index: ShardedIndex, row: np.ndarray) -> list[str]:
    context = ShardContext(index)
    index.search(row, nprobe=1, context=context)
    return [stats.file for stats in context.stats if stats.queries]


def test_centroids_that_are_missing_are_those_of_a_shard_that_is(rows: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        shard = index.shards[1]
        assert shard.centroids is not None
    (folder / shard.centroids.file).unlink()
    with edgevec.ray.serve(folder) as service, pytest.raises(edgevec.ShardNotFoundError, match=shard.centroids.file):
        service.search(rows[0], nprobe=1)
    with edgevec.ray.serve(folder, missing="report") as service:
        assert service.search(rows[0], 5, nprobe=1).ids.size == 5
        assert list(service.problems) == [shard.file]


def test_ray_data_asks_few_shards(rows: np.ndarray, folder: Path) -> None:
    data = ray.data.from_items([{"n": n, "vector": row.tolist()} for n, row in enumerate(rows[:60])])
    search = edgevec.ray.Search(folder, k=3, nprobe=2, exact=True)
    found = {row["n"]: row["ids"] for row in data.map_batches(search, batch_size=20, concurrency=2).take_all()}
    with ShardedIndex.open(folder) as index:
        expected = index.search(rows[:60], 3, nprobe=2, exact=True).ids
    np.testing.assert_array_equal(np.stack([found[n] for n in range(60)]), expected)
    with pytest.raises(edgevec.ParameterError, match="nprobe must be"):
        edgevec.ray.Search(folder, nprobe=0)


def test_a_put_that_fails_leaves_what_was_there(
    rows: np.ndarray, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    name = uuid.uuid4().hex
    address, how = f"s3://bucket/{name}", {"storage_options": store.options}
    ShardedIndex.build(rows[:50], address, **how).close()
    shards: set[str] = set()
    for end in (".centroids", "manifest.json"):

        def refused(method: str, path: str, end: str = end) -> Fault | None:
            return "refuse" if method in ("PUT", "POST") and path.endswith(end) else None

        with store.failing(refused), pytest.raises(edgevec.StorageError, match=end):
            ShardedIndex.build(rows, address, **how, **OPTIONS)
        with ShardedIndex.open(address, **how) as index:
            assert len(index) == 50
        left = {file for file in store.names(name) if file.endswith(".ev")}
        assert left > shards
        shards = left
    before = len(store.requests)
    with ShardedIndex.build(rows, address, **how, **OPTIONS) as index:
        assert sorted(index) == list(range(ROWS))
        assert index.search(rows[9], 1, nprobe=2, exact=True).ids.size == 1
    assert not [path for method, path in store.requests[before:] if method == "PUT" and path.endswith(".ev")]


def test_in_an_object_store(rows: np.ndarray, store: ObjectStore) -> None:
    name = uuid.uuid4().hex
    address = f"s3://bucket/{name}"
    manifest = edgevec.ray.build(rows, address, storage_options=store.options, **OPTIONS)
    assert manifest.cluster
    with ShardedIndex.open(address, storage_options=store.options) as index:
        expected = index.search(rows[::50], 5, nprobe=2)
        with edgevec.ray.serve(address, storage_options=store.options, actors=2) as service:
            np.testing.assert_array_equal(service.search(rows[::50], 5, nprobe=2).ids, expected.ids)
        index.remove(range(0, ROWS, 2))
        index.compact()
        assert store.names(name) == index.manifest.files() | {"manifest.json"}
        assert index.search(rows[1], 1, nprobe=1, exact=True).ids.tolist() == [1]
