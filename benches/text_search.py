"""Text search of collections: what indexing the documents costs, how much room it takes, and how long a query does.

The texts of the sample (25,000 dictionary entries), the same with every third word in Chinese, and made ones of Chinese
characters without a space. Run it with the Pythons of two versions to compare them.

    python benches/text_search.py --rounds 5 --markdown text_search.md
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from timing import call_times_us

import edgevec
from edgevec import samples

N, QUERIES = 25_000, 300


def made(n: int, rng: np.random.Generator) -> list[list[str]]:
    """Sentences of 20 words out of 5,000, of one to three Chinese characters each, as frequent as words are."""
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 2000)]
    words = ["".join(rng.choice(letters, rng.choice([1, 2, 2, 2, 3]))) for _ in range(5000)]
    chance = 1 / np.arange(2, len(words) + 2)
    return [[words[at] for at in row] for row in rng.choice(len(words), (n, 20), p=chance / chance.sum())]


def corpora() -> dict[str, tuple[list[str], list[str]]]:
    """Documents, and queries of one word or two."""
    rng = np.random.default_rng(3)
    entries = [text.split() for text in samples.wordnet().texts[:N]]
    sentences = made(N, rng)
    mixed = [[*entry, *sentence[: len(entry) // 3]] for entry, sentence in zip(entries, sentences, strict=True)]
    found = {}
    for name, texts, space in (("English", entries, " "), ("mixed", mixed, " "), ("Chinese", sentences, "")):
        chosen = [texts[at] for at in rng.integers(0, N, QUERIES)]
        asked = [
            space.join(text[at : at + 1 + at % 2]) for at, text in zip(rng.integers(0, 5, QUERIES), chosen, strict=True)
        ]
        found[name] = [space.join(text) for text in texts], [query for query in asked if query]
    return found


def fill(path: Path, documents: list[str] | None) -> float:
    """Seconds of processor time."""
    with edgevec.open(path, 1, "l2", quantization="none", durability="fast") as collection:
        start = time.process_time()
        collection.upsert(range(N), np.zeros((N, 1)), documents=documents)
        return time.process_time() - start


def room(path: Path) -> tuple[int, int]:
    """Bytes of the full-text index, and of the words that are kept for it beside the documents."""
    database = sqlite3.connect(path)
    index = sum(
        database.execute(f"SELECT coalesce(sum(length(CAST({column} AS BLOB))), 0) FROM texts_{table}").fetchone()[0]
        for table, column in (("data", "block"), ("docsize", "sz"))
    )
    has_words = "words" in [row[1] for row in database.execute("PRAGMA table_info(records)")]
    kept = database.execute("SELECT sum(length(CAST(words AS BLOB))) FROM records").fetchone()[0] if has_words else 0
    database.close()
    return index, kept or 0


def measure(documents: list[str], queries: list[str], rounds: int) -> str:
    spent, latencies, hits = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for at in range(rounds):
            alone = fill(Path(folder) / f"alone{at}", None)
            spent.append(fill(Path(folder) / f"with{at}", documents) - alone)
        path = Path(folder) / "with0"
        index, kept = room(path)
        with edgevec.open(path, mode="r") as collection:
            hits = sum(len(collection.search(text=query, k=10)) > 0 for query in queries)
            for _ in range(rounds):
                latencies.append(np.median(call_times_us(lambda query: collection.search(text=query, k=10), queries)))
    size = sum(len(document.encode()) for document in documents)
    return (
        f"| {size / 1e6:.1f} | {median(spent):.2f} | {index / 1e6:.1f} | {kept / 1e6:.1f} | {median(latencies):,.0f} "
        f"| {hits / len(queries):.0%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    lines = [
        f"edgevec {edgevec.__version__}, SQLite {sqlite3.sqlite_version}, {N:,} documents, {args.rounds} rounds",
        "",
        "| texts | MB | indexing, CPU s | index, MB | words kept, MB | query P50, µs | queries with a hit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (documents, queries) in corpora().items():
        lines.append(f"| {name} {measure(documents, queries, args.rounds)}")
    print("\n".join(lines))
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
