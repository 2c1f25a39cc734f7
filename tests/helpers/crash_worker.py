"""The work of a process that is to be killed: batches that follow from their number alone. Also what they amount to.

As a program it waits for paths on standard input, one a line, and forks a worker for each, which writes batches there
until it is killed. Standard output carries "pid N" and then, after each commit, its number.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import edgevec
from edgevec.collection import Collection, ahead

DIM = 6
BULK = int(os.environ.get("EDGEVEC_KILL_RECORDS", "0"))
"""Further records that each collection begins with, so that its files have the size of real ones."""
State = dict[Any, int]
"""The batch that each record is of."""


def plan(batch: int) -> tuple[list[Any], list[Any]]:
    """Which ids a batch writes, and which it then deletes."""
    rng = np.random.default_rng(batch)
    ids = [int(id) if id % 3 else f"id {id}" for id in rng.permutation(300)[: rng.integers(1, 60)]]
    gone = [int(id) if id % 3 else f"id {id}" for id in rng.permutation(300)[: rng.integers(0, 12)]]
    return ids, gone


def vector(id: Any, batch: int) -> Any:
    seed = [batch, id if isinstance(id, int) else 1000 + int(id[3:])]
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def apply(state: State, batch: int) -> State:
    ids, gone = plan(batch)
    state = {**state, **dict.fromkeys(ids, batch)}
    for id in gone:
        state.pop(id, None)
    return state


def commit(made: Collection, batch: int) -> None:
    ids, gone = plan(batch)
    half = len(ids) // 2
    with made.batch():
        for part in (ids[:half], ids[half:]):
            vectors = np.array([vector(id, batch) for id in part], np.float32).reshape(len(part), DIM)
            made.upsert(part, vectors, [{"batch": batch}] * len(part), [f"of batch{batch}"] * len(part))
        made.delete(gone)


def state_of(made: Collection) -> State:
    """What a collection holds, once every record of it is right."""
    state: State = {}
    bulk = []
    for record in made:
        if isinstance(record.id, str) and record.id.startswith("bulk"):
            bulk.append(record.vector)
            continue
        state[record.id] = batch = record.metadata["batch"]
        np.testing.assert_array_equal(record.vector, vector(record.id, batch))
        assert record.document == f"of batch{batch}"
    if bulk:
        np.testing.assert_array_equal(bulk, bulk_vectors())
    return state


def bulk_vectors() -> Any:
    return np.random.default_rng(0).standard_normal((BULK, DIM)).astype(np.float32)


def maintain(made: Collection, path: Path, batch: int) -> None:
    """What follows a batch: now and then every other call that writes a file."""
    work = batch % 25
    if work % 7 == 0:
        made.checkpoint()
    elif work == 3:
        made.export(f"{path}.jsonl")
    elif work == 5:
        made.create_index("batch")
    elif work == 8:
        made.drop_index("batch")
    elif work == 10 and made._store.graph.index is not None:
        made._store.graph.index.save(f"{path}.ev")
    elif work == 12:
        made.check(repair=True)
    elif work == 17:
        rows = [{"id": "import", "vector": vector(1, batch), "batch": batch, "text": f"of batch{batch}"}]
        with suppress(edgevec.CancelledError):
            made.import_from(rows, progress=lambda done, total: False)
    elif work == 24:
        made.compact()


def work(path: Path) -> None:
    if path.stem.isdigit() and int(path.stem) // 20 % 2:  # every second file: vectors go ahead of their transaction
        ahead.MIN_RECORDS = ahead.MIN_BYTES = ahead.BYTES_PER_COMMIT = 1
    with edgevec.open(path, DIM) as made:
        if BULK and len(made) == 0:
            made.upsert([f"bulk {n}" for n in range(BULK)], bulk_vectors(), [{"batch": -1}] * BULK)
        batch = 1 + int(max((record.metadata["batch"] for record in made), default=-1))
        while True:
            commit(made, batch)
            os.write(1, f"{batch}\n".encode())
            maintain(made, path, batch)
            batch += 1


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                work(Path(line.rstrip("\n")))
            finally:
                os._exit(1)
        os.write(1, f"pid {child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(1, f"end {status}\n".encode())


if __name__ == "__main__":
    main()
