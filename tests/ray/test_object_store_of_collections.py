"""Collections in shards in an object store that refuses, breaks off and loses things: errors, and nothing half done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from object_store import Fault, ObjectStore, break_nth

import edgevec
import edgevec.ray
from edgevec import ShardedCollection
from edgevec.sharded import MANIFEST

pytestmark = pytest.mark.filterwarnings("default")

Rows = list[dict[str, Any]]
GRAPH = "-graph"


def rows_of(start: int, stop: int, word: str = "note") -> Rows:
    return [{"id": n, "vector": [n, 1.0], "text": f"{word} {n}", "year": 2000 + n} for n in range(start, stop)]


ROWS = rows_of(0, 24)
OPTIONS: dict[str, Any] = {"rows_per_shard": 8, "metric": "l2", "quantization": "none"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is not tried for seconds."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


def build(store: ObjectStore, name: str, rows: Rows) -> ShardedCollection:
    return ShardedCollection.build(rows, f"s3://bucket/{name}", storage_options=store.options, **OPTIONS)


def opened(store: ObjectStore, name: str, **options: Any) -> ShardedCollection:
    return ShardedCollection.open(f"s3://bucket/{name}", storage_options=store.options, **options)


def contents(records: list[edgevec.Record]) -> list[tuple[Any, ...]]:
    return [(each.id, each.vector.tolist(), each.document, each.metadata) for each in records]


def assert_holds(notes: ShardedCollection, rows: Rows) -> None:
    """Ids, records and answers are those of one collection in memory."""
    with edgevec.open(":memory:", 2, "l2", quantization="none") as one:
        one.import_from(rows)
        ids = one.ids()
        assert notes.ids() == ids
        assert contents(notes.get(ids)) == contents(one.get(ids))
        for where in (None, "year < 2010", "year >= 2005 AND id != 7"):
            found = notes.search([7, 1], 50, text="note 9", where=where, exact=True)
            assert found == one.search([7, 1], 50, text="note 9", where=where, exact=True)


def assert_still_holds(store: ObjectStore, name: str, rows: Rows) -> None:
    with opened(store, name) as notes:
        assert_holds(notes, rows)


def copies_of(notes: ShardedCollection) -> set[str]:
    """The files of the store that are on this machine, too."""
    return {path.name for path in notes._following.copies().iterdir()}


def files_of(notes: ShardedCollection) -> set[str]:
    return {shard.file + end for shard in notes.shards for end in ("", GRAPH)}


@pytest.mark.parametrize("options", [{}, {"mmap": False}, {"verify": False}])
def test_all_that_a_local_one_does(store: ObjectStore, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(edgevec.CollectionNotFoundError, match=f"s3://bucket/{name}"):
        opened(store, name)
    with build(store, name, ROWS) as notes, opened(store, f"{name}/{MANIFEST}", **options) as reader:
        assert_holds(notes, ROWS)
        assert store.names(name) == files_of(notes) | {MANIFEST}
        more = ROWS[:16] + rows_of(16, 30, "letter")
        build(store, name, more).close()
        assert_holds(reader, ROWS)
        assert reader.refresh()
        assert not reader.refresh()
        assert_holds(reader, more)
        assert copies_of(reader) == files_of(reader)
        assert reader.shards[:2] == notes.shards[:2]
        assert all(report.ok for report in reader.check().values())
        assert_holds(notes, ROWS)


@pytest.mark.parametrize("fault", ["refuse", "break off"])
def test_a_put_that_fails_leaves_what_was_there_and_the_next_build_goes_on(
    store: ObjectStore, name: str, fault: Fault
) -> None:
    old = rows_of(100, 105)
    with build(store, name, old) as reader:
        # The two files of three shards, and the manifest. A shard is found again once both were put.
        for number in (0, 1, 2, 1, 2, 1, 2):
            faults, put = break_nth(number, fault)
            with store.failing(faults), pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}/"):
                build(store, name, ROWS)
            assert len(put) == number + 1
            assert_still_holds(store, name, old)
            assert not reader.refresh()
            assert_holds(reader, old)
        before = len(store.requests)
        with build(store, name, ROWS) as notes:
            assert_holds(notes, ROWS)
            put = [path for method, path in store.requests[before:] if method in ("PUT", "POST")]
            assert put == [f"/bucket/{name}/{MANIFEST}"]
        assert reader.refresh()
        assert_holds(reader, ROWS)


@pytest.mark.parametrize("end", ["", GRAPH])
def test_shards_that_are_missing_short_or_changed(store: ObjectStore, name: str, end: str) -> None:
    with build(store, name, ROWS) as notes:
        file = notes.shards[1].file
    whole = store.read(f"{name}/{file}{end}")
    cases: list[tuple[bytes | None, type[Exception], str]] = [
        (None, edgevec.ShardNotFoundError, "a shard that is not there"),
        (b"", edgevec.CorruptCollectionError, "a shard of 0 bytes"),
        (whole[: len(whole) // 2], edgevec.CorruptCollectionError, "bytes where the manifest has"),
        (whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], edgevec.CorruptCollectionError, "another checksum"),
    ]
    for content, error, message in cases:
        if content is None:
            store.client.delete_object(Bucket="bucket", Key=f"{name}/{file}{end}")
        else:
            store.write(f"{name}/{file}{end}", content)
        with pytest.raises(error, match=f"s3://bucket/{name}/{file}{end}.*{message}"):
            opened(store, name)
        with opened(store, name, missing="report") as some:
            assert (list(some.problems), some.share) == ([file], pytest.approx(2 / 3))
            assert_holds_others(some)
            assert copies_of(some) == files_of(some) - {file, file + GRAPH}
            with pytest.raises(error):
                some.get(10)
            store.write(f"{name}/{file}{end}", whole)
            assert some.refresh()
            assert_holds(some, ROWS)
    store.write(f"{name}/{file}{end}", whole[:-9])
    with build(store, name, ROWS) as notes:  # which does not take it for finished
        assert_holds(notes, ROWS)


def assert_holds_others(notes: ShardedCollection) -> None:
    assert notes.ids() == [*range(8), *range(16, 24)]
    assert [hit.id for hit in notes.search([9, 1], 2, exact=True)] == [7, 6]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where copies lie; none is left at the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    assert not list(tmp_path.iterdir()), "copies were left behind"


@pytest.mark.parametrize("fault", ["refuse", "break off"])
def test_what_cannot_be_read_is_named(store: ObjectStore, name: str, fault: Fault, temporary: Path) -> None:
    def broken(end: str) -> Any:
        return store.failing(lambda method, path: fault if method == "GET" and path.endswith(end) else None)

    with build(store, name, ROWS) as notes:
        file = notes.shards[1].file
        for end in (MANIFEST, file, file + GRAPH):
            with broken(end), pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}/"):
                opened(store, name)
        assert len(list(temporary.iterdir())) == 1, "copies were left behind"
        with broken(file), opened(store, name, missing="report") as some:
            assert list(some.problems) == [file]
            assert_holds_others(some)
        held = copies_of(notes)
        with build(store, name, ROWS[:16] + rows_of(50, 90)) as other:
            last = other.shards[-1].file
        for end in (MANIFEST, last, last + GRAPH):
            with broken(end), pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}/"):
                notes.refresh()
            assert_holds(notes, ROWS)
            assert copies_of(notes) == held, "copies of shards that were not taken in"
        assert notes.refresh()
        assert_holds(notes, ROWS[:16] + rows_of(50, 90))
        assert copies_of(notes) == files_of(notes)


@pytest.mark.parametrize("fault", ["refuse", "break off"])
@pytest.mark.usefixtures("temporary")
def test_a_build_that_cannot_read_what_is_there(store: ObjectStore, name: str, fault: Fault) -> None:
    """The manifest, the list of files, and shards that an earlier build has left."""
    with build(store, name, ROWS) as notes:
        file = notes.shards[0].file
    for end in (f"/{name}/{MANIFEST}", "/bucket", file, file + GRAPH):
        with (
            store.failing(lambda method, path, end=end: fault if method == "GET" and path.endswith(end) else None),  # type: ignore[misc]
            pytest.raises(edgevec.StorageError, match=f"s3://bucket/{name}"),
        ):
            build(store, name, [*ROWS, *rows_of(30, 32)])
        assert_still_holds(store, name, ROWS)


def test_a_bucket_that_is_not_there_is_not_made(store: ObjectStore) -> None:
    with pytest.raises(edgevec.CollectionNotFoundError, match="s3://nosuch/notes"):
        ShardedCollection.open("s3://nosuch/notes", storage_options=store.options)
    with pytest.raises(edgevec.StorageError, match="s3://nosuch/notes"):
        ShardedCollection.build(ROWS, "s3://nosuch/notes", storage_options=store.options)
    assert ("PUT", "/nosuch") not in store.requests


@pytest.mark.usefixtures("cluster")
def test_tasks_of_a_cluster_that_cannot_put_a_file_leave_what_was_there(store: ObjectStore, name: str) -> None:
    address, options = f"s3://bucket/{name}", {"storage_options": store.options, **OPTIONS}
    old = rows_of(100, 105)
    edgevec.ray.build_collection(old, address, **options)
    fault: Fault = "break off"
    for end in (".edgevec", GRAPH, MANIFEST):
        with (
            store.failing(lambda method, path, end=end: fault if method == "PUT" and path.endswith(end) else None),  # type: ignore[misc]
            pytest.raises(edgevec.StorageError, match=address),
        ):
            edgevec.ray.build_collection(ROWS, address, **options)
        assert_still_holds(store, name, old)
    edgevec.ray.build_collection(ROWS, address, **options)
    assert_still_holds(store, name, ROWS)


@pytest.mark.usefixtures("cluster")
def test_a_cluster_serves_and_asks(store: ObjectStore, name: str) -> None:
    address, options, query = f"s3://bucket/{name}", {"storage_options": store.options}, {"text": "note 9", "k": 5}
    with build(store, name, ROWS) as notes, edgevec.ray.serve_collection(address, actors=2, **options) as service:
        assert service.search([7, 1], **query) == notes.search([7, 1], **query)
        notes.delete([9, 10])
        notes.compact()
        assert len(service) == 24  # until it looks
        assert service.refresh()
        assert service.search([7, 1], **query) == notes.search([7, 1], **query)
        assert contents(service.get(service.ids())) == contents(notes.get(notes.ids()))
        found = edgevec.ray.SearchCollection(address, 1, text="text", **options)({"text": ["note 7", "23"]})
        assert found["ids"].tolist() == [[7], [23]]
        file = notes.shards[0].file
    store.client.delete_object(Bucket="bucket", Key=f"{name}/{file}{GRAPH}")
    with (
        edgevec.ray.serve_collection(address, **options) as lost,
        pytest.raises(edgevec.ShardNotFoundError, match=file),
    ):
        lost.count()
