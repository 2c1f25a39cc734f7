"""The public class: records with vectors, metadata and documents, searched by any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._types import Metric, Progress, Quantization
from .._validation import as_int, as_rows
from ..errors import EdgevecError, NotFiniteError, ParameterError, UnknownIdError, ZeroVectorError
from . import changes, fulltext, import_export, maintenance, records, schema, validation
from .graph import StoppedError, Write
from .hits import Hits, Included
from .maintenance import CollectionReport
from .records import Record
from .search import SearchExecutor, SearchRequest
from .sqlite_errors import translated
from .store import Store
from .validation import Id
from .where import EVERYTHING, Where, compile_field, compile_where, field_name

__all__ = ["Collection", "Encoder", "Plan"]

Encoder = Callable[[list[str]], ArrayLike]
"""Texts to vectors [n, dim]."""


_EQUAL = (1.0, 1.0)
_ALL: tuple[Included, ...] = ("metadata", "document")


class Plan(NamedTuple):
    """How a condition is evaluated."""

    sql: str
    parameters: tuple[Any, ...]
    steps: tuple[str, ...]
    """What SQLite says that it does."""
    indexes: tuple[str, ...]
    """The fields whose index is used; with none every record is looked at."""

    def __str__(self) -> str:
        return "\n".join(self.steps)


class Collection:
    """Records under ids of your choosing, int (64 bits) or str; made by edgevec.open().

    A record is a vector, metadata (a JSON object) and a document (a text), the last two of which may be missing. All of
    it is in one SQLite file and durable once a call returns, or the batch that it is in has ended. The search graph
    beside it is derived: lost or damaged, it is made again.

    Any number of threads may use a collection. One process writes; others may open it with mode="r", and see what was
    committed. A progress function is called while the records and the graph change: it may count and read records,
    and anything else is a BusyError; waiting there for another thread that uses the collection is waiting for ever.
    `where` is a text such as "year >= 1990 AND lang IN ('de', 'fr')", with `params` for its question marks,
    or a dict such as {"year": {"$gte": 1990}}.

    Example:
        >>> import edgevec
        >>> notes = edgevec.open(":memory:")
        >>> notes.upsert(["a", "b"], [[1, 0], [0, 1]], [{"year": 1999}, {"year": 2020}], ["a text", "another"])
        2
        >>> [hit.id for hit in notes.search([1, 0], k=5, where="year >= 2000")]
        ['b']
        >>> notes.search(text="text", k=1)[0].document
        'a text'
        >>> notes.close()
    """

    def __init__(self, store: Store, encoder: Encoder | None = None) -> None:
        self._store = store
        self._searcher = SearchExecutor(store)
        self._encoder = encoder

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """The file itself, with symbolic links followed; None for a collection in memory."""
        return self._store.database.path

    @property
    def dim(self) -> int | None:
        """None until the first vector is stored, where open() was not told."""
        dim: int | None = self._store.settings.get("dim")
        return dim

    @property
    def metric(self) -> Metric:
        metric: Metric = self._store.settings["metric"]
        return metric

    @property
    def quantization(self) -> Quantization:
        quantization: Quantization = self._store.settings["quantization"]
        return quantization

    @property
    def M(self) -> int:
        links: int = self._store.settings["M"]
        return links

    @property
    def ef_construction(self) -> int:
        candidates: int = self._store.settings["ef_construction"]
        return candidates

    @property
    def dtype(self) -> Literal["float32", "float16"]:
        """Of the vectors as they are stored."""
        dtype: Literal["float32", "float16"] = self._store.settings["dtype"]
        return dtype

    @property
    def mode(self) -> Literal["a", "r"]:
        return "a" if self._store.writable else "r"

    def __repr__(self) -> str:
        return f"Collection({self._store.database.name!r}, dim={self.dim}, {self.metric!r}, mode={self.mode!r})"

    # ---- records ---------------------------------------------------------------------------------------------------

    def upsert(
        self,
        ids: Id | Sequence[Id] | ArrayLike,
        vectors: ArrayLike | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        documents: str | Sequence[str | None] | None = None,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Store records, replacing those whose id exists; how many they were.

        Args:
            ids: a list of int and str, or one
            vectors: [n, dim]; [dim] with one id. None: the encoder makes them from the documents.
            metadata: a dict for each; JSON values, NumPy numbers, dates and times (kept as ISO texts, in UTC where
                they have a zone), durations (kept as seconds). Names that are no strings become strings.
            documents: a text, or None, for each
            progress: progress(done, total) while the graph takes them in; returning False stops: nothing is stored,
                0 is returned. Inside a batch this is at the batch's end.

        All or nothing. ParameterError, NotFiniteError, ZeroVectorError and DuplicateIdError name the record.
        """
        keys = validation.validate_ids(ids)
        validation.reject_duplicates(keys)
        objects = validation.as_metadata(metadata, len(keys))
        texts = validation.as_documents(documents, len(keys))
        if vectors is None:
            vectors = self._encode(validation.as_texts(texts), "vectors are missing")
        try:
            with self._store.write(progress) as connection, translated(self._store.database.name):
                settings = self._store.settings
                stored = validation.as_vectors(vectors, len(keys), self.dim, self.metric, settings["dtype"])
                if self.dim is None and len(keys):
                    schema.write_setting(connection, "dim", stored.shape[1])
                    settings["dim"] = stored.shape[1]
                rows, changed = records.upsert(connection, keys, stored, objects, texts)
                self._store.note_write(rows, Write(np.array(rows, np.int64)[changed], stored[changed]))
        except StoppedError:
            return 0
        return len(keys)

    def get(self, ids: Id | Sequence[Id] | ArrayLike, *, missing: Literal["raise", "skip"] = "raise") -> list[Record]:
        """The records of these ids, in this order.

        UnknownIdError (a KeyError) names those that do not exist, CorruptCollectionError one that is damaged (see
        check()); with missing="skip" they are left out.
        """
        keys = validation.validate_ids(ids)
        with self._store.read() as connection:
            found = records.fetch(connection, keys, self.dim, self._store.settings["dtype"], damaged=missing)
        if missing == "raise":
            unknown = [key for key in dict.fromkeys(keys) if key not in found]
            if unknown:
                raise UnknownIdError(f"no record has the {records.format_ids(unknown)}")
        return [found[key] for key in keys if key in found]

    def delete(
        self,
        ids: Id | Sequence[Id] | ArrayLike | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
    ) -> int:
        """Delete the records of these ids, or those that satisfy a condition; how many there were.

        An empty condition is refused: clear() deletes everything.
        """
        if (ids is None) == (where is None):
            raise ParameterError("give ids or where")
        if where is not None and not where:
            raise ParameterError("an empty condition would delete every record; clear() does that")
        condition = compile_where(where, params)
        keys = validation.validate_ids(ids) if where is None else []
        with self._store.write() as connection, translated(self._store.database.name):
            if where is None:
                rows = sorted(set(records.rows_of(connection, keys).values()))
            else:
                rows = records.rows_where(connection, *condition).tolist()
            self._store.note_write(rows, Write(np.array(rows, np.int64), None))
            return records.delete(connection, rows)

    def clear(self) -> int:
        """Delete every record; how many there were. What the collection is (dim, metric, indexes, ...) stays."""
        with self._store.write() as connection, translated(self._store.database.name):
            rows = records.rows_where(connection, *EVERYTHING).tolist()
            self._store.note_write(rows, Write(np.array(rows, np.int64), None))
            return records.delete(connection, rows)

    def count(self, where: Where | None = None, params: Sequence[Any] | None = None) -> int:
        """How many records there are, or how many satisfy a condition."""
        condition = compile_where(where, params)
        with self._store.read() as connection:
            return records.count(connection, *condition)

    def ids(self, where: Where | None = None, params: Sequence[Any] | None = None) -> list[Id]:
        """The ids of all records, or of those that satisfy a condition, in order of insertion."""
        condition = compile_where(where, params)
        with self._store.read() as connection:
            return records.ids_where(connection, *condition)

    def pages(
        self, size: int = 1000, where: Where | None = None, params: Sequence[Any] | None = None
    ) -> Iterator[list[Record]]:
        """The records in order of insertion, up to `size` at a time. Changes made meanwhile may or may not be seen.

        A damaged record (see check()) is left out, and the log names it.
        """
        size, condition, last = as_int(size, "size", 1), compile_where(where, params), -(2**63)
        while True:
            with self._store.read() as connection:
                start, dtype = last, self._store.settings["dtype"]
                last, page = records.page(connection, start, size, self.dim, dtype, *condition)
            if last == start:
                return
            if page:
                yield page

    def __iter__(self) -> Iterator[Record]:
        for page in self.pages():
            yield from page

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id: object) -> bool:
        if not validation.is_single_id(id):
            return False
        keys = validation.validate_ids(id)
        with self._store.read() as connection:
            return bool(records.rows_of(connection, keys))

    # ---- tables and files ------------------------------------------------------------------------------------------

    def import_from(
        self,
        data: Any,
        *,
        id: str | None = None,
        vector: str | None = None,
        document: str | None = None,
        skip: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> int:
        """Store the rows of a table, replacing records whose id exists; how many were stored. All or nothing.

        Args:
            data: a file that edgevec.read_vectors() knows (.jsonl, .parquet, .npy, ...), a pandas or polars
                DataFrame, a pyarrow Table, or dicts. The index of a DataFrame is a column if it has a name.
            id, vector, document: the columns that hold them; None: the first of the usual names ("id", "embedding",
                "text", ...) that a row has with a fitting value. A row without an id gets a number, one more than
                the highest there is so far. The other columns are the metadata.
            skip: columns to leave out
            progress: progress(done, total) while the graph takes the rows in

        In metadata, what is missing (NaN, NaT, NA) is null, decimals are numbers, dates and times ISO 8601 texts,
        durations seconds; bytes are UTF-8 texts. DataFormatError names row and column of what is none of that.
        DuplicateIdError: an id comes twice in `data`.
        """
        columns = import_export.Columns(id, vector, document, frozenset([skip] if isinstance(skip, str) else skip))
        count = 0
        with self.batch(progress=progress):
            with self._store.read() as connection:
                numbers = import_export.Numbers(records.next_number(connection))
            for table in import_export.tables(data, columns):
                count += self._import_table(numbers.complete(table.ids, table.start), table)
        return count

    def _import_table(self, ids: list[Id], table: import_export.Table) -> int:
        vectors = table.vectors
        lacking = [at for at, vector in enumerate(vectors) if vector is None]
        try:
            if lacking:
                texts = [table.documents[at] for at in lacking]
                if self._encoder is not None and None in texts:
                    at = table.start + lacking[texts.index(None)]
                    raise ParameterError(f"row {at} has neither a vector nor a document to make one from")
                made = self._encode(texts, f"row {table.start + lacking[0]}: vectors are missing")  # type: ignore[arg-type]
                for at, vector in zip(lacking, made, strict=True):
                    vectors[at] = vector
            return self.upsert(ids, import_export.stacked(vectors, table.start), table.metadata, table.documents)
        except (ParameterError, NotFiniteError, ZeroVectorError) as error:
            if not table.start:
                raise
            raise type(error)(f"{error} (counted from row {table.start})") from error

    def export(
        self, path: str | os.PathLike[str], where: Where | None = None, params: Sequence[Any] | None = None
    ) -> int:
        """Write the records, or those that satisfy a condition, to a .jsonl, .jsonl.gz or .parquet file; how many."""
        return import_export.export(Path(path), self.pages(1000, where, params), self.dim)

    # ---- search ----------------------------------------------------------------------------------------------------

    def search(
        self,
        vector: ArrayLike | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
        ef: int | None = None,
        exact: bool = False,
        recall: float | None = None,
        weights: tuple[float, float] = _EQUAL,
        include: Sequence[Included] = _ALL,
    ) -> Hits:
        """The k best records, best first, among those that `where` allows.

        By vector: exactly min(k, allowed records). By text: BM25, the documents that hold at least one of its words,
        whatever their case, accents and Unicode form; of Chinese, Japanese, Korean, Thai and other texts without spaces
        between words, at least one pair of neighboring characters, or the one character. By both, or by text in a
        collection with an encoder: both rankings, fused by reciprocal rank (score: the sum of weight / (60 + rank)).

        Args:
            ef: candidates that a walk over the graph keeps; more is slower and finds more
            exact: compare with every vector that is allowed
            recall: in place of ef: the share of the k nearest by vector that is to be found on average, as
                Index.search takes it
            weights: of the vector and of the text, when there are both; 0 leaves one out
            include: what the hits hold beside id, score and distance: "metadata", "document", both or, where less is
                quicker, neither: ()

        The result is a list of Hit; its `stats` tell how it was found.
        """
        as_int(k, "k", 1)
        if vector is None and text is None:
            raise ParameterError("give a vector or a text to search for")
        if text is not None and not isinstance(text, str):
            raise ParameterError(f"text must be a string, not {type(text).__name__}")
        vector_weight, text_weight = _as_weights(weights)
        if text is not None and vector is None and self._encoder is not None and vector_weight:
            vector = self._encode([text], "")[0]
        if vector is not None and text is not None:
            vector, text = vector if vector_weight else None, text if text_weight else None
        if vector is not None:
            vector = self._as_query(vector)
        condition = compile_where(where, params)
        return self._searcher.search(
            SearchRequest(
                vector, text, k, ef, exact, recall, condition, (vector_weight, text_weight), _as_included(include)
            )
        )

    def _as_query(self, vector: Any) -> Any:
        if self.dim is not None and not (isinstance(vector, np.ndarray) and vector.ndim == 1):
            vector = as_rows(vector, self.dim, "vector")
            if vector.ndim != 1:
                raise ParameterError(f"vector must be one vector [{self.dim}], not [{len(vector)}, {self.dim}]")
        return vector

    def _encode(self, texts: list[str], otherwise: str) -> Any:
        if self._encoder is None:
            raise ParameterError(f"{otherwise}: give them, or open the collection with an encoder")
        return self._encoder(texts) if texts else []

    # ---- conditions ------------------------------------------------------------------------------------------------

    def create_index(self, field: str) -> None:
        """Let conditions on a field ("year", "author.name") find their records without looking at all of them."""
        names, sql = compile_field(field)
        with self._store.exclusive() as connection:
            records.create_index(connection, field_name(names), sql)

    def drop_index(self, field: str) -> None:
        names, _ = compile_field(field)
        with self._store.exclusive() as connection:
            records.drop_index(connection, field_name(names))

    def indexes(self) -> list[str]:
        """The fields that have an index."""
        with self._store.read() as connection:
            return sorted(records.indexes(connection).values())

    def explain(self, where: Where, params: Sequence[Any] | None = None) -> Plan:
        """The SQL that a condition becomes, and how SQLite goes about it."""
        condition = compile_where(where, params)
        with self._store.read() as connection:
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN SELECT row FROM records WHERE {condition.sql}", condition.parameters
            )
            steps = tuple(detail for *_, detail in plan)
            known = records.indexes(connection)
        used = (field for name, field in known.items() if any(f"INDEX {name} " in f"{step} " for step in steps))
        return Plan(condition.sql, condition.parameters, steps, tuple(used))

    # ---- upkeep ----------------------------------------------------------------------------------------------------

    @contextmanager
    def batch(self, *, progress: Progress | None = None) -> Iterator[Collection]:
        """All that is written inside happens at its end, or not at all when an exception leaves it.

        get(), count() and search() inside see what was written; other threads do not, and wait for the end once a
        search inside has made the graph follow. Batches may be nested: an inner one can fail by itself.
        """
        try:
            with self._store.write(progress):
                yield self
        except StoppedError:
            raise EdgevecError("the batch was stopped by its progress function: nothing of it is stored") from None

    def checkpoint(self) -> None:
        """Write the graph beside the database and copy SQLite's log back, so that the next opening is quick."""
        with self._store.exclusive() as connection:
            self._store.save_snapshot()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def compact(self, *, progress: Progress | None = None) -> None:
        """Give back the room of deleted records, in the file and in memory."""
        with self._store.exclusive() as connection:
            if self._store.graph.index is not None:
                self._store.graph.index.compact(progress=self._store.progress_guard.wrap(progress))
            connection.execute("INSERT INTO texts(texts) VALUES ('optimize')")
            connection.execute("VACUUM")
        self.checkpoint()

    def check(self, *, repair: bool = False, progress: Progress | None = None) -> CollectionReport:
        """Verify the database, the full-text index and the graph against the records; set right what is derived.

        Records that something other than edgevec has damaged (metadata that are no JSON object; a vector that is
        missing, of the wrong length or not finite; an id or a document of another type) are named in `problems`. Until
        they are repaired or replaced by upsert() the others are found as ever; conditions take damaged metadata for
        none, and get() raises.

        Args:
            repair: also moves such records to the table `damaged` of the same file (row, id, metadata, document,
                vector, problem, set_apart_at), from which any SQLite program reads them; the report's `set_apart`
                lists their ids. Vectors that belong to no record are deleted.

        What SQLite finds wrong in its own file is reported and cannot be repaired here.
        """
        return maintenance.check(self._store, repair=repair, progress=self._store.progress_guard.wrap(progress))

    def refresh(self, *, progress: Progress | None = None) -> int:
        """Let the graph take in what other processes have committed. Every search does so by itself; this one tells
        progress(done, total). Returns the version of the records: as long as it is the same, so are they.

        Of a collection that is open for writing: what other programs (the sqlite3 shell, say) changed in the file is
        noticed here and at the next write, and until then searches may answer with what was there before.
        StorageError when the file was removed or replaced since it was opened.
        """
        self._store.detect_external_changes()
        try:
            with self._store.read(progress=progress) as connection:
                return changes.version(connection)
        except StoppedError:
            raise EdgevecError("stopped by its progress function: the next search takes in the rest") from None

    def stats(self) -> dict[str, Any]:
        """Sizes: records, documents, bytes of the files, and of the index in memory."""
        path, graph = self.path, self._store.graph
        snapshot = graph.snapshot.path if graph.snapshot else None
        with self._store.read() as connection:
            index = graph.index
            return {
                "records": records.count(connection),
                "documents": fulltext.count(connection),
                "file_bytes": _size(path),
                "log_bytes": _size(Path(f"{path}-wal")) if path else 0,
                "snapshot_bytes": _size(snapshot),
                "changes_since_snapshot": graph.seq - graph.saved_seq,
                "memory_bytes": 0 if index is None else index.memory_usage()["total"],
            }

    def close(self) -> None:
        """Let go of the file. Later calls are a ClosedError."""
        self._store.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _as_weights(weights: Sequence[float]) -> tuple[float, float]:
    if weights is _EQUAL:
        return _EQUAL
    try:
        vector, text = (float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise ParameterError(f"weights must be two numbers, not {weights!r}") from None
    if not (0 <= vector < float("inf") and 0 <= text < float("inf") and vector + text > 0):
        raise ParameterError(f"weights must be positive, not {weights!r}")
    return vector, text


def _as_included(include: Sequence[Included]) -> tuple[Included, ...]:
    if include is _ALL:
        return _ALL
    names = (include,) if isinstance(include, str) else tuple(include)
    for name in names:
        if name not in _ALL:
            raise ParameterError(f"include takes 'metadata' and 'document', not {name!r}")
    return names  # type: ignore[return-value]


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0
