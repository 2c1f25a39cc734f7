"""The small vector databases that collection.py compares: one adapter each, set up as its own manual advises.

All get the same vectors, metadata and texts, cosine, and where they build a graph M=16 and ef_construction=200. A
search gives ids and distances; what else a database returns by itself is turned off.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import Floats, Ids

import edgevec

__all__ = ["DATABASES", "Condition", "Database", "K"]

K = 10
Row = dict[str, Any]
Test = tuple[str, str, Any]
"""field, one of = >= <, value"""

_COMPARE = {"=": np.equal, ">=": np.greater_equal, "<": np.less}
_CHROMA = {"=": "$eq", ">=": "$gte", "<": "$lt"}


class Condition(NamedTuple):
    """Tests that must all hold, in the languages of the databases."""

    name: str
    tests: tuple[Test, ...]

    def sql(self) -> str:
        return " AND ".join(f"{field} {operator} {value!r}" for field, operator, value in self.tests)

    def chroma(self) -> dict[str, Any]:
        tests = [{field: {_CHROMA[operator]: value}} for field, operator, value in self.tests]
        return {"$and": tests} if len(tests) > 1 else tests[0]

    def qdrant(self) -> Any:
        from qdrant_client import models

        tests: list[Any] = []
        for field, operator, value in self.tests:
            if operator == "=":
                tests.append(models.FieldCondition(key=field, match=models.MatchValue(value=value)))
            else:
                bounds = models.Range(gte=value) if operator == ">=" else models.Range(lt=value)
                tests.append(models.FieldCondition(key=field, range=bounds))
        return models.Filter(must=tests)

    def matching_rows(self, rows: list[Row]) -> Ids:
        """The rows that satisfy it, found with NumPy."""
        holds = np.ones(len(rows), bool)
        for field, operator, value in self.tests:
            holds &= _COMPARE[operator](np.array([row[field] for row in rows]), value)
        return np.flatnonzero(holds)


class Database(ABC):
    """What is measured. `effort` is ef, or whatever a database calls it.

    fixed        there is no effort to choose
    conditional  it evaluates conditions itself
    """

    name = ""
    fixed = False
    conditional = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
        """conditions: for a database that takes them in a form of its own, made beforehand."""

    @abstractmethod
    def reopen(self) -> None:
        """Close, and open again from disk."""

    @abstractmethod
    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        """The ids that are found; distances are fetched too."""

    @abstractmethod
    def search_whole(self, query: Floats, effort: int) -> Any:
        """As search, and metadata and texts as Python objects."""


class EdgevecCollection(Database):
    name = "edgevec collection"

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
        self.db = edgevec.open(self.folder / "c.edgevec")
        for start in range(0, len(base), 10_000):
            piece = slice(start, start + 10_000)
            self.db.upsert(range(start, start + len(base[piece])), base[piece], rows[piece], texts[piece])
        self.db.checkpoint()

    def reopen(self) -> None:
        self.db.close()
        self.db = edgevec.open(self.folder / "c.edgevec")

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        where = None if condition is None else condition.sql()
        return [hit.id for hit in self.db.search(query, K, ef=effort, where=where)]

    def search_whole(self, query: Floats, effort: int) -> Any:
        return [(hit.id, hit.distance, hit.metadata, hit.document) for hit in self.db.search(query, K, ef=effort)]


class EdgevecIndex(Database):
    """The plain index; a condition as an IdFilter made once."""

    name = "edgevec Index"
    conditional = False

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
        self.index = edgevec.Index(base.shape[1])
        self.index.add(base)
        self.rows, self.texts = rows, texts
        self.filters = {condition: edgevec.IdFilter(condition.matching_rows(rows)) for condition in conditions}
        self.index.save(self.folder / "plain.ev")

    def reopen(self) -> None:
        self.index = edgevec.Index.load(self.folder / "plain.ev", mmap=True)

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        filter = None if condition is None else self.filters[condition]
        return self.index.search(query, K, ef=effort, filter=filter).ids

    def search_whole(self, query: Floats, effort: int) -> Any:
        found = self.index.search(query, K, ef=effort)
        return [(id, self.rows[id], self.texts[id]) for id in found.ids.tolist()]


class SqliteVec(Database):
    name = "sqlite-vec"
    fixed = True

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
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

    def _found(self, columns: str, query: Floats, condition: Condition | None) -> list[Any]:
        more = "" if condition is None else f"AND {condition.sql()}"
        sql = f"SELECT {columns} FROM v WHERE e MATCH ? AND k = {K} {more} ORDER BY distance"
        return self.db.execute(sql, (query.tobytes(),)).fetchall()

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        return [id for id, _ in self._found("id, distance", query, condition)]

    def search_whole(self, query: Floats, effort: int) -> Any:
        return self._found("id, distance, year, lang, score, tags, text", query, None)


class Chroma(Database):
    name = "chromadb"

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
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
        self.client.close()
        self._connect()
        self.made = self.client.get_collection("bench")

    def _query(self, query: Floats, effort: int, include: list[Any], condition: Condition | None) -> Any:
        if effort != self.effort:
            self.made.modify(configuration={"hnsw": {"ef_search": effort}})
            self.effort = effort
        where: Any = None if condition is None else condition.chroma()
        return self.made.query(query_embeddings=[query], n_results=K, where=where, include=include)

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        return [int(id) for id in self._query(query, effort, ["distances"], condition)["ids"][0]]

    def search_whole(self, query: Floats, effort: int) -> Any:
        return self._query(query, effort, ["distances", "metadatas", "documents"], None)


class Lance(Database):
    """One graph on 8-bit codes (IVF_HNSW_SQ of one partition), and an index on each field that is asked for."""

    name = "lancedb"

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
        import pyarrow as pa
        from lancedb.index import Bitmap, BTree, HnswSq

        self._connect()
        vectors = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(base).reshape(-1), base.shape[1])
        fields = {name: [row[name] for row in rows] for name in rows[0]}
        self.table = self.db.create_table(
            "bench", pa.table({"id": np.arange(len(base)), "vector": vectors, **fields, "text": texts})
        )
        self.table.create_index(
            "vector", config=HnswSq(distance_type="cosine", num_partitions=1, m=16, ef_construction=200)
        )
        for name in ("year", "score"):
            self.table.create_index(name, config=BTree())
        self.table.create_index("lang", config=Bitmap())

    def _connect(self) -> None:
        import lancedb

        self.db = lancedb.connect(str(self.folder / "lance"))

    def reopen(self) -> None:
        self._connect()
        self.table = self.db.open_table("bench")

    def _found(self, columns: list[str], query: Floats, effort: int, condition: Condition | None) -> Any:
        asked = self.table.search(query).distance_type("cosine").nprobes(1).ef(effort).limit(K).select(columns)
        if condition is not None:
            asked = asked.where(condition.sql(), prefilter=True)
        return asked.to_arrow()

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        return self._found(["id", "_distance"], query, effort, condition)["id"].to_pylist()

    def search_whole(self, query: Floats, effort: int) -> Any:
        columns = ["id", "_distance", "year", "lang", "score", "tags", "text"]
        return self._found(columns, query, effort, None).to_pylist()


class Qdrant(Database):
    """Its client without a server, which compares with every vector and has no graph."""

    name = "qdrant-client, local"
    fixed = True

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
        from qdrant_client import models

        self._connect()
        vectors = models.VectorParams(size=base.shape[1], distance=models.Distance.COSINE)
        self.client.create_collection("bench", vectors_config=vectors)
        for start in range(0, len(base), 1_000):
            ids = range(start, min(start + 1_000, len(base)))
            payloads = [{**rows[at], "text": texts[at]} for at in ids]
            self.client.upsert(
                "bench", models.Batch(ids=list(ids), vectors=base[ids.start : ids.stop].tolist(), payloads=payloads)
            )

    def _connect(self) -> None:
        from qdrant_client import QdrantClient

        warnings.filterwarnings("ignore", "Local mode is not recommended")
        self.client = QdrantClient(path=str(self.folder / "qdrant"))

    def reopen(self) -> None:
        self.client.close()
        self._connect()

    def _found(self, query: Floats, condition: Condition | None, payload: bool) -> Any:
        where = None if condition is None else condition.qdrant()
        return self.client.query_points("bench", query=query, limit=K, query_filter=where, with_payload=payload).points

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        return [point.id for point in self._found(query, condition, False)]

    def search_whole(self, query: Floats, effort: int) -> Any:
        return [(point.id, point.score, point.payload) for point in self._found(query, None, True)]


class Zvec(Database):
    """A graph on whole vectors, its default, and an index on each field that is asked for."""

    name = "zvec"

    def build(self, base: Floats, rows: list[Row], texts: list[str], conditions: list[Condition]) -> None:
        import zvec

        kinds, ranged = zvec.DataType, zvec.InvertIndexParam(enable_range_optimization=True)
        graph = zvec.HnswIndexParam(zvec.MetricType.COSINE, m=16, ef_construction=200)
        schema = zvec.CollectionSchema(
            name="bench",
            fields=[
                zvec.FieldSchema("year", kinds.INT64, index_param=ranged),
                zvec.FieldSchema("lang", kinds.STRING, index_param=zvec.InvertIndexParam()),
                zvec.FieldSchema("score", kinds.DOUBLE, index_param=ranged),
                zvec.FieldSchema("tags", kinds.ARRAY_STRING),
                zvec.FieldSchema("text", kinds.STRING),
            ],
            vectors=zvec.VectorSchema("vector", kinds.VECTOR_FP32, base.shape[1], graph),
        )
        self.db = zvec.create_and_open(path=str(self.folder / "zvec"), schema=schema)
        for start in range(0, len(base), 1_000):
            ids = range(start, min(start + 1_000, len(base)))
            self.db.insert(
                [
                    zvec.Doc(id=str(at), vectors={"vector": base[at]}, fields={**rows[at], "text": texts[at]})
                    for at in ids
                ]
            )
        self.db.optimize()
        self.db.flush()

    def reopen(self) -> None:
        import zvec

        del self.db
        self.db = zvec.open(str(self.folder / "zvec"))

    def _found(self, query: Floats, effort: int, condition: Condition | None, fields: list[str]) -> Any:
        import zvec

        asked = zvec.Query(field_name="vector", vector=query, param=zvec.HnswQueryParam(ef=effort))
        where = None if condition is None else condition.sql().replace(" AND ", " and ")
        return self.db.query(asked, topk=K, filter=where, output_fields=fields)

    def search(self, query: Floats, effort: int, condition: Condition | None) -> Any:
        return [int(found.id) for found in self._found(query, effort, condition, [])]

    def search_whole(self, query: Floats, effort: int) -> Any:
        found = self._found(query, effort, None, ["year", "lang", "score", "tags", "text"])
        return [(int(one.id), one.score, one.fields) for one in found]


DATABASES: dict[str, tuple[type[Database], str]] = {
    "edgevec": (EdgevecCollection, "edgevec"),
    "index": (EdgevecIndex, "edgevec"),
    "sqlite-vec": (SqliteVec, "sqlite-vec"),
    "chromadb": (Chroma, "chromadb"),
    "lancedb": (Lance, "lancedb"),
    "qdrant-client": (Qdrant, "qdrant-client"),
    "zvec": (Zvec, "zvec"),
}
"""The adapter and the distribution that it needs."""

logging.getLogger("chromadb").setLevel(logging.ERROR)
