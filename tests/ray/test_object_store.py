"""Sharded indexes in an object store that refuses, breaks off and loses things: named errors, and nothing half done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import s3fs
from object_store import Fault, ObjectStore, break_nth
from oracle import assert_right

import edgevec
import edgevec.ray
from edgevec import ShardedIndex
from edgevec.sharded import MANIFEST

pytestmark = pytest.mark.filterwarnings("default")

ROWS, DIM = 240, 6
Held = dict[int, np.ndarray]


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is not tried for seconds."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


def build(store: ObjectStore, name: str, rows: Any, **options: Any) -> ShardedIndex:
    return ShardedIndex.build(
        rows,
        f"s3://bucket/{name}",
        rows_per_shard=80,
        metric="l2",
        quantization="none",
        storage_options=store.options,
        **options,
    )


def opened(store: ObjectStore, name: str, **options: Any) -> ShardedIndex:
    return ShardedIndex.open(f"s3://bucket/{name}", storage_options=store.options, **options)


def assert_holds(index: ShardedIndex, held: Held, query: np.ndarray) -> None:
    assert sorted(index) == sorted(held)
    assert_right(index.search(query, 400, exact=True), "l2", held, query, 400)
    if held:
        ids = list(held)
        np.testing.assert_array_equal(index.get(ids), np.stack([held[id] for id in ids]))


def test_all_that_a_local_one_does(store: ObjectStore, name: str, rows: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", rows)
    held = dict(enumerate(rows))
    with build(store, name, tmp_path / "rows.npy") as index, opened(store, f"{name}/{MANIFEST}") as reader:
        assert_holds(index, held, rows[3])
        assert index.add(rows[:5] + 1, ids=range(5)).tolist() == list(range(5))
        held.update(enumerate(rows[:5] + 1))
        assert index.add(rows[:2]).tolist() == [ROWS, ROWS + 1]
        held.update({ROWS: rows[0], ROWS + 1: rows[1]})
        assert index.remove([20, 21, 999]) == 2
        del held[20], held[21]
        assert_holds(index, held, rows[3])
        assert_holds(reader, dict(enumerate(rows)), rows[3])
        assert reader.refresh()
        assert_holds(reader, held, rows[3])
        index.add(rows[20:22], ids=[20, 21])
        index.remove(range(80, 160))
        held = {id: row for id, row in {**held, 20: rows[20], 21: rows[21]}.items() if not 80 <= id < 160}
        index.compact()
        assert_holds(index, held, rows[3])
        assert reader.refresh()
        assert_holds(reader, held, rows[3])
        assert store.names(name) == index.manifest.files() | {MANIFEST}
    with opened(store, name, mmap=False) as index:
        assert_holds(index, held, rows[3])


def test_the_same_rows_removed_and_added_again_beside_a_reader(
    store: ObjectStore, name: str, rows: np.ndarray, tmp_path: Path
) -> None:
    """Their file is copied again, to a place where the copy of before is mapped."""
    with build(store, name, rows) as index, opened(store, name) as reader:
        index.remove(range(0, 80, 2))
        reader.refresh()
        assert reader._following._copies is not None
        copy = reader._following._copies.path / reader.shards[0].file
        os.link(copy, tmp_path / "mapped")
        index.add(rows[:80], ids=range(80))
        reader.refresh()
        assert_holds(reader, dict(enumerate(rows)), rows[0])
        assert copy.stat().st_ino != (tmp_path / "mapped").stat().st_ino


CHANGES: dict[
    str, tuple[list[int], Callable[[ShardedIndex, np.ndarray], object], Callable[[Held, np.ndarray], Held]]
] = {
    "add": (
        # Two shards, the ids that moved there from the first one, the manifest; a shard that was put is found again.
        [0, 1, 1, 1],
        lambda index, rows: index.add(rows[:100] + 2, ids=[*range(50), *range(1000, 1050)]),
        lambda held, rows: held | dict(zip([*range(50), *range(1000, 1050)], rows[:100] + 2, strict=True)),
    ),
    "remove": (
        [0, 1, 2],  # ids of two shards, the manifest
        lambda index, rows: index.remove([70, 90]),
        lambda held, rows: {id: row for id, row in held.items() if id not in (70, 90)},
    ),
    "compact": ([0, 1], lambda index, rows: index.compact(), lambda held, rows: held),
}


@pytest.mark.parametrize("fault", ["refuse", "break off"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_put_that_fails_leaves_what_was_there(
    store: ObjectStore, name: str, rows: np.ndarray, change: str, fault: Fault
) -> None:
    puts, make, expect = CHANGES[change]
    held = dict(enumerate(rows))
    with build(store, name, rows) as index:
        index.remove([200])
        del held[200]
        before = index.manifest
        for number in puts:
            faults, put = break_nth(number, fault)
            with store.failing(faults), pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}/"):
                make(index, rows)
            assert len(put) == number + 1
            with opened(store, name) as again:
                assert again.manifest == before
                assert_holds(again, held, rows[3])
            assert_holds(index, held, rows[3])
        make(index, rows)
        held = expect(held, rows)
        assert_holds(index, held, rows[3])
    with opened(store, name) as again:
        assert_holds(again, held, rows[3])


@pytest.mark.parametrize("fault", ["refuse", "break off"])
def test_a_build_that_fails_leaves_what_was_there_and_goes_on(
    store: ObjectStore, name: str, rows: np.ndarray, fault: Fault
) -> None:
    build(store, name, rows[:30]).close()
    for number in range(4):  # three shards, the manifest
        faults, _ = break_nth(min(number, 1), fault)  # those before are found, but for the one
        with store.failing(faults), pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}/"):
            build(store, name, rows)
        with opened(store, name) as again:
            assert_holds(again, dict(enumerate(rows[:30])), rows[3])
    with build(store, name, rows) as index:
        assert_holds(index, dict(enumerate(rows)), rows[3])


def test_shards_that_are_missing_short_or_changed(store: ObjectStore, name: str, rows: np.ndarray) -> None:
    with build(store, name, rows) as index:
        file = index.shards[1].file
    whole = store.read(f"{name}/{file}")
    held = {id: row for id, row in enumerate(rows) if not 80 <= id < 160}
    cases: list[tuple[bytes | None, type[Exception], str]] = [
        (None, edgevec.ShardNotFoundError, "a shard that is not there"),
        (b"", edgevec.CorruptIndexError, "a shard of 0 bytes"),
        (whole[: len(whole) // 2], edgevec.CorruptIndexError, "bytes where the manifest has"),
        (whole[:-9] + b"x" + whole[-8:], edgevec.CorruptIndexError, "another checksum"),
    ]
    for content, error, message in cases:
        if content is None:
            store.client.delete_object(Bucket="bucket", Key=f"{name}/{file}")
        else:
            store.write(f"{name}/{file}", content)
        with pytest.raises(error, match=f"s3://bucket/{name}/{file}.*{message}"):
            opened(store, name)
        with opened(store, name, missing="report") as index:
            assert (list(index.problems), index.share) == ([file], pytest.approx(2 / 3))
            assert_holds(index, held, rows[3])
            with pytest.raises(error):
                index.add(rows[:1])
    store.write(f"{name}/{file}", whole)
    with opened(store, name) as index:
        assert_holds(index, dict(enumerate(rows)), rows[3])


@pytest.mark.parametrize("fault", ["refuse", "break off"])
def test_what_cannot_be_read_is_named(
    store: ObjectStore, name: str, rows: np.ndarray, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with build(store, name, rows) as index:
        file = index.shards[1].file
        index.remove([3])
        for broken in (MANIFEST, file, ".removed"):
            reading = store.failing(
                lambda method, path, broken=broken: fault if method == "GET" and broken in path else None  # type: ignore[misc]
            )
            with reading, pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}/"):
                opened(store, name)
        assert len(list(tmp_path.iterdir())) == 1, "copies were left behind"
        assert opened(store, name).close() is None
        other = build(store, name, rows[:100])
        with (
            store.failing(lambda method, path: fault if method == "GET" and ".ev" in path else None),
            pytest.raises(edgevec.StorageError),
        ):
            index.refresh()
        assert len(index) == ROWS - 1
        assert index.search(rows[200], 1).ids.tolist() == [200]
        other.close()
    assert not list(tmp_path.iterdir())


def test_a_bucket_that_is_not_there_is_not_made(store: ObjectStore, rows: np.ndarray) -> None:
    with pytest.raises(edgevec.IndexNotFoundError, match="s3://nosuch/items"):
        ShardedIndex.open("s3://nosuch/items", storage_options=store.options)
    with pytest.raises(edgevec.StorageError, match="s3://nosuch/items"):
        ShardedIndex.build(rows, "s3://nosuch/items", storage_options=store.options)
    assert ("PUT", "/nosuch") not in store.requests


@pytest.mark.usefixtures("cluster")
def test_a_cluster_builds_serves_and_asks(store: ObjectStore, name: str, rows: np.ndarray) -> None:
    address, options = f"s3://bucket/{name}", {"storage_options": store.options}
    edgevec.ray.build(rows, address, rows_per_shard=80, metric="l2", quantization="none", **options)
    with ShardedIndex.open(address, **options) as index:
        assert_holds(index, dict(enumerate(rows)), rows[3])
        with edgevec.ray.serve(address, actors=2, **options) as service:
            assert service.search(rows[:40], 1).ids[:, 0].tolist() == list(range(40))
            index.add(rows[:3], ids=range(500, 503))
            index.remove([7])
            assert service.refresh()
            found = service.search(rows[:20], 9, exact=True)
            np.testing.assert_array_equal(found.ids, index.search(rows[:20], 9, exact=True).ids)
        data = ray.data.from_items([{"n": n, "vector": row.tolist()} for n, row in enumerate(rows[10:40])])
        answered = data.map_batches(edgevec.ray.Search(address, k=1, **options), concurrency=1).take_all()
        assert {row["n"]: int(row["ids"][0]) for row in answered} == {n: n + 10 for n in range(30)}
        index.remove(range(80, 160))
        index.compact()
        file = index.shards[0].file
        store.client.delete_object(Bucket="bucket", Key=f"{name}/{file}")
        with edgevec.ray.serve(address, **options) as service, pytest.raises(edgevec.ShardNotFoundError, match=file):
            service.search(rows[0])
