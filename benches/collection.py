"""Collections beside other small vector databases: import, open, and search with and without a condition.

100,000 x 384 real embeddings under cosine, each with metadata (year, lang, score, tags; from a fixed seed) and a short
text. Every engine searches at the smallest effort whose recall@10 reaches the target, where it has a choice; sqlite-vec
compares with every vector. The condition `year >= 2000 AND lang = 'de'` lets about 6% through. The truth of both
questions is computed with NumPy.

    python benches/collection.py --json collection.json
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data import Floats, Ids, Workload, exact, load, recall
from timing import Latency, call_times_us, in_turns, installed, machine, write_json

import edgevec

K = 10
WHERE = "year >= 2000 AND lang = 'de'"
EFFORTS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 80, 100, 128, 160, 200, 300, 400, 600, 800, 1200)

Row = dict[str, Any]
Search = Callable[[Floats, int], Any]
"""(query, effort) -> the ids found"""


@dataclass
class Figures:
    """One engine. Seconds; microseconds of a call; recall@10."""

    name: str
    import_s: float
    open_s: float | None
    effort: int | None
    recall: float
    plain: Latency
    effort_where: int | None
    recall_where: float
    where: Latency


class Engine:
    """What is measured. `effort` is ef, or whatever an engine calls it; `fixed` when it has none."""

    name = ""
    fixed = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, base: Floats, rows: list[Row], texts: list[str]) -> None:
        raise NotImplementedError

    def reopen(self) -> None:
        """Close, and open again from disk."""
        raise NotImplementedError

    def search(self, query: Floats, effort: int, where: bool) -> Any:
        raise NotImplementedError


class EdgevecCollection(Engine):
    name = "edgevec collection"

    def build(self, base: Floats, rows: list[Row], texts: list[str]) -> None:
        self.db = edgevec.open(self.folder / "c.edgevec")
        for start in range(0, len(base), 10_000):
            piece = slice(start, start + 10_000)
            self.db.upsert(range(start, start + len(base[piece])), base[piece], rows[piece], texts[piece])
        self.db.checkpoint()

    def reopen(self) -> None:
        self.db.close()
        self.db = edgevec.open(self.folder / "c.edgevec")

    def search(self, query: Floats, effort: int, where: bool) -> Any:
        return [hit.id for hit in self.db.search(query, K, ef=effort, where=WHERE if where else None)]


class EdgevecIndex(Engine):
    """The plain index; the condition as an IdFilter made once."""

    name = "edgevec Index"

    def build(self, base: Floats, rows: list[Row], texts: list[str]) -> None:
        self.index = edgevec.Index(base.shape[1])
        self.index.add(base)
        self.filter = edgevec.IdFilter(allowed(rows))
        self.index.save(self.folder / "plain.ev")

    def reopen(self) -> None:
        self.index = edgevec.Index.load(self.folder / "plain.ev", mmap=True)

    def search(self, query: Floats, effort: int, where: bool) -> Any:
        return self.index.search(query, K, ef=effort, filter=self.filter if where else None).ids


class SqliteVec(Engine):
    name = "sqlite-vec"
    fixed = True

    def build(self, base: Floats, rows: list[Row], texts: list[str]) -> None:
        self._connect()
        self.db.execute(
            f"CREATE VIRTUAL TABLE v USING vec0(id INTEGER PRIMARY KEY, e FLOAT[{base.shape[1]}] "
            "distance_metric=cosine, year INTEGER, lang TEXT, score FLOAT, +tags TEXT, +text TEXT)"
        )
        with self.db:
            self.db.executemany(
                "INSERT INTO v VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (at, vector.tobytes(), row["year"], row["lang"], row["score"], json.dumps(row["tags"]), text)
                    for at, (vector, row, text) in enumerate(zip(base, rows, texts, strict=True))
                ),
            )

    def _connect(self) -> None:
        import sqlite_vec

        self.db = sqlite3.connect(self.folder / "v.db")
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)

    def reopen(self) -> None:
        self.db.close()
        self._connect()

    def search(self, query: Floats, effort: int, where: bool) -> Any:
        condition = f"AND {WHERE}" if where else ""
        found = self.db.execute(
            f"SELECT id, distance, year, lang FROM v WHERE e MATCH ? AND k = {K} {condition} ORDER BY distance",
            (query.tobytes(),),
        )
        return [id for id, *_ in found]


class Chroma(Engine):
    name = "chromadb"

    def build(self, base: Floats, rows: list[Row], texts: list[str]) -> None:
        self._connect()
        self.made = self.client.create_collection(
            "bench", configuration={"hnsw": {"space": "cosine", "max_neighbors": 16, "ef_construction": 200}}
        )
        for start in range(0, len(base), 5_000):
            piece = slice(start, start + 5_000)
            self.made.add(
                ids=[str(at) for at in range(start, start + len(base[piece]))],
                embeddings=base[piece],
                metadatas=[{**row, "tags": ",".join(row["tags"])} for row in rows[piece]],
                documents=texts[piece],
            )

    def _connect(self) -> None:
        import chromadb

        self.client = chromadb.PersistentClient(str(self.folder / "chroma"))
        self.effort = 0

    def reopen(self) -> None:
        self._connect()
        self.made = self.client.get_collection("bench")

    def search(self, query: Floats, effort: int, where: bool) -> Any:
        if effort != self.effort:
            self.made.modify(configuration={"hnsw": {"ef_search": effort}})
            self.effort = effort
        condition: Any = {"$and": [{"year": {"$gte": 2000}}, {"lang": "de"}]} if where else None
        found = self.made.query(query_embeddings=[query], n_results=K, where=condition)
        return [int(id) for id in found["ids"][0]]


ENGINES: dict[str, tuple[type[Engine], str]] = {
    "edgevec": (EdgevecCollection, "edgevec"),
    "index": (EdgevecIndex, "edgevec"),
    "sqlite-vec": (SqliteVec, "sqlite-vec"),
    "chromadb": (Chroma, "chromadb"),
}


def make_rows(n: int) -> tuple[list[Row], list[str]]:
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


def allowed(rows: list[Row]) -> Ids:
    return np.array([at for at, row in enumerate(rows) if row["year"] >= 2000 and row["lang"] == "de"], np.int64)


def found_by(engine: Engine, queries: Floats, effort: int, where: bool) -> Ids:
    found = np.full((len(queries), K), -1, np.int64)
    for at, query in enumerate(queries):
        ids = engine.search(query, effort, where)
        found[at, : len(ids)] = ids
    return found


def least_effort(engine: Engine, queries: Floats, truth: Ids, target: float, where: bool) -> tuple[int, float]:
    """The smallest effort that reaches the target, or the greatest there is; and its recall."""
    effort, reached = 0, 0.0
    for effort in EFFORTS[-1:] if engine.fixed else EFFORTS:
        reached = recall(found_by(engine, queries, effort, where), truth)
        if reached >= target:
            break
    return effort, reached


def measure(work: Workload, names: list[str], target: float, rounds: int, timed: int, folder: Path) -> list[Figures]:
    rows, texts = make_rows(len(work.base))
    ids = allowed(rows)
    truths = work.truth[:, :K], ids[exact(work.base[ids], work.queries, K, "cosine")]
    engines, figures = {}, []
    for name in names:
        kind = ENGINES[name][0]
        engine = kind(folder)
        print(f"{engine.name}: importing", file=sys.stderr)
        start = time.perf_counter()
        engine.build(work.base, rows, texts)
        built = time.perf_counter() - start
        start = time.perf_counter()
        engine.reopen()
        engine.search(work.queries[0], EFFORTS[-1], False)
        opened = time.perf_counter() - start
        # An exact engine is slow, and a part of the queries tells its recall.
        some = slice(0, 50 if engine.fixed else len(work.queries))
        plain = least_effort(engine, work.queries[some], truths[0][some], target, False)
        where = least_effort(engine, work.queries[some], truths[1][some], target, True)
        engines[name] = engine, plain[0], where[0]
        figures.append(
            Figures(engine.name, built, opened, plain[0], plain[1], Latency(0, 0), where[0], where[1], Latency(0, 0))
        )
        if engine.fixed:
            figures[-1].effort = figures[-1].effort_where = None
    for where in (False, True):

        def run(name: str, where: bool = where) -> Any:
            engine, plain, filtered = engines[name]
            effort = filtered if where else plain
            queries = work.queries[: timed // 10 if engine.fixed else timed]
            return call_times_us(lambda query: engine.search(query, effort, where), queries)

        times = in_turns({name: lambda name=name: run(name) for name in names}, rounds)
        for figure, name in zip(figures, names, strict=True):
            setattr(figure, "where" if where else "plain", Latency.of(times[name]))
    return figures


def usable(name: str) -> bool:
    if name == "sqlite-vec" and not hasattr(sqlite3.Connection, "enable_load_extension"):
        print("this Python's sqlite3 loads no extensions", file=sys.stderr)
        return False
    return installed(ENGINES[name][1]) is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500, help="to measure recall, and timed in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = [name for name in arguments.engines.split(",") if usable(name)]
    for name in set(arguments.engines.split(",")) - set(names):
        print(f"left out: {name}", file=sys.stderr)
    work = load(arguments.n, arguments.queries, K)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(work, names, arguments.target, arguments.rounds, arguments.queries, Path(folder))
    print(f"{work.name}, recall@{K} >= {arguments.target}, WHERE {WHERE}")
    searched = f"{'effort':>8}{'recall':>8}{'P50 us':>9}"
    print(f"{'':20}{'import s':>9}{'open s':>8}{searched}{'P99 us':>9}{searched}  <- with the condition")
    for f in figures:
        print(
            f"{f.name:20}{f.import_s:9.1f}{f.open_s:8.2f}{f.effort or '':>8}{f.recall:8.3f}{f.plain.p50_us:9.0f}"
            f"{f.plain.p99_us:9.0f}{f.effort_where or '':>8}{f.recall_where:8.3f}{f.where.p50_us:9.0f}"
        )
    if arguments.json:
        packages = ("edgevec", "numpy", "sqlite-vec", "chromadb")
        write_json(
            arguments.json, {"machine": machine(packages), "data": work.name, "results": [asdict(f) for f in figures]}
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
