"""ShardedCollection: the shards that a manifest names, searched together by threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from numpy.typing import ArrayLike

from .._types import Metric, PathLike, Progress, Quantization, Storage
from .._validation import as_int, as_storage
from ..collection import CollectionReport, Encoder, Hits
from ..collection.collection import DELETES_ALL, UPDATES_ALL, chosen
from ..collection.factory import checked
from ..collection.hits import Included
from ..collection.part_files import prepared, prepared_changes
from ..collection.parts import Part, key_of
from ..collection.schema import Dtype
from ..collection.search import ALL, EQUAL, SearchRequest
from ..collection.validation import Id, as_records
from ..collection.where import EVERYTHING, Where
from ..encoders import as_encoder
from ..errors import CorruptCollectionError, CorruptIndexError, StorageError, allocates
from ..sharded.folders import Folder, open_folder
from ..sharded.follower import Missing, as_missing
from ..sharded.opened import Opened
from ..sharded.searching import Helpers
from ..sharded.writing import commit, remove_old
from .building import build, columns_of
from .changing import compacted, with_changes, with_records, without
from .following import Following
from .manifest import CollectionManifest, CollectionShard
from .reading import Reading
from .searching import Here, Question, SearchParts
from .shards import OpenPart

__all__ = ["CONDITION_BYTES", "ShardedCollection", "folder_of", "parameters_of"]

_MOST_ROWS = 2**32 - 1
CONDITION_BYTES = 128 * 2**20
_ATTEMPTS = 20
"""How often a build may take files away while a call reads them."""
_Answer = TypeVar("_Answer")


class ShardedCollection(Reading, Opened):
    """A collection in several files, searched as one: for records that one machine builds in parts, or cannot hold.

    It lies in a folder: ordinary collections, which edgevec.open() opens by themselves, and `manifest.json`, which says
    which of them count. Their files never change: a call that changes records writes the shards anew that hold them,
    and puts new records into new shards. The manifest is written last, in one step; so an error, Ctrl-C or a power
    failure at any time leaves what was there before. One process writes at a time. Who has the collection open sees the
    new manifest with the next call, or where the folder is no local one, by refresh(). Another build replaces all, and
    takes over the shards whose records are the same.

    `open()` and `build()` make one. Any number of threads may use it at once; a process that was forked opens it again.
    It is to be closed, by close() or at the end of a `with` block.

    Raises:
        ClosedError: by every method, after close()
        EdgevecError: by every method that looks for a new manifest, as open()
        BusyError: in a progress function, by every method that changes the collection, and by close()

    Example:
        >>> from edgevec import ShardedCollection
        >>> rows = [{"id": n, "vector": [n, 1], "text": f"note {n}", "year": 2000 + n} for n in range(5)]
        >>> with ShardedCollection.build(rows, "notes", rows_per_shard=2) as notes:
        ...     len(notes), len(notes.shards), [hit.id for hit in notes.search([4, 1], k=2, where="year < 2003")]
        (5, 3, [2, 1])
        >>> with ShardedCollection.open("notes") as notes:
        ...     notes.search(text="note 3", k=1)[0].document, notes.count("year >= 2003")
        ('note 3', 2)
        >>> with ShardedCollection.open("notes") as notes:
        ...     notes.delete(where="year < 2003"), notes.upsert(["new", 4], [[7, 1], [8, 1]]), notes.ids()
        (3, 2, [3, 4, 'new'])
    """

    def __init__(self) -> None:
        raise TypeError("use ShardedCollection.open() or ShardedCollection.build()")

    # ---- making one ------------------------------------------------------------------------------------------------

    @classmethod
    @allocates
    def build(
        cls,
        source: Any,
        out: PathLike,
        *,
        rows_per_shard: int = 250_000,
        id: str | None = None,
        vector: str | None = None,
        document: str | None = None,
        skip: Sequence[str] = (),
        metric: Metric = "cosine",
        quantization: Quantization = "sq8",
        M: int = 16,
        ef_construction: int = 200,
        dtype: Dtype = "float32",
        encoder: str | Encoder | None = None,
        progress: Progress | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> ShardedCollection:
        """Build a collection, shard by shard, and open it. Memory holds the records of one shard, and all ids.

        A collection that is at the address is replaced when all is done. After an error or Ctrl-C the shards that are
        finished stay, and count for nothing until the same build runs again, which takes them as they are: a shard's
        file is named by a checksum of its records and parameters, and one of its content. (What an encoder without a
        name makes vectors of is made again.)

        Args:
            source: what Collection.import_from() takes: a file (.jsonl, .parquet, ...), a DataFrame, a pyarrow Table or
                dicts, also from a generator; or a folder of such files, taken in the order of their names
            out: a folder, which is made where there is none; or an address such as "s3://bucket/notes", for which
                fsspec and the library of the service are needed (edgevec[remote])
            rows_per_shard: records in a shard, at most
            id, vector, document, skip: columns, as of Collection.import_from()
            metric, quantization, M, ef_construction, dtype, encoder: of each shard; see edgevec.open()
            progress: progress(done, total); the total is an estimate. Returning False stops.
            storage_options: for fsspec

        Raises:
            EdgevecError: as Collection.import_from(); errors name the row
            DuplicateIdError: an id comes twice
            ParameterError: an argument is out of its range, or there are no records
            CorruptCollectionError: there is a manifest.json at the address that is none of a collection
            LockedError: another process writes there
            CancelledError: progress returned False
        """
        rows_per_shard = as_int(rows_per_shard, "rows_per_shard", 1, _MOST_ROWS)
        model = None if encoder is None else as_encoder(encoder)
        settings = parameters_of(metric, quantization, M, ef_construction, dtype)
        folder = folder_of(out, storage_options, create=True)
        build(folder, source, columns_of(id, vector, document, skip), settings, rows_per_shard, model, progress)
        return cls.open(out, encoder=model, storage_options=storage_options)

    @classmethod
    @allocates
    def open(
        cls,
        manifest: PathLike,
        *,
        encoder: str | Encoder | None = None,
        mmap: bool = True,
        verify: bool = True,
        missing: Missing = "error",
        storage: Storage = "memory",
        condition_memory: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> ShardedCollection:
        """Open a collection.

        Args:
            manifest: the folder, or the manifest in it; or an address that fsspec knows. Files from there are copied
                to a temporary folder of this machine, which close() removes.
            encoder: makes vectors of texts that are searched for; see edgevec.open()
            mmap: map the graphs, so that memory holds what searches read, and processes share it. False: load them.
            verify: read all files and compare their checksums, and look for ids that are in two shards. False: compare
                sizes, and open at once.
            missing: "report": go on without shards that are missing or damaged. `share` says how much is left,
                `problems` what is wrong; and such a collection cannot be changed.
            storage: "disk": in place of mapping, load links and codes, and read vectors where searches rank them; see
                edgevec.open()
            condition_memory: as of edgevec.open(), of all shards together
            storage_options: for fsspec

        Raises:
            CollectionNotFoundError: there is no manifest (a FileNotFoundError)
            CorruptCollectionError: a manifest or shard is damaged or something else, or an id is in two shards
            FormatVersionError: written by a newer version of edgevec
            ShardNotFoundError: a shard is not there (a FileNotFoundError)
            ParameterError: as edgevec.open()
            StorageError: the system refuses
        """
        model, storage = None if encoder is None else as_encoder(encoder), as_storage(storage)
        memory = CONDITION_BYTES
        if condition_memory is not None:
            memory = as_int(condition_memory, "condition_memory", 0)
        made = cls.__new__(cls)
        made._following = Following(
            folder_of(manifest, storage_options),
            verify=verify,
            missing=as_missing(missing),
            encoder=model,
            mmap=mmap and storage == "memory",
            storage=storage,
            condition_memory=memory,
        )
        made._storage_options = storage_options
        made._helpers = Helpers()
        try:
            made._following.follow(first=True)
        except BaseException:
            made.close()
            raise
        return made

    _following: Following
    _storage_options: Mapping[str, Any] | None

    def __reduce__(self) -> tuple[Any, ...]:
        held = self._following
        how = {
            "encoder": held.encoder,
            "mmap": held.mmap,
            "verify": held.verify,
            "missing": held.missing,
            "storage": held.storage,
            "condition_memory": held.condition_memory,
        }
        return _reopened, (held.folder.address, how, self._storage_options)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def manifest(self) -> CollectionManifest:
        """What was read last."""
        return self._following.manifest

    @property
    def shards(self) -> tuple[CollectionShard, ...]:
        """Those of the manifest."""
        return self.manifest.shards

    @property
    def share(self) -> float:
        """The share of the records that searches have before them: 1.0 where no shard is missing."""
        with self._following.using() as held:
            every = sum(shard.count for shard in self.manifest.shards)
            return sum(each.shard.count for each in held) / every if every else 1.0

    def __repr__(self) -> str:
        if self.closed:
            return "<closed ShardedCollection>"
        held = sum(shard.count for shard in self.shards)
        return f"ShardedCollection({held} records, dim={self.dim}, {self.metric!r}, {len(self.shards)} shards)"

    # ---- search ----------------------------------------------------------------------------------------------------

    @allocates
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
        threads: int = 0,
    ) -> Hits:
        """The k best records, best first, among those that `where` allows, as Collection.search().

        With exact=True these are what one collection with all records finds, and so are their scores, but for rounding
        errors of float32. By vector, every shard is asked for its k nearest, and they are merged by distance, then in
        the order of the import. By text, BM25 counts the documents and words of all shards. By both, the two rankings
        of all records are fused.

        Args:
            vector, k, text, where, params, ef, exact, recall, weights, include: as of Collection.search(); `ef` and
                `recall` are those of each shard
            threads: 0, one per core, if that is worth it by what such a search last took; 1, the calling thread

        Returns:
            A list of Hit; its `stats` are the sums of the shards', and name each strategy that one of them took.

        Raises:
            EdgevecError: as Collection.search()
        """
        threads = as_int(threads, "threads", 0)

        def search(held: tuple[OpenPart, ...], parts: Sequence[Part]) -> Hits:
            request = parts[0].request(
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
            return self._hits(parts, request, threads)

        return self._answer(search)

    @allocates
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
        threads: int = 0,
    ) -> list[Hits]:
        """What search() finds for each of n queries, one after the other, all of it in the same shards.

        Args:
            vectors, texts: of each query, as of Collection.search_many()
            k, where, params, ef, exact, recall, weights, include, threads: as of search(), for all queries

        Returns:
            For each query a list of Hit, best first.

        Raises:
            EdgevecError: as Collection.search_many()
        """
        threads = as_int(threads, "threads", 0)

        def search(held: tuple[OpenPart, ...], parts: Sequence[Part]) -> list[Hits]:
            requests = parts[0].requests(
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
            return [self._hits(parts, request, threads) for request in requests]

        return self._answer(search)

    def _hits(self, parts: Sequence[Part], request: SearchRequest, threads: int) -> Hits:
        kind = request.exact, request.condition is not EVERYTHING
        shards = Here(dict(enumerate(parts)), self._helpers, threads, kind)
        return SearchParts(shards, request, parts[0].scores).hits()

    # ---- changes ---------------------------------------------------------------------------------------------------

    @allocates
    def delete(
        self,
        ids: Id | Sequence[Id] | ArrayLike | None = None,
        where: Where | None = None,
        params: Sequence[Any] | None = None,
    ) -> int:
        """Delete the records of these ids, or those that satisfy a condition. All or nothing; durable when it returns.

        A call writes every shard anew that holds some of them, so delete many at a time. Their bytes stay readable in
        the new files until compact() writes these anew.

        Args:
            ids: ids, or one; those that do not exist are passed over
            where: in place of ids; an empty condition is refused: clear() deletes everything
            params: values for the condition's question marks

        Returns:
            How many there were.

        Raises:
            ParameterError: both or none of ids and where are given, or the condition is empty
            WhereError: the condition is wrong
            LockedError: another process writes
            EdgevecError: with missing="report", what is wrong with a shard
            StorageError: the system refuses to write
        """
        wanted, _ = chosen(ids, where, params, DELETES_ALL)
        gone = _finding(wanted, where, params)
        with self._writing() as held:
            manifest, count = without(held.folder, held.manifest, held.shards, gone)
            if count:
                self._commit(manifest)
        return count

    @allocates
    def clear(self) -> int:
        """Delete every record. What the collection is (dim, metric, encoder, ...) stays.

        Returns:
            How many there were.

        Raises:
            EdgevecError: as delete()
        """
        with self._writing() as held:
            count = sum(each.shard.count for each in held.shards)
            if count:
                self._commit(held.manifest.following(()))
        return count

    @allocates
    def upsert(
        self,
        ids: Id | Sequence[Id] | ArrayLike,
        vectors: ArrayLike | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        documents: str | Sequence[str | None] | None = None,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Store records, replacing those whose id exists. All or nothing; durable when it returns.

        A record that is replaced stays where it is in the order of the records: a call writes every shard anew that
        holds some of them. The others come at the end, in new shards, at least one a call, and with them the records
        of the small shards there that hold no more than what comes after them. To store many at a time takes less.

        Args:
            ids, vectors, metadata, documents: as of Collection.upsert()
            progress: progress(done, total), of the records in shards that are written; returning False stops, and
                nothing is stored

        Returns:
            How many were stored: n.

        Raises:
            EdgevecError: as Collection.upsert(), and with missing="report" what is wrong with a shard
            ParameterError: also where an encoder with a name was to make vectors of a collection that was built without
            LockedError: another process writes
            StorageError: the system refuses to write
        """
        return self._store(ids, vectors, metadata, documents, replaces=True, progress=progress)

    @allocates
    def add(
        self,
        ids: Id | Sequence[Id] | ArrayLike,
        vectors: ArrayLike | None = None,
        metadata: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
        documents: str | Sequence[str | None] | None = None,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Store new records, as upsert(), which writes no shard anew but small ones at the end.

        Args:
            ids, vectors, metadata, documents, progress: as of upsert()

        Returns:
            How many were stored: n.

        Raises:
            DuplicateIdError: an id exists already, or comes twice
            EdgevecError: as upsert()
        """
        return self._store(ids, vectors, metadata, documents, replaces=False, progress=progress)

    def _store(
        self, ids: Any, vectors: Any, metadata: Any, documents: Any, *, replaces: bool, progress: Progress | None
    ) -> int:
        new = as_records(ids, metadata, documents)
        with self._empty_part() as part:
            rows = prepared(part, new, vectors)
        if new.ids:
            with self._writing() as held:
                self._commit(
                    with_records(
                        held.folder, held.manifest, held.shards, new, rows, replaces=replaces, progress=progress
                    )
                )
        return len(new.ids)

    @allocates
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
        """Change parts of records that exist; the rest stays as it is. All or nothing; durable when it returns.

        A call writes every shard anew that holds some of them, so change many at a time.

        Args:
            ids, metadata, documents, vectors, where, params: as of Collection.update()
            progress: as of upsert()

        Returns:
            How many were changed: n.

        Raises:
            UnknownIdError: some do not exist; the message names them
            EdgevecError: as Collection.update() and upsert()
        """
        keys, _ = chosen(ids, where, params, UPDATES_ALL)
        with self._empty_part() as part:
            changes = prepared_changes(part, keys, metadata, documents, vectors)
        meant = _finding(keys, where, params)
        with self._writing() as held:
            manifest, count = with_changes(
                held.folder, held.manifest, held.shards, keys, changes, meant=meant, progress=progress
            )
            if count:
                self._commit(manifest)
        return count

    @allocates
    def compact(self, *, progress: Progress | None = None) -> None:
        """Give back the room of deleted records, merge small shards, and remove files that no longer count.

        Shards are written anew of which records were deleted or replaced, and neighbors that are small. Records stay as
        they are, bit for bit, and in their order. Readers go on with the files that they have open.

        Args:
            progress: progress(done, total), of the records in shards that are written; returning False stops

        Raises:
            CorruptCollectionError: a record in one of these shards is damaged
            CancelledError: progress returned False
            EdgevecError: as delete()
        """
        with self._writing() as held:
            manifest = compacted(held.folder, held.manifest, held.shards, progress)
            if manifest is not None:
                self._commit(manifest)
            held.folder.remove_all_but(held.manifest.files())

    @contextmanager
    def _empty_part(self) -> Iterator[Part]:
        """One that checks arguments before the lock is taken: the encoder may be slow, or look into the collection."""
        following = self._following
        following.check()
        following.follow()
        with closing(following.of_nothing(following.manifest)) as part:
            yield part

    @contextmanager
    def _writing(self) -> Iterator[Following]:
        """A block in which nobody else writes, with all shards of the latest manifest open."""
        with self._following.writing():
            yield self._following

    def _commit(self, manifest: CollectionManifest) -> None:
        held = self._following
        held.need_same()
        commit(held.folder, manifest)
        held.follow(again=True, trusted=True)
        remove_old(held.folder, manifest)  # of which this process has none open any more

    # ---- maintenance -----------------------------------------------------------------------------------------------

    def check(self) -> dict[str, CollectionReport]:
        """Verify every shard that is open, as Collection.check().

        Returns:
            What was found, by the name of the shard's file.
        """
        return self._by_file(lambda part: part.collection.check())

    def stats(self) -> dict[str, dict[str, Any]]:
        """Sizes, as Collection.stats(), by the name of the shard's file."""
        return self._by_file(lambda part: part.collection.stats())

    def memory_usage(self) -> dict[str, int]:
        """Bytes of all shards that are open.

        Returns:
            graph; conditions, of the metadata fields that are in memory for them; total, the sum; and on_disk, bytes of
            vectors in files with storage="disk"
        """
        stats = self.stats().values()
        names = {"graph": "memory_bytes", "conditions": "condition_bytes", "on_disk": "disk_bytes"}
        found = {name: sum(each[of_shard] for each in stats) for name, of_shard in names.items()}
        return {**found, "total": found["graph"] + found["conditions"]}

    def _by_file(self, call: Callable[[Part], _Answer]) -> dict[str, _Answer]:
        return self._answer(lambda held, parts: {each.shard.file: call(each.part) for each in held})

    def _each(self, question: Question) -> list[Any]:
        return self._answer(lambda held, parts: [question(part) for part in parts])

    def _need_all(self) -> None:
        self._following.need_all()

    def _answer(self, call: Callable[[tuple[OpenPart, ...], Sequence[Part]], _Answer]) -> _Answer:
        """What a call finds in the shards of one manifest, the latest.

        Args:
            call: call(shards, parts): those that are open, and their parts, at least one: without shards, an empty one
        """
        following = self._following
        following.check()
        for _ in range(_ATTEMPTS):
            following.follow()
            with following.using() as held:
                try:
                    if held:
                        return call(held, [each.part for each in held])
                    following.need_all()
                    with closing(following.of_nothing(following.manifest)) as nothing:
                        return call(held, [nothing])
                except StorageError:
                    # A change or another build may have removed a file that SQLite was to open.
                    if not following.seems_changed():
                        raise
        raise StorageError(f"{following.folder.address}: is changed again and again")


def _finding(ids: list[Id] | None, where: Where | None, params: Sequence[Any] | None) -> Callable[[OpenPart], list[Id]]:
    """Of a shard, the ids that are among these, or of records that satisfy the condition."""
    ordered = None if ids is None else sorted(set(ids), key=key_of)
    return lambda each: each.part.collection.ids(where, params) if ordered is None else each.known(ordered)


def _reopened(address: str, how: dict[str, Any], storage_options: Mapping[str, Any] | None) -> ShardedCollection:
    return ShardedCollection.open(address, storage_options=storage_options, **how)


def parameters_of(
    metric: Metric, quantization: Quantization, M: int, ef_construction: int, dtype: Dtype
) -> dict[str, Any]:
    """Those of a new collection, checked."""
    return checked(
        {
            "metric": metric,
            "quantization": quantization,
            "M": M,
            "ef_construction": ef_construction,
            "dtype": dtype,
        }
    )


def folder_of(address: PathLike, options: Mapping[str, Any] | None = None, *, create: bool = False) -> Folder:
    """As open_folder()."""
    try:
        return open_folder(address, options, create=create)
    except CorruptIndexError as error:
        raise CorruptCollectionError(str(error)) from None
