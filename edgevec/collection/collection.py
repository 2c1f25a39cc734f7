"""The public class: records with vectors, metadata and documents, searched by any of them.

Each method checks its arguments and calls one function of a module below.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from numpy.typing import ArrayLike

from .._types import Metric, Progress, Quantization, Storage
from .._validation import as_int
from ..encoders import TextEncoder
from ..errors import ParameterError
from . import encoding, import_export, maintenance, operations, updating, validation
from .hits import Hits, Included
from .maintenance import CollectionReport
from .records import Plan, Record
from .schema import Dtype
from .search import ALL, EQUAL, SearchExecutor, as_request, as_requests
from .store import Store
from .validation import Id
from .where import EVERYTHING, Condition, Where, compile_field, compile_where, field_name

__all__ = ["DELETES_ALL", "UPDATES_ALL", "Collection", "chosen"]

DELETES_ALL = "delete every record; clear() does that"
UPDATES_ALL = "change every record; update(ids(), ...) does that"


class Collection:
    """Records under ids of your choosing, int (64 bits) or str; made by edgevec.open().

    A record is a vector, metadata (a JSON object) and a document (a text); metadata and document may be missing. All of
    it is in one SQLite file, and durable once a call returns or, inside a batch, once the batch has ended. The search
    graph beside it is derived from the records: lost or damaged, it is made again.

    Any number of threads may use a collection; 8 connections of readers are kept open, each with at most 32 MB of
    SQLite's cache. One process writes; others may open it with mode="r", and see what was
    committed. A progress function is called while the records and the graph change: it may count and read records;
    any other call of the collection is a BusyError, and waiting there for another thread that uses the collection
    never ends.

    A condition, `where`, is a text such as "year >= 1990 AND lang IN ('de', 'fr')", with `params` for its question
    marks, or a dict such as {"year": {"$gte": 1990}}. WhereError says what is wrong with one.

    Raises:
        ClosedError: by every method, after close() and in a process forked from the one that opened it
        ReadOnlyError: by every method that writes, with mode="r"
        BusyError: in a progress function, by every method that searches by vector, writes or maintains
        LockedError: when something else writes to the file at the same time
        StorageError: when the system refuses to read or write, or the file was removed or replaced
        CorruptCollectionError: when the file is damaged; check() says more

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

    def __init__(self, store: Store, encoder: TextEncoder | None = None) -> None:
        self._store = store
        self._searcher = SearchExecutor(store)
        self._encoder = encoder

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path | None:
        """The file itself, with symbolic links followed; None for a collection in memory."""
        return self._store.path

    @property
    def dim(self) -> int | None:
        """Of the vectors, 1..65535; None until the first is stored, where open() was not told."""
        return self._store.dim

    @property
    def metric(self) -> Metric:
        """ "cosine", "ip" or "l2", as in `Index`."""
        return self._store.metric

    @property
    def quantization(self) -> Quantization:
        """ "none", "sq8" or "binary": of the vectors in the graph; those in the file are whole."""
        quantization: Quantization = self._store.settings["quantization"]
        return quantization

    @property
    def M(self) -> int:
        """Links per node of the graph, as in `Index`."""
        links: int = self._store.settings["M"]
        return links

    @property
    def ef_construction(self) -> int:
        """Candidates looked at when a node of the graph is linked, as in `Index`."""
        candidates: int = self._store.settings["ef_construction"]
        return candidates

    @property
    def dtype(self) -> Dtype:
        """Of the vectors as they are stored: "float32" or "float16"."""
        return self._store.dtype

    @property
    def encoder(self) -> str | None:
        """The name of the encoder that makes its vectors, which the file keeps; None where it was given none.

        The name alone makes no vectors: edgevec.open(..., encoder=...) says that the encoder may be loaded.
        """
        return self._store.encoder

    @property
    def storage(self) -> Storage:
        """ "memory" or "disk": where this process has the vectors of the graph."""
        return self._store.storage

    @property
    def mode(self) -> Literal["a", "r"]:
        """ "a" when it is open for reading and writing, "r" for reading."""
        return "a" if self._store.writable else "r"

    @property
    def memory_limit(self) -> int | None:
        """Bytes that the collection may take in memory; None: any number. It can be set, raised and lowered.

        What would take more raises MemoryLimitError, a MemoryError, and stores nothing. Counted are the graph, with
        all that searches need, and the metadata fields kept for conditions, which have condition_memory of it, as
        open() divides it; stats()["memory_held"] is their sum. Not counted are the ids of records, about 8 bytes each
        and more where they are texts, what one batch has written (up to 32 MB are kept, and as much is read at a
        time), the words of documents that searches have asked for (up to 64 MB), results, and SQLite's own caches,
        about 2 MB for each thread that reads.
        """
        return self._store.memory_limit

    @memory_limit.setter
    def memory_limit(self, memory_limit: int | None) -> None:
        self._store.set_memory_limit(memory_limit)

    def __repr__(self) -> str:
        return f"Collection({self._store.name!r}, dim={self.dim}, {self.metric!r}, mode={self.mode!r})"

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
        """Store records, replacing those whose id exists. All or nothing.

        Args:
            ids: n ids, int and str, or one
            vectors: [n, dim] of any real dtype; [dim] with one id. None: the encoder makes them from the documents.
            metadata: a dict for each, or None; JSON values, NumPy numbers, dates and times (kept as ISO texts, in UTC
                where they have a zone), durations (kept as seconds). Names that are no strings become strings.
            documents: a text for each, or None
            progress: progress(done, total) while the graph takes them in; returning False stops, and nothing is
                stored. Inside a batch this is the batch's.

        Returns:
            How many were stored: n.

        Raises:
            CancelledError: when progress stopped it
            ParameterError: when an argument is of the wrong kind or length; the message names the record. When the
                encoder returns too many or too few vectors, or of another dimension; the message names the encoder.
            DuplicateIdError: when an id comes twice
            NotFiniteError: when a vector holds NaN or infinity, or is longer than 3.2e18 (or what the dtype can hold)
            ZeroVectorError: when a vector is zero and the metric is "cosine"
        """
        new = validation.as_records(ids, metadata, documents)
        encoder = self._encoder if vectors is None else None
        if vectors is None:
            vectors = encoding.documents(self._store, encoder, new)
        return operations.upsert(self._store, new, vectors, progress, encoder)

    def update(
        self,
        ids: Id | Sequence[Id] | ArrayLike | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        documents: str | Sequence[str | None] | None = None,
        vectors: ArrayLike | None = None,
        *,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Change parts of records that exist; what is not given stays as it is. All or nothing.

        Args:
            ids: n ids, or one
            metadata: a dict of fields for each, or one for all, set beside the fields that a record has; None takes a
                field away. Objects and lists are replaced as a whole.
            documents: a text for each; None takes it away. The encoder, where the collection has one, makes their
                vectors anew.
            vectors: [n, dim] of any real dtype; [dim] with one id
            where: in place of ids, with a dict of metadata alone: the records that satisfy this condition before the
                call. An empty condition is refused: ids() are those of all.
            params: values for the condition's question marks
            progress: progress(done, total) as records are stored, and then while the graph takes new vectors in;
                returning False stops, and nothing changes. Inside a batch the latter is the batch's.

        Returns:
            How many were changed: n.

        Raises:
            UnknownIdError: when some do not exist; the message names them
            ParameterError: when both or none of ids and where are given, or nothing to change
            CorruptCollectionError: when one of the records is damaged (see check())
            EdgevecError: as upsert() and delete()
        """
        keys, condition = chosen(ids, where, params, UPDATES_ALL)
        changes = updating.as_changes(self._store, keys, metadata, documents, vectors, self._encoder)
        return updating.update(self._store, keys, condition, changes, progress)

    def get(self, ids: Id | Sequence[Id] | ArrayLike, *, missing: Literal["raise", "skip"] = "raise") -> list[Record]:
        """The records of these ids, in this order.

        Args:
            ids: ids, or one
            missing: "skip" leaves out those that do not exist or are damaged

        Returns:
            One Record an id.

        Raises:
            UnknownIdError: when some do not exist; the message names them
            CorruptCollectionError: when a record is damaged (see check())
        """
        return operations.get(self._store, validation.validate_ids(ids), missing)

    def delete(
        self,
        ids: Id | Sequence[Id] | ArrayLike | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
    ) -> int:
        """Delete the records of these ids, or those that satisfy a condition.

        Their bytes stay readable in the files until they are used again or compact() writes the files anew, unless the
        collection was opened with secure_delete=True.

        Args:
            ids: ids, or one; those that do not exist are passed over
            where: in place of ids; an empty condition is refused: clear() deletes everything
            params: values for the condition's question marks

        Returns:
            How many there were.

        Raises:
            ParameterError: when both or none of ids and where are given, or the condition is empty
            WhereError: when the condition is wrong
        """
        return operations.delete(self._store, *chosen(ids, where, params, DELETES_ALL))

    def clear(self) -> int:
        """Delete every record. What the collection is (dim, metric, indexes, ...) stays.

        Returns:
            How many there were.
        """
        return operations.delete(self._store, None, EVERYTHING)

    def count(self, where: Where | None = None, params: Sequence[Any] | None = None) -> int:
        """How many records there are, or how many satisfy a condition.

        Raises:
            WhereError: when the condition is wrong
        """
        return operations.count(self._store, compile_where(where, params))

    def ids(self, where: Where | None = None, params: Sequence[Any] | None = None) -> list[Id]:
        """The ids of all records, or of those that satisfy a condition, in order of insertion.

        Raises:
            WhereError: when the condition is wrong
        """
        return operations.ids_where(self._store, compile_where(where, params))

    def pages(
        self, size: int = 1000, where: Where | None = None, params: Sequence[Any] | None = None
    ) -> Iterator[list[Record]]:
        """The records in order of insertion, in lists. Changes made meanwhile may or may not be seen.

        Args:
            size: records in a list, at most
            where: only those that satisfy this condition
            params: values for its question marks

        Returns:
            An iterator. A damaged record (see check()) is left out, and the log names it.

        Raises:
            WhereError: when the condition is wrong
        """
        return operations.pages(self._store, as_int(size, "size", 1), compile_where(where, params))

    def __iter__(self) -> Iterator[Record]:
        for page in self.pages():
            yield from page

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id: object) -> bool:
        return validation.is_single_id(id) and operations.contains(self._store, *validation.validate_ids(id))

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
        """Store the rows of a table, replacing records whose id exists. All or nothing.

        In metadata, what is missing (NaN, NaT, NA) becomes null, decimals numbers, dates and times ISO 8601 texts,
        durations seconds, bytes UTF-8 texts.

        Args:
            data: a file that edgevec.read_vectors() knows (.jsonl, .parquet, .npy, ...), a pandas or polars
                DataFrame, a pyarrow Table, or dicts. The index of a DataFrame is a column if it has a name.
            id: the column of the ids. None: the first of the usual names ("id", ...) that a row has with a fitting
                value. A row without an id gets a number, one more than the highest there is so far.
            vector: the column of the vectors. None: "vector", "embedding", ... The encoder makes those that are
                missing; of the files, JSON lines may lack them.
            document: the column of the documents. None: "text", "document", ... All other columns are metadata.
            skip: columns to leave out
            progress: progress(done, total) while a file is read, and then while the graph takes the rows in; returning
                False stops

        Returns:
            How many were stored.

        Raises:
            DataFormatError: when a value cannot be stored; the message names row and column
            DuplicateIdError: when an id comes twice in `data`
            ParameterError: when a named column does not exist, or a row has no vector and there is no encoder
            NotFiniteError: as in upsert()
            ZeroVectorError: as in upsert()
            CancelledError: when progress stopped it
        """
        columns = import_export.Columns(id, vector, document, frozenset([skip] if isinstance(skip, str) else skip))
        return operations.import_from(self._store, data, columns, self._encoder, progress)

    def export(
        self, path: str | os.PathLike[str], where: Where | None = None, params: Sequence[Any] | None = None
    ) -> int:
        """Write the records, or those that satisfy a condition, to a file, whole or not at all.

        Args:
            path: ends in .jsonl, .jsonl.gz or .parquet
            where: only those that satisfy this condition
            params: values for its question marks

        Returns:
            How many were written.

        Raises:
            DataFormatError: when the ending is another
            ParameterError: for .parquet, when there are no records, or ids are both int and str
            MissingExtraError: for .parquet, when pyarrow is not installed
            WhereError: when the condition is wrong
        """
        return import_export.export(Path(path), self.pages(1000, where, params), self.dim)

    # ---- search ----------------------------------------------------------------------------------------------------

    def search(
        self,
        vector: ArrayLike | str | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
        ef: int | None = None,
        exact: bool = False,
        recall: float | None = None,
        weights: tuple[float, float] = EQUAL,
        include: Sequence[Included] = ALL,
    ) -> Hits:
        """The k best records, best first, among those that `where` allows.

        By vector: exactly min(k, allowed records). By text: BM25, the documents that hold at least one of its words,
        whatever their case, accents and Unicode form; of Chinese, Japanese, Korean, Thai and other texts without spaces
        between words, at least one pair of neighboring characters, or the one character. By both, or by text in a
        collection with an encoder: both rankings, fused by reciprocal rank (score: the sum of weight / (60 + rank)).

        Args:
            vector: [dim], of any real dtype; or a text, from which the encoder makes it
            k: results, at most
            text: words to look for in the documents
            where: a condition on metadata
            params: values for its question marks
            ef: candidates that a walk over the graph keeps; more is slower and finds more. None: 64
            exact: compare with every vector that is allowed
            recall: in place of ef: the share of the k nearest by vector that is to be found on average, as
                Index.search takes it
            weights: of the vector and of the text, when there are both; 0 leaves one out
            include: what the hits hold beside id, score and distance: "metadata", "document", both or, where less is
                quicker, neither: ()

        Returns:
            A list of Hit; its `stats` tell how it was found.

        Raises:
            ParameterError: when neither vector nor text is given, or an argument is out of its range; when the vector
                is a text and there is no encoder, or what it returns is no vector of the collection's dimension
            NotFiniteError: when the vector holds NaN or infinity, or is too long
            ZeroVectorError: when the vector is zero and the metric is "cosine"
            WhereError: when the condition is wrong
        """
        return self._searcher.search(
            as_request(
                self._store,
                self._encoder,
                vector,
                k,
                text=text,
                where=where,
                params=params,
                ef=ef,
                exact=exact,
                recall=recall,
                weights=weights,
                include=include,
            )
        )

    def search_many(
        self,
        vectors: ArrayLike | Sequence[str] | None = None,
        k: int = 10,
        *,
        texts: Sequence[str] | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
        ef: int | None = None,
        exact: bool = False,
        recall: float | None = None,
        weights: tuple[float, float] = EQUAL,
        include: Sequence[Included] = ALL,
    ) -> list[Hits]:
        """What search() finds for each of n queries, all of it as of one state of the records.

        The vectors are searched on all cores, and each record that is found is read once. Words are looked up query
        by query.

        Args:
            vectors: [n, dim], of any real dtype; or n texts, from which one call of the encoder makes them
            k: results of each query, at most
            texts: n texts, words to look for in the documents
            where, params, ef, exact, recall, weights, include: as of search(), for all queries

        Returns:
            For each query a list of Hit, best first. Its `stats` have the strategy "batch" in place of the graph's,
            and count neither visited nodes nor distances.

        Raises:
            ParameterError: when neither vectors nor texts are given, or their numbers differ
            NotFiniteError: when a vector holds NaN or infinity, or is too long; the message names the query
            ZeroVectorError: when a vector is zero and the metric is "cosine"; the message names the query
            EdgevecError: as search()

        Example:
            >>> import edgevec
            >>> with edgevec.open(":memory:", dim=2) as notes:
            ...     _ = notes.upsert(["a", "b"], [[1, 0], [0, 1]])
            ...     [hits[0].id for hits in notes.search_many([[0, 1], [1, 0]], k=1)]
            ['b', 'a']
        """
        return self._searcher.search_many(
            as_requests(
                self._store,
                self._encoder,
                vectors,
                k,
                texts=texts,
                where=where,
                params=params,
                ef=ef,
                exact=exact,
                recall=recall,
                weights=weights,
                include=include,
            )
        )

    # ---- conditions ------------------------------------------------------------------------------------------------

    def create_index(self, field: str) -> None:
        """Let conditions on a field find their records without looking at all of them. Nothing where there is one.

        Args:
            field: as in a condition: "year", "author.name"

        Raises:
            WhereError: when it is not the name of a field
            ParameterError: inside a batch
        """
        names, sql = compile_field(field)
        operations.create_index(self._store, field_name(names), sql)

    def drop_index(self, field: str) -> None:
        """Undo create_index(). Nothing where there is none.

        Args:
            field: as in a condition: "year", "author.name"

        Raises:
            WhereError: when it is not the name of a field
            ParameterError: inside a batch
        """
        names, _ = compile_field(field)
        operations.drop_index(self._store, field_name(names))

    def indexes(self) -> list[str]:
        """The fields that have an index."""
        return operations.indexes(self._store)

    def explain(self, where: Where, params: Sequence[Any] | None = None) -> Plan:
        """The SQL that a condition becomes, and how SQLite evaluates it.

        Raises:
            WhereError: when the condition is wrong
        """
        return operations.explain(self._store, compile_where(where, params))

    def unknown_fields(self, where: Where, params: Sequence[Any] | None = None) -> dict[str, list[str]]:
        """The fields that a condition names and no record has, each with up to 3 names that are like it.

        A test of such a field, but for IS NULL, lets no record through, whether its name was mistyped or nobody has
        stored it yet. Every record is looked at for a field that is missing, so ask when nothing was found. Empty where
        there are no records.

        Raises:
            WhereError: when the condition is wrong

        Example:
            >>> import edgevec
            >>> with edgevec.open(":memory:", dim=2) as notes:
            ...     notes.upsert(["a"], [[1, 0]], [{"year": 2020}])
            ...     notes.unknown_fields("yaer > 2000")
            1
            {'yaer': ['year']}
        """
        return operations.unknown_fields(self._store, compile_where(where, params))

    # ---- maintenance -----------------------------------------------------------------------------------------------

    @contextmanager
    def batch(self, *, progress: Progress | None = None) -> Iterator[Collection]:
        """A block of writes that all happen at its end, or not at all when an exception leaves it.

        get(), count() and search() inside see what was written. Other threads do not; once a search inside has made the
        graph take in what was written, they wait for the end. Batches may be nested: an inner one can fail by itself. A
        batch that only upserts keeps SQLite's log short, however much it writes.

        Args:
            progress: progress(done, total) while the graph takes in what was written, at the end of the outermost
                batch; returning False stops, and nothing is stored

        Raises:
            CancelledError: when progress stopped it
        """
        with self._store.batch(progress):
            yield self

    def checkpoint(self) -> None:
        """Write the graph beside the database and copy SQLite's log back, so that the next opening is quick.

        Raises:
            ParameterError: inside a batch
            LockedError: when another connection goes on reading for 10 seconds, so that the log cannot be emptied; the
                graph is written by then
        """
        maintenance.checkpoint(self._store)

    def compact(self, *, progress: Progress | None = None) -> None:
        """Give back the room of deleted records, in the file and in memory.

        Args:
            progress: progress(done, total) while the graph is laid out anew

        Raises:
            ParameterError: inside a batch
        """
        maintenance.compact(self._store, progress)

    def check(self, *, repair: bool = False, progress: Progress | None = None) -> CollectionReport:
        """Verify the database, the full-text index and the graph against the records; repair what is derived.

        Records that something other than edgevec has damaged (metadata that are not a JSON object; a vector that is
        missing, of the wrong length or not finite; an id or a document of another type) are named in `problems`. Until
        they are repaired or replaced by upsert(), all others are found as before; conditions see no metadata where they
        are damaged, and get() raises. What SQLite finds wrong in its own file is reported and cannot be repaired here.

        Args:
            repair: also move such records to the table `damaged` of the same file (row, id, metadata, document,
                vector, problem, set_apart_at), from which any SQLite program reads them; the report's `set_apart`
                lists their ids. Vectors that belong to no record are deleted.
            progress: progress(done, total) while the vectors are compared

        Returns:
            What was found, after the repair if there was one.

        Raises:
            ParameterError: inside a batch
        """
        return maintenance.check(self._store, repair=repair, progress=progress)

    def refresh(self, *, progress: Progress | None = None) -> int:
        """Let the graph take in what other processes have committed, as every search does, but with progress.

        In a collection that is open for writing, what other programs (the sqlite3 shell, say) changed in the file is
        noticed here and at the next write; until then searches and conditions may answer with what was there before.

        Args:
            progress: progress(done, total) while the graph takes it in; returning False stops

        Returns:
            The version of the records: as long as it is the same, so are they.

        Raises:
            StorageError: when the file was removed or replaced since it was opened
            CancelledError: when progress stopped it
        """
        return maintenance.refresh(self._store, progress)

    def stats(self) -> dict[str, Any]:
        """Sizes.

        Returns:
            records, documents, file_bytes, log_bytes, snapshot_bytes (the graph beside the file),
            changes_since_snapshot, memory_bytes (of the graph), disk_bytes (of its vectors in files, with
            storage="disk", those that were replaced since the last snapshot included), condition_bytes (of the metadata
            fields that are in memory for conditions), memory_held (all that memory_limit counts).
        """
        return maintenance.stats(self._store)

    def close(self) -> None:
        """Close the file. Later calls raise ClosedError, except close().

        SQLite's log is copied back by the last connection of all processes that closes the file; until then it stays
        beside the file (and the logger "edgevec" says so), from where everyone reads it. A collection that is not
        closed gives a ResourceWarning when it is collected as garbage.

        Raises:
            ParameterError: inside a batch
            BusyError: in a progress function
        """
        self._store.close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._store.abandon()
        self.close()


def chosen(
    ids: Id | Sequence[Id] | ArrayLike | None, where: Where | None, params: Sequence[Any] | None, every: str
) -> tuple[list[Id] | None, Condition]:
    """Which records a change is of, checked: ids, or None and a condition. every: why an empty condition is refused."""
    if (ids is None) == (where is None):
        raise ParameterError("give ids or where")
    if where is not None and not where:
        raise ParameterError(f"an empty condition would {every}")
    condition = compile_where(where, params)
    return None if ids is None else validation.validate_ids(ids), condition
