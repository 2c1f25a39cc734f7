"""Sharded indexes on a cluster of two nodes, which are processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from oracle import assert_right
from support import HANG

import edgevec
import edgevec.ray
from edgevec import ShardedIndex, Storage

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("default")]

ROWS, DIM = 1200, 8


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


def dying(marks: Path, doomed: int, point: str, times: int) -> Callable[..., Any]:
    """What builds a shard, but at the shard of row `doomed` kills its process at a point, the first so many times.

    Each attempt leaves a mark, so that it is known what was built how often.
    """
    build = edgevec.ray.building._build_shard

    def attempt(address: str, options: Any, settings: Any, threads: int, start: int, *block: Any) -> Any:
        earlier = len(list(marks.glob(f"{start}-*")))
        (marks / f"{start}-{earlier}").touch(exist_ok=False)
        if start == doomed and earlier < times:
            if point == "begun":
                os.kill(os.getpid(), signal.SIGKILL)
            from edgevec.sharded.folders import LocalFolder

            def adopt(self: Any, path: Path, name: str) -> None:
                assert path.stat().st_size
                if point == "in place":
                    os.replace(path, self.path / name)
                os.kill(os.getpid(), signal.SIGKILL)

            LocalFolder.adopt = adopt  # type: ignore[method-assign]
        return build(address, options, settings, threads, start, *block)

    return attempt


def attempts(marks: Path) -> dict[int, int]:
    return dict(Counter(int(mark.name.split("-")[0]) for mark in marks.iterdir()))


@pytest.mark.parametrize("point", ["begun", "written", "in place"])
def test_a_killed_worker_costs_its_shard_alone(
    rows: np.ndarray, tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setattr(edgevec.ray.building, "_build_shard", dying(marks, 300, point, 1))
    manifest = edgevec.ray.build(rows, tmp_path / "r", rows_per_shard=300)
    assert attempts(marks) == {0: 1, 300: 2, 600: 1, 900: 1}
    with ShardedIndex.open(tmp_path / "r") as index:
        assert sorted(index) == list(range(ROWS))
    left = {path.name for path in (tmp_path / "r").iterdir()}
    assert left == manifest.files() | {"manifest.json", "manifest.json-lock"}


def test_a_build_that_loses_its_workers_is_an_error_and_goes_on_where_it_was(
    rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    monkeypatch.setattr(edgevec.ray.building, "_build_shard", dying(marks, 900, "begun", 2))
    for _ in range(2):
        with pytest.raises(edgevec.StorageError, match="lost"):
            edgevec.ray.build(
                rows, tmp_path / "r", rows_per_shard=300, concurrency=1, ray_remote_args={"max_retries": 0}
            )
        assert not (tmp_path / "r" / "manifest.json").exists()
    left = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").glob("*.ev")}
    assert len(left) == 3
    edgevec.ray.build(rows, tmp_path / "r", rows_per_shard=300)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").glob("*.ev")}
    assert left.items() < made.items()
    with ShardedIndex.open(tmp_path / "r") as index:
        assert sorted(index) == list(range(ROWS))


@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_a_service_answers_as_the_index(
    storage: Storage, rows: np.ndarray, folder: Path, rng: np.random.Generator
) -> None:
    queries = rng.standard_normal((6, DIM)).astype(np.float32)
    allowed = rng.permutation(ROWS)[:40]
    with ShardedIndex.open(folder) as index, edgevec.ray.serve(folder, replicas=2, storage=storage) as service:
        for options in ({}, {"filter": allowed}, {"exact": True}, {"ef": 90}, {"filter": [-7]}):
            for asked in (queries, queries[0]):
                found, expected = service.search(asked, 9, **options), index.search(asked, 9, **options)
                np.testing.assert_array_equal(found.ids, expected.ids)
                np.testing.assert_array_equal(found.distances, expected.distances)
        assert_right(service.search(queries[0], 9, exact=True), "l2", (range(ROWS), rows), queries[0], 9)
        assert service.search(queries, 9, recall=0.9).ids.shape == (6, 9)
        with pytest.raises(edgevec.NotFiniteError):
            service.search([np.nan] * DIM)
        for query, options in (([1, 2], {}), (queries, {"ef": [7]}), (queries, {"ef": 0}), (queries, {"k": 0})):
            with pytest.raises(edgevec.ParameterError):
                service.search(query, **options)
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


def test_a_service_knows_another_index_of_the_same_age(rows: np.ndarray, folder: Path) -> None:
    """What its actors hold is told apart by the content of the manifest, not by how often that was written."""
    with edgevec.ray.serve(folder, actors=2) as service:
        assert service.search(rows[7], 1).ids.tolist() == [7]
        shutil.rmtree(folder)
        with pytest.raises(edgevec.IndexNotFoundError, match="no such manifest of shards"):
            service.search(rows[7], 1)
        ids = np.arange(ROWS) + 5000
        ShardedIndex.build(rows, folder, ids=ids, rows_per_shard=200, metric="l2", keep_vectors="float32").close()
        assert service._manifest.generation == 1
        np.testing.assert_array_equal(service.search(rows[:50], 1).ids[:, 0], ids[:50])


def test_a_shard_that_a_compaction_removed_is_not_missing(
    rows: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ShardedIndex.open(folder) as index:
        for missing, another in (("error", False), ("report", False), ("error", True)):
            with edgevec.ray.serve(folder, actors=2, missing=missing) as service:
                assert service.search(rows[7], 1).ids.tolist() == [7]
                monkeypatch.setattr(service, "_seen", lambda at=service._stamp: at)  # as if it had looked just before
                index.remove([*range(900, 1000), *range(7)])
                index.compact()
                for part in range(2):
                    os.kill(ray.get(service._replicas.actor(0, part).handle.pid.remote(), timeout=HANG), signal.SIGKILL)
                if another:  # another thread sees it first
                    asked = service._asked
                    monkeypatch.setattr(
                        service, "_asked", lambda *query, asked=asked, of=service: (asked(*query), of.refresh())[0]
                    )
                found = service.search(rows[:5], ROWS, exact=True)
                np.testing.assert_array_equal(found.ids, index.search(rows[:5], ROWS, exact=True).ids)
                assert (service.problems, service.share) == ({}, 1.0)
            index.add(rows[:7], ids=range(7))


def test_a_killed_actor_costs_no_answer(rows: np.ndarray, folder: Path) -> None:
    with ShardedIndex.open(folder) as index, edgevec.ray.serve(folder, replicas=2, actors=2) as service:
        expected = index.search(rows[:5], 7, exact=True).ids
        for turn in range(4):
            victim = service._replicas.actor(turn % 2, turn // 2)
            pid = ray.get(victim.handle.pid.remote(), timeout=HANG)
            os.kill(pid, signal.SIGKILL)
            for _ in range(2):  # both replicas
                np.testing.assert_array_equal(service.search(rows[:5], 7, exact=True).ids, expected)
            assert service._replicas.actor(turn % 2, turn // 2) is not victim


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


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([np.ones(2), np.ones(3)], r"column vector: vectors must have \d+ numbers each, but row \d is"),
        ([None, np.ones(2)], "column vector: expected vectors, found object"),
        (["a", "b"], "column vector: expected vectors, found object"),
    ],
)
def test_a_batch_without_vectors_is_named(folder: Path, values: list[Any], error: str) -> None:
    column = np.empty(2, object)
    column[:] = values
    with pytest.raises(edgevec.DataFormatError, match=error):
        edgevec.ray.Search(folder)({"vector": column})
