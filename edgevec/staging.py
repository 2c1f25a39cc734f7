"""Adding to an index in two phases, and where it lies, for what keeps it in step with a database."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._types import Metric, PathLike, Progress
from .index import Index

__all__ = ["Stage", "set_path"]


def set_path(index: Index, path: PathLike) -> None:
    """Of an index with storage="disk": where it will be found, which is saved elsewhere first and then renamed.

    Errors name this file, and scratch files that are made from now on go to its folder.
    """
    index._native.set_disk_path(path)


class Stage:
    """Vectors that are in an index and no results until commit(), beside which searches see what was there before.

    One at a time for an index, by whoever changes it. Until it ends, compact() of the index raises BusyError.
    """

    def __init__(self, index: Index) -> None:
        self.index = index

    @property
    def metric(self) -> Metric:
        return self.index.metric

    def add(
        self, vectors: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], *, progress: Progress | None = None
    ) -> None:
        """As Index.add(), of float32[n, dim] and int64[n]; after an error what was staged before it remains so."""
        self.index._native.stage(np.ascontiguousarray(vectors, np.float32), ids, progress)

    def commit(self, removed: npt.NDArray[np.int64]) -> None:
        """Remove these ids and show what is staged, at once: a tenth of a microsecond each. Again: the same."""
        self.index._native.commit_stage(removed)

    def drop(self) -> None:
        """Forget what is staged."""
        self.index._native.drop_stage()

    def settle(self) -> None:
        """After commit(): mend the graph, as Index.add() does at its end, while searches go on."""
        self.index._native.settle_stage()
