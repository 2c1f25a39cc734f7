"""Collections beside other small vector databases: import, open, and search with and without conditions.

100,000 x 384 real embeddings under cosine, each with metadata (year, lang, score, tags; from a fixed seed) and a short
text. Every database searches at the smallest effort whose recall@10 reaches the target, where it has a choice;
sqlite-vec and qdrant-client compare with every vector. Conditions let half, a tenth and a hundredth of the records
through. The truth of each question is computed with NumPy. Then: how many records a second each operator of `where`
looks at in the file.

    python benches/collection.py --json collection.json --markdown collection.md
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Ids, Workload, exact, load, recall
from databases import DATABASES, Condition, Database, EdgevecCollection, K
from timing import Latency, call_times_us, in_turns, installed, machine, spent, write_json

import edgevec

CONDITIONS = [
    Condition("50%", (("year", ">=", 1963),)),
    Condition("10%", (("year", ">=", 1988), ("lang", "=", "de"))),
    Condition("1%", (("score", "<", 0.01),)),
]
NEW = "10%, new"
"""The second condition with another constant at each call, so that nothing can be kept from the call before."""
OPERATORS = (
    "year = 2000",
    "year != 2000",
    "year >= 2000",
    "year BETWEEN 1990 AND 2000",
    "year IN (2000, 2001, 2002)",
    "score < 0.01",
    "lang = 'de'",
    "lang IN ('de', 'fr')",
    "lang LIKE 'd%'",
    "lang LIKE '%e'",
    "lang ILIKE 'D%'",
    "lang CONTAINS 'e'",
    "tags CONTAINS 'wolf'",
    "tags CONTAINS 'nothing'",
    "tags CONTAINS 5",
    "NOT tags CONTAINS 'wolf'",
    "year IS NULL",
    "year IS NOT NULL",
    "year >= 2000 AND lang = 'de'",
    "year >= 2000 OR lang = 'de'",
    "NOT (year >= 2000 OR lang = 'de')",
)
EFFORTS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 80, 100, 128, 160, 200, 300, 400, 600, 800, 1200)
PACKAGES = ("edgevec", "numpy", "sqlite-vec", "chromadb", "lancedb", "qdrant-client", "zvec")


@dataclass
class Answer:
    """Of one question: the effort (None where there is no choice), recall@10, and the time of a call."""

    effort: int | None
    recall: float
    latency: Latency = field(default_factory=lambda: Latency(0, 0))


@dataclass
class Figures:
    """One database. Answers by question: "all", the names of CONDITIONS, NEW, and "whole" with metadata and texts."""

    name: str
    import_s: float
    open_s: float
    answers: dict[str, Answer]


def make_rows(n: int) -> tuple[list[dict[str, Any]], list[str]]:
    rng = np.random.default_rng(7)
    words = np.array(["red", "green", "blue", "wolf", "tree", "stone", "river", "cloud"])
    rows = [
        {"year": int(year), "lang": str(lang), "score": float(score), "tags": [str(tag) for tag in tags]}
        for year, lang, score, tags in zip(
            rng.integers(1900, 2025, n),
            rng.choice(["de", "en", "fr"], n),
            rng.random(n),
            rng.choice(words, (n, 2)),
            strict=True,
        )
    ]
    return rows, [f"text {at} of the {' '.join(row['tags'])}" for at, row in enumerate(rows)]


def found_by(database: Database, queries: Floats, effort: int, condition: Condition | None) -> Ids:
    found = np.full((len(queries), K), -1, np.int64)
    for at, query in enumerate(queries):
        ids = database.search(query, effort, condition)
        found[at, : len(ids)] = ids
    return found


def smallest_effort(
    database: Database, work: Workload, truth: Ids, target: float, condition: Condition | None
) -> Answer:
    """The smallest effort that reaches the target, or the greatest there is; and its recall."""

    def recall_at(effort: int, count: int | None) -> float:
        queries = work.queries[:count]
        return recall(found_by(database, queries, effort, condition), truth[:count], work.base, queries, work.metric)

    if database.fixed:  # and slow: a part of the queries tells its recall
        return Answer(None, recall_at(0, 50))
    answer = Answer(None, 0)
    for effort in EFFORTS:
        answer = Answer(effort, recall_at(effort, None))
        if answer.recall >= target:
            break
    return answer


def prepare(name: str, folder: Path, work: Workload, target: float, truths: dict[str, Ids]) -> tuple[Database, Figures]:
    """Import, open, and find the effort of each question."""
    database = DATABASES[name][0](folder)
    rows, texts = make_rows(len(work.base))
    print(f"{database.name}: importing", file=sys.stderr)
    start = time.perf_counter()
    database.build(work.base, rows, texts, CONDITIONS)
    built = time.perf_counter() - start
    start = time.perf_counter()
    database.reopen()
    database.search(work.queries[0], EFFORTS[-1], None)
    opened = time.perf_counter() - start
    print(f"{database.name}: looking for efforts", file=sys.stderr)
    answers = {
        question: smallest_effort(database, work, truths[question], target, condition)
        for question, condition in {"all": None, **{condition.name: condition for condition in CONDITIONS}}.items()
    }
    answers[NEW] = Answer(answers["10%"].effort, answers["10%"].recall)
    answers["whole"] = Answer(answers["all"].effort, answers["all"].recall)
    if not database.conditional:
        del answers[NEW]
    return database, Figures(database.name, built, opened, answers)


def calls(database: Database, question: str, effort: int) -> Callable[[Floats], Any]:
    if question == "whole":
        return lambda query: database.search_whole(query, effort)
    if question == NEW:
        return lambda query: database.search(query, effort, never_asked(next(_numbers)))
    condition = next((condition for condition in CONDITIONS if condition.name == question), None)
    return lambda query: database.search(query, effort, condition)


_numbers = count(1)


def never_asked(number: int) -> Condition:
    """Lets the same records through as the condition of a tenth."""
    return Condition(NEW, (*CONDITIONS[1].tests, ("score", ">=", -number / 1e6)))


def measure(
    work: Workload, names: list[str], target: float, rounds: int, folder: Path
) -> tuple[list[Figures], dict[str, float]]:
    """Every database, and the records a second of each operator."""
    rows, _ = make_rows(len(work.base))
    truths = {"all": work.truth[:, :K]}
    for condition in CONDITIONS:
        ids = condition.matching_rows(rows)
        truths[condition.name] = ids[exact(work.base[ids], work.queries, K, "cosine")]
    made = {name: prepare(name, folder, work, target, truths) for name in names}
    print("timing", file=sys.stderr)
    for question in ("all", *(condition.name for condition in CONDITIONS), NEW, "whole"):

        def run(name: str, question: str = question) -> Any:
            database, figures = made[name]
            few = database.fixed or question == NEW
            queries = work.queries[: len(work.queries) // 10] if few else work.queries
            return call_times_us(calls(database, question, figures.answers[question].effort or 0), queries)

        asked = [name for name in names if question in made[name][1].answers]
        times = in_turns({name: lambda name=name: run(name) for name in asked}, rounds)
        for name, taken in times.items():
            made[name][1].answers[question].latency = Latency.of(taken)
    ours = next((database for database, _ in made.values() if isinstance(database, EdgevecCollection)), None)
    return [figures for _, figures in made.values()], {} if ours is None else records_a_second(ours, rounds)


def records_a_second(ours: EdgevecCollection, rounds: int) -> dict[str, float]:
    """Of each operator, by SQLite alone and with no index on the field; by processor time, since one thread counts."""
    with edgevec.open(ours.db.path, mode="r", condition_memory=0) as made:
        size = made.count()

        def seconds(where: str) -> float:
            return spent(lambda: made.count(where)).cpu

        times = in_turns({where: lambda where=where: seconds(where) for where in OPERATORS}, rounds)
    return {where: size / float(np.median(taken)) for where, taken in times.items()}


def usable(name: str) -> bool:
    if name == "sqlite-vec" and not hasattr(sqlite3.Connection, "enable_load_extension"):
        print("this Python's sqlite3 loads no extensions", file=sys.stderr)
        return False
    return installed(DATABASES[name][1]) is not None


def cell(answer: Answer) -> str:
    return f"{answer.latency.p50_us:,.0f} ({answer.recall:.3f})"


def as_markdown(figures: list[Figures], rates: dict[str, float], n: int) -> str:
    """The tables of the documentation: P50 in microseconds (and recall), then millions of records a second."""
    questions = list(figures[0].answers)
    lines = [
        f"| database | import, records/s | open s | {' | '.join(questions)} |",
        "|---|---|---|" + "---|" * len(questions),
    ]
    for f in figures:
        cells = [cell(f.answers[question]) if question in f.answers else "" for question in questions]
        lines.append(f"| {f.name} | {n / f.import_s:,.0f} | {f.open_s:.2f} | {' | '.join(cells)} |")
    lines += ["", "| condition | million records/s |", "|---|---|"]
    lines += [f"| `{where}` | {rate / 1e6:.2f} |" for where, rate in rates.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500, help="to measure recall, and timed in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--engines", default=",".join(DATABASES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    names = [name for name in arguments.engines.split(",") if usable(name)]
    for name in set(arguments.engines.split(",")) - set(names):
        print(f"left out: {name}", file=sys.stderr)
    work = load(arguments.n, arguments.queries, K)
    with tempfile.TemporaryDirectory() as folder:
        figures, rates = measure(work, names, arguments.target, arguments.rounds, Path(folder))
    table = as_markdown(figures, rates, len(work.base))
    print(f"{work.name}, recall@{K} >= {arguments.target}; P50 in microseconds (recall)\n\n{table}")
    if arguments.markdown:
        arguments.markdown.write_text(table)
    if arguments.json:
        about = {"machine": machine(PACKAGES), "data": work.name, "target": arguments.target}
        results = {"results": [asdict(f) for f in figures], "records_a_second": rates}
        write_json(arguments.json, {**about, **results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
