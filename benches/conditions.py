"""Conditions that were never asked before, by kind: from the columns in memory, and from SQLite alone.

Milliseconds of processor time of `count(where)`, medians of rounds; each question has a constant of its own, so that
nothing is known of it. Records have metadata of six fields and a text; their vectors play no part.

    python benches/conditions.py --n 100000 --json conditions.json --markdown conditions.md
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from timing import machine, spent, write_json

import edgevec

KINDS: dict[str, Callable[[int], str]] = {
    "year = 1990": lambda n: f"year = {1900 + n % 125}",
    "year > 2000": lambda n: f"year > {1990 + n / 1000}",
    "price < 5": lambda n: f"price < {5 + n / 1000}",
    "active": lambda n: f"active AND (active OR year = {n})",
    "topic = 'a'": lambda n: f"topic = 'topic {n % 50}'",
    "author IN ('a', 'b')": lambda n: f"author IN ('author {n % 1000}', 'author {n % 999}')",
    "author LIKE 'a%'": lambda n: f"author LIKE 'author {n % 1000}%'",
    "author LIKE '%a'": lambda n: f"author LIKE '%r {n % 1000}'",
    "tags CONTAINS 'a'": lambda n: f"tags CONTAINS 'tag {n % 30}'",
    "NOT active": lambda n: f"NOT active OR year = {n}",
    "year > 2000 AND topic = 'a'": lambda n: f"year > {1990 + n / 1000} AND topic = 'topic {n % 50}'",
}
FIELDS = ("year", "price", "active", "topic", "author", "tags")
WAYS = {
    "SQLite": "`condition_memory=0`",
    "SQLite, index": "the same, `create_index` on each field",
    "first": "the first question since the collection was opened, whose file holds columns",
    "first, none": "the same, and it holds none",
    "new value": "its fields are known",
    "after 1 write": "and a record was replaced",
    "after 1,000": "and 1,000 were, one at a time",
    "new value, index": "its fields are known, `create_index` on each",
}
QUESTIONS = 5
"""In each round, save of `first` and of those after writes."""

_numbers = count(1)


def make_rows(n: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(7)
    years, prices, active = rng.integers(1900, 2025, n), rng.random(n) * 100, rng.random(n) < 0.5
    topics, authors, tags = rng.integers(0, 50, n), rng.integers(0, 1000, n), rng.integers(0, 30, (n, 2))
    for at in range(n):
        yield {
            "year": int(years[at]),
            "price": round(float(prices[at]), 2) if at % 2 else float(prices[at]),
            "active": bool(active[at]),
            "topic": f"topic {topics[at]}",
            "author": f"author {authors[at]}",
            "tags": [f"tag {tag}" for tag in tags[at]],
        }


def fill(path: Path, n: int) -> None:
    rows = make_rows(n)
    with edgevec.open(path, 1, "l2", quantization="none", durability="fast") as made:
        for start in range(0, n, 20_000):
            ids = range(start, min(start + 20_000, n))
            texts = [f"text {at} of some length, as the first lines of a page may have" for at in ids]
            made.upsert(ids, np.zeros((len(ids), 1)), [next(rows) for _ in ids], texts)


def ask(made: edgevec.Collection, kind: str, questions: int = QUESTIONS) -> float:
    """Milliseconds of one question."""
    wheres = [KINDS[kind](next(_numbers)) for _ in range(questions)]
    return median(spent(lambda where=where: made.count(where)).cpu for where in wheres) * 1e3


def replace(made: edgevec.Collection, times: int) -> None:
    for _, fields in zip(range(times), make_rows(times), strict=True):
        made.upsert(next(_numbers), np.zeros(1), fields)


def one_round(path: Path, kind: str) -> dict[str, float]:
    taken = {}
    with closing(sqlite3.connect(path)) as connection, connection:
        saved = connection.execute("SELECT * FROM fields").fetchall()
        connection.execute("DELETE FROM fields")
    with edgevec.open(path, mode="r") as made:
        made.count()
        taken["first, none"] = ask(made, kind, 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO fields VALUES (?, ?, ?, ?)", saved)
    with edgevec.open(path, durability="fast") as made:
        made.count()
        taken["first"] = ask(made, kind, 1)
        taken["new value"] = ask(made, kind)
        replace(made, 1)
        taken["after 1 write"] = ask(made, kind, 1)
        replace(made, 1000)
        taken["after 1,000"] = ask(made, kind, 1)
    with edgevec.open(path, condition_memory=0) as made:
        taken["SQLite"] = ask(made, kind)
    return taken


def indexed_round(path: Path, kind: str) -> dict[str, float]:
    taken = {}
    with edgevec.open(path, condition_memory=0) as made:
        taken["SQLite, index"] = ask(made, kind)
    with edgevec.open(path) as made:
        for _ in range(5):  # the first ones are left to the index
            ask(made, kind, 1)
        taken["new value, index"] = ask(made, kind)
    return taken


def measure(n: int, rounds: int) -> tuple[dict[str, dict[str, float]], int]:
    """Milliseconds by kind and way, and the bytes in memory once every field is known."""
    with edgevec.open(":memory:", 1) as made:
        made.count("year = 1990")  # which makes the parser
    rounds_of: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.edgevec"
        fill(path, n)
        for _ in range(rounds):
            for kind in KINDS:
                rounds_of[kind].append(one_round(path, kind))
        with edgevec.open(path) as made:
            for kind in KINDS:
                ask(made, kind, 1)
            kept = made.stats()["condition_bytes"]
            for field in FIELDS:
                made.create_index(field)
        for at in range(rounds):
            for kind in KINDS:
                rounds_of[kind][at].update(indexed_round(path, kind))
    return {kind: {way: median(one[way] for one in taken) for way in WAYS} for kind, taken in rounds_of.items()}, kept


def as_markdown(figures: dict[str, dict[str, float]]) -> str:
    lines = [f"| condition | {' | '.join(WAYS)} |", "|---|" + "---|" * len(WAYS)]
    lines += [f"| `{kind}` | {' | '.join(f'{taken[way]:.1f}' for way in WAYS)} |" for kind, taken in figures.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    figures, kept = measure(arguments.n, arguments.rounds)
    table = as_markdown(figures)
    ways = "".join(f"- {way}: {meaning}\n" for way, meaning in WAYS.items())
    print(f"{arguments.n:,} records, ms of processor time; {kept / 1e6:.1f} MB in memory\n\n{table}\n{ways}")
    if arguments.markdown:
        arguments.markdown.write_text(table)
    if arguments.json:
        about = {"machine": machine(("edgevec", "numpy")), "n": arguments.n, "condition_bytes": kept}
        write_json(arguments.json, {**about, "ms": figures})


if __name__ == "__main__":
    main()
