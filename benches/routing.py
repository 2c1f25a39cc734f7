"""What asking only the nearest shards costs in recall, and saves: python benches/routing.py

The same vectors lie in shards in their order, and in shards of near ones (`cluster=True`). The recall of exact searches
is what routing alone loses; the other has the loss of the graphs in it, too. All searches take turns; times of the
processor are what a busy machine changes least.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data import WORKLOADS, Workload, named
from shards import K, Search, batches, found, single_queries
from timing import Latency

import edgevec
from edgevec import ShardedIndex
from edgevec.evaluation import machine

PROBES = (1, 2, 4, 8)


def compared(in_order: ShardedIndex, near: ShardedIndex, work: Workload, ef: int, rounds: int) -> Iterator[str]:
    """A line for each number of shards that are asked."""
    count = len(near.shards)

    def asking(nprobe: int | None, index: ShardedIndex = near) -> Search:
        return lambda asked: index.search(asked, K, ef=ef, threads=1, nprobe=nprobe)

    probes = [nprobe for nprobe in PROBES if nprobe < count]
    searches: dict[str, Search] = {f"{nprobe}": asking(nprobe) for nprobe in probes}
    searches[f"all {count}"] = asking(None)
    searches[f"all {count}, in the order of the rows"] = asking(None, in_order)
    nprobe_of = dict(zip(searches, [*probes, None, None], strict=True))
    single, batch = single_queries(searches, work.queries, rounds), batches(searches, work.queries, rounds)
    yield "| shards asked | recall@10, exact | recall@10 | p50 us | processor us | processor us a query of a batch |"
    yield "|---|---|---|---|---|---|"
    for name, search in searches.items():
        exact = near.search(work.queries, K, exact=True, nprobe=nprobe_of[name])
        wall = Latency.of(single[name].calls)
        yield (
            f"| {name} | {work.recall(exact.ids):.3f} | {work.recall(found(search, work.queries)):.3f} "
            f"| {wall.p50_us:.0f} | {single[name].cpu_us:.0f} | {batch[name]:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=list(WORKLOADS), default="real")
    parser.add_argument("--n", type=int, default=117_659)
    parser.add_argument("--shards", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--ef", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    work = named(given.data, given.n)
    rows, dim = work.base.shape
    print(f"edgevec {edgevec.__version__}, SIMD {edgevec.simd_info().active}, {machine()}")
    print(f"{work.name}: {rows:,} x {dim}, {len(work.queries):,} queries, ef={given.ef}", flush=True)
    for count in given.shards:
        with tempfile.TemporaryDirectory() as scratch:
            built, made = [time.process_time()], []
            for cluster in (False, True):
                folder = Path(scratch, f"cluster={cluster}")
                most = -(-rows // count)
                made.append(
                    ShardedIndex.build(work.base, folder, rows_per_shard=most, metric=work.metric, cluster=cluster)
                )
                built.append(time.process_time())
            with made[0] as in_order, made[1] as near:
                sizes = [shard.count for shard in near.shards]
                print(
                    f"\n{count} shards, built in {built[1] - built[0]:.0f} s of the processor; clustered in "
                    f"{built[2] - built[1]:.0f} s, with {min(sizes):,} to {max(sizes):,} vectors\n",
                    flush=True,
                )
                for line in compared(in_order, near, work, given.ef, given.rounds):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
