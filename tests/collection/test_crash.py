"""What was committed survives kill -9, a full disk and a failing disk; nothing else is there.

EDGEVEC_KILLS says how many processes to kill, and EDGEVEC_KILL_RECORDS how many records their collections begin with:

    EDGEVEC_KILLS=10000 EDGEVEC_KILL_RECORDS=5000 python -m pytest tests/collection/test_crash.py -k survives_kill
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_worker import BULK, DIM, State, apply, commit, plan, state_of
from oracle import unit
from support import HANG, HELPERS, examples, need

import edgevec
from edgevec.collection import Collection

HERE = Path(__file__).parent
KILLS = int(os.environ.get("EDGEVEC_KILLS", examples(200)))
PER_FILE = 20
"""Kills before the work starts again on a new file."""
LONGEST = 0.05 if not BULK else 0.5
"""Seconds that a process lives, at most, after the last commit that is waited for."""

pytestmark = [
    pytest.mark.core,
    pytest.mark.subprocess,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]


class Nursery:
    """The program of crash_worker.py, which has everything imported already when it forks a worker."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HELPERS / "crash_worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def kill_after(self, path: Path, commits: int, seconds: float) -> list[int]:
        """Let a worker write to `path` until it has reported so many, and so long more; what it reported."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{path}\n")
        reported: list[int] = []
        for line in stdout:
            word, _, rest = line.partition(" ")
            if word == "pid":
                timer = threading.Timer(seconds, os.kill, (int(rest), 9))
            elif word == "end":
                assert int(rest) == -9, f"the worker ended by itself: {self._errors()}"
                return reported
            else:
                reported.append(int(word))
            if len(reported) == commits and word != "end":
                timer.start()
        raise AssertionError(self._errors())

    def _errors(self) -> str:
        self._process.kill()
        return self._process.communicate()[1]

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    try:
        yield made
    finally:
        made.close()


def assert_searches_right(made: Collection, state: State, rng: np.random.Generator) -> None:
    """The graph against brute force over the stored vectors."""
    if not state:
        assert BULK or made.search(np.ones(DIM)) == []
        return
    records = list(made)
    vectors = unit([record.vector for record in records])
    for query in rng.standard_normal((5, DIM)):
        similarity = vectors @ unit(query)
        nearest = [records[at].id for at in np.argsort(-similarity)[:5]]
        assert [hit.id for hit in made.search(query, 5, ef=400, exact=bool(BULK))] == nearest
    batch = max(state.values())
    assert {hit.id for hit in made.search(text=f"batch{batch}", k=400)} == {id for id in state if state[id] == batch}


def assert_files_whole(path: Path) -> None:
    """What was exported and saved is whole, and nothing half-made is left beside it."""
    left = {found.name.removeprefix(path.name) for found in path.parent.iterdir() if found.name.startswith(path.name)}
    assert left <= {"", "-graph", "-lock", ".jsonl", ".ev"}
    assert not list(path.parent.glob(".edgevec-*"))
    if ".jsonl" in left:
        for line in Path(f"{path}.jsonl").read_text().splitlines():
            json.loads(line)
    if ".ev" in left:
        assert edgevec.Index.load(f"{path}.ev").check().ok


def test_what_was_committed_survives_kill(tmp_path: Path, rng: np.random.Generator) -> None:
    committed = 0
    with nursery() as workers:
        for kill in range(KILLS):
            if kill % PER_FILE == 0:
                path, state, batch = tmp_path / f"{kill}.edgevec", State(), 0
            reported = workers.kill_after(path, int(rng.integers(0, 8)), rng.uniform(0, LONGEST))
            assert reported == list(range(batch, batch + len(reported)))
            for number in reported:
                state = apply(state, number)
            batch += len(reported)
            with edgevec.open(path, DIM) as made:
                found = state_of(made)
                if found != state:  # committed, and killed before it could say so
                    state = apply(state, batch)
                    batch += 1
                assert found == state
                assert len(made) == len(state) + BULK or not state
                assert made.check().ok
                assert_searches_right(made, state, rng)
                made.export(tmp_path / "other.jsonl")  # which also removes what a killed export has left
            assert_files_whole(path)
            # A batch may leave nothing new, and the worker goes on from the newest batch that is there.
            batch = 1 + max(state.values(), default=-1)
            committed += len(reported)
            if (kill + 1) % 1000 == 0 or kill + 1 == KILLS:
                print(f"{kill + 1:,} killed, {committed:,} batches told", flush=True)  # with -s: how far a long run is
    assert committed > KILLS  # or it was killed before it did anything worth the name


@pytest.mark.skipif(sys.platform == "emscripten", reason="there is no write-ahead log in a browser")
@pytest.mark.parametrize("mode", ["a", "r"])
def test_a_checkpoint_that_was_interrupted(tmp_path: Path, mode: Any) -> None:
    """The first page is copied back and says that the file is longer than it is; the log has the rest."""
    path, torn = tmp_path / "c.edgevec", tmp_path / "torn.edgevec"
    with edgevec.open(path, DIM) as made:
        made.upsert(range(10), np.eye(10, DIM) + 1)
    with edgevec.open(path) as made:
        made.upsert(range(10, 200), np.eye(190, DIM) + 1, documents=["x" * 1000] * 190)
        before = path.read_bytes()
        shutil.copy(f"{path}-wal", f"{torn}-wal")
        made.checkpoint()
        after = path.read_bytes()
    assert len(after) > len(before)
    torn.write_bytes(after[:4096] + before[4096:])
    with edgevec.open(torn, mode=mode) as made:
        assert made.ids() == list(range(200))
        assert made.check().ok


# ---- disks ---------------------------------------------------------------------------------------------------------


def in_a_child(work: Any, *arguments: Any, environment: dict[str, str] | None = None) -> str:
    """Call a function of this module in a process of its own; what it printed."""
    program = f"import sys, test_crash as t; t.{work.__name__}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HELPERS), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill_up_to_a_limit(path: str, limit: str, kind: str) -> None:
    """Write batches until the file may not grow any more, then look at what is there, and go on with room again."""
    resource = __import__("resource")
    made = edgevec.open(path, DIM)
    batch = 0
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if kind == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), hard))
    else:
        made._store.database.main.execute(f"PRAGMA max_page_count = {int(limit) // 4096}")
    try:
        for batch in range(100_000):
            big = [{"batch": batch, "padding": "x" * 300}] * 50
            vectors = np.random.default_rng(batch).standard_normal((50, DIM))
            made.upsert([f"{batch} {n}" for n in range(50)], vectors, big)
    except edgevec.StorageError as error:
        print(type(error).__name__, error)
    assert made.count() == 50 * batch
    assert {record.metadata["batch"] for record in made} == set(range(batch))
    assert len(made.search(np.ones(DIM), 100_000)) == 50 * batch
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if kind == "file size":
        # What the disk holds after an I/O error is unknown: the collection has to be opened again.
        try:
            made.upsert([1], np.ones((1, DIM)))
        except edgevec.StorageError as error:
            print("then", error)
    else:
        made._store.database.main.execute("PRAGMA max_page_count = 1000000")
        made.upsert([1], np.ones((1, DIM)))
        assert made.check().ok
        made.delete([1])
    made.close()
    with edgevec.open(path) as again:
        assert {record.metadata["batch"] for record in again} == set(range(batch))
        assert again.check().ok
        again.upsert([1], np.ones((1, DIM)))
    print("batches", batch)


@pytest.mark.parametrize("limit", [200_000, 1_000_000])
def test_a_file_that_may_not_grow(tmp_path: Path, limit: int) -> None:
    said = in_a_child(fill_up_to_a_limit, tmp_path / "c.edgevec", limit, "file size")
    assert "disk" in said
    assert int(said.split()[-1]) > 0


def test_a_full_disk_loses_nothing_committed(tmp_path: Path) -> None:
    said = in_a_child(fill_up_to_a_limit, tmp_path / "c.edgevec", 400_000, "disk")
    assert "StorageError" in said
    assert "full" in said
    assert int(said.split()[-1]) > 0


def write_a_snapshot_too_large(path: str) -> None:
    """The snapshot does not fit on the disk: checkpoint() raises, and everything else goes on."""
    resource = __import__("resource")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with edgevec.open(path, DIM) as made:
        commit(made, 0)
        made.checkpoint()
        commit(made, 1)
        size = os.path.getsize(f"{path}-graph")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
        try:
            made.checkpoint()
        except edgevec.StorageError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert not os.path.exists(f"{path}-graph.new")
        commit(made, 2)
        assert made.check().ok
    with edgevec.open(path) as made:
        assert state_of(made) == apply(apply(apply(State(), 0), 1), 2)
        assert made.check().ok


def test_a_snapshot_that_does_not_fit(tmp_path: Path) -> None:
    assert "graph" in in_a_child(write_a_snapshot_too_large, tmp_path / "c.edgevec")


FAILING_SYNC = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
/* fsync and fdatasync fail while the file that FAIL_SYNC names is there. */
static int fails(void) {
    const char *name = getenv("FAIL_SYNC");
    return name && access(name, F_OK) == 0;
}
int fsync(int fd) { (void)fd; if (fails()) { errno = EIO; return -1; } return 0; }
int fdatasync(int fd) { (void)fd; if (fails()) { errno = EIO; return -1; } return 0; }
"""


def write_while_syncing_fails(path: str, switch: str) -> None:
    """A commit whose fsync fails is an error, and the collection writes no more."""
    made = edgevec.open(path, DIM)
    commit(made, 0)
    Path(switch).touch()
    before = state_of(made)
    for attempt in range(2):
        try:
            commit(made, 1 + attempt)
        except edgevec.StorageError as error:
            print(error)
        else:
            raise AssertionError("the commit went through")
        assert state_of(made) == before
        assert len(made.search(np.ones(DIM), 1000)) == len(before)
    Path(switch).unlink()
    try:
        commit(made, 3)
    except edgevec.StorageError as error:
        print(error)
    else:
        raise AssertionError("it goes on as if nothing had happened")
    made.close()
    with edgevec.open(path) as again:
        # Reported as failed, it may be there whole or not at all.
        assert state_of(again) in (before, apply(before, 1))
        assert again.check().ok
        Path(switch).touch()
        try:
            again.checkpoint()
        except edgevec.StorageError as error:
            print("checkpoint:", error)
        Path(switch).unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
def test_a_disk_that_does_not_sync(tmp_path: Path) -> None:
    source, library = tmp_path / "sync.c", tmp_path / "sync.so"
    source.write_text(FAILING_SYNC)
    subprocess.run([need("cc"), "-shared", "-fPIC", "-o", library, source], check=True)
    switch = tmp_path / "fail"
    environment = {"LD_PRELOAD": str(library), "FAIL_SYNC": str(switch)}
    said = in_a_child(write_while_syncing_fails, tmp_path / "c.edgevec", switch, environment=environment)
    first, second, third, fourth = said.splitlines()
    assert "disk I/O error" in first
    assert "an earlier write failed" in second
    assert "an earlier write failed" in third
    assert fourth.startswith("checkpoint:")


def test_batches_of_the_worker_replace_and_delete() -> None:
    """The batches of the killed process write, replace and delete, or the tests above show little."""
    state, replaced, deleted = State(), 0, 0
    for batch in range(30):
        ids, gone = plan(batch)
        replaced += len(state.keys() & set(ids))
        deleted += len((state.keys() | set(ids)) & set(gone))
        state = apply(state, batch)
    assert replaced > 100
    assert deleted > 30


def test_fast_durability_survives_kill(tmp_path: Path) -> None:
    """Loss of power apart, "fast" promises the same."""
    program = (
        "import os, sys, edgevec, crash_worker as c; made = edgevec.open(sys.argv[1], c.DIM, durability='fast')\n"
        "for batch in range(5): c.commit(made, batch)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "c.edgevec"], cwd=HELPERS, timeout=HANG)
    assert done.returncode == -9
    state = State()
    for batch in range(5):
        state = apply(state, batch)
    with edgevec.open(tmp_path / "c.edgevec") as made:
        assert state_of(made) == state
        assert made.check().ok
