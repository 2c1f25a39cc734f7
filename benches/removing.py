"""What does removing take, and searching what is left, where nothing is added? Beside a fresh build of what is left.

    python benches/removing.py                                   # of 100,000 real embeddings, in one call
    python benches/removing.py --n 20000 --calls 1000            # in so many calls
    EDGEVEC_SIMD=avx2 python benches/removing.py --shares 0.5

By chance, and by topic: whole neighborhoods. Microseconds a query are processor time in batches on one thread at
ef=64, the least of 9 in turn; recall@10 is against exact search by NumPy; seconds are processor time of all threads.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from data import Floats, Ids, exact_uncached, named, recall
from rich.console import Console
from rich.table import Table
from timing import spent

import edgevec

K, EF, TOPICS = 10, 64, 32


def order_of(base: Floats, way: str) -> Ids:
    """In which rows are removed."""
    rng = np.random.default_rng(1)
    if way == "by chance":
        return rng.permutation(len(base)).astype(np.int64)
    centers = base[rng.choice(len(base), TOPICS, replace=False)]
    return np.argsort((base @ centers.T).argmax(axis=1), kind="stable").astype(np.int64)


def searched(indexes: tuple[edgevec.Index, ...], live: Ids, base: Floats, queries: Floats) -> list[tuple[float, float]]:
    """Of each index the recall, and the microseconds of a search."""
    truth, place = exact_uncached(base[live], queries, K, "cosine"), np.full(len(base), -1)
    place[live] = np.arange(len(live))
    least, recalls = [np.inf] * len(indexes), [0.0] * len(indexes)
    for _ in range(9):
        for number, index in enumerate(indexes):
            start = time.thread_time()
            ids = index.search(queries, K, ef=EF, threads=1).ids
            least[number] = min(least[number], 1e6 * (time.thread_time() - start) / len(queries))
            recalls[number] = recall(place[ids], truth, base[live], queries, "cosine")
    return list(zip(recalls, least, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.3, 0.5, 0.75])
    arguments = parser.parse_args()
    workload = named("real", arguments.n, 500)
    base = workload.base
    whole = edgevec.Index(base.shape[1], "cosine")
    whole.add(base)
    saved = whole.to_bytes()
    table = Table("removed", "s", "built anew", "recall, us", "built anew", "still route")
    for way in ("by chance", "by topic"):
        order = order_of(base, way)
        for share in arguments.shares:
            index, fresh = edgevec.Index.from_bytes(saved), edgevec.Index(base.shape[1], "cosine")
            gone, live = np.split(order, [int(share * len(base))])
            parts = np.array_split(gone, arguments.calls)
            removing = spent(lambda index=index, parts=parts: [index.remove(part) for part in parts]).cpu
            adding = spent(lambda fresh=fresh, live=live: fresh.add(base[live], live)).cpu
            both = searched((index, fresh), live, base, workload.queries)
            figures = (f"{found:.4f}, {took:.1f}" for found, took in both)
            dead = f"{index.stats()['dead']:,}"
            table.add_row(f"{share:.0%} {way}", f"{removing:.2f}", f"{adding:.2f}", *figures, dead)
    Console().print(workload.name, table)


if __name__ == "__main__":
    main()
