"""Which shards a query is asked of: those with the nearest centroids."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .._types import Metric
from ..errors import CorruptIndexError, DataNotFoundError, ParameterError, ShardNotFoundError, about_file
from .clusters import find_centroids
from .folders import Folder
from .manifest import Centroids, Manifest, Settings

__all__ = ["Router", "need_router", "read_centroids", "write_centroids"]

_CENTROIDS = 32
"""Of a shard, at most."""
_ROWS_EACH = 64
"""Of so many rows each is the mean, on average."""
_PRODUCTS_AT_ONCE = 1 << 22

Floats = npt.NDArray[np.float32]


def write_centroids(folder: Folder, rows: Floats, settings: Settings) -> Centroids:
    """Put those of a shard's rows into the folder. They are the same for the same rows and settings."""
    rng = np.random.default_rng(settings.seed)
    few = rows
    if len(rows) > _CENTROIDS * _ROWS_EACH:
        few = rows[np.sort(rng.choice(len(rows), _CENTROIDS * _ROWS_EACH, replace=False))]
    entry, content = Centroids.of(find_centroids(few, _CENTROIDS, settings.metric, rng))
    folder.write(entry.file, content)
    return entry


def read_centroids(folder: Folder, entry: Centroids, dim: int) -> Floats:
    """Those of a shard: float32[n, dim]

    Raises:
        ShardNotFoundError: the file is not there
        CorruptIndexError: it is of another size or checksum than the manifest has, or holds something else
    """
    where = folder.where(entry.file)
    try:
        content = folder.read(entry.file)
    except DataNotFoundError as error:
        message = f"{where}: a shard's centroids that are not there"
        raise about_file(ShardNotFoundError(message), where, error.errno) from error
    if len(content) != (wanted := 4 * dim * entry.count):
        raise CorruptIndexError(
            f"{where}: {len(content):,} bytes where {entry.count} centroids of {dim} dimensions have {wanted:,}"
        )
    found = np.frombuffer(content, "<f4").astype(np.float32).reshape(entry.count, dim)
    if Centroids.of(found)[0] != entry:
        raise CorruptIndexError(f"{where}: of another checksum than the manifest has")
    if not np.isfinite(found).all():
        raise CorruptIndexError(f"{where}: centroids that hold NaN or infinity")
    return found


class Router:
    """Ranks the shards of a manifest by their centroids. It never changes.

    Args:
        centroids: by their files. A shard whose are not among them is asked each time, beside those that are nearest.
    """

    def __init__(self, manifest: Manifest, centroids: Mapping[str, Floats]) -> None:
        self._count = len(manifest.shards)
        self._metric: Metric = manifest.settings.metric
        entries = [(column, shard.centroids.file) for column, shard in enumerate(manifest.shards) if shard.centroids]
        known = [(column, centroids[file]) for column, file in entries if file in centroids]
        self._known = np.array([column for column, _ in known], np.intp)
        of_each = [found for _, found in known] or [np.empty((0, manifest.settings.dim), np.float32)]
        every = np.concatenate(of_each)
        self._starts = np.cumsum([0, *map(len, of_each[:-1])])
        self._origin = every.mean(axis=0) if self._metric == "l2" and len(every) else None
        self._centroids = every if self._origin is None else every - self._origin
        self._half = np.einsum("ij,ij->i", self._centroids, self._centroids) / 2 if self._metric == "l2" else None

    @classmethod
    def of(cls, manifest: Manifest, centroids: Mapping[str, Floats]) -> Router | None:
        """None where the manifest has no centroids."""
        return cls(manifest, centroids) if manifest.cluster else None

    def asked(self, queries: Floats, nprobe: int) -> npt.NDArray[np.bool_]:
        """Which shards are asked.

        Args:
            queries: [n, dim]
            nprobe: shards for each query

        Returns:
            bool[n, shards], in the order of the manifest
        """
        asked = np.ones((len(queries), self._count), np.bool_)
        if nprobe >= len(self._known):
            return asked
        step = max(1, _PRODUCTS_AT_ONCE // len(self._centroids))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            far = np.argsort(-self._nearness(queries[part]), axis=1, kind="stable")[:, nprobe:]
            np.put_along_axis(asked[part], self._known[far], False, axis=1)
        return asked

    def _nearness(self, queries: Floats) -> Floats:
        """Of each query to the nearest centroid of each shard: the largest inner product, or the least distance."""
        with np.errstate(all="ignore"):
            # With cosine the length of a query changes nothing: that of the centroids is one.
            products = (queries if self._origin is None else queries - self._origin) @ self._centroids.T
            if self._half is not None:
                products -= self._half
            nearness: Floats = np.maximum.reduceat(products, self._starts, axis=1)
        return nearness


def need_router(router: Router | None, where: str) -> Router:
    """It; ParameterError where there is none."""
    if router is None:
        raise ParameterError(f"{where}: nprobe is for shards with centroids: those of a build with cluster=True")
    return router
