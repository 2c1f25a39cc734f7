"""A disk that fails: the library of faults.c, and a program that makes each call of an operation fail in turn.

python faults.py FOLDER OPERATION ...     under LD_PRELOAD; prints a line for each case that ended otherwise than it may
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from crash_worker import DIM, State, apply, commit, plan, state_of, vector

import edgevec
from edgevec.collection import Collection

KINDS = {
    "open": 1,
    "read": 2,
    "write": 4,
    "sync": 8,
    "rename": 16,
    "truncate": 32,
    "map": 64,
    "unlink": 128,
    "folder": 256,
}
ALL = 511
HOW = {"EIO": (0, errno.EIO), "ENOSPC": (0, errno.ENOSPC), "short": (1, errno.EIO), "torn": (2, errno.EIO)}
FILES = {"c.edgevec", "c.edgevec-graph", "c.edgevec-lock", "c.edgevec-shm", "c.edgevec-wal", "copy.jsonl"}


def compiled(compiler: str, folder: Path) -> Path:
    """The library, to be preloaded."""
    library = folder / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"], check=True)
    return library


def library() -> ctypes.CDLL:
    """The functions of the library that this process was started with."""
    return ctypes.CDLL(None)


# ---- operations ------------------------------------------------------------------------------------------------------

BATCH = 6
"""The batch that is written while calls fail."""


def imported(made: Collection) -> None:
    rows = [
        {"id": id, "vector": vector(id, BATCH), "batch": BATCH, "text": f"of batch{BATCH}"} for id in range(1000, 1100)
    ]
    made.import_from(rows)


def damaged(made: Collection) -> None:
    """Something to repair, in the graph and in the texts."""
    index = made._store.graph.index
    assert index is not None
    index.remove(list(index)[:3])
    made._store.database.main.execute("INSERT INTO texts(rowid, document) VALUES (5, 'nobody said this')")


def nothing(made: Collection) -> None:
    """No preparation."""


def same(state: State) -> State:
    return state


GONE = [id for batch in range(BATCH) for id in plan(batch)[0][:3]]

Operation = tuple[Callable[[Collection], object], Callable[[Collection], object], Callable[[State], State]]
"""What is prepared, what is done while calls fail, and what the state is then."""

OPERATIONS: dict[str, Operation] = {
    "upsert": (nothing, lambda made: commit(made, BATCH), lambda state: apply(state, BATCH)),
    "delete": (
        nothing,
        lambda made: made.delete(GONE),
        lambda state: {id: batch for id, batch in state.items() if id not in GONE},
    ),
    "checkpoint": (nothing, lambda made: made.checkpoint(), same),
    "compact": (nothing, lambda made: made.compact(), same),
    "import": (nothing, imported, lambda state: {**state, **dict.fromkeys(range(1000, 1100), BATCH)}),
    "export": (nothing, lambda made: made.export(made.path.parent / "copy.jsonl"), same),  # type: ignore[union-attr]
    "repair": (damaged, lambda made: made.check(repair=True), same),
    "create_index": (nothing, lambda made: made.create_index("batch"), same),
    "search": (nothing, lambda made: made.search(np.ones(DIM), 5, where="batch > 2", text="batch1"), same),
    "close": (nothing, lambda made: made.close(), same),
    "open": (nothing, nothing, same),
    "reindex": (nothing, nothing, same),
}


def prepare(folder: Path) -> State:
    """A collection with a snapshot, and changes since."""
    state = State()
    with edgevec.open(folder / "c.edgevec", DIM) as made:
        for batch in range(BATCH):
            commit(made, batch)
            state = apply(state, batch)
            if batch == 3:
                made.checkpoint()
    return state


def downgrade(path: Path) -> None:
    """To schema version 1, whose documents are indexed again when it is opened."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TRIGGER text_added; DROP TRIGGER text_removed; DROP TRIGGER text_changed; DROP VIEW documents; "
            "DROP TABLE texts; ALTER TABLE records DROP COLUMN words; PRAGMA user_version = 1; "
            "CREATE VIRTUAL TABLE texts USING fts5(document, content='records', content_rowid='row'); "
        )


# ---- cases -----------------------------------------------------------------------------------------------------------


def verify(made: Collection, old: State, new: State, *, graph: bool) -> State:
    found = state_of(made)
    assert found in (old, new), f"neither the old state nor the new: {len(found)} records"
    hits = made.search(np.ones(DIM), 1000)
    assert not graph or {hit.id for hit in hits} == set(found), "the graph differs from the records"
    return found


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def check_error(error: BaseException | None, kind: str, how: str) -> None:
    if error is None:
        return
    assert isinstance(error, edgevec.EdgevecError), f"{type(error).__name__} is not an EdgevecError"
    if os.environ.get("EDGEVEC_FAULTS_TRACE"):
        traceback.print_exception(error, file=sys.stdout)
    if kind != "read" or how != "EIO":  # which SQLite itself takes for damage
        assert not isinstance(error, edgevec.CorruptCollectionError), "an error of the disk is taken for damage"
    if isinstance(error, OSError):
        # SQLite does not tell why it could not open a file, or only for reading.
        known = not any(words in str(error) for words in ("unable to open", "readonly database"))
        assert error.errno is not None or not known, "errno is missing"
        assert error.filename is not None, "the name of the file is missing"


def attempt(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def run_case(folder: Path, operation: str, kind: str, nth: int, how: str, state: State) -> int:
    """One operation while its n-th call fails; how many such calls there were. AssertionError where it ends wrongly."""
    faults, path = library(), folder / "c.edgevec"
    before, work, change = OPERATIONS[operation]
    new, start = change(state), descriptors()
    mode, number = HOW[how]
    opening = operation in ("open", "reindex")
    if operation == "reindex":
        downgrade(path)

    def arm() -> None:
        faults.faults_arm(os.fsencode(folder), KINDS[kind], nth, mode, number)

    if opening:
        arm()
    made, error = attempt(lambda: edgevec.open(path, DIM))
    if not opening:
        assert error is None, f"cannot be opened to begin with: {error}"
        before(made)
        arm()
        _, error = attempt(lambda: work(made))
    calls = faults.faults_disarm()
    check_error(error, kind, how)
    found = None
    if made is not None and operation != "close":
        writes = not made._store._failed
        if operation == "repair" and error is not None and writes:
            assert made.check(repair=True).ok
        found = verify(made, new if error is None else state, new, graph=operation != "repair" or writes)
        _, refused = attempt(lambda: commit(made, 50))
        if refused is not None:
            assert "an earlier write failed" in str(refused), f"does not go on: {refused}"
            assert state_of(made) == found
        else:
            found = apply(found, 50)
            assert state_of(made) == found
        made.close()
    elif made is not None and error is not None:
        attempt(made.close)
    error = None
    with edgevec.open(path) as again:
        seen = state_of(again)
        # A write whose commit failed, and which was not seen any more, may be there whole.
        assert seen in (found, state, new), "what was read is gone"
        report = again.check()
        assert report.ok or operation == "repair", report
        if not report.ok:
            assert again.check(repair=True).ok
        if operation == "export":
            again.export(folder / "copy.jsonl")
        again.checkpoint()
    left = set(os.listdir(folder)) - FILES
    assert not left, f"left behind: {left}"
    made = again = None
    assert descriptors() <= start, "descriptors are leaked"
    return calls


def sample(count: int, most: int) -> list[int]:
    """At most so many of 1..count, the first and the last among them."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round(at * (count - 1) / (most - 1)) for at in range(most)})


def main() -> None:
    root, most = Path(sys.argv[1]), int(sys.argv[2])
    (root / "template").mkdir()
    state = prepare(root / "template")
    cases = 0

    def case(operation: str, kind: str, nth: int, how: str) -> int:
        folder = root / "work"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / "template", folder)
        try:
            return run_case(folder, operation, kind, nth, how, state)
        except Exception as error:
            print(f"{operation}: {kind} {nth} {how}: {type(error).__name__}: {error}", flush=True)
            if os.environ.get("EDGEVEC_FAULTS_TRACE"):
                traceback.print_exc(file=sys.stdout)
            return 0

    for operation in sys.argv[3:]:
        for kind in KINDS:
            count = case(operation, kind, 0, "EIO")
            for how in HOW if kind == "write" else ("EIO", "ENOSPC", "short") if kind == "read" else ("EIO", "ENOSPC"):
                if how == "ENOSPC" and kind in ("read", "map", "unlink"):
                    continue
                for nth in sample(count, most):
                    case(operation, kind, nth, how)
                    cases += 1
    print(f"{cases} cases")


if __name__ == "__main__":
    main()
