"""storage="disk": the answers are those of the same collection in memory, bit for bit, or an error says why not."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import outcome_of, start_child
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Rows, each_metric
from support import HANG, examples

import edgevec
from edgevec import ClosedError, MemoryLimitError, Metric, ParameterError, Quantization, StorageError
from edgevec.collection import Collection, on_disk
from edgevec.collection.following import Follower

DIM = 24
WORDS = ["red", "green", "blue", "wolf", "tree"]
on_posix = pytest.mark.skipif(os.name == "nt", reason="it is refused on Windows")
with_readers = pytest.mark.skipif(sys.platform == "emscripten", reason="a browser has one program")


def store(made: Collection, ids: list[int], seed: int, dim: int = DIM) -> None:
    rng = np.random.default_rng(seed)
    made.upsert(
        ids,
        rng.standard_normal((len(ids), dim)).astype(np.float32),
        [{"n": int(n)} for n in rng.integers(5, size=len(ids))],
        [" ".join(rng.choice(WORDS, 3)) for _ in ids],
    )


def found(made: Collection, **arguments: Any) -> list[tuple[Any, ...]]:
    return [(hit.id, hit.score, hit.distance, hit.metadata, hit.document) for hit in made.search(**arguments)]


def assert_same(disk: Collection, memory: Collection, seed: int = 7) -> None:
    """Of all ways to ask. Walks keep every candidate: threads may have linked the nodes otherwise."""
    query: Rows = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    every = max(1, len(memory))
    assert (disk.storage, memory.storage) == ("disk", "memory")
    for arguments in (
        {"vector": query, "k": every, "ef": every},
        {"vector": query, "k": 5, "ef": every},
        {"vector": query, "k": 7, "exact": True},
        {"vector": query, "k": 7, "ef": every, "where": "n >= 2"},
        {"vector": query, "k": 7, "ef": every, "where": {"n": 1}},
        {"vector": query, "text": "wolf", "k": 9, "ef": every},
        {"vector": query, "text": "wolf red", "k": 9, "ef": every, "where": "n < 4", "weights": (1, 2)},
        {"text": "tree", "k": 4},
    ):
        assert found(disk, **arguments) == found(memory, **arguments), arguments


def both_at(folder: Path, **parameters: Any) -> list[Collection]:
    """One on disk, one in memory."""
    return [edgevec.open(folder / storage, storage=storage, **parameters) for storage in ("disk", "memory")]  # type: ignore[arg-type]


def reader_of(made: Collection, **how: Any) -> Collection:
    """Of which nothing lies beside the graph, and is compared as it was given: with a progress function it waits."""
    assert made.path is not None
    return edgevec.open(made.path, mode="r", progress=lambda done, total: None, **how)


# ---- the same answers ------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["upsert", "delete", "where", "batch", "failed batch", "checkpoint", "compact", "reopen", "swap", "read"]
        ),
        st.integers(0, 2**16),
    ),
    min_size=1,
    max_size=10,
)


class Failure(Exception):
    pass


def make_step(made: Collection, step: str, rng: np.random.Generator) -> None:
    ids, seed = rng.permutation(120)[: rng.integers(1, 50)].tolist(), int(rng.integers(2**16))
    if step == "upsert":
        store(made, ids, seed)
    elif step == "delete":
        made.delete(ids)
    elif step == "where":
        made.delete(where={"n": int(rng.integers(5))})
    elif step in ("batch", "failed batch"):
        try:
            with made.batch():
                store(made, ids, seed)
                made.search(np.ones(DIM), 5)
                made.delete(ids[::3])
                store(made, ids[::5], seed + 1)
                if step == "failed batch":
                    raise Failure
        except Failure:
            pass
    elif step == "checkpoint":
        made.checkpoint()
    elif step == "compact":
        made.compact()


@on_posix
@settings(max_examples=examples(40))
@given(
    quantization=st.sampled_from(["sq8", "binary"]),
    metric=st.sampled_from(["cosine", "ip", "l2"]),
    dtype=st.sampled_from(["float32", "float16"]),
    steps=steps,
)
def test_any_sequence_of_changes(
    quantization: Quantization, metric: Metric, dtype: Any, steps: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    both = both_at(folder, dim=DIM, metric=metric, quantization=quantization, dtype=dtype, M=4, ef_construction=20)
    try:
        for step, seed in [("upsert", 1), *steps]:
            if step in ("reopen", "swap"):
                paths: list[Any] = [made.path for made in both]
                for made in both:
                    made.close()
                first, second = reversed(paths) if step == "swap" else paths
                both = [edgevec.open(first, storage="disk"), edgevec.open(second)]
            elif step == "read" and sys.platform != "emscripten":
                with reader_of(both[0], storage="disk") as disk, reader_of(both[1]) as memory:
                    assert_same(disk, memory, seed)
            for made in both:
                make_step(made, step, np.random.default_rng(seed))
            assert_same(*both)
        for made in both:
            assert made.check().ok
    finally:
        for made in both:
            made.close()


@on_posix
@each_metric
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_more_vectors_than_are_added_at_once(metric: Metric, quantization: Quantization, tmp_path: Path) -> None:
    """So that codes are learned anew, in steps beside searches."""
    disk, memory = both_at(tmp_path, metric=metric, quantization=quantization, M=4, ef_construction=20)
    with disk, memory:
        for made in (disk, memory):
            store(made, list(range(1500)), 1)
            for start in range(0, 1500, 300):
                store(made, list(range(start, start + 450)), 2 + start)
        assert_same(disk, memory)
        disk.checkpoint()
        assert_same(disk, memory)
        assert disk.check().ok


@on_posix
@with_readers
def test_readers_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another one writes lies beside the graph first, and then in it."""
    monkeypatch.setattr(Follower, "wake", lambda self: None)  # both are as far as each other
    path = tmp_path / "notes"
    with edgevec.open(path, quantization="binary") as writer:
        store(writer, list(range(400)), 1)
        writer.checkpoint()
        with edgevec.open(path, mode="r", storage="disk") as disk, edgevec.open(path, mode="r") as memory:
            for turn in range(6):
                store(writer, list(range(100 * turn, 100 * turn + 60)), turn)
                writer.delete([7 * turn])
                if turn == 4:
                    writer.checkpoint()
                assert_same(disk, memory, turn)
                assert disk._store.graph.behind or turn == 4
                if turn % 2:
                    disk.refresh(), memory.refresh()
                    assert_same(disk, memory, turn)
            assert disk.check().ok


# ---- what is in memory -----------------------------------------------------------------------------------------------


@on_posix
@pytest.mark.parametrize(("quantization", "bytes_each"), [("sq8", 2 * 256), ("binary", 4 * 256)])
def test_vectors_are_not_in_memory(quantization: Quantization, bytes_each: int, tmp_path: Path) -> None:
    n = 2000
    disk, memory = both_at(tmp_path, quantization=quantization)
    with disk, memory:
        for made in (disk, memory):
            store(made, list(range(n)), 1, 256)
            made.checkpoint()
        assert memory.stats()["disk_bytes"] == 0
        assert disk.stats()["disk_bytes"] == n * bytes_each
    disk, memory = edgevec.open(tmp_path / "memory", storage="disk"), edgevec.open(tmp_path / "disk")
    with disk, memory:
        before, after = memory.stats(), disk.stats()
        assert after["disk_bytes"] == n * bytes_each
        for name in ("memory_bytes", "memory_held"):
            assert after[name] <= before[name] - n * bytes_each + 4 * n + 80_000
        graph = disk._store.graph.index
        assert graph is not None
        assert graph.memory_usage()["vectors"] == 4 * n


@on_posix
def test_a_limit_counts_what_is_in_memory(tmp_path: Path) -> None:
    disk, memory = both_at(tmp_path, quantization="binary", memory_limit=4_000_000, dim=512)
    with disk, memory:
        store(disk, list(range(2000)), 1, 512)
        assert disk.stats()["memory_held"] <= 4_000_000 < 2000 * 512 * 4
        with pytest.raises(MemoryLimitError):
            store(memory, list(range(2000)), 1, 512)
    with edgevec.open(tmp_path / "disk", storage="disk", memory_limit=4_000_000) as again:
        assert again.count() == 2000
    Path(tmp_path / "disk-graph").unlink()
    with edgevec.open(tmp_path / "disk", storage="disk", memory_limit=4_000_000) as again:  # built from the records
        assert len(again.search(np.ones(512), 5)) == 5
    with pytest.raises(MemoryLimitError):
        edgevec.open(tmp_path / "disk", memory_limit=4_000_000)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"storage": "tape"}, ["memory", "disk", "tape"]),
        ({"mmap": True}, ["disk", "mmap=True"]),
        ({"secure_delete": True}, ["disk", "secure_delete"]),
        ({"quantization": "none"}, ["disk", "none", "codes"] if os.name != "nt" else ["Windows"]),
        ({"path": ":memory:"}, ["disk", "in memory"]),
    ],
)
def test_what_cannot_be_is_refused_before_a_file_is_made(
    arguments: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ParameterError) as caught:
        edgevec.open(**{"path": tmp_path / "notes", "storage": "disk", **arguments})
    assert all(word in str(caught.value) for word in words)
    assert not list(tmp_path.iterdir())


@on_posix
def test_a_collection_without_codes_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with edgevec.open(path, quantization="none") as made:
        store(made, [1, 2, 3], 1)
    for mode in ("a", "r"):
        with pytest.raises(ParameterError, match=r"notes.*none"):
            edgevec.open(path, storage="disk", mode=mode)  # type: ignore[arg-type]
    with edgevec.open(path) as made:
        assert len(made.search(np.ones(DIM), 5)) == 3


def test_it_is_refused_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "_CAN_REPLACE", False)
    with pytest.raises(ParameterError, match="Windows"):
        edgevec.open(tmp_path / "notes", storage="disk")
    assert not list(tmp_path.iterdir())


# ---- files -----------------------------------------------------------------------------------------------------------


def open_files() -> list[str]:
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [os.readlink(path) for path in paths if os.path.lexists(path)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_scratch_files_lie_beside_the_collection_and_end_with_it(tmp_path: Path) -> None:
    def scratch() -> list[str]:
        return [name for name in open_files() if name.startswith(str(tmp_path)) and name.endswith("(deleted)")]

    with edgevec.open(tmp_path / "notes", storage="disk") as notes:
        store(notes, list(range(50)), 1)
        assert len(scratch()) == 1
        notes.checkpoint()
        assert not scratch()  # all is in the graph's file
        store(notes, [3, 4], 2)
        assert len(scratch()) == 1
        notes.compact()
        assert not scratch()
        store(notes, [3, 4], 3)
    assert not scratch()
    assert not any("notes-graph" in name for name in open_files())
    assert {path.name for path in tmp_path.iterdir()} <= {"notes", "notes-graph", "notes-lock"}


@on_posix
@with_readers
def test_a_reader_gives_up_what_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It saves nothing: its scratch file would grow for ever."""
    monkeypatch.setattr(on_disk, "_MIN_WASTE", 0)
    path = tmp_path / "notes"
    with edgevec.open(path) as writer:
        store(writer, list(range(300)), 1)
        with edgevec.open(path, mode="r", storage="disk") as reader:
            for turn in range(12):
                store(writer, list(range(200)), turn)
                reader.refresh()
            assert reader.stats()["disk_bytes"] > 1000 * 2 * DIM
            writer.checkpoint()
            store(writer, [1], 99)
            reader.refresh()
            assert reader.stats()["disk_bytes"] <= 510 * 2 * DIM
            assert_same(reader, writer)


@on_posix
@with_readers
def test_a_graph_that_was_cut_off_is_an_error_and_made_again(tmp_path: Path) -> None:
    path, graph = tmp_path / "notes", tmp_path / "notes-graph"
    with edgevec.open(path) as made:
        store(made, list(range(300)), 1)
        made.checkpoint()
    for mode in ("r", "a"):
        with edgevec.open(path, storage="disk", mode=mode) as made:  # type: ignore[arg-type]
            whole = graph.read_bytes()
            os.truncate(graph, len(whole) // 3)
            with pytest.raises(StorageError, match="cut off") as caught:
                made.search(np.ones(DIM), 5)
            assert str(graph) in str(caught.value)
            assert made.count() == 300
            with open(graph, "r+b") as file:
                file.write(whole)
            assert len(made.search(np.ones(DIM), 5)) == 5
    os.truncate(graph, 5000)
    with edgevec.open(path, storage="disk") as disk, edgevec.open(path, mode="r") as other:
        assert_same(disk, other)


@on_posix
@pytest.mark.parametrize("loaded", [False, True])
def test_errors_after_a_save_name_the_graph(loaded: bool, tmp_path: Path) -> None:
    """It was written under another name."""
    path = tmp_path / "notes"
    with edgevec.open(path, storage="disk") as made:
        store(made, list(range(300)), 1)
        made.checkpoint()
    with edgevec.open(path if loaded else tmp_path / "other", storage="disk") as made:
        graph = Path(f"{made.path}-graph")
        store(made, list(range(300)), 2)
        made.checkpoint()
        whole = graph.read_bytes()
        os.truncate(graph, 5000)
        with pytest.raises(StorageError) as caught:
            made.search(np.ones(DIM), 5)
        assert f"'{graph}'" in str(caught.value)
        graph.write_bytes(whole)


# ---- threads and processes -------------------------------------------------------------------------------------------


@on_posix
@pytest.mark.threads
def test_searches_beside_changes_and_snapshots(tmp_path: Path) -> None:
    with edgevec.open(tmp_path / "notes", storage="disk") as notes:
        store(notes, list(range(500)), 1)
        held = np.array([record.vector for record in notes])
        wrong: list[object] = []
        done = threading.Event()

        def search() -> None:
            at = 0
            while not done.is_set():
                at = (at + 37) % 500
                nearest = notes.search(held[at], 1, exact=True)[0]
                if nearest.id != at or nearest.distance > 1e-5:
                    wrong.append((at, nearest))

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(8):
                store(notes, list(range(1000, 1060)), turn)
                notes.delete(range(1000, 1030))
                (notes.checkpoint, notes.compact)[turn % 2]()
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not wrong
        assert notes.check().ok


@on_posix
@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:unclosed")
def test_a_forked_process_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with edgevec.open(path, storage="disk") as notes:
        store(notes, list(range(300)), 1)
        notes.checkpoint()
        store(notes, list(range(20)), 2)

        def work() -> None:
            with pytest.raises(ClosedError, match="forked"):
                notes.search(np.ones(DIM), 5)
            with edgevec.open(path, mode="r", storage="disk") as own:
                assert len(own.search(np.ones(DIM), 5)) == 5

        assert outcome_of(start_child(work, patience=HANG)) == 0
        store(notes, list(range(10, 40)), 3)
        notes.checkpoint()
        with edgevec.open(path, mode="r") as other:
            assert_same(notes, other)
