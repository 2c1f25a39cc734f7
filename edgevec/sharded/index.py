"""ShardedIndex: the shards that a manifest names, searched together by threads."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .._types import KeepVectors, Metric, PathLike, Progress, Quantization, SearchResult
from .._validation import as_ids, as_int, as_rows
from ..errors import (
    ClosedError,
    DataNotFoundError,
    EdgevecError,
    IndexNotFoundError,
    OutOfMemoryError,
    ParameterError,
    ShardNotFoundError,
    UnknownIdError,
    about_file,
    allocates,
)
from ..id_filter import IdFilter, LatestFilters
from ..index import Index
from .context import ShardContext, ShardStats
from .folders import Folder, open_folder
from .gate import Gate
from .manifest import MANIFEST, Manifest, Settings, Shard, live
from .merging import merge
from .shards import OpenShard, open_shard, read_removed
from .source import open_source
from .writing import added, build, commit, compacted, read_manifest, refuse_repeated_open, removed_from

__all__ = ["Missing", "ShardedIndex", "settings_of"]

Missing = Literal["error", "report"]
_MOST_ROWS = 2**32


class ShardedIndex:
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

    _folder: Folder
    _manifest: Manifest

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
            source: the path of a file that read_vectors() knows, read in pieces; or an array [n, dim], which may be
                mapped (`np.load(..., mmap_mode="r")`)
            out: a folder, which is made where there is none; or an address such as "s3://bucket/items", for which
                fsspec and the library of the service are needed (edgevec[remote])
            ids: int64[n], of an array; None: numbered from 0. Those of a file are read.
            rows_per_shard: vectors in a shard, at most
            metric: None: what the file says, else "cosine"
            quantization, M, ef_construction, seed, keep_vectors: of each shard; see Index
            column, limit: as in read_vectors()
            threads: 0: one per core
            progress: progress(done, total); of some files the total is an estimate. Returning False stops.
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
        build(folder, opened, settings, rows_per_shard, threads=as_int(threads, "threads", 0), progress=progress)
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
            storage_options: for fsspec

        Raises:
            IndexNotFoundError: there is no manifest (a FileNotFoundError)
            CorruptIndexError: a manifest or shard is damaged or something else, or an id is in two shards
            FormatVersionError: written by a newer version of edgevec
            ShardNotFoundError: a shard is not there (a FileNotFoundError)
            StorageError: the system refuses
        """
        if missing not in ("error", "report"):
            raise ParameterError(f'missing must be "error" or "report", not {missing!r:.40}')
        folder = open_folder(manifest, storage_options)
        made = cls.__new__(cls)
        made._set_up(folder, (os.fspath(manifest), mmap, verify, missing, storage_options))
        try:
            made._follow(first=True)
        except BaseException:
            made.close()
            raise
        return made

    @classmethod
    def _of(
        cls, address: str, manifest: Manifest, mmap: bool, verify: bool, options: Mapping[str, Any] | None
    ) -> ShardedIndex:
        """An index of the shards of this manifest, whatever the one at the address says; see hold()."""
        made = cls.__new__(cls)
        made._set_up(open_folder(address, options), (address, mmap, verify, "report", options))
        made._follows = False
        made._hold(manifest)
        return made

    def _hold(self, manifest: Manifest) -> None:
        """Have the shards of another manifest open, which is known to have no id twice."""
        with self._changing:
            self._take(manifest, None, trusted=True)

    def _set_up(self, folder: Folder, options: tuple[str, bool, bool, Missing, Mapping[str, Any] | None]) -> None:
        self._folder, self._options = folder, options
        _, self._mmap, self._verify, self._missing, _ = options
        self._gate, self._changing = Gate(), threading.RLock()
        self._open: tuple[OpenShard, ...] = ()
        self._problems: dict[str, EdgevecError] = {}
        self._stamp: object = None
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._filters = LatestFilters()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._empty: Index | None = None
        self._closed, self._follows = False, True

    def close(self) -> None:
        """Close all shards, once the searches of other threads have ended. Closing again does nothing."""
        with self._gate.alone():
            self._closed = True
            for each in self._open:
                each.index.close()
            self._open = ()
            if self._pool is not None and self._pool[0] == os.getpid():
                self._pool[1].shutdown()
            self._pool = None
            if self._copies is not None:
                with suppress(OSError):  # Windows, where a file that is mapped stays
                    self._copies.cleanup()
                self._copies = None

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __enter__(self) -> ShardedIndex:
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, self._options

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the index was closed")

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self._manifest.settings.dim

    @property
    def metric(self) -> Metric:
        """ "cosine", "ip" or "l2"."""
        return self._manifest.settings.metric

    @property
    def manifest(self) -> Manifest:
        """What was read last."""
        return self._manifest

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Those of the manifest."""
        return self._manifest.shards

    @property
    def problems(self) -> dict[str, EdgevecError]:
        """With missing="report": why the shards of these files are not searched."""
        return dict(self._problems)

    @property
    def share(self) -> float:
        """The share of the vectors that searches have before them: 1.0 where no shard is missing."""
        every = live(self._manifest.shards)
        return sum(len(each.index) for each in self._open) / every if every else 1.0

    def __len__(self) -> int:
        with self._gate.shared():
            self._check_open()
            return sum(len(each.index) for each in self._open)

    def __contains__(self, id: object) -> bool:
        with self._gate.shared():
            self._check_open()
            return any(id in each.index for each in self._open)

    def __iter__(self) -> Iterator[int]:
        """The ids, shard by shard. Changes made meanwhile may or may not be seen."""
        self._check_open()
        for each in self._open:
            yield from each.index

    def __repr__(self) -> str:
        if self._closed:
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
        with self._gate.shared():
            self._check_open()
            left = np.ones(len(wanted), np.bool_)
            for each in self._open:
                held = each.held(wanted) & left
                if held.any():
                    out[held] = each.index.get(wanted[held])
                    left &= ~held
        if left.any():
            self._need_all()
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
            threads: 0, one per core; 1, the calling thread. A single query is asked of several shards at a time.
            context: a ShardContext of this index, for one thread at a time

        Returns:
            ids, int64, and distances, float32, nearest first. For one query [found]: as many as there are, at most k.
            For a batch [n, min(k, len(index))], padded with id -1 and distance inf.

        Raises:
            Those of Index.search(), and with a new manifest those of refresh().
        """
        self._check_open()
        self._follow()
        rows = as_rows(queries, self.dim, "queries")
        k, threads = as_int(k, "k", 1), as_int(threads, "threads", 0)
        if context is not None and context.index is not self:
            raise ParameterError("the context is of another index")
        allowed = None if filter is None else self._filters.kept(filter)
        with self._gate.shared():
            self._check_open()
            held = self._open
            if context is not None:
                context.keep({each.index for each in held})

            def ask(index: Index, threads: int) -> SearchResult:
                of_shard = None if context is None else context.of(index)
                return index.search(
                    rows, k, ef=ef, filter=allowed, exact=exact, recall=recall, threads=threads, context=of_shard
                )

            if not held:
                result = ask(self._nothing(), 1)
            elif rows.ndim == 2:  # all cores are busy with one shard after the other
                result = merge((ask(each.index, threads) for each in held), k)
            else:
                result = merge(self._side_by_side(ask, held, threads), k)
            if context is not None:
                context.stats = tuple(self._stats(context))
        return result

    def _side_by_side(self, ask: Any, held: tuple[OpenShard, ...], threads: int) -> Iterable[SearchResult]:
        """One query, of which each thread asks some shards; the calling one among them."""
        count = min(len(held), threads or os.cpu_count() or 1)
        if count == 1:
            return (ask(each.index, 1) for each in held)

        def some(start: int) -> list[SearchResult]:
            return [ask(each.index, 1) for each in held[start::count]]

        others = [self._threads().submit(some, start) for start in range(1, count)]
        try:
            mine = some(0)
        finally:
            for other in others:  # also after an error: nothing goes on behind the caller's back
                other.exception()
        return [*mine, *(result for other in others for result in other.result())]

    def _threads(self) -> ThreadPoolExecutor:
        """A forked process has the threads of its parent no more."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(os.cpu_count() or 1, "edgevec-shards")
        return self._pool[1]

    def _nothing(self) -> Index:
        if self._empty is None:
            self._empty = Index(self.dim, self.metric)
        return self._empty

    def _stats(self, context: ShardContext) -> Iterator[ShardStats]:
        open_ = {each.shard.file: each.index for each in self._open}
        for shard in self._manifest.shards:
            index = open_.get(shard.file)
            if index is None:
                yield ShardStats(shard.file, shard.live, None, str(self._problems.get(shard.file)))
            else:
                yield ShardStats(shard.file, len(index), context.of(index).stats, None)

    # ---- following -------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take in what other processes have written since. In a local folder each search does so by itself.

        Returns:
            Whether there was anything.

        Raises:
            Those of open(). The index then is as it was before.
        """
        self._check_open()
        with self._changing:
            before = self._manifest
            self._follow(again=True)
            return self._manifest is not before

    def _follow(self, *, first: bool = False, again: bool = False, trusted: bool = False) -> None:
        if not first and not again and not self._seems_changed():
            return
        with self._changing:
            self._check_open()
            attempts = 3
            while True:
                stamp, manifest = self._read()
                if not first and manifest == self._manifest:
                    self._stamp = stamp
                    return
                try:
                    return self._take(manifest, stamp, trusted)
                except ShardNotFoundError:  # a compaction may have removed it since the manifest was read
                    attempts -= 1
                    if not attempts or self._read()[1] == manifest:
                        raise

    def _seems_changed(self) -> bool:
        if not self._folder.is_local or not self._follows:
            return False
        try:
            return self._folder.stamp() != self._stamp
        except DataNotFoundError:
            return True

    def _read(self) -> tuple[object, Manifest]:
        try:
            stamp = self._folder.stamp()  # before the content: what changes between the two is seen the next time
            return stamp, read_manifest(self._folder)
        except DataNotFoundError as error:
            where = self._folder.where(MANIFEST)
            raise about_file(IndexNotFoundError(f"{where}: no such manifest of shards"), where, error.errno) from error

    def _take(self, manifest: Manifest, stamp: object, trusted: bool) -> None:
        """Have the shards of a manifest open: all or nothing. Trusted: no id is in two of them."""
        kept = {each.shard.file: each for each in self._open}
        before = self._manifest.settings if self._open else manifest.settings
        new: list[OpenShard] = []
        more: list[tuple[OpenShard, Shard, npt.NDArray[np.int64]]] = []
        held: list[OpenShard] = []
        problems: dict[str, EdgevecError] = {}
        try:
            for shard in manifest.shards:
                try:
                    each = kept.get(shard.file) if before == manifest.settings else None
                    if each is not None and each.shard.removed != shard.removed:
                        removed = read_removed(self._folder, shard)
                        each.verify()
                        if np.isin(each.removed, removed).all():
                            more.append((each, shard, removed))
                        else:
                            each = None  # some of them are there again
                    if each is None:
                        each = self._opened(shard, manifest.settings)
                        new.append(each)
                    held.append(each)
                except EdgevecError as error:
                    problem = error
                    if isinstance(error, DataNotFoundError):
                        where = self._folder.where(shard.file)
                        problem = about_file(ShardNotFoundError(str(error)), where, error.errno)
                    if self._missing == "error" or isinstance(error, OutOfMemoryError):
                        raise problem from None
                    problems[shard.file] = problem.with_traceback(None)
            if self._verify and not trusted:
                gone_soon = {each.shard.file: removed for each, _, removed in more}
                refuse_repeated_open(new, held, gone_soon, self._folder.where(MANIFEST))
        except BaseException:
            for each in new:
                each.index.close()
            raise
        with self._gate.alone():
            gone = [each for each in self._open if each not in held]
            for each, shard, removed in more:
                each.remove(shard, removed)
            self._open, self._problems, self._empty = tuple(held), problems, None
            self._manifest, self._stamp = manifest, stamp
        for each in gone:  # not closed, as somebody may be iterating over it
            if not self._folder.is_local and self._copies is not None:
                with suppress(OSError):  # Windows, where a file that is mapped stays
                    Path(self._copies.name, each.shard.file).unlink()

    def _opened(self, shard: Shard, settings: Settings) -> OpenShard:
        if self._copies is None and not self._folder.is_local:
            self._copies = tempfile.TemporaryDirectory(prefix="edgevec-")
        copies = Path(self._copies.name if self._copies else ".")
        return open_shard(self._folder, shard, settings, copies, mmap=self._mmap, verify=self._verify)

    def _need_all(self) -> None:
        for error in self._problems.values():
            raise error

    # ---- changes ---------------------------------------------------------------------------------------------------

    @allocates
    def add(
        self, vectors: Any, ids: npt.ArrayLike | None = None, *, threads: int = 0, progress: Progress | None = None
    ) -> npt.NDArray[np.int64]:
        """Insert vectors, or replace those whose id exists, as Index.add(). Durable when it returns.

        They go into new shards, at least one a call; compact() merges small ones. So add many at a time.

        Args:
            vectors: [n, dim] or [dim]
            ids: int64[n], none of them -1. None: numbered on from the highest id ever held.
            threads: 0: one per core
            progress: progress(done, total); returning False stops

        Returns:
            The ids of the vectors, int64[n].

        Raises:
            Those of Index.add(); LockedError: another process writes; ShardNotFoundError and other errors of shards
            that are missing, with missing="report".
        """
        rows = as_rows(vectors, self.dim, "vectors").reshape(-1, self.dim)
        given = None if ids is None else as_ids(ids, "ids", to_keep=True)
        if given is not None and given.size != len(rows):
            raise ParameterError(f"{len(rows)} vectors but {given.size} ids")
        threads = as_int(threads, "threads", 0)
        if not len(rows):
            return np.empty(0, np.int64)
        with self._changing, self._folder.writing():
            self._prepare()
            manifest, out = added(
                self._folder, self._manifest, self._open, rows, given, threads=threads, progress=progress
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
        wanted = as_ids(ids, "ids")
        with self._changing, self._folder.writing():
            self._prepare()
            shards, count = removed_from(self._folder, self._open, wanted)
            if count:
                self._commit(self._manifest.following(shards, self._manifest.next_id))
        return count

    @allocates
    def compact(self, *, progress: Progress | None = None) -> None:
        """Write anew the shards that hold removed vectors, merge small ones, and remove files that no longer count.

        Vectors are those that get() returns, so where an Index does not keep them bit for bit each time may add as
        much, as by Index.compact(). Readers go on with the files that they have open.
        """
        with self._changing, self._folder.writing():
            self._prepare()
            manifest = compacted(self._folder, self._manifest, self._open, progress)
            if manifest is not None:
                self._commit(manifest)
            self._folder.remove_all_but(self._manifest.files())

    def _prepare(self) -> None:
        """See the latest manifest, all of it."""
        self._check_open()
        self._follow(again=True)
        self._need_all()

    def _commit(self, manifest: Manifest) -> None:
        commit(self._folder, manifest)
        self._follow(again=True, trusted=True)


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


def _reopened(
    manifest: str, mmap: bool, verify: bool, missing: Missing, storage_options: Mapping[str, Any] | None
) -> ShardedIndex:
    return ShardedIndex.open(manifest, mmap=mmap, verify=verify, missing=missing, storage_options=storage_options)
