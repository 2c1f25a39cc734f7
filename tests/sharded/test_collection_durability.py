"""Changes of a collection in shards that are killed, fail or meet others: what was there before or after, whole."""

from __future__ import annotations

import errno
import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import compiled
from forked import in_child
from shard_change_worker import DIM, STEPS, State, after, build, state_of, step
from shard_folder import assert_only_what_counts, edit, told_by_one_who_may_only_read
from support import HANG, HELPERS, THOROUGH, need

import edgevec
from edgevec import ShardedCollection, ShardedIndex
from edgevec.collection.parts import repeated_id
from edgevec.sharded import MANIFEST

pytestmark = pytest.mark.threads

FAULTS = os.environ.get("EDGEVEC_FAULTS", "2")
"""How many calls of each kind fail, in turn, in each change."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "s"
    build(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "s"))


def states(count: int) -> list[State]:
    """After no step, after one, ..."""
    found = [after({}, -1)]
    for at in range(count):
        found.append(after(found[-1], at))
    return found


# ---- killed, and failing ---------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_writer_leaves_a_whole_state(folder: Path, rng: np.random.Generator) -> None:
    known = states(400)
    at = 0
    with ShardedCollection.open(folder) as reader:
        for _ in range(3):
            process = subprocess.Popen(
                [sys.executable, HELPERS / "shard_change_worker.py", folder, str(at)], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            told = [process.stdout.readline()]
            killer = subprocess.Popen([sys.executable, "-c", KILLER, str(process.pid), str(rng.uniform(0, 0.3))])
            told += process.stdout.readlines()
            assert process.wait(HANG) == -signal.SIGKILL
            assert killer.wait(HANG) == 0
            process.stdout.close()
            acknowledged = [int(line) for line in told if line.endswith("\n") and line != "begun\n"]
            least = acknowledged[-1] + 1 if acknowledged else at
            with ShardedCollection.open(folder) as notes:
                found = state_of(notes)
                assert found in known[least : least + 2]
                assert state_of(reader) == found
                at = known.index(found, least)
                step(notes, at)
                at += 1
                assert state_of(notes) == state_of(reader) == known[at]
                assert_only_what_counts(notes, folder)


KILLER = """
import os, signal, sys, time
time.sleep(float(sys.argv[2]))
os.kill(int(sys.argv[1]), signal.SIGKILL)
"""


@pytest.mark.core
@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
def test_whichever_call_of_the_system_fails_the_old_state_or_the_new_is_whole(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = compiled(need("cc"), tmp_path_factory.mktemp("faults"))
    steps = range(STEPS) if THOROUGH else (0,)  # a shard is changed, and one is written: all that the others do
    done = subprocess.run(
        [sys.executable, HELPERS / "shard_change_worker.py", tmp_path, "faults", FAULTS, *map(str, steps)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    *failures, count = done.stdout.splitlines()
    assert failures == []
    assert int(count.split()[0]) >= 8 * len(steps)


@pytest.mark.parametrize("at", range(STEPS))
def test_a_change_that_fails_at_its_last_step_has_not_been(
    folder: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise edgevec.StorageError("full")

    with ShardedCollection.open(folder) as notes, ShardedCollection.open(folder) as other:
        for before in range(at):
            step(notes, before)
        manifest, state = notes.manifest, state_of(notes)
        monkeypatch.setattr("edgevec.sharded.folders.LocalFolder.write", full)
        with pytest.raises(edgevec.StorageError, match="full"):
            step(notes, at)
        monkeypatch.undo()
        for each in (notes, other):
            assert (state_of(each), each.manifest) == (state, manifest)
        step(other, at)
        assert state_of(notes) == after(state, at)
        assert_only_what_counts(notes, folder)


def test_a_copy_that_does_not_fit_is_an_error_of_the_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "new.edgevec")

    with ShardedCollection.open(folder) as notes:
        before = notes.manifest
        monkeypatch.setattr("shutil.copyfile", full)
        with pytest.raises(edgevec.StorageError, match=r"new.edgevec: No space left"):
            notes.delete([1])
        assert notes.manifest == before
        assert notes.add(["new"], np.ones((1, DIM))) == 1
        assert_only_what_counts(notes, folder)


def test_a_damaged_shard_is_not_copied(folder: Path) -> None:
    """It was opened without a look at its bytes."""
    with ShardedCollection.open(folder) as notes:
        paths = [folder / (shard.file + end) for shard, end in zip(notes.shards, ("", "-graph"), strict=False)]
        ids = [shard.first_id for shard in notes.shards]
    for path in paths:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    with ShardedCollection.open(folder, verify=False) as notes:
        before = notes.manifest
        for id, path in zip(ids, paths, strict=False):
            with pytest.raises(edgevec.CorruptCollectionError, match=rf"{path.name}: a shard of another checksum"):
                notes.delete([id])
        assert notes.manifest == before
        assert notes.add(["new"], np.ones((1, DIM))) == 1


def test_with_a_shard_that_is_missing_nothing_changes(folder: Path) -> None:
    with ShardedCollection.open(folder) as notes:
        file = notes.shards[1].file
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    with ShardedCollection.open(folder, missing="report") as notes:
        changes: tuple[Callable[[], object], ...] = (
            lambda: notes.delete([0]),
            lambda: notes.upsert(["new"], np.ones((1, DIM))),
            lambda: notes.add(["new"], np.ones((1, DIM))),
            notes.clear,
            notes.compact,
        )
        for change in changes:
            with pytest.raises(edgevec.ShardNotFoundError, match=file):
                change()
        assert notes.manifest.generation == 1
        (folder / file).write_bytes(content)
        assert notes.add(["new"], np.ones((1, DIM))) == 1
        assert (notes.share, notes.problems) == (1.0, {})


# ---- other processes -------------------------------------------------------------------------------------------------


FOLLOWING = """
import sys
from edgevec import ShardedCollection
with ShardedCollection.open(sys.argv[1]) as notes:
    for line in sys.stdin:
        print([hit.id for hit in notes.search([0] * notes.dim, 99, exact=True)] == notes.ids(), notes.ids(), flush=True)
"""


@pytest.mark.subprocess
def test_another_process_follows(folder: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", FOLLOWING, folder], **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ShardedCollection.open(folder) as notes:
            notes.upsert(notes.ids(), np.ones((len(notes), DIM)))  # all are as far
            for change in (
                lambda: notes.upsert(["a", 7], np.ones((2, DIM))),
                lambda: notes.delete([3, "a"]),
                notes.compact,
                notes.clear,
                lambda: notes.add([5], np.ones((1, DIM))),
            ):
                change()
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == f"True {notes.ids()}\n"
        process.stdin.close()


READING = """
from edgevec import ShardedCollection, StorageError

def make(folder):
    ShardedCollection.build([{"id": 1, "vector": [1, 2], "text": "note"}], folder).close()

def look(folder):
    with ShardedCollection.open(folder) as notes:
        changes = (
            lambda: notes.delete([1]),
            lambda: notes.upsert([1], [[1] * notes.dim]),
            lambda: notes.add(["a"], [[1] * notes.dim]),
            notes.clear,
            notes.compact,
        )
        for change in changes:
            try:
                change()
            except StorageError as error:
                print(error)
        print(len(notes), len(notes.search(text="note", k=99)))
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has no such users")
def test_a_folder_that_may_only_be_read(folder: Path) -> None:
    told, copy, errors = told_by_one_who_may_only_read(folder, READING)
    assert told == [*[f"{copy}/manifest.json-lock: Permission denied"] * 5, "20 20"], errors


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_process_opens_it_again_to_change_it(folder: Path) -> None:
    with ShardedCollection.open(folder) as notes:
        notes.search(text="note")

        def work() -> None:
            with pytest.raises(edgevec.ForkedError, match="open it again"):
                notes.delete([1])
            with pickle.loads(pickle.dumps(notes)) as again:
                assert again.delete([1]) == 1

        assert in_child(work, patience=HANG) == 0
        assert 1 not in notes
        assert notes.delete([2]) == 1


@pytest.mark.subprocess
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_process_that_is_forked_in_a_progress_function_leaves_the_change_to_its_parent(folder: Path) -> None:
    children: list[int] = []

    def progress(done: int, total: int) -> None:
        if not children:
            children.append(os.fork())
            if children[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with ShardedCollection.open(folder) as notes:
        assert notes.upsert([1, "a"], np.ones((2, DIM)), progress=progress) == 2
        os.waitpid(children[0], 0)
        assert notes.delete(["a"]) == 1


@pytest.mark.mmap
@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"storage": "disk"}, marks=pytest.mark.skipif(os.name == "nt", reason="it is refused on Windows")),
        {"mmap": False},
        {"verify": False, "condition_memory": 0},
    ],
)
def test_however_it_is_opened(tmp_path: Path, how: dict[str, Any], rng: np.random.Generator) -> None:
    rows = [{"id": n, "vector": row, "n": n} for n, row in enumerate(rng.standard_normal((60, 8)))]
    ShardedCollection.build(rows, tmp_path / "s", rows_per_shard=20).close()
    with ShardedCollection.open(tmp_path / "s", **how) as notes:
        assert notes.delete(where="n < 15") == 15
        assert notes.upsert([20, "a"], [rows[3]["vector"], rows[4]["vector"]]) == 2
        assert [notes.search(rows[at]["vector"], 1)[0].id for at in (3, 4, 50)] == [20, "a", 50]
        notes.compact()
        assert [notes.search(rows[at]["vector"], 1, exact=True)[0].id for at in (3, 4, 50)] == [20, "a", 50]
        assert (len(notes), notes.count("n >= 15")) == (46, 44)


# ---- readers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("id", "shards"), [(4, 1), ("t6", 1), ("new", 2)])
def test_an_id_in_a_second_shard_is_seen_by_those_who_follow(
    folder: Path, tmp_path: Path, id: Any, shards: int
) -> None:
    more = []
    for at in range(shards):
        with ShardedCollection.build([{"id": id, "vector": [at + 1] * DIM}], tmp_path / "other", metric="l2") as other:
            file = other.shards[0].file
        more += json.loads((tmp_path / "other" / MANIFEST).read_text())["shards"]
        for path in (tmp_path / "other").glob("*.edgevec*"):
            shutil.copy(path, folder)
    with ShardedCollection.open(folder) as reader:
        edit(folder, lambda read: read["shards"].extend(more))
        with pytest.raises(edgevec.CorruptCollectionError, match=rf"id {id!r} is in two shards.*{file}"):
            reader.count()


def test_a_reader_looks_up_the_new_ids_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    known = edgevec.collection.parts.Part.known

    def counting(part: Any, ids: Any) -> Any:
        asked.append(ids)
        return known(part, ids)

    with ShardedCollection.open(folder) as writer, ShardedCollection.open(folder) as reader:
        monkeypatch.setattr("edgevec.sharded_collection.following.repeated_id", lambda paths: asked.append(99))
        for change, lists in (
            (lambda: writer.delete([1]), []),
            (lambda: writer.upsert([2], np.ones((1, DIM))), []),
            (lambda: writer.add([1000, "u"], np.ones((2, DIM))), [[1000]] * 3),  # "u" is beyond their ranges
        ):
            change()
            with monkeypatch.context() as patched:
                patched.setattr("edgevec.collection.parts.Part.known", counting)
                asked.clear()
                assert reader.refresh()
            assert asked == lists


@pytest.mark.parametrize("place", ["following.repeated_id", "shards.fetched", "shards._check_files", "shards.Part"])
def test_files_that_go_while_they_are_opened(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Just before the first call of this, each shard is written anew."""
    name = f"edgevec.sharded_collection.{place}"
    before = _of_name(name)

    with ShardedCollection.open(folder) as notes:
        notes.delete(["t0"])
        notes.upsert(range(1, 19), np.ones((18, DIM)))  # ranges of ids that hang together, so that all are read

        def late(*given: Any, **options: Any) -> Any:
            monkeypatch.undo()
            notes.upsert(notes.ids(), np.zeros((len(notes), DIM)))
            return before(*given, **options)

        with ShardedCollection.open(folder) as reader:
            notes.upsert(notes.ids(), np.ones((len(notes), DIM)))
            monkeypatch.setattr(name, late)
            assert reader.get([5])[0].vector.tolist() == [0] * DIM
        monkeypatch.setattr(name, late)
        with ShardedCollection.open(folder) as again:
            assert again.manifest == notes.manifest
        assert_only_what_counts(notes, folder)


def _of_name(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)


def test_a_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(edgevec.StorageError, match="gone"):
        repeated_id([tmp_path / "gone.edgevec"])
    assert not list(tmp_path.iterdir())


# ---- object stores ---------------------------------------------------------------------------------------------------


def test_at_an_address_that_fsspec_knows(address: str) -> None:
    import fsspec

    build(address)
    known = states(STEPS + 1)
    with ShardedCollection.open(address) as notes, ShardedCollection.open(address) as reader:
        for at in range(STEPS + 1):
            before = reader.manifest
            step(notes, at)
            assert state_of(notes) == known[at + 1]
            assert (state_of(reader), reader.manifest) == (known[at], before)
            assert reader.refresh() == (notes.manifest != before)
            assert state_of(reader) == known[at + 1]
        notes.compact()
        names = {name.rpartition("/")[2] for name in fsspec.filesystem("memory").find(address)}
        assert names == {MANIFEST, *(shard.file + end for shard in notes.shards for end in ("", "-graph"))}
        assert len(list(notes._following.copies().iterdir())) == 2 * len(notes.shards)


@pytest.mark.parametrize("kind", ["collection", "index"])
def test_where_no_lock_is_who_is_overtaken_is_told(address: str, kind: str) -> None:
    if kind == "collection":
        build(address)
        one: Any = ShardedCollection.open(address)
        other: Any = ShardedCollection.open(address)
        arguments: Any = ["mine"], np.ones((1, DIM))
        theirs: Any = ["theirs"], np.ones((1, DIM))
        more: Any = ["more"], np.ones((1, DIM))
    else:
        ShardedIndex.build(np.eye(3), address).close()
        one, other = ShardedIndex.open(address), ShardedIndex.open(address)
        arguments, theirs, more = (([[1, 1, 1]], [id]) for id in (77, 78, 79))
    with one, other:
        told = iter([True])

        def progress(done: int, total: int) -> None:
            if next(told, False):
                other.add(*theirs)

        with pytest.raises(edgevec.LockedError, match="was written to meanwhile"):
            one.add(*arguments, progress=progress)
        with pytest.raises(edgevec.BusyError, match="progress function"):
            one.add(*more, progress=lambda done, total: one.add(*arguments))
        one.refresh()
        assert theirs[1 if kind == "index" else 0][0] in one
        one.add(*arguments)
        other.refresh()
        assert len(other) == len(one) == (22 if kind == "collection" else 5)
