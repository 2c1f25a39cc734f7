"""ShardedIndex: the shards that a manifest names, searched together by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .._types import CheckReport, KeepVectors, Metric, PathLike, Progress, Quantization, SearchResult, Storage
from .._validation import as_ids, as_int, as_rows, as_storage
from ..errors import ParameterError, UnknownIdError, allocates
from ..id_filter import IdFilter, LatestFilters
from ..index import Index
from .context import ShardContext, ShardStats
from .folders import open_folder
from .following import Following, Missing, as_missing
from .manifest import MANIFEST, Manifest, Settings, Shard, live
from .opened import Opened
from .routing import need_router
from .searching import Helpers, Searcher
from .shards import OpenShard
from .source import open_source
from .writing import added, build, commit, compacted, removed_from

__all__ = ["Missing", "ShardedIndex", "settings_of"]

_MOST_ROWS = 2**32
_COMMITS_KEPT = 16
"""A shard's file stays for so many commits after the one that dropped it, for those who still read its predecessor."""


class ShardedIndex(Opened):
    """An index in several files, searched as one: for data that one machine builds in parts, or cannot hold in memory.

    It lies in a folder: ordinary index files, which never change, and `manifest.json`, which says which of them count.
    What changes the index writes new files, and at the end, in one step, another manifest; so an error, Ctrl-C or a
    power failure at any time leaves what was there before. One process writes at a time. Others that have the index
    open see the new manifest with their next search, or where the folder is no local one, by refresh().

    `open()` and `build()` make one. Any number of threads may use it at once. It is to be closed, by close() or at the
    end of a `with` block: it has files open, and copies of those that are not on this machine.

    Example:
        >>> import numpy as np
        >>> from edgevec import ShardedIndex
        >>> rows = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
        >>> with ShardedIndex.build(rows, "parts", rows_per_shard=400) as index:
        ...     len(index), len(index.shards), index.search(rows[7], k=1).ids.tolist()
        (1000, 3, [7])
        >>> with ShardedIndex.open("parts") as index:
        ...     _ = index.remove([7])
        ...     7 in index, len(index)
        (False, 999)
    """

    def __init__(self) -> None:
        raise TypeError("use ShardedIndex.open() or ShardedIndex.build()")

    # ---- making one ------------------------------------------------------------------------------------------------

    @classmethod
    @allocates
    def build(
        cls,
        source: Any,
        out: PathLike,
        *,
        ids: npt.ArrayLike | None = None,
        rows_per_shard: int = 250_000,
        cluster: bool = False,
        metric: Metric | None = None,
        quantization: Quantization = "sq8",
        M: int = 16,
        ef_construction: int = 200,
        seed: int = 0,
        keep_vectors: KeepVectors = True,
        column: str | None = None,
        limit: int | None = None,
        threads: int = 0,
        progress: Progress | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> ShardedIndex:
        """Build an index, shard by shard, and open it. Memory holds one shard at a time.

        An index that is at the address is replaced when all is done. After an error or Ctrl-C the shards that are
        finished stay, and count for nothing until the same build runs again, which takes them as they are: a shard's
        file is named by a checksum of its rows, ids and parameters, and one of its content.

        Args:
            source: the path of a file that read_vectors() knows, read in pieces, or of a folder of such files, taken in
                the order of their names; or an array [n, dim], which may be mapped (`np.load(..., mmap_mode="r")`)
            out: a folder, which is made where there is none; or an address such as "s3://bucket/items", for which
                fsspec and the library of the service are needed (edgevec[remote])
            ids: int64[n], of an array; None: numbered from 0. Those of files are read.
            rows_per_shard: vectors in a shard, at most
            cluster: put rows into shards by where they are, not in their order, so that searches with nprobe= need ask
                few shards. All rows are written to a temporary folder first, in the folder of the index or, for an
                object store, of this machine; memory holds a sample of them, or one shard. Later additions and
                compactions go on so.
            metric: None: what the file says, else "cosine"
            quantization, M, ef_construction, seed, keep_vectors: of each shard; see Index
            column, limit: as in read_vectors(); the limit is that of all files of a folder
            threads: 0: one per core
            progress: progress(done, total); of folders and of some files the total is an estimate. Returning False
                stops.
            storage_options: for fsspec

        Raises:
            ParameterError: an argument is out of its range
            DataFormatError: the file holds something else
            NotFiniteError, ZeroVectorError: of a vector; the message names the row
            DuplicateIdError: an id comes twice
            CorruptIndexError: there is a manifest.json at the address that is none of ours
            LockedError: another process writes there
            CancelledError: progress returned False
        """
        rows_per_shard = as_int(rows_per_shard, "rows_per_shard", 1, _MOST_ROWS)
        opened = open_source(source, ids, column=column, limit=limit)
        settings = settings_of(
            opened.dim, metric or opened.metric or "cosine", quantization, M, ef_construction, seed, keep_vectors
        )
        folder = open_folder(out, storage_options, create=True)
        threads = as_int(threads, "threads", 0)
        build(folder, opened, settings, rows_per_shard, cluster=bool(cluster), threads=threads, progress=progress)
        return cls.open(out, storage_options=storage_options)

    @classmethod
    @allocates
    def open(
        cls,
        manifest: PathLike,
        *,
        mmap: bool = True,
        verify: bool = True,
        missing: Missing = "error",
        storage: Storage = "memory",
        storage_options: Mapping[str, Any] | None = None,
    ) -> ShardedIndex:
        """Open an index.

        Args:
            manifest: the folder, or the manifest in it; or an address that fsspec knows. Files from there are copied
                to a temporary folder of this machine, which close() removes.
            mmap: map the files, so that memory holds what searches read, and processes share it. False: load them.
            verify: read all files and compare their checksums. False: compare sizes, open at once, and verify a shard
                when it is first changed; see Index.load().
            missing: "report": go on without shards that are missing or damaged. `share` says how much is left, `shards`
                what is wrong; and such an index cannot be changed.
            storage: "disk": in place of mapping the files, load links and codes, and read vectors where searches rank
                them; see Index.load(). Answers are the same, and memory holds no more than that. Every shard is read
                and verified as it is opened.
            storage_options: for fsspec

        Raises:
            ParameterError: storage="disk" of shards without vectors beside codes
            IndexNotFoundError: there is no manifest (a FileNotFoundError)
            CorruptIndexError: a manifest or shard is damaged or something else, or an id is in two shards
            FormatVersionError: written by a newer version of edgevec
            ShardNotFoundError: a shard is not there (a FileNotFoundError)
            StorageError: the system refuses
        """
        missing, storage = as_missing(missing), as_storage(storage)
        folder = open_folder(manifest, storage_options)
        made = cls._of(Following(folder, mmap=mmap, verify=verify, missing=missing, storage=storage))
        made._storage_options = storage_options
        try:
            made._following.follow(first=True)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def _of(cls, following: Following) -> ShardedIndex:
        """An index of the shards that these are."""
        made = cls.__new__(cls)
        made._following = following
        made._storage_options = None
        made._dropped = deque()
        made._filters = LatestFilters()
        made._helpers = Helpers()
        made._searcher = Searcher(made._helpers)
        return made

    _following: Following
    _storage_options: Mapping[str, Any] | None
    _dropped: deque[set[str]]
    """Of shards that no longer count, by the commits of this object, the oldest first."""
    _filters: LatestFilters
    _searcher: Searcher

    def __reduce__(self) -> tuple[Any, ...]:
        held = self._following
        how = {"mmap": held.mmap, "verify": held.verify, "missing": held.missing, "storage": held.storage}
        return _reopened, (held.folder.address, how, self._storage_options)

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def storage(self) -> Storage:
        """ "memory", or "disk" where vectors are read from the files."""
        return self._following.storage

    @property
    def manifest(self) -> Manifest:
        """What was read last."""
        return self._following.manifest

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Those of the manifest."""
        return self.manifest.shards

    @property
    def share(self) -> float:
        """The share of the vectors that searches have before them: 1.0 where no shard is missing."""
        with self._following.using() as held:
            every = live(self.manifest.shards)
            return sum(len(each.index) for each in held) / every if every else 1.0

    def __len__(self) -> int:
        with self._following.using() as held:
            return sum(len(each.index) for each in held)

    def __contains__(self, id: object) -> bool:
        with self._following.using() as held:
            return any(id in each.index for each in held)

    def __iter__(self) -> Iterator[int]:
        """The ids, shard by shard. Changes made meanwhile may or may not be seen."""
        self._following.check()
        for each in self._following.shards:
            yield from each.index

    def __repr__(self) -> str:
        if self.closed:
            return "<closed ShardedIndex>"
        return f"ShardedIndex({len(self)} x {self.dim}, {self.metric!r}, {len(self.shards)} shards)"

    @allocates
    def get(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The vectors of these ids, as Index.get().

        Returns:
            float32[n, dim]

        Raises:
            UnknownIdError: an id is not held (a KeyError)
            ShardNotFoundError: it may be in a shard that is missing
        """
        wanted = as_ids(ids, "ids")
        out = np.empty((len(wanted), self.dim), np.float32)
        with self._following.using() as shards:
            left = np.ones(len(wanted), np.bool_)
            for each in shards:
                held = each.held(wanted) & left
                if held.any():
                    out[held] = each.index.get(wanted[held])
                    left &= ~held
        if left.any():
            self._following.need_all()
            raise UnknownIdError(f"no such id: id {wanted[left][0]}")
        return out

    # ---- search ----------------------------------------------------------------------------------------------------

    @allocates
    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        ef: int | None = None,
        filter: IdFilter | npt.ArrayLike | None = None,
        exact: bool = False,
        recall: float | None = None,
        threads: int = 0,
        context: ShardContext | None = None,
        nprobe: int | None = None,
    ) -> SearchResult:
        """The k nearest vectors of each query in all shards, as Index.search().

        Every shard is asked for its k nearest, and the results are merged by (distance, id). With exact=True these are
        the k nearest of all; vectors in different shards whose float32 distances differ by a rounding error may be in
        either order. With recall, each shard measures for itself which ef finds that share of its k nearest.

        Args:
            queries: [dim] or [n, dim]
            k: neighbors wanted, at least 1
            ef: candidates that each shard keeps
            filter: allowed ids, or an IdFilter
            exact: compare with every vector
            recall: in place of ef: the share of the k nearest to be found on average
            threads: 0, one per core; 1, the calling thread. A single query is asked of several shards at a time, with 0
                only where that is worth it by what such a search last took.
            context: a ShardContext of this index, for one thread at a time
            nprobe: of an index that was built with cluster=True: shards that each query is asked of, those with the
                centroid that is nearest, or by inner product largest. None: all. Results are those of these shards,
                also with `exact` and `recall`, and with a filter there may be fewer than k.

        Returns:
            ids, int64, and distances, float32, nearest first. For one query [found]: as many as there are, at most k.
            For a batch [n, min(k, len(index))], padded with id -1 and distance inf.

        Raises:
            ParameterError: nprobe of an index without centroids
            EdgevecError: as Index.search(), and where there is a new manifest as refresh()
        """
        self._following.check()
        self._following.follow()
        return self._search(
            queries,
            k,
            ef=ef,
            filter=filter,
            exact=exact,
            recall=recall,
            threads=threads,
            context=context,
            nprobe=nprobe,
        )

    def _search(
        self,
        queries: Any,
        k: int,
        *,
        ef: int | None = None,
        filter: IdFilter | npt.ArrayLike | None = None,
        exact: bool = False,
        recall: float | None = None,
        threads: int = 0,
        context: ShardContext | None = None,
        nprobe: int | None = None,
        asked: npt.NDArray[np.bool_] | None = None,
    ) -> SearchResult:
        """search() by the manifest that is held.

        Args:
            asked: in place of nprobe: which query is asked of which shard of the manifest, bool[n, shards]
        """
        rows = as_rows(queries, self.dim, "queries")
        k, threads = as_int(k, "k", 1), as_int(threads, "threads", 0)
        if context is not None and context.index is not self:
            raise ParameterError("the context is of another index")
        allowed = None if filter is None else self._filters.kept(filter)
        following = self._following
        with following.using() as held:
            if nprobe is not None:
                asked = need_router(following.router, following.folder.where(MANIFEST)).asked(
                    rows.reshape(-1, self.dim), as_int(nprobe, "nprobe", 1)
                )
            of_held = None if asked is None else asked[:, self._columns(held)]
            if context is not None:
                context.keep({each.index for each in held})

            def ask(index: Index, some: npt.NDArray[np.float32], threads: int) -> SearchResult:
                of_shard = None if context is None or not held else context.of(index)
                return index.search(
                    some, k, ef=ef, filter=allowed, exact=exact, recall=recall, threads=threads, context=of_shard
                )

            kind = exact, allowed is not None
            result = self._searcher.search(ask, rows, held, of_held, k, threads, kind, self.metric)
            if context is not None:
                count = 1 if rows.ndim == 1 else len(rows)
                counts = [count] * len(self.shards) if asked is None else asked.sum(axis=0).tolist()
                context.stats = tuple(self._stats(context, held, counts))
        return result

    def _columns(self, held: tuple[OpenShard, ...]) -> list[int]:
        """Which shards of the manifest these are."""
        if len(held) == len(self.shards):
            return list(range(len(held)))
        columns = {shard.file: column for column, shard in enumerate(self.shards)}
        return [columns[each.shard.file] for each in held]

    def _stats(self, context: ShardContext, held: tuple[OpenShard, ...], counts: Sequence[int]) -> Iterator[ShardStats]:
        open_ = {each.shard.file: each.index for each in held}
        for shard, count in zip(self.shards, counts, strict=True):
            index = open_.get(shard.file)
            if index is None:
                problem = str(self._following.problems.get(shard.file))
                yield ShardStats(shard.file, shard.live, None, problem, count)
            else:
                stats = context.of(index).stats if count else None
                yield ShardStats(shard.file, len(index), stats, None, count)

    def check(self) -> dict[str, CheckReport]:
        """Verify links, codes and ids of every shard that is open, as Index.check().

        Returns:
            What was counted, by the name of the shard's file. Vectors of it that are removed count as such.
        """
        with self._following.using() as held:
            return {each.shard.file: each.index.check() for each in held}

    def memory_usage(self) -> dict[str, int]:
        """Bytes allocated, slack included, of all shards that are open: each the sum of Index.memory_usage().

        Returns:
            vectors, codes, links, upper_links, ids, other and total; mapped, how many of these lie in mapped files; and
            on_disk, bytes of vectors in files with storage="disk", which total leaves out
        """
        with self._following.using() as held:
            each_shard = [each.index.memory_usage() for each in held]
        names = ("vectors", "codes", "links", "upper_links", "ids", "other", "total", "mapped", "on_disk")
        return {name: sum(each[name] for each in each_shard) for name in names}

    # ---- changes ---------------------------------------------------------------------------------------------------

    @allocates
    def add(
        self, vectors: Any, ids: npt.ArrayLike | None = None, *, threads: int = 0, progress: Progress | None = None
    ) -> npt.NDArray[np.int64]:
        """Insert vectors, or replace those whose id exists, as Index.add(). Durable when it returns.

        They go into new shards, at least one a call, and with them the small shards at the end that are no larger than
        what comes after them, unless the index was built with cluster=True or keeps no vectors: then compact() merges
        them. To add many at a time takes less.

        Args:
            vectors: [n, dim] or [dim]
            ids: int64[n], none of them -1. None: numbered on from the highest id ever held.
            threads: 0: one per core
            progress: progress(done, total); returning False stops

        Returns:
            The ids of the vectors, int64[n].

        Raises:
            EdgevecError: as Index.add(); and with missing="report" what is wrong with a shard
            LockedError: another process writes, or in an object store has written meanwhile
            BusyError: in a progress function of another change
        """
        rows = as_rows(vectors, self.dim, "vectors").reshape(-1, self.dim)
        given = None if ids is None else as_ids(ids, "ids", to_keep=True)
        if given is not None and given.size != len(rows):
            raise ParameterError(f"{len(rows)} vectors but {given.size} ids")
        threads = as_int(threads, "threads", 0)
        if not len(rows):
            return np.empty(0, np.int64)
        with self._writing() as held:
            manifest, out = added(
                held.folder, held.manifest, held.shards, rows, given, threads=threads, progress=progress
            )
            self._commit(manifest)
        return out

    @allocates
    def remove(self, ids: npt.ArrayLike) -> int:
        """Remove the vectors of these ids. Durable when it returns; their room is given back by compact().

        Args:
            ids: int64[n]; those that are not held are skipped

        Returns:
            How many were held.
        """
        wanted = as_ids(ids, "ids", ordered=False)
        with self._writing() as held:
            shards, count = removed_from(held.folder, held.shards, wanted)
            if count:
                self._commit(held.manifest.following(shards, held.manifest.next_id))
        return count

    @allocates
    def compact(self, *, progress: Progress | None = None) -> None:
        """Write anew the shards that hold removed vectors, merge small ones, and remove files that no longer count.

        Vectors are those that get() returns, so where an Index does not keep them bit for bit each time may add as
        much, as by Index.compact(). Readers go on with the files that they have open.
        """
        with self._writing() as held:
            manifest = compacted(held.folder, held.manifest, held.shards, progress)
            if manifest is not None:
                self._commit(manifest)
            held.folder.remove_all_but(held.manifest.files())

    @contextmanager
    def _writing(self) -> Iterator[Following]:
        """A block in which nobody else writes, with all shards of the latest manifest open."""
        held = self._following
        with held.writing():
            yield held

    def _commit(self, manifest: Manifest) -> None:
        held = self._following
        before = held.manifest.files()
        held.need_same()
        commit(held.folder, manifest)
        held.follow(again=True, trusted=True)
        if held.folder.is_local:  # each removal writes such a file, and each addition may merge shards
            dropped = before - manifest.files()
            lists = {file for file in dropped if file.endswith(".removed")}
            self._dropped.append(dropped - lists)
            late = self._dropped.popleft() if len(self._dropped) > _COMMITS_KEPT else set()
            for file in lists | late - manifest.files():
                held.folder.remove(file)


def settings_of(
    dim: int,
    metric: Metric,
    quantization: Quantization,
    M: int,
    ef_construction: int,
    seed: int,
    keep_vectors: KeepVectors,
) -> Settings:
    """Checked by an index of them."""
    options: dict[str, Any] = {"M": M, "ef_construction": ef_construction, "seed": seed}
    with Index(dim, metric, quantization=quantization, keep_vectors=keep_vectors, **options) as index:
        kept: KeepVectors = keep_vectors if isinstance(keep_vectors, str) else bool(keep_vectors)
        return Settings(dim, metric, quantization, index.M, index.ef_construction, index.seed, kept)


def _reopened(manifest: str, how: dict[str, Any], storage_options: Mapping[str, Any] | None) -> ShardedIndex:
    return ShardedIndex.open(manifest, storage_options=storage_options, **how)
