"""An index whose graph lies on disk too, for those that are many times larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevec._native import CLOSED, NativeDisk
from edgevec._types import Metric, PathLike, Progress, SearchResult
from edgevec._validation import as_ids, as_int, as_rows
from edgevec.errors import ParameterError, allocates
from edgevec.id_filter import IdFilter, LatestFilters
from edgevec.index import Index

__all__ = ["DiskIndex"]

_MOST_AT_ONCE = 64


class DiskIndex:
    """A read-only index that is searched in its file: graph, codes and vectors stay on disk.

    It is written from an Index. Each vector has a block in the file with its vector, its links and 1-bit codes of the
    vectors that they lead to (DiskANN, Subramanya and others, 2019; SymphonyQG, Gou and others, 2025), so a step of a
    search takes one read, and what was read gives exact distances. In memory are codes of at most 8,192 vectors at
    which searches begin, a bit for each vector and 8 bytes for each 340 ids: for a million vectors of 384 dimensions
    about 1 MB, and some 0.5 MB for each thread that searches. The system's page cache does the rest, and may
    be as small as one likes.

    Any number of threads may search at once, without the GIL. The file may be replaced or removed meanwhile, as
    write() does it (but on Windows, where an open file cannot be), and must not be written into. Every block is
    verified when it is read; one that is damaged raises CorruptIndexError, whose message names it. close(), or the end
    of a `with` block, gives everything back.

    Args:
        path: a file that write() made
        mmap: use the file in place: about half the time for what the system has cached, but a block that was pushed out
            of the cache comes only once the one before it is there. Nobody may truncate the file then: that ends the
            process with a signal, as with Index.load(). False: it is read, what is not cached up to `beam` blocks at a
            time.

    Raises:
        IndexNotFoundError: there is no such file (a FileNotFoundError)
        CorruptIndexError: not such a file, or damaged
        FormatVersionError: written by a newer version of edgevec
        StorageError: the system refuses to read it (an OSError)
        OutOfMemoryError: there is no room for what is kept in memory

    Example:
        >>> import tempfile, os
        >>> from edgevec import DiskIndex, Index
        >>> index = Index(2, "l2")
        >>> _ = index.add([[0, 0], [3, 4], [6, 8]], ids=[10, 20, 30])
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = os.path.join(folder.name, "vectors.evd")
        >>> DiskIndex.write(index, path)
        >>> with DiskIndex(path) as disk:
        ...     disk.search([3, 3], k=2).ids
        array([20, 10])
        >>> folder.cleanup()
    """

    @allocates
    def __init__(self, path: PathLike, *, mmap: bool = False) -> None:
        native = NativeDisk(path, bool(mmap))
        self._native = native
        self._dim, self._metric, self._ef = native.dim, native.metric, native.ef
        self._path, self._mmap, self._filters = path, bool(mmap), LatestFilters()

    @staticmethod
    @allocates
    def write(index: Index, path: PathLike, *, threads: int = 0, progress: Progress | None = None) -> None:
        """Write the file of a DiskIndex: durable when this returns, and an old file stays whole until then.

        Vectors are written as get() returns them. Searches of the index go on meanwhile; calls that change it wait.
        To keep memory small open the index with storage="disk" or mmap=True; besides it takes some 36 bytes a vector.
        It takes about as long as building the index did. Where removed vectors still lead to others
        they are written too, without an id; compact() leaves them out, and lays neighbors out near each other.

        Args:
            index: with any quantization. M=20 fills the pages of the file best at 384 dimensions; keep_vectors=False
                leaves vectors that were decoded from codes
            path: a regular file, or one that does not exist yet
            threads: 0: one per core
            progress: progress(done, total), about twenty times a second; returning False stops

        Raises:
            CancelledError: progress returned False
            StorageError: the system refuses (an OSError)
            OutOfMemoryError: there is no room for the buffers
            BusyError: called from a progress function of the same index
        """
        if not isinstance(index, Index):
            raise ParameterError(f"index must be an Index, not {type(index).__name__}")
        NativeDisk.write(index._native, path, as_int(threads, "threads", 0), progress)

    # ---- life ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back memory and file; calls under way in other threads end as if it were open. Once is enough."""
        self._native.close()
        self._native = CLOSED

    def __enter__(self) -> DiskIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self._path, self._mmap)

    def __repr__(self) -> str:
        if self._native is CLOSED:
            return "DiskIndex(closed)"
        return f"DiskIndex(dim={self._dim}, metric={self._metric!r}, {len(self)} vectors)"

    # ---- content ---------------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self._dim

    @property
    def metric(self) -> Metric:
        """Of the index that it was written from."""
        return self._metric

    @property
    def ef(self) -> int:
        """What searches take that name none: that of the index it was written from."""
        return self._ef

    def __len__(self) -> int:
        return self._native.live

    def __contains__(self, id: object) -> bool:
        """Whether an id is held; one read of the file."""
        if isinstance(id, (bool, np.bool_)) or not isinstance(id, (int, np.integer)):
            return False
        return -(2**63) <= int(id) < 2**63 and self._native.contains(int(id))

    def ids(self) -> Iterator[int]:
        """All ids, ascending."""
        return self._native.ids()

    @allocates
    def get(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The vectors of these ids, float32[n, dim], as Index.get() of the index returned them.

        Raises:
            UnknownIdError: an id is not held (a KeyError)
            ParameterError: ids are no list of 64-bit integers
            CorruptIndexError: what was read is damaged
        """
        return self._native.get(as_ids(ids, "ids"))

    # ---- search ----------------------------------------------------------------------------------------------------

    @allocates
    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        ef: int | None = None,
        beam: int | None = None,
        filter: IdFilter | npt.ArrayLike | None = None,
        exact: bool = False,
        threads: int = 0,
    ) -> SearchResult:
        """The k nearest vectors of each query, by float64 distances to what get() returns, equal ones by id.

        Args:
            queries: [dim] or [n, dim]
            k: neighbors wanted, at least 1
            ef: candidates kept while the graph is searched, 1..1,000,000, raised to k where smaller; one to three times
                as many blocks are read, as stats() counts. None: as the index had it
            beam: blocks read at a time, 1..64: more takes fewer rounds of reads and a few more reads. None: 4
            filter: allowed ids, or an IdFilter: exactly min(k, matches) results, all of them allowed. Few are read
                and compared; of many the graph is searched with a longer list
            exact: compare with every vector, for which the whole file is read for each query
            threads: for batches: 0, one per core; 1, the calling thread

        Returns:
            ids and distances as Index.search() returns them.

        Raises:
            ParameterError: an argument is out of its range or of the wrong shape
            NotFiniteError: a query holds NaN or infinity; the message names the row
            ZeroVectorError: a zero query under cosine; the message names the row
            CorruptIndexError: what was read is damaged; the message names the block
            StorageError: the file cannot be read, or was cut off (an OSError)
            OutOfMemoryError: there is no room for the results
        """
        rows = as_rows(queries, self._dim, "queries")
        single = rows.ndim == 1
        columns = min(as_int(k, "k", 1), len(self))
        ids, distances = self._native.search(
            rows,
            columns or 1,  # with nothing to find, queries are looked at all the same
            0 if ef is None else as_int(ef, "ef", 1, 1_000_000),
            0 if beam is None else as_int(beam, "beam", 1, _MOST_AT_ONCE),
            bool(exact),
            1 if single else as_int(threads, "threads", 0),
            None if filter is None else self._filters.of(filter),
        )
        if not single:
            return SearchResult(ids[:, :columns], distances[:, :columns])
        found = int(np.count_nonzero(distances != np.inf))
        return SearchResult(ids[:found], distances[:found])

    # ---- insight ---------------------------------------------------------------------------------------------------

    @allocates
    def check(self) -> dict[str, int]:
        """Read and verify the whole file.

        Returns:
            live, nodes, edges, duplicates (ids that share another's block), min_degree and max_degree

        Raises:
            CorruptIndexError: it is damaged; the message names the block or page
        """
        return self._native.check()

    def stats(self) -> dict[str, int]:
        """What searches did since it was opened.

        Returns:
            queries; reads of the file and bytes_read by them, from the page cache or the disk; rounds of reads, each
            of up to `beam` blocks; estimates, distances estimated from codes
        """
        return self._native.counted()

    def memory_usage(self) -> dict[str, int]:
        """Bytes: held in memory now and at most (peak), and on_disk, the file's. The page cache is the system's."""
        return self._native.memory()


def _opened(path: PathLike, mmap: bool) -> DiskIndex:
    """For pickles."""
    return DiskIndex(path, mmap=mmap)
