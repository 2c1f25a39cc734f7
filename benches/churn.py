"""What is left of an index whose vectors were replaced again and again? Recall and speed beside a fresh build.

    python benches/churn.py                                      # 8 rounds, 20% of 50,000 real embeddings each
    EDGEVEC_SIMD=avx2 python benches/churn.py --rounds 4 --share 0.1

Both hold the same vectors at the end. Microseconds a query are processor time in batches on one thread, the least of 15
in turn; recall@10 is against exact search.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from data import Floats, named, recall
from rich.console import Console
from rich.table import Table

import edgevec

K = 10
EFS = (32, 64, 128)


def churned(base: Floats, n: int, rounds: int, share: float) -> tuple[edgevec.Index, Floats]:
    """The index, and what it holds under the ids 0 to n - 1. What was replaced waits to come back."""
    rng = np.random.default_rng(3)
    index = edgevec.Index(base.shape[1], "cosine")
    index.add(base[:n], np.arange(n))
    held, spare = np.arange(n), rng.permutation(np.arange(n, len(base)))
    for _ in range(rounds):
        ids = rng.choice(n, min(int(share * n), len(spare)), replace=False)
        old = held[ids]
        held[ids], spare = spare[: len(ids)], np.concatenate([spare[len(ids) :], old])
        index.add(base[held[ids]], ids)
    return index, base[held]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--share", type=float, default=0.2)
    arguments = parser.parse_args()
    workload = named("real", None)
    queries = workload.queries
    worn, held = churned(workload.base, arguments.n, arguments.rounds, arguments.share)
    fresh = edgevec.Index(held.shape[1], "cosine")
    fresh.add(held, np.arange(len(held)))
    truth = fresh.search(queries, K, exact=True).ids
    table = Table("ef", "recall, churned", "fresh", "us, churned", "fresh")
    for ef in EFS:
        least, found = {}, {}
        for _ in range(15):
            for name, index in (("churned", worn), ("fresh", fresh)):
                start = time.thread_time()
                ids = index.search(queries, K, ef=ef, threads=1).ids
                took = 1e6 * (time.thread_time() - start) / len(queries)
                least[name] = min(took, least.get(name, took))
                found[name] = recall(ids, truth, held, queries, "cosine")
        table.add_row(str(ef), *(f"{found[name]:.4f}" for name in found), *(f"{least[name]:.1f}" for name in least))
    Console().print(workload.name, table, f"removed nodes that still route: {worn.stats()['dead']:,}")


if __name__ == "__main__":
    main()
