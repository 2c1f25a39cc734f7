"""What a change of a collection in shards costs: python benches/shard_changes.py

One full shard and nothing else: a call costs as much for each shard that it writes anew. Times of the processor, and
the bytes of the files that come into being.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from data import WORKLOADS, Workload, named

import edgevec
from edgevec.evaluation import machine

WORDS = 20
ALONE = 1_000
"""Records that are added one by one."""


def rows(work: Workload) -> Iterator[dict[str, object]]:
    """Metadata of random values, texts of words by Zipf's law."""
    rng = np.random.default_rng(2)
    words = np.array([f"w{number}" for number in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    drawn = rng.choice(words, (len(work.base), WORDS), p=weights / weights.sum())
    years = rng.integers(2000, 2025, len(work.base))
    for at, vector in enumerate(work.base):
        yield {"id": at, "vector": vector, "text": " ".join(drawn[at]), "year": int(years[at])}


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.edgevec*")}


def changes(notes: edgevec.ShardedCollection, work: Workload) -> dict[str, Callable[[], object]]:
    count = len(work.base)
    many = np.arange(1, count // 10 + 1)

    def add_one_by_one() -> None:
        for at in range(ALONE):
            notes.add([count + 1 + at], work.base[at : at + 1], documents=["another text"])

    return {
        "delete one": lambda: notes.delete([0]),
        f"delete {len(many):,}": lambda: notes.delete(many),
        "replace one": lambda: notes.upsert([count - 1], work.base[:1], documents=["another text"]),
        "add one": lambda: notes.add([count], work.base[:1], documents=["another text"]),
        f"add {ALONE:,} one by one": add_one_by_one,
        f"add {len(many):,}": lambda: notes.add(many, work.base[many], documents=["another text"] * len(many)),
        "compact": notes.compact,
    }


def measured(work: Workload) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "notes")
        start = time.process_time()
        options = {"rows_per_shard": len(work.base), "metric": work.metric}
        edgevec.ShardedCollection.build(rows(work), folder, **options).close()
        yield f"built in {time.process_time() - start:.1f} s of the processor\n"
        yield "| change | processor s | MB written | shards then | a reader that follows: processor s |"
        yield "|---|---|---|---|---|"
        with edgevec.ShardedCollection.open(folder) as notes, edgevec.ShardedCollection.open(folder) as reader:
            for name, change in changes(notes, work).items():
                before, start = sizes(folder), time.process_time()
                change()
                taken, after = time.process_time() - start, sizes(folder)
                new = sum(size for file, size in after.items() if file not in before)
                start = time.process_time()
                reader.refresh()
                follows = time.process_time() - start
                yield f"| {name} | {taken:.2f} | {new / 1e6:.1f} | {len(notes.shards)} | {follows:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=list(WORKLOADS), default="real")
    parser.add_argument("--n", type=int, default=100_000)
    given = parser.parse_args()
    work = named(given.data, given.n)
    print(f"edgevec {edgevec.__version__}, SIMD {edgevec.simd_info().active}, {machine()}")
    count, dim = work.base.shape
    print(f"{work.name}: {count:,} x {dim}; load {os.getloadavg()[0]:.1f}\n", flush=True)
    for line in measured(work):
        print(line, flush=True)


if __name__ == "__main__":
    main()
