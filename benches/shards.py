"""What an index in several files costs beside a single one, and what many of them would: python benches/shards.py

The same vectors lie in one index and in four shards, which take turns; and in 1, 2, 4, ... small shards. Through every
second number of these goes the line that is the model of many shards; the others, and the time of a larger index, say
how far it is off. Times of the processor are what a busy machine changes least. With --ray a service is measured, too;
with --collections a collection beside four shards of one, and with both a service of these.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from data import WORKLOADS, Floats, Ids, Workload, named
from numpy.typing import NDArray
from timing import Latency, call_times_us, in_turns

import edgevec
from edgevec import Index, SearchResult, ShardedIndex
from edgevec.evaluation import machine

Search = Callable[[Floats], SearchResult]

K, SHARDS = 10, 4
EFS = (10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256)
LARGE, HELD = 250_000, 25
"""The shards of the forecast, and how many of them a machine holds."""
PRICE = 0.015
"""Dollars for an hour of one processor of a spot machine: put in your own by --price."""


class Measured(NamedTuple):
    """Of single queries: microseconds of each round's calls, and of the processor on average."""

    calls: list[NDArray[np.float64]]
    cpu_us: float


def single_queries(searches: dict[str, Search], queries: Floats, rounds: int) -> dict[str, Measured]:
    def once(search: Search) -> tuple[NDArray[np.float64], float]:
        cpu = time.process_time()
        calls = call_times_us(search, queries)
        return calls, (time.process_time() - cpu) / len(queries) * 1e6

    for search in searches.values():
        call_times_us(search, queries[:50])
    taken = in_turns({name: lambda s=search: once(s) for name, search in searches.items()}, rounds)  # type: ignore[misc]
    return {
        name: Measured([calls for calls, _ in each], float(np.median([cpu for _, cpu in each])))
        for name, each in taken.items()
    }


def batches(searches: dict[str, Search], queries: Floats, rounds: int) -> dict[str, float]:
    """Microseconds of the processor for each query."""

    def once(search: Search) -> float:
        cpu = time.process_time()
        search(queries)
        return (time.process_time() - cpu) / len(queries) * 1e6

    taken = in_turns({name: lambda s=search: once(s) for name, search in searches.items()}, rounds)  # type: ignore[misc]
    return {name: float(np.median(each)) for name, each in taken.items()}


def least_ef(index: Index | ShardedIndex, work: Workload, wanted: float) -> int:
    """The least ef, of a few, with the recall that is wanted."""
    for ef in EFS:
        if work.recall(index.search(work.queries, K, ef=ef).ids) >= wanted:
            return ef
    raise SystemExit(f"no ef up to {EFS[-1]} reaches a recall of {wanted}")


def found(search: Search, queries: Floats) -> Ids:
    return np.stack([search(query).ids for query in queries])


def one_and_four(one: Index, four: ShardedIndex, work: Workload, wanted: float, rounds: int) -> Iterator[str]:
    """At one ef, and at that which each needs for the recall that is wanted."""
    ef, fewer = least_ef(one, work, wanted), least_ef(four, work, wanted)
    searches: dict[str, Search] = {
        f"one index, ef={ef}": lambda asked: one.search(asked, K, ef=ef),
        f"{SHARDS} shards, ef={ef}": lambda asked: four.search(asked, K, ef=ef),
        f"the same, threads=1, ef={ef}": lambda asked: four.search(asked, K, ef=ef, threads=1),
        f"{SHARDS} shards, ef={fewer}": lambda asked: four.search(asked, K, ef=fewer),
        f"the same, threads=1, ef={fewer}": lambda asked: four.search(asked, K, ef=fewer, threads=1),
    }
    single, batch = single_queries(searches, work.queries, rounds), batches(searches, work.queries, rounds)
    yield "| | recall@10 | p50 us | p99 us | processor us | processor us a query of a batch |"
    yield "|---|---|---|---|---|---|"
    for name, search in searches.items():
        wall = Latency.of(single[name].calls)
        yield (
            f"| {name} | {work.recall(found(search, work.queries)):.4f} | {wall.p50_us:.0f} | {wall.p99_us:.0f} "
            f"| {single[name].cpu_us:.0f} | {batch[name]:.0f} |"
        )


class Model(NamedTuple):
    """Microseconds of a processor for a query, with shards of `rows` vectors and a certain ef.

    fixed: what comes once a query
    per_shard: the search of a shard, the call, its part of the merge
    per_doubling: how much more a shard of twice the size takes
    """

    rows: int
    fixed: float
    per_shard: float
    per_doubling: float

    def cpu_us(self, shards: int, rows: int) -> float:
        return self.fixed + shards * (self.per_shard + self.per_doubling * math.log2(rows / self.rows))


def many(four: ShardedIndex, one: Index, work: Workload, ef: int, rows: int, rounds: int) -> Iterator[str | Model]:
    """Fit the model to numbers of small shards and to four larger ones, and check it."""
    counts = [1 << power for power in range(int(math.log2(len(work.base) // rows)) + 1)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        made = {
            count: stack.enter_context(
                ShardedIndex.build(
                    work.base[: count * rows], Path(folder, str(count)), rows_per_shard=rows, metric=work.metric
                )
            )
            for count in counts
        }
        searches: dict[str, Search] = {
            str(count): lambda asked, index=index: index.search(asked, K, ef=ef, threads=1)  # type: ignore[misc]
            for count, index in made.items()
        }
        searches["four"] = lambda asked: four.search(asked, K, ef=ef, threads=1)
        searches["one"] = lambda asked: one.search(asked, K, ef=ef)
        times = {name: each.cpu_us for name, each in single_queries(searches, work.queries[:300], rounds).items()}
    fitted = counts[::2]
    weights = [1 / times[str(count)] for count in fitted]
    per_shard, fixed = np.polyfit(fitted, [times[str(count)] for count in fitted], 1, w=weights)
    large = len(work.base) // SHARDS
    of_large = (times["four"] - fixed) / SHARDS
    model = Model(rows, float(fixed), float(per_shard), float(of_large - per_shard) / math.log2(large / rows))
    yield f"\nprocessor us of a query at ef={ef}, by the calling thread alone\n"
    yield "| shards | vectors of each | measured | model | of it the merge |"
    yield "|---|---|---|---|---|"
    for count in counts:
        told = f"{model.cpu_us(count, rows):.0f}{'' if count in fitted else ' (not fitted)'}"
        yield f"| {count} | {rows:,} | {times[str(count)]:.0f} | {told} | {merge_us(count):.0f} |"
    yield f"| {SHARDS} | {large:,} | {times['four']:.0f} | {model.cpu_us(SHARDS, large):.0f} | {merge_us(SHARDS):.0f} |"
    whole = len(work.base)
    yield f"| one `Index` | {whole:,} | {times['one']:.0f} | {model.cpu_us(1, whole):.0f} (not fitted) | |"
    yield model


def merge_us(shards: int) -> float:
    """Of one query: the k nearest of k from each shard, by distance and id, in NumPy as ShardedIndex does it."""
    rng = np.random.default_rng(0)
    ids = [np.arange(K) + K * n for n in range(shards)]
    distances = [np.sort(rng.random(K, np.float32)) for _ in range(shards)]
    times = []
    for _ in range(max(5, 2000 // shards)):
        start = time.perf_counter_ns()
        every, far = np.concatenate(ids), np.concatenate(distances)
        order = np.lexsort((every, far))[:K]
        _ = every[order], far[order]
        times.append((time.perf_counter_ns() - start) / 1e3)
    return float(np.median(times))


def slowest(calls: NDArray[np.float64], machines: int, *, hedged: bool = False) -> tuple[float, float]:
    """p50 and p99 of a query that waits for so many, if each takes what some call did that was measured.

    Hedged: who has not answered at the 95th percentile is asked again, elsewhere, and the first answer counts.
    """
    rng = np.random.default_rng(1)
    waited = np.zeros(4000)
    late = np.percentile(calls, 95)
    for _ in range(machines):
        drawn = rng.choice(calls, len(waited))
        if hedged:
            drawn = np.minimum(drawn, np.where(drawn > late, late + rng.choice(calls, len(waited)), np.inf))
        np.maximum(waited, drawn, out=waited)
    p50, p99 = np.percentile(waited, [50, 99])
    return float(p50), float(p99)


def forecast(model: Model, dim: int, calls: NDArray[np.float64], price: float) -> Iterator[str]:
    counts = (100, 10_000)
    machines = [max(1, count // HELD) for count in counts]
    cpu = [model.cpu_us(count, LARGE) for count in counts]
    one = np.percentile(calls, 50)
    rows = {
        f"vectors, {LARGE:,} in a shard": [f"{count * LARGE / 1e6:,.0f} million" for count in counts],
        f"machines that hold {HELD} shards": [f"{each:,}" for each in machines],
        "processor time of a query, ms": [f"{each / 1e3:,.1f}" for each in cpu],
        "of it the last merge, ms": [f"{merge_us(each) / 1e3:.2f}" for each in machines],
        "vectors and neighbors over the network, KB": [f"{n * (4 * dim + 12 * K) / 1e3:,.0f}" for n in machines],
        f"dollars for a million queries, processors at {price} an hour": [f"{us / 3600 * price:,.2f}" for us in cpu],
    }
    for name, hedged in (("", False), (", hedged", True)):
        times = [slowest(calls, each, hedged=hedged) for each in machines]
        rows[f"p50, p99 beside the p50 of one machine{name}"] = [f"{a / one:.1f}, {b / one:.1f}" for a, b in times]
    yield "\n| | 100 shards | 10,000 shards |"
    yield "|---|---|---|"
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells)} |"


def start_ray() -> None:
    """A cluster of its own, also where another one runs on this machine."""
    import ray

    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)


def of_service(folder: Path, queries: Floats, rounds: int) -> Iterator[str]:
    """The same shards held by 1, 2 and 4 actors; and by 2 replicas of 2, with and without hedged requests."""
    import ray

    import edgevec.ray

    start_ray()
    yield "\n| a service | p50 us | p99 us | slowest of so many such as the one: p50, p99 | asked twice |"
    yield "|---|---|---|---|---|"
    alone: NDArray[np.float64] = np.empty(0)
    for replicas, actors, hedge in ((1, 1, None), (1, 2, None), (1, 4, None), (2, 2, None), (2, 2, 0.95)):
        with edgevec.ray.serve(folder, replicas=replicas, actors=actors, hedge=hedge) as service:
            call_times_us(service.search, queries[:100])
            before = service.stats
            calls = [call_times_us(service.search, queries[:200]) for _ in range(rounds)]
            after = service.stats
        alone = np.concatenate(calls) if actors == 1 else alone
        wall, (p50, p99) = Latency.of(calls), slowest(alone, actors, hedged=hedge is not None)
        name = (
            f"{actors} actors" + (f", {replicas} replicas" if replicas > 1 else "") + (f", {hedge=}" if hedge else "")
        )
        twice = (after.hedged - before.hedged) / (after.asked - before.asked)
        yield f"| {name} | {wall.p50_us:.0f} | {wall.p99_us:.0f} | {p50:.0f}, {p99:.0f} | {twice:.1%} |"
    ray.shutdown()


COUNTRIES, YEARS = ("de", "fr", "it", "es", "nl"), 25


def of_records(work: Workload, rounds: int, serve: bool) -> Iterator[str]:
    """A collection and the same records in four shards: metadata of random values, texts of words by Zipf's law.

    Args:
        serve: these shards in one actor, and in four, too; of what these take the processor times know nothing
    """
    rng = np.random.default_rng(2)
    count = len(work.base)
    words = np.array([f"w{number}" for number in range(20_000)])
    weights = 1 / np.arange(1, len(words) + 1)
    drawn = rng.choice(words, (count, 20), p=weights / weights.sum())
    asked = [" ".join(pair) for pair in rng.choice(words[20:2_000], (len(work.queries), 2))]
    places, years = rng.choice(COUNTRIES, count), rng.integers(2000, 2000 + YEARS, count)

    def rows() -> Iterator[dict[str, object]]:
        for at in range(count):
            fields = {"country": str(places[at]), "year": int(years[at])}
            yield {"id": at, "vector": work.base[at], "text": " ".join(drawn[at]), **fields}

    with tempfile.TemporaryDirectory() as scratch:
        start = time.process_time()
        with edgevec.open(Path(scratch, "one.edgevec"), metric=work.metric, durability="fast") as made:
            made.import_from(rows())
        built, size = time.process_time(), -(-count // SHARDS)
        options = {"rows_per_shard": size, "metric": work.metric}
        with ExitStack() as stack:
            four = stack.enter_context(edgevec.ShardedCollection.build(rows(), Path(scratch, "four"), **options))
            one = stack.enter_context(edgevec.open(Path(scratch, "one.edgevec"), mode="r", mmap=True))
            done = time.process_time()
            yield f"\ncollections: built in {built - start:.0f} s of the processor, in shards {done - built:.0f} s\n"
            compared: dict[str, Searched] = {"one collection": one, "four shards": four}
            if serve:
                from edgevec.ray import serve_collection

                start_ray()
                for actors in (1, 4):
                    service = serve_collection(Path(scratch, "four"), actors=actors)
                    compared[f"{actors} actors"] = stack.enter_context(service)
            yield f"| | {' | '.join(f'{name}, p50 us | processor us' for name in compared)} |"
            yield "|---" * (1 + 2 * len(compared)) + "|"
            where = "year >= 2015 AND country IN ('de', 'fr')"
            kinds: dict[str, tuple[bool, bool, str | None]] = {
                "vector": (True, False, None),
                "vector, where": (True, False, where),
                "words": (False, True, None),
                "words, where": (False, True, where),
                "vector and words": (True, True, None),
                "vector and words, where": (True, True, where),
            }
            for name, (vector, text, condition) in kinds.items():
                yield _of_kind(name, compared, work.queries[:300], asked, vector, text, condition, rounds)


class Searched(Protocol):
    """A collection, in one way or another."""

    def search(self, vector: Any, k: int, *, text: str | None, where: str | None) -> object: ...


def _of_kind(
    name: str,
    compared: Mapping[str, Searched],
    queries: Floats,
    asked: list[str],
    vector: bool,
    text: bool,
    where: str | None,
    rounds: int,
) -> str:
    def searches(made: Searched) -> Search:
        turn = iter(())

        def search(query: Floats) -> object:
            nonlocal turn
            words = next(turn, None)
            if words is None:
                turn = iter(asked[: len(queries)])
                words = next(turn)
            return made.search(query if vector else None, K, text=words if text else None, where=where)

        return search  # type: ignore[return-value]

    told = single_queries({name: searches(made) for name, made in compared.items()}, queries, rounds)
    cells = (f"{Latency.of(told[each].calls).p50_us:.0f} | {told[each].cpu_us:.0f}" for each in told)
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=list(WORKLOADS), default="real")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=1_000, help="vectors of the small shards")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--price", type=float, default=PRICE, help="dollars for an hour of one processor")
    parser.add_argument("--collections", action="store_true", help="measure collections, and nothing else")
    parser.add_argument("--ray", action="store_true", help="measure a service, too")
    given = parser.parse_args()
    work = named(given.data, given.n)
    rows, dim = work.base.shape
    print(f"edgevec {edgevec.__version__}, SIMD {edgevec.simd_info().active}, {machine()}")
    print(f"{work.name}: {rows:,} x {dim}, recall@{K} of {given.recall} wanted\n", flush=True)
    if given.collections:
        for line in of_records(work, given.rounds, given.ray):
            print(line, flush=True)
        return
    with tempfile.TemporaryDirectory() as scratch, Index(dim, work.metric) as one:
        start = time.process_time()
        one.add(work.base)
        built = time.process_time()
        with ShardedIndex.build(work.base, scratch, rows_per_shard=-(-rows // SHARDS), metric=work.metric) as four:
            print(f"built in {built - start:.0f} s of the processor, in shards {time.process_time() - built:.0f} s\n")
            for line in one_and_four(one, four, work, given.recall, given.rounds):
                print(line, flush=True)
            ef = least_ef(four, work, given.recall)
            for told in many(four, one, work, ef, given.small, given.rounds):
                if isinstance(told, str):
                    print(told, flush=True)
                else:
                    model = told
            calls = single_queries({"four": lambda asked: four.search(asked, K, ef=ef)}, work.queries, given.rounds)
            for line in forecast(model, dim, np.concatenate(calls["four"].calls), given.price):
                print(line, flush=True)
        if given.ray:
            for line in of_service(Path(scratch), work.queries, given.rounds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
