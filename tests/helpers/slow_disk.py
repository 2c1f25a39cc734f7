"""Readers beside writers on a disk that takes long to flush: a program, under LD_PRELOAD with the library of faults.c.

It prints the longest time that a search took, in seconds, while each of the calls below waited for the disk.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from faults import library

import edgevec

DIM, DELAY = 8, 0.4


def main() -> None:
    folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
    with edgevec.open(folder / "c.edgevec", DIM) as made:
        made.upsert(range(300), rng.standard_normal((300, DIM)), [{"n": n} for n in range(300)])
        reader = edgevec.open(folder / "c.edgevec", mode="r")
        made.checkpoint()
        calls: dict[str, Callable[[], object]] = {
            "upsert": lambda: made.upsert(range(100), rng.standard_normal((100, DIM))),
            "delete": lambda: made.delete(range(200, 220)),
            "checkpoint": made.checkpoint,
        }
        for name, call in calls.items():
            library().faults_arm(os.fsencode(folder), 0, 0, 0, 0)
            library().faults_delay(int(1000 * DELAY))
            thread = threading.Thread(target=call)
            start = time.perf_counter()
            thread.start()
            longest = {"here": 0.0, "elsewhere": 0.0}
            while thread.is_alive():
                for where, collection in {"here": made, "elsewhere": reader}.items():
                    before = time.perf_counter()
                    found = {hit.id for hit in collection.search(np.ones(DIM), 400)}
                    assert len(found) in (280, 300)
                    longest[where] = max(longest[where], time.perf_counter() - before)
            thread.join()
            library().faults_delay(0)
            print(name, time.perf_counter() - start, *longest.values(), flush=True)
        assert made.check().ok
        reader.close()


if __name__ == "__main__":
    main()
