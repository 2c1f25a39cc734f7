"""Changes of a collection in shards that follow from their number alone, and what they amount to.

python shard_change_worker.py FOLDER STEP
    make them from this one on, and print the number of each that is done
python shard_change_worker.py FOLDER faults COUNT STEP ...
    under LD_PRELOAD (faults.py): let so many calls of each kind fail, one after another, in each of these steps, and
    print a line for each case that ended wrongly
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import edgevec
from edgevec import ShardedCollection
from edgevec.sharded import MANIFEST

DIM, RECORDS, PER_SHARD = 6, 20, 6
STEPS = 5
"""After so many they begin anew, with other records."""
SYNCS = 12
"""Of the first shard that a step writes: each does something else."""
State = dict[Any, int]
"""The step that each record is of, in their order."""
Records = tuple[list[Any], Any, list[dict[str, int]], list[str]]


def name_of(number: int) -> Any:
    return number if number % 3 else f"t{number}"


def vector(id: Any, of: int) -> Any:
    return np.random.default_rng([of + 1, int(str(id).lstrip("t"))]).standard_normal(DIM).astype(np.float32)


def _records(numbers: Any, of: int) -> Records:
    ids = [name_of(number) for number in numbers]
    return ids, np.array([vector(id, of) for id in ids]), [{"of": of}] * len(ids), [f"note of{of}"] * len(ids)


def build(address: Any) -> None:
    ids, vectors, metadata, documents = _records(range(RECORDS), -1)
    rows = [
        {"id": id, "vector": vector, "text": text, **fields}
        for id, vector, fields, text in zip(ids, vectors, metadata, documents, strict=True)
    ]
    ShardedCollection.build(rows, address, rows_per_shard=PER_SHARD, metric="l2").close()


def _numbers(at: int) -> tuple[list[int], list[int]]:
    """Those that a step stores, and those that one deletes."""
    rng = np.random.default_rng(at)
    return [*rng.permutation(30)[:9].tolist(), 100 + at], rng.permutation(30)[:7].tolist()


def step(notes: ShardedCollection, at: int) -> None:
    stored, gone = _numbers(at)
    if at % STEPS == 0:
        notes.upsert(*_records(stored, at))
    elif at % STEPS == 1:
        notes.delete([name_of(number) for number in gone])
    elif at % STEPS == 2:
        notes.add(*_records(range(1000 + 10 * at, 1008 + 10 * at), at))
    elif at % STEPS == 3:
        notes.compact()
    else:
        notes.delete(where=f"of = {at - 2}")


def after(state: State, at: int) -> State:
    """That of step `at`, of the state before; -1: of the build."""
    stored, gone = _numbers(max(at, 0))
    if at < 0:
        return {name_of(number): -1 for number in range(RECORDS)}
    if at % STEPS == 0:
        return {**state, **{name_of(number): at for number in stored}}
    if at % STEPS == 1:
        ids = {name_of(number) for number in gone}
        return {id: of for id, of in state.items() if id not in ids}
    if at % STEPS == 2:
        return {**state, **{name_of(number): at for number in range(1000 + 10 * at, 1008 + 10 * at)}}
    if at % STEPS == 3:
        return state
    return {id: of for id, of in state.items() if of != at - 2}


def state_of(notes: ShardedCollection) -> State:
    """What it holds, once every record of it is right."""
    state: State = {}
    for record in notes.get(notes.ids()):
        state[record.id] = of = record.metadata["of"]
        np.testing.assert_array_equal(record.vector, vector(record.id, of))
        assert record.document == f"note of{of}"
    return state


# ---- calls of the system that fail -----------------------------------------------------------------------------------


def run_case(folder: Path, at: int, kind: str, nth: int, how: str) -> int:
    """One step while its n-th call of a kind fails; how many such calls there were."""
    from faults import HOW, KINDS, attempt, check_error, descriptors, library

    faults, start = library(), descriptors()
    with ShardedCollection.open(folder) as notes:
        old = state_of(notes)
        new = after(old, at)
        faults.faults_arm(os.fsencode(folder), KINDS[kind], nth, *HOW[how])
        _, error = attempt(lambda: step(notes, at))
        calls: int = faults.faults_disarm()
        check_error(error, kind, how)
        found = state_of(notes)
        assert found in ([new] if error is None else [old, new]), "neither the old state nor the new"
        with ShardedCollection.open(folder) as again:
            assert state_of(again) == found, "two who have it open differ"
            again.upsert(["last"], vector("9", at)[None], [{"of": 0}])
            assert "last" in notes
            names = {name for shard in again.shards for name in (shard.file, shard.file + "-graph")}
            left = set(os.listdir(folder)) - names - {MANIFEST, "manifest.json-lock"}
            assert not left, f"left behind: {left}"
    error = None
    assert descriptors() <= start, "descriptors are leaked"
    return calls


def run_cases(root: Path, most: int, steps: list[int]) -> None:
    from faults import HOW, sample

    build(root / "0")
    for at in range(STEPS):
        shutil.copytree(root / str(at), root / str(at + 1))
        with ShardedCollection.open(root / str(at + 1)) as notes:
            step(notes, at)
    cases = 0

    def case(at: int, kind: str, nth: int, how: str) -> int:
        folder = root / "work"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / str(at), folder)
        try:
            return run_case(folder, at, kind, nth, how)
        except Exception as error:
            print(f"step {at}: {kind} {nth} {how}: {type(error).__name__}: {error}", flush=True)
            return 0

    for at in steps:
        for kind in ("open", "write", "sync", "rename", "folder"):
            count = case(at, kind, 0, "EIO")
            some = range(1, min(count, SYNCS) + 1) if kind == "sync" else sample(count, most)
            for nth in some:
                case(at, kind, nth, [*HOW][cases % 2])
                cases += 1
    print(f"{cases} cases")


def main() -> None:
    folder = Path(sys.argv[1])
    if sys.argv[2] == "faults":
        run_cases(folder, 10**9 if sys.argv[3] == "all" else int(sys.argv[3]), [int(at) for at in sys.argv[4:]])
        return
    at = int(sys.argv[2])
    with ShardedCollection.open(folder) as notes:
        print("begun", flush=True)
        while True:
            step(notes, at)
            print(at, flush=True)
            at += 1


if __name__ == "__main__":
    with suppress(edgevec.ClosedError):
        main()
