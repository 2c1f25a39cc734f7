"""The head of the log's index tells a reader of each commit, and to have it mapped costs no lock and no descriptor."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import outcome_of, start_child
from hypothesis import given, settings
from hypothesis import strategies as st
from support import HANG

import edgevec
from edgevec.collection import changes, locking, log_head

pytestmark = pytest.mark.skipif(os.name != "posix" or sys.platform == "emscripten", reason="POSIX locks and mappings")

WRITER = """
import json, sqlite3, sys
import edgevec

made = None
for line in sys.stdin:
    what, value = json.loads(line)
    if what == "open" and made is not None:
        made.close()
        made = None
    if made is None:
        path = value if what == "open" else path
        made = edgevec.open(path, 2, "l2", durability="fast")
    if what == "upsert":
        made.upsert([value], [[value, 1]])
    elif what == "delete":
        made.delete([value])
    elif what == "replace all":
        with made.batch():
            made.clear()
            made.upsert([value, value + 1], [[value, 1], [value + 1, 1]])
    elif what == "reopen":
        made.close()
        made = edgevec.open(path, durability="fast")
    elif what == "checkpoint":
        made.checkpoint()
    elif what == "compact":
        made.compact()
    elif what == "close":
        made.close()
        made = None
    elif what != "open":
        other = sqlite3.connect(path, isolation_level=None)
        other.execute(what).fetchall()
        other.close()
    print("done", flush=True)
"""
NUMBERS = st.integers(0, 9)
CHANGES = st.tuples(st.sampled_from(["upsert", "upsert", "delete", "replace all"]), NUMBERS)
UPKEEP = st.sampled_from(
    ["checkpoint", "compact", "reopen", "VACUUM"]
    + [f"PRAGMA wal_checkpoint({mode})" for mode in ("PASSIVE", "RESTART", "TRUNCATE")]
).map(lambda what: (what, 0))


def changed(records: set[int], what: str, value: int) -> set[int]:
    if what == "upsert":
        return records | {value}
    if what == "delete":
        return records - {value}
    return {value, value + 1} if what == "replace all" else records


@pytest.fixture(scope="module")
def tell() -> Iterator[Callable[[str, Any], None]]:
    """Another process, which does what it is told to."""
    with subprocess.Popen([sys.executable, "-c", WRITER], stdin=-1, stdout=-1, text=True, cwd=os.sep) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None

        def tell(what: str, value: Any) -> None:
            print(json.dumps([what, value]), file=writer.stdin, flush=True)
            assert writer.stdout is not None
            assert writer.stdout.readline() == "done\n"

        yield tell
        writer.stdin.close()


@pytest.mark.subprocess
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(CHANGES | UPKEEP, min_size=4, max_size=12))
def test_a_reader_sees_each_commit_of_another_process(
    tmp_path_factory: pytest.TempPathFactory, tell: Callable[[str, Any], None], steps: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("c") / "c.edgevec"
    tell("open", str(path))
    tell("upsert", 20)
    records = {20}
    with edgevec.open(path, mode="r") as reader:
        assert reader._store.database.log_head is not None
        for step in steps:
            tell(*step)
            records = changed(records, *step)
            for _ in range(2):  # the second needs no transaction
                found = [hit.id for hit in reader.search([0, 1], 30, include=())]
                assert found == sorted(records)
    tell("close", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with edgevec.open(tmp_path / "c.edgevec", 2, "l2") as made:
        made.upsert([1, 2], [[1, 0], [2, 0]])
    return tmp_path / "c.edgevec"


@pytest.mark.subprocess
def test_opening_and_closing_keeps_the_locks_of_others(path: Path) -> None:
    """A transaction of SQLite's own module in this process has the lock for writing, a lock of the file "-shm"."""
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    with closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with edgevec.open(path, mode="r") as reader, edgevec.open(path, mode="r"):
                reader.search([1, 0], include=())
        gc.collect()
        tried = subprocess.run([sys.executable, "-c", program, path], stderr=-1, text=True, check=False, cwd=os.sep)
        assert "locked" in tried.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="it is not told what is open")
def test_nothing_stays_open_for_longer_than_the_file_has_its_name(path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    edgevec.open(path, mode="r").close()
    before = descriptors()
    for _ in range(5):  # the last connection of all deletes the file
        with edgevec.open(path, mode="r") as reader:
            reader.search([1, 0], include=())
    assert descriptors() == before
    with closing(sqlite3.connect(path)) as other:  # keeps it
        other.execute("SELECT * FROM state").fetchall()
        for _ in range(5):
            edgevec.open(path, mode="r").close()
        assert descriptors() < before + 8
    edgevec.open(path, mode="r").close()
    assert descriptors() == before


def test_many_files_that_stay_are_not_all_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_head, "_MOST", len(log_head._all))
    with edgevec.open(path, mode="r") as reader, edgevec.open(path) as made:
        assert reader._store.database.log_head is None
        for number in range(3, 6):
            made.upsert([number], [[number, 0]])
            assert [hit.id for hit in reader.search([0, 0], include=())] == [*range(1, number + 1)]


@pytest.mark.subprocess
@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_reader_notices_that_others_no_longer_meet_it(
    path: Path, tell: Callable[[str, Any], None], end: str, moved: bool
) -> None:
    with edgevec.open(path, mode="r") as reader:
        for _ in range(3):
            reader.search([1, 0], include=())
        beside = Path(f"{path}{end}")
        if moved:
            beside.rename(path.with_name("moved"))
        else:
            beside.unlink()
        tell("open", str(path))
        tell("upsert", 3)
        with pytest.raises(edgevec.StorageError, match=r"removed|replaced"):
            reader.search([1, 0], include=())
        tell("close", 0)


def test_a_commit_in_the_midst_of_looking_is_seen_by_the_next_search(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, new = changes.version, [3]
    with edgevec.open(path) as made, edgevec.open(path, mode="r") as reader:

        def version(connection: sqlite3.Connection) -> int:
            found = look(connection)  # its transaction has begun, and does not see what follows
            monkeypatch.undo()
            made.upsert([new[0]], [[new.pop(0), 0]])
            return found

        for _ in range(3):
            reader.search([0, 0], include=())
        with closing(sqlite3.connect(path)) as other:  # a commit after which the records are as they were
            other.execute("PRAGMA user_version = 7")
        monkeypatch.setattr(changes, "version", version)
        assert [hit.id for hit in reader.search([0, 0], include=())] == [1, 2]
        assert not new
        for _ in range(2):
            assert [hit.id for hit in reader.search([0, 0], include=())] == [1, 2, 3]


def test_distances_are_of_what_is_committed(path: Path) -> None:
    """Against NumPy, of vectors that are replaced under the same ids."""
    rng = np.random.default_rng(0)
    with edgevec.open(path) as made, edgevec.open(path, mode="r") as reader:
        for _ in range(10):
            vectors = rng.standard_normal((2, 2)).astype(np.float32)
            made.upsert([1, 2], vectors)
            for _ in range(2):
                found = {hit.id: hit.distance for hit in reader.search([0, 0], include=())}
                assert [found[1], found[2]] == pytest.approx((vectors**2).sum(axis=1), rel=1e-5)


@pytest.mark.subprocess
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads, which is what is tried here
@pytest.mark.parametrize("guard", [log_head, locking])
def test_a_process_forked_while_another_thread_opens_a_collection_can_open_it(tmp_path: Path, guard: Any) -> None:
    path = tmp_path / "notes.edgevec"
    with edgevec.open(path, dim=2) as made:
        made.upsert("a", [1.0, 2.0])
    taken, forked = threading.Event(), threading.Event()

    def opens() -> None:
        with guard._guard:
            taken.set()
            forked.wait(HANG)

    def searches() -> None:
        with edgevec.open(path, mode="r") as found:
            assert [hit.id for hit in found.search([1.0, 2.0], 1)] == ["a"]

    thread = threading.Thread(target=opens)
    thread.start()
    taken.wait(HANG)
    child = start_child(searches, patience=HANG)
    forked.set()
    thread.join()
    assert outcome_of(child) == 0
