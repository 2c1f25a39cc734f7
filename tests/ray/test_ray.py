"""Sharded indexes on a cluster of two nodes, which are processes of this machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import HANG

import edgevec

# Ray starts processes and warns of things of its own, so tox has an environment `ray` for it.
if os.environ.get("EDGEVEC_RAY") != "1":
    pytest.skip("tox run -e ray", allow_module_level=True)

import ray
from oracle import assert_right
from ray.cluster_utils import Cluster

import edgevec.ray
from edgevec import ShardedIndex

pytestmark = pytest.mark.filterwarnings("default")

ROWS, DIM = 1200, 8


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Any]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.add_node(num_cpus=2, include_dashboard=False)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture
def folder(rows: np.ndarray, tmp_path: Path) -> Path:
    ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=200, metric="l2", keep_vectors="float32").close()
    return tmp_path / "s"


def test_a_build_is_that_of_one_machine(rows: np.ndarray, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    told: list[int] = []
    manifest = edgevec.ray.build(
        tmp_path / "rows.npy",
        tmp_path / "r",
        rows_per_shard=200,
        metric="l2",
        keep_vectors="float32",
        progress=lambda done, total: told.append(done),
    )
    assert told == list(range(200, ROWS + 1, 200))
    with ShardedIndex.open(tmp_path / "r") as index, ShardedIndex.open(folder) as other:
        assert index.manifest == manifest
        assert [shard.file.split("-")[0] for shard in index.shards] == [
            shard.file.split("-")[0] for shard in other.shards
        ]
        query = rows[3] + 0.1
        assert_right(index.search(query, 9, exact=True), "l2", (range(ROWS), rows), query, 9)


def test_a_dataset_and_a_rerun(rows: np.ndarray, tmp_path: Path) -> None:
    data = ray.data.from_items([{"id": 7 * n, "vector": row.tolist()} for n, row in enumerate(rows[:300])])
    edgevec.ray.build(data, tmp_path / "r", rows_per_shard=100)
    with ShardedIndex.open(tmp_path / "r") as index:
        assert sorted(index) == list(range(0, 2100, 7))
        assert index.search(rows[5], 1).ids.tolist() == [35]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").glob("*.ev")}
    again = edgevec.ray.build(rows[:300], tmp_path / "r", ids=range(0, 2100, 7), rows_per_shard=100)
    assert (again.generation, len(before)) == (2, 3)


def test_errors_come_from_the_tasks_and_nothing_is_committed(rows: np.ndarray, tmp_path: Path) -> None:
    rows[700, 1] = np.nan
    with pytest.raises(edgevec.NotFiniteError, match="row 700"):
        edgevec.ray.build(rows, tmp_path / "r", rows_per_shard=200)
    assert not (tmp_path / "r" / "manifest.json").exists()
    rows[700, 1] = 0
    with pytest.raises(edgevec.DuplicateIdError):
        edgevec.ray.build(rows, tmp_path / "r", ids=[*range(ROWS - 1), 3], rows_per_shard=200)
    with pytest.raises(edgevec.CancelledError):
        edgevec.ray.build(rows, tmp_path / "r", rows_per_shard=200, progress=lambda done, total: False)
    with pytest.raises(edgevec.ParameterError):
        edgevec.ray.build(rows, tmp_path / "r", rows_per_shard=0)
    assert not (tmp_path / "r" / "manifest.json").exists()


def kill_workers_once(folder: Path, stop: Any) -> None:
    """Kill the first worker that is at work in the folder."""
    while not stop.is_set():
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"_build_shard" in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
                    stop.set()
                    return
            except OSError:
                continue
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="this system tells no names of processes")
def test_a_killed_worker_costs_its_shard_alone(rng: np.random.Generator, tmp_path: Path) -> None:
    import threading

    rows = rng.standard_normal((12_000, 64)).astype(np.float32)
    killed = threading.Event()
    killer = threading.Thread(target=kill_workers_once, args=(tmp_path / "r", killed))
    killer.start()
    try:
        edgevec.ray.build(rows, tmp_path / "r", rows_per_shard=3000)
        assert killed.is_set(), "no worker was seen at work"
    finally:
        killed.set()
        killer.join()
    with ShardedIndex.open(tmp_path / "r") as index:
        assert sorted(index) == list(range(12_000))


def test_a_service_answers_as_the_index(rows: np.ndarray, folder: Path, rng: np.random.Generator) -> None:
    queries = rng.standard_normal((6, DIM)).astype(np.float32)
    allowed = rng.permutation(ROWS)[:40]
    with ShardedIndex.open(folder) as index, edgevec.ray.serve(folder, replicas=2) as service:
        for options in ({}, {"filter": allowed}, {"exact": True}, {"ef": 90}, {"filter": [-7]}):
            for asked in (queries, queries[0]):
                found, expected = service.search(asked, 9, **options), index.search(asked, 9, **options)
                np.testing.assert_array_equal(found.ids, expected.ids)
                np.testing.assert_array_equal(found.distances, expected.distances)
        assert_right(service.search(queries[0], 9, exact=True), "l2", (range(ROWS), rows), queries[0], 9)
        assert service.search(queries, 9, recall=0.9).ids.shape == (6, 9)
        with pytest.raises(edgevec.NotFiniteError):
            service.search([np.nan] * DIM)
        with pytest.raises(edgevec.ParameterError):
            service.search([1, 2])
        assert (service.share, len(service)) == (1.0, ROWS)
    with pytest.raises(edgevec.ClosedError):
        service.search(queries)


def test_a_service_follows(rows: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index, edgevec.ray.serve(folder, actors=2) as service:
        index.remove([7])
        assert 7 not in service.search(rows[7], 3).ids
        index.add(rows[7:8], ids=[7])
        assert service.search(rows[7], 1).ids.tolist() == [7]
        index.remove(range(100, 1000))
        index.compact()
        found = service.search(rows[:5], 400, exact=True)
        np.testing.assert_array_equal(found.ids, index.search(rows[:5], 400, exact=True).ids)


def test_a_killed_actor_costs_no_answer(rows: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index, edgevec.ray.serve(folder, replicas=2, actors=2) as service:
        expected = index.search(rows[:5], 7, exact=True).ids
        for turn in range(4):
            victim = service._groups[turn % 2][turn // 2]
            pid = ray.get(victim.pid.remote(), timeout=HANG)
            os.kill(pid, signal.SIGKILL)
            for _ in range(2):  # both replicas
                np.testing.assert_array_equal(service.search(rows[:5], 7, exact=True).ids, expected)
            assert service._groups[turn % 2][turn // 2] is not victim


def test_a_missing_shard_is_an_error_or_reported(rows: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index:
        gone = index.shards[2]
    (folder / gone.file).unlink()
    with edgevec.ray.serve(folder) as service, pytest.raises(edgevec.ShardNotFoundError, match=gone.file):
        service.search(rows[0])
    with edgevec.ray.serve(folder, missing="report") as service:
        found = service.search(rows[0], ROWS, exact=True)
        assert set(range(ROWS)) - set(found.ids.tolist()) == set(range(400, 600))
        assert service.share == pytest.approx(5 / 6)
        assert list(service.problems) == [gone.file]


def test_ray_data_asks_an_index(rows: np.ndarray, folder: Path) -> None:
    data = ray.data.from_items([{"n": n, "vector": row.tolist()} for n, row in enumerate(rows[:60])])
    found = data.map_batches(edgevec.ray.Search(folder, k=3), batch_size=20, concurrency=2).take_all()
    assert {row["n"]: int(row["ids"][0]) for row in found} == {n: n for n in range(60)}
    assert all(len(row["distances"]) == 3 for row in found)
