"""The index: vectors under integer ids, searched by HNSW or exactly, in full precision or on 8-bit and 1-bit codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevec._native import CLOSED, NativeContext, NativeIndex
from edgevec._types import (
    CheckReport,
    KeepVectors,
    Metric,
    PathLike,
    Progress,
    Quantization,
    SearchResult,
    SearchStats,
    Storage,
)
from edgevec._validation import as_ids, as_int, as_rows
from edgevec.calibration import Calibration, Calibrator, as_recall
from edgevec.errors import ParameterError, allocates
from edgevec.id_filter import IdFilter, LatestFilters

__all__ = [
    "CheckReport",
    "IdFilter",
    "Index",
    "KeepVectors",
    "Metric",
    "Quantization",
    "SearchContext",
    "SearchResult",
    "SearchStats",
    "Storage",
]

_DEFAULT_EF = 64
_MOST_BYTES = 2**63 - 1
_MANY_RESULTS = 256
"""For more, the room that a query's results take is first held against what there is to find."""


class SearchContext:
    """Scratch memory for a thread that searches one index in a loop, and the statistics of its last search.

    One search at a time may use a context; a second one, from another thread, raises BusyError. Threads that search at
    the same time need one each, or none: the index then lends them one.

    Args:
        index: the one that is searched with it, and no other

    Raises:
        OutOfMemoryError: there is no room for it

    Example:
        >>> from edgevec import Index, SearchContext
        >>> index = Index(2)
        >>> _ = index.add([[1, 0], [0, 1], [1, 1]])
        >>> context = SearchContext(index)
        >>> _ = index.search([0, 1], k=1, context=context)
        >>> context.stats.queries
        1
    """

    @allocates
    def __init__(self, index: Index) -> None:
        self._index = index  # keeps it alive
        self._native = NativeContext(index._native)

    @property
    def stats(self) -> SearchStats:
        """Statistics of the last search that used this context and has ended: of one query, or with threads=1."""
        return self._native.stats()

    def cost(self) -> tuple[str, int, int]:
        """The cost of that search, in a fraction of the time that `stats` takes.

        Returns:
            strategy, visited and distances, as in SearchStats
        """
        return self._native.cost()


class Index:
    """Nearest-neighbor search over float32 vectors under int64 ids that the caller chooses.

    Any number of threads may search at once. A call that changes the index waits for running searches and holds new
    ones back until it returns. Its progress callback may ask the index for its length, whether it holds an id, its
    parameters, stats() and memory_usage(), and is told what held before the call; any other call from there raises
    BusyError, and a callback that waits for another thread that uses the index waits for ever. The GIL is released in
    all calls.
    Bad input is refused before anything changes: ParameterError and its kin are ValueErrors, UnknownIdError is a
    KeyError, OutOfMemoryError a MemoryError.
    An index needs no closing; close(), or the end of a `with` block, gives back its memory and its mapped file at
    once. Whatever is asked of it afterwards raises ClosedError.

    Args:
        dim: dimensions of a vector, 1..65535
        metric: "cosine" (1 - cos; vectors are scaled to unit length, zero vectors refused), "ip" (1 - dot product) or
            "l2" (squared Euclidean distance). For all of them a lower distance is closer.
        quantization: "none": the graph is searched on float32 vectors. "sq8": on 8-bit codes, a quarter of the memory
            traffic. "binary": on 1-bit codes of centered, randomly rotated vectors (RaBitQ, Gao and Long, 2024); up
            to 32 dimensions on 8-bit codes, which are smaller than a useful 1-bit code.
        M: links per node on the upper levels, twice as many on the lowest (HNSW, Malkov and Yashunin, 2016); 2..256
        ef_construction: candidates considered when a node is linked, 1..65535: more is slower to build and finds more
        seed: of levels and rotation. The same seed, input and threads=1 give the same file, byte for byte; for
            "sq8" and "binary" on every instruction set, unless codes cannot be searched on (stats()["walk"]).
        keep_vectors: True: the vectors stay beside the codes, results are re-ranked by them and distances are exact
            to float32 rounding. Beside 8-bit codes they take 2 bytes a dimension and are held to 24 bits: each
            coordinate within max|x - center| / 8,323,072 (2^-23) of what was given, where center is the mean of the
            vectors without far outliers; each time the center is learned anew, as the index grows or by compact(),
            may add as much. Numbers of few digits mostly come back as they were. "float32": bit for bit as given, in
            4 bytes a dimension, as they always are for "none" and for 1-bit codes. False: codes only, and distances
            are their best estimate.
        memory_limit: bytes that the index may take, or None. What would take more raises MemoryLimitError and changes
            nothing; see the property of that name.
        storage: "memory", or "disk": links and codes are in memory, and the vectors that are kept beside the codes in a
            file, from which searches read those that they rank: some 2 k + 16 with "sq8", ef with "binary". The
            answers are the same. What is added goes to a scratch file without a name, which ends with the index, in
            the folder that TMPDIR names, or /var/tmp; from save() on vectors are read from the file that it wrote. See
            load(). Not for "none", and not with keep_vectors=False.

    Raises:
        ParameterError: an argument is out of its range, or storage="disk" has nothing to keep on disk
        StorageError: the vectors on disk cannot be read or written (an OSError), here and in all calls that need them
        SimdError: EDGEVEC_SIMD names an instruction set that is unavailable
        OutOfMemoryError: there is no room for it

    Example:
        >>> from edgevec import Index
        >>> index = Index(2, "l2")
        >>> index.add([[0, 0], [3, 4], [6, 8]], ids=[10, 20, 30])
        array([10, 20, 30])
        >>> found = index.search([3, 3], k=2)
        >>> found.ids
        array([20, 10])
        >>> found.distances.round(2)
        array([ 1., 18.], dtype=float32)
    """

    @allocates
    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        *,
        quantization: Quantization = "sq8",
        M: int = 16,
        ef_construction: int = 200,
        seed: int = 0,
        keep_vectors: KeepVectors = True,
        memory_limit: int | None = None,
        storage: Storage = "memory",
    ) -> None:
        limit = _as_limit(memory_limit)
        native = NativeIndex.new(
            as_int(dim, "dim", 1, 65535),
            metric,
            quantization,
            as_int(M, "M", 2, 256),
            as_int(ef_construction, "ef_construction", 1, 65535),
            _DEFAULT_EF,
            keep_vectors,
            as_int(seed, "seed", 0, 2**64 - 1),
            storage,
        )
        native.set_memory_limit(limit)
        self._adopt(native)

    def _adopt(self, native: NativeIndex) -> None:
        self._native = native
        self._dim = native.dim
        self._calibrator = Calibrator()
        self._filters = LatestFilters()

    # ---- its end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back the memory and the mapped file, once the calls of other threads on the index have ended.

        What is asked of it afterwards, by any thread, raises ClosedError; closing again does nothing. Nothing is saved.

        Raises:
            BusyError: called from a progress function of the same index

        Example:
            >>> from edgevec import Index
            >>> with Index(2) as index:
            ...     _ = index.add([[1, 0], [0, 1]])
            ...     len(index)
            2
            >>> index.closed
            True
        """
        self._native.close()
        self._native = CLOSED
        self._filters = LatestFilters()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._native is CLOSED

    def __enter__(self) -> Index:
        _ = self._native.dim  # a closed one is refused
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self._native.dim

    @property
    def metric(self) -> Metric:
        """ "cosine", "ip" or "l2"."""
        return self._native.metric

    @property
    def quantization(self) -> Quantization:
        """ "none", "sq8" or "binary"."""
        return self._native.quantization

    @property
    def M(self) -> int:
        """Links per node on the upper levels; twice as many on the lowest."""
        return self._native.params.M

    @property
    def ef_construction(self) -> int:
        """Candidates considered when a node is linked."""
        return self._native.params.ef_construction

    @property
    def seed(self) -> int:
        """Of levels and rotation."""
        return self._native.params.seed

    @property
    def keep_vectors(self) -> KeepVectors:
        """False, True or "float32"; True also where float32 is the only way to keep them."""
        return self._native.keep_vectors

    @property
    def storage(self) -> Storage:
        """ "memory", or "disk" where what is kept of the vectors lies in files."""
        return self._native.storage

    @property
    def ef(self) -> int:
        """Candidates kept by searches that name no ef of their own, 1..1,000,000: more is slower and finds more.

        64 at first; it can be set.
        """
        return self._native.ef

    @ef.setter
    def ef(self, ef: int) -> None:
        self._native.set_ef(as_int(ef, "ef", 1, 1_000_000))

    @property
    def memory_limit(self) -> int | None:
        """Bytes that the index may take in memory; None: any number. It can be set, raised and lowered.

        An add() that would not leave room for itself and for one search is refused before anything changes, with
        MemoryLimitError, a MemoryError. So is whatever else would take more: a batch is searched by fewer threads,
        and codes are fitted to the vectors later, where that is all it takes. Below what is held already, the index
        cannot grow, and there is room for one search at a time all the same.

        Counted is what is allocated for the index, as memory_usage()["held"] has it: with the buffers of searches,
        contexts, and the vectors that a filter allows. Not counted are arrays that are given to it and returned, the
        ids of an IdFilter, a mapped file (`mmap=True`), the stacks of threads, and the few bytes that the system adds
        to a block. The limit is of this object: files have none, nor does a copy or what was pickled.

        Example:
            >>> import numpy as np
            >>> from edgevec import Index, MemoryLimitError
            >>> index = Index(64, memory_limit=1_000_000)
            >>> try:
            ...     _ = index.add(np.random.default_rng(0).standard_normal((10_000, 64)))
            ... except MemoryLimitError:
            ...     print(len(index), "are held")
            0 are held
            >>> index.memory_limit = None
        """
        return self._native.memory_usage()["limit"] or None

    @memory_limit.setter
    def memory_limit(self, memory_limit: int | None) -> None:
        self._native.set_memory_limit(_as_limit(memory_limit))

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, id: object) -> bool:
        try:
            wanted = as_int(id, "id", -(2**63), 2**63 - 1)
        except ParameterError:
            return False
        return wanted in self._native

    def __iter__(self) -> Iterator[int]:
        """The ids, in storage order. Changes made meanwhile may or may not be seen."""
        return self._native.ids()

    def __repr__(self) -> str:
        if self.closed:
            return "<closed Index>"
        return (
            f"Index({len(self)} x {self.dim}, {self.metric!r}, quantization={self.quantization!r}, M={self.M}, "
            f"ef_construction={self.ef_construction}, ef={self.ef}, keep_vectors={self.keep_vectors!r}"
            + (")" if self.storage == "memory" else f", storage={self.storage!r})")
        )

    # ---- content ---------------------------------------------------------------------------------------------------

    @allocates
    def add(
        self,
        vectors: Any,
        ids: npt.ArrayLike | None = None,
        *,
        threads: int = 0,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.int64]:
        """Insert vectors, or replace those whose id exists.

        All or nothing: after an error, a stop or Ctrl-C the index holds what it held. Ctrl-C that comes while the graph
        is mended or led around what was replaced, after the vectors were taken in, ends that, and all of them are held.

        Args:
            vectors: [n, dim] or [dim]: an array of any real dtype, a buffer, a DLPack tensor, lists, or a column of
                vectors as pandas and Arrow have it
            ids: int64[n], none of them -1. None: numbered on from the highest id ever held.
            threads: 0: one per core. 1: deterministic.
            progress: progress(done, total), about twenty times a second; returning False stops

        Returns:
            The ids of the vectors, int64[n].

        Raises:
            ParameterError: the shape, dtype or number of vectors or ids is wrong
            NotFiniteError: a vector holds NaN or infinity, or its square overflows float32; the message names the row
            ZeroVectorError: a zero vector under cosine; the message names the row
            DuplicateIdError: an id comes twice
            CancelledError: progress returned False
            OutOfMemoryError: there is no room for them; MemoryLimitError where it is memory_limit that leaves none
            BusyError: called from a progress function of the same index
        """
        rows = as_rows(vectors, self._dim, "vectors").reshape(-1, self._dim)
        n = rows.shape[0]
        given = None if ids is None else as_ids(ids, "ids", to_keep=True)
        if given is not None and given.size != n:
            raise ParameterError(f"{n} vectors but {given.size} ids")
        threads = as_int(threads, "threads", 0)
        return self._native.add(rows, given, threads, progress)

    @allocates
    def remove(self, ids: npt.ArrayLike) -> int:
        """Remove the vectors of these ids.

        Removed ones are no results from then on, and go on leading searches until a third of what the index holds is
        removed. Then links are led around them, while searches go on: by a call that removes many before it returns
        (in no more time than adding what is left would take), shared out among calls that remove few. For want of
        memory, in a mapped index, or after Ctrl-C, which is raised when the vectors are removed, that is left to later
        calls of add() or remove(), or compact().

        Args:
            ids: int64[n], or a set; those that are not held are skipped

        Returns:
            How many were held.

        Raises:
            ParameterError: ids are no list of 64-bit integers
            BusyError: called from a progress function of the same index
        """
        return self._native.remove(as_ids(ids, "ids", ordered=False))

    @allocates
    def get(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The vectors of these ids; by default to 24 bits a number, not bit for bit.

        Under cosine they are at unit length. With keep_vectors="float32", quantization="none" or 1-bit codes they are
        bit for bit what was given (or that at unit length). The default holds a coordinate to within a 2^23rd of the
        vector's largest one, both counted from the center of the data; with keep_vectors=False they are decoded from
        the codes.

        Args:
            ids: int64[n]

        Returns:
            float32[n, dim]

        Raises:
            UnknownIdError: an id is not held (a KeyError)
            ParameterError: ids are no list of 64-bit integers
            BusyError: called from a progress function of the same index
        """
        return self._native.get(as_ids(ids, "ids"))

    def compact(self, *, progress: Progress | None = None) -> None:
        """Give back the memory of removed vectors, lay the rest out for locality, and fit the codes to it. Ids stay.

        Needs room for a second copy meanwhile. Where memory_limit leaves none the vectors are moved in place, with
        about 12 bytes for each: searches wait for that, and once begun it cannot be stopped. After an error, a stop or
        Ctrl-C the index is as it was.

        Args:
            progress: progress(done, total), about twenty times a second; returning False stops

        Raises:
            CancelledError: progress returned False
            OutOfMemoryError: there is no room for the copy
            BusyError: called from a progress function of the same index
        """
        self._native.compact(progress)

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
        context: SearchContext | None = None,
    ) -> SearchResult:
        """The k nearest vectors of each query.

        Results are ordered by distances in float64 between the query as given and what get() returns, equal ones by
        id, whatever found them. The distances returned are float32 sums where those make the order clear: off by a few
        units in the last place as a rule, and by no more than 5e-6 + 1e-8 dim of the distance, under ip of twice the
        product of the largest lengths. So their last digits vary with the instruction set and with what else was
        found. Where the order is not clear, or a distance is so small that it would have few digits, it is the float64
        sum, rounded. A vector that the index could not tell from the query is at 0. With 1-bit codes and
        keep_vectors=False order and distances are estimates.

        With recall=0.95 the index takes the smallest ef that it has measured to find 95% of the k nearest; the first
        such search with a k measures it, as calibrate() describes. It holds for queries of the same kind as the stored
        vectors, and as those of the first batch of 256 or more, which is measured with too; for others give examples
        to calibrate(). A recall beyond what the largest ef measured has found, 1.0 for one, is answered as by
        exact=True. With a filter the ef is that of a search without.

        Args:
            queries: [dim] or [n, dim], as `vectors` of add()
            k: neighbors wanted, at least 1
            ef: candidates kept while the graph is searched, 1..1,000,000, raised to k where smaller; None: the index's
                own
            filter: allowed ids, also as a set, or an IdFilter: exactly min(k, matches) results, all of them allowed
            exact: compare with every vector instead of searching the graph: the true k nearest of what get() returns
            recall: in place of ef: the share of the k nearest to be found on average, above 0 and at most 1
            threads: for batches: 0, one per core; 1, the calling thread
            context: a SearchContext of this index, for one thread at a time

        Returns:
            ids, int64, and distances, float32, nearest first. For one query [found]: as many as there are, at most k.
            For a batch [n, min(k, len(index))], where rows with fewer matches under a filter are padded with id -1 and
            distance inf.

        Raises:
            ParameterError: an argument is out of its range or of the wrong shape, both ef and recall are given, or
                the context is of another index
            NotFiniteError: a query holds NaN or infinity; the message names the row
            ZeroVectorError: a zero query under cosine; the message names the row
            RecallError: recall is given, but the index keeps codes only
            OutOfMemoryError: there is no room for the results
            BusyError: another search is using the context, or called from a progress function of the same index
        """
        rows = as_rows(queries, self._dim, "queries")
        single = rows.ndim == 1
        k, ef = as_int(k, "k", 1), 0 if ef is None else as_int(ef, "ef", 1, 1_000_000)
        if recall is not None:
            ef, exact = self._choose_ef(as_recall(recall), ef, exact, k, rows)
        threads = 1 if single else as_int(threads, "threads", 0)
        allowed = None if filter is None else self._filters.of(filter)
        columns = k if single and k <= _MANY_RESULTS else min(k, len(self))
        ids, distances = self._native.search(
            rows,
            columns or 1,  # with nothing to find, queries are looked at all the same
            ef,
            exact,
            threads,
            allowed,
            None if context is None else context._native,
        )
        if not single:
            return SearchResult(ids[:, :columns], distances[:, :columns])
        if distances[-1] == np.inf:
            found = int(np.count_nonzero(distances != np.inf))
            ids, distances = ids[:found], distances[:found]
        return SearchResult(ids, distances)

    def _choose_ef(
        self, recall: float, ef: int, exact: bool, k: int, rows: npt.NDArray[np.float32]
    ) -> tuple[int, bool]:
        """The ef for a recall, and whether every vector is compared, as it may have to be."""
        if ef:
            raise ParameterError("give ef or recall, not both")
        if not exact:
            ef = self._calibrator.ef_for(self._native, recall, k, rows) or 0
        return ef, not ef

    @allocates
    def calibrate(self, k: int = 10, *, queries: npt.ArrayLike | None = None, threads: int = 0) -> Calibration:
        """Measure now what `search(..., k, recall=...)` would measure when first called.

        4,096 / sqrt(k) of the stored vectors, at least 256, are searched for as if they were not there, with growing
        ef; for 256 the true neighbors are found by comparing with every vector. That costs as much as twenty
        thousand searches where k is 10, a hundred thousand where it is 1, and those comparisons; on all cores. The
        result is kept until a tenth of the vectors was added, replaced or removed, and is not saved. The same content
        gives the same result.

        Args:
            k: neighbors that searches ask for, at least 1
            queries: [n, dim]: measure with these alone, where queries are of another kind than what is stored, such as
                questions that look for documents; some hundred examples are enough. None: back to stored vectors
            threads: 0: one per core

        Returns:
            What was measured, which later searches go by.

        Raises:
            ParameterError: an argument is out of its range, or queries are empty or of the wrong shape
            NotFiniteError: a query holds NaN or infinity; the message names the row
            ZeroVectorError: a zero query under cosine; the message names the row
            RecallError: the index keeps codes only, so there is no truth to measure by

        Example:
            >>> import numpy as np
            >>> from edgevec import Index
            >>> index = Index(8)
            >>> _ = index.add(np.random.default_rng(0).standard_normal((1000, 8)))
            >>> index.calibrate(k=10).ef_for(0.95) <= 64
            True
        """
        k, threads = as_int(k, "k", 1), as_int(threads, "threads", 0)
        return self._calibrator.calibrate(self._native, k, queries, threads)

    # ---- files -----------------------------------------------------------------------------------------------------

    @allocates
    def save(self, path: PathLike) -> None:
        """Write the index to one file: durable when this returns, and the old file stays whole until then.

        The new file has the mode of the old one, and where that is permitted its owner. A symbolic link is followed,
        also to a file that is not there yet. In a browser the file is in memory until the file system is persisted.

        Args:
            path: a regular file, or one that does not exist yet

        Raises:
            StorageError: the system refuses, or the path is a folder, a pipe or a device such as /dev/stdout (an
                OSError, with errno and filename)
            OutOfMemoryError: there is no room for the buffers
            BusyError: called from a progress function of the same index
        """
        self._native.save(path)

    @classmethod
    @allocates
    def load(
        cls,
        path: PathLike,
        *,
        mmap: bool = False,
        verify: bool = True,
        memory_limit: int | None = None,
        storage: Storage = "memory",
    ) -> Index:
        """Read an index that save() wrote. The parameters are in the file.

        Args:
            path: the file
            mmap: use the file in place: it is shared between processes and read from disk as needed. Changes made
                to the index do not reach the file. Nobody may truncate that file or write into it while the index
                is in use: where it was truncated, reading ends the process with a signal (SIGBUS, on Windows an
                access violation) that Python cannot catch; where it was written to, answers are wrong. So replace
                files, as save() does, by a new one that is renamed over the old one; and close() the index first
                where that cannot be had. Load with mmap=False what others may write to, or what lies on a disk or
                network that may go away.
            verify: False, with mmap: open at once, whatever the size, and look only at the header and the table of
                sections. Searches never leave the file, whatever it holds, but find nonsense where it is damaged.
                The first call that names ids (get, filter, `in`) reads those; the first that changes, checks, saves or
                calibrates the index verifies all of it, and raises CorruptIndexError where it is damaged. Until
                then searches of "sq8" are slower, for want of the sign codes that are made of all vectors. Call
                check() to have all that done. Without mmap every byte is read, and is verified all the same.
            memory_limit: as of Index. A file that would take more is refused before its vectors are read.
            storage: "disk": links and codes are read into memory, and the vectors beside them stay in the file, which
                is read where they are needed. Every byte is verified once, as without. The file stays open: it may be
                replaced or removed by name, as save() does, but must not be written into. Where it was cut off, or
                the disk fails, calls raise StorageError, and the index goes on when it can be read again. What is
                added goes to a scratch file without a name in the same folder, or where that is not permitted to
                TMPDIR or /var/tmp. save() writes both into one file and goes on with that, unless the index was
                changed meanwhile; on Windows it cannot replace the file that is being read. A copy or pickle of the
                index has its vectors in memory.

        Raises:
            IndexNotFoundError: there is no such file (a FileNotFoundError)
            CorruptIndexError: not an edgevec index, or damaged; the message names the section
            FormatVersionError: written by a newer version of edgevec
            StorageError: the system refuses to read it (an OSError)
            ParameterError: storage="disk" with mmap=True, or of an index that keeps no vectors beside codes
            OutOfMemoryError: there is no room for it; MemoryLimitError where it is memory_limit that leaves none
        """
        native = NativeIndex.load(path, mmap, verify, _as_limit(memory_limit), storage)
        index = cls.__new__(cls)
        index._adopt(native)
        return index

    @allocates
    def to_bytes(self) -> bytes:
        """The index as bytes: those of the file that save() would write. Pickling and copying use them.

        Raises:
            OutOfMemoryError: there is no room for them
            BusyError: called from a progress function of the same index

        Example:
            >>> from edgevec import Index
            >>> index = Index(2)
            >>> _ = index.add([[1, 0], [0, 1]])
            >>> len(Index.from_bytes(index.to_bytes()))
            2
        """
        return self._native.to_bytes()

    @classmethod
    @allocates
    def from_bytes(cls, data: bytes | bytearray | memoryview, *, memory_limit: int | None = None) -> Index:
        """The index that to_bytes() or the content of its file describes. Every byte is verified, as by load().

        Args:
            data: bytes, or anything else with a contiguous buffer; not needed any longer afterwards
            memory_limit: as of Index; it does not count the data

        Raises:
            ParameterError: data are no bytes
            CorruptIndexError: not an edgevec index, or damaged; the message names the section
            FormatVersionError: written by a newer version of edgevec
            OutOfMemoryError: there is no room for it
        """
        try:
            view = memoryview(data)
        except TypeError:
            raise ParameterError(f"data must be bytes, not {type(data).__name__}") from None
        if not view.c_contiguous:
            raise ParameterError("data must be contiguous")
        index = cls.__new__(cls)
        index._adopt(NativeIndex.from_bytes(view, _as_limit(memory_limit)))
        return index

    def __reduce__(self) -> tuple[Any, ...]:
        return Index.from_bytes, (self.to_bytes(),)

    # ---- insight ---------------------------------------------------------------------------------------------------

    def check(self) -> CheckReport:
        """Verify links, codes and ids, and whether every node can be reached.

        Returns:
            What was counted; its `ok` says whether anything is wrong.

        Raises:
            BusyError: called from a progress function of the same index
        """
        return self._native.check()

    def stats(self) -> dict[str, int]:
        """Counts and facts about the index.

        Returns:
            slots, live, dead, bits (of a binary code), max_level, trainings, built_distances, and

            - changes: vectors added, replaced or removed since the index was made or loaded
            - walk: what searches go by. 0: the codes or vectors that the quantization says. 1: vectors, since codes do
              not tell them apart; slower. 2: every vector is compared, since float32 sums do not tell them apart
              either, as of numbers around 1e-30. 3: codes do not tell the vectors apart and there is nothing else
              (keep_vectors=False): expect few true neighbors. Seen on a sample each time that the index has grown by
              an eighth, and by compact().
            - looked: vectors read to learn the codes and to see whether they fit, since the index was made or loaded
            - reads: with storage="disk", reads of files, each of one vector or of neighbors in the file
        """
        return self._native.stats()

    def memory_usage(self) -> dict[str, int]:
        """Bytes allocated, slack included.

        Returns:
            vectors, codes, links, upper_links, ids, other and total; and mapped, how many of these lie in a mapped
            file; and on_disk, bytes of vectors in files with storage="disk", which total leaves out, those that are
            not held any longer included. Besides, what memory_limit is about: held, all that is allocated for the
            index at this moment, also by calls under way; peak, the most that this ever was; and limit, 0 for none.
            From the ninth exact search for a single query of 4,096 vectors or more on, codes have dim / 2 + 12 bytes a
            vector more, until compact() or close(); not where a file is mapped. The search buffers that small indexes
            share, at most 4 MB in the process, are not counted.
        """
        return self._native.memory_usage()


def _as_limit(memory_limit: int | None) -> int:
    """As the core has it: 0 for none."""
    return 0 if memory_limit is None else as_int(memory_limit, "memory_limit", 1, _MOST_BYTES)
