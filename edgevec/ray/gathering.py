"""What the actors of a replica found, of which each may be asked some of the queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .._types import SearchResult
from ..errors import EdgevecError
from ..sharded import Manifest
from ..sharded.manifest import live
from ..sharded.merging import merge
from .asking import Part

__all__ = ["Gathered"]


class Gathered:
    """What was found by a manifest, and what could not be.

    Args:
        asked: which query is asked of which shard: bool[n, shards]; None: each of all
    """

    def __init__(self, manifest: Manifest, rows: npt.NDArray[np.float32], asked: npt.NDArray[np.bool_] | None) -> None:
        self.manifest, self._rows, self._asked = manifest, rows, asked
        self._columns = {shard.file: column for column, shard in enumerate(manifest.shards)}
        self.answers: list[SearchResult] = []
        self.problems: dict[str, EdgevecError] = {}
        """By file, of shards that are asked."""

    def of(self, part: Part) -> npt.NDArray[np.bool_] | None:
        """Of `asked` what is for the shards of a part, in its order."""
        if self._asked is None:
            return None
        return self._asked[:, [self._columns[shard.file] for shard in part.manifest.shards]]

    def note(self, part: Part, problems: Mapping[str, EdgevecError], result: SearchResult | None = None) -> None:
        """What came of asking a part."""
        for file, error in problems.items():
            if self._asked is None or self._asked[:, self._columns[file]].any():
                self.problems[file] = error
        if result is not None:
            of_part = self.of(part)
            if of_part is not None and self._rows.ndim == 2:
                result = _spread(result, np.any(of_part, axis=1))
            self.answers.append(result)

    def share(self) -> float:
        """Of the vectors in shards that were asked, how many were searched."""
        shards = self.manifest.shards
        counts = [1] * len(shards) if self._asked is None else self._asked.sum(axis=0).tolist()
        asked = {shard.file: shard.live * count for shard, count in zip(shards, counts, strict=True)}
        every = sum(asked.values())
        return 1 - sum(asked[file] for file in self.problems) / every if every else 1.0

    def merged(self, k: int) -> SearchResult:
        """The k nearest."""
        if self._asked is None or self._rows.ndim == 1:
            return merge(self.answers, k)
        # As many columns as all shards may give, of which only some were asked.
        columns = min(k, live(self.manifest.shards))
        return merge([_padding(len(self._rows), columns), *self.answers], columns)


def _padding(rows: int, columns: int) -> SearchResult:
    return SearchResult(np.full((rows, columns), -1, np.int64), np.full((rows, columns), np.inf, np.float32))


def _spread(found: SearchResult, rows: npt.NDArray[np.bool_]) -> SearchResult:
    """Results of some rows as those of all."""
    every = _padding(len(rows), found.ids.shape[1])
    every.ids[rows], every.distances[rows] = found.ids, found.distances
    return every
