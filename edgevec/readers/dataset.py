"""What reading a file gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Metric

__all__ = ["TEXT_NAMES", "Dataset"]

TEXT_NAMES = ("text", "texts", "document", "documents", "sentence", "content", "title", "name")
"""Columns that hold what a vector stands for, best first."""
_TEXTS = frozenset(TEXT_NAMES)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Vectors and what is known about them, in row order.

    Attributes:
        vectors: float32[n, dim], C order
        ids: int64[n], or None when the file names none
        metadata: one dict a row, or None when the file holds vectors alone
        name: the file's name without its ending
        metric: "cosine", "ip" or "l2" when the file says, else None
        queries: float32[q, dim] when the file comes with a test set, else None
        neighbors: int64[q, m]: for each query the nearest rows, nearest first, else None
        id_name: the column that the ids come from
        unread: columns that are in the file and not in the metadata: name -> why

    Example:
        >>> import numpy as np
        >>> import edgevec
        >>> np.savez("points.npz", vectors=np.eye(2), id=[7, 9], label=["north", "east"])
        >>> dataset = edgevec.read_vectors("points.npz")
        >>> dataset
        Dataset('points', 2 x 2, metric=None)
        >>> dataset.ids.tolist(), dataset.metadata
        ([7, 9], [{'label': 'north'}, {'label': 'east'}])
        >>> index = edgevec.Index(dataset.dim, dataset.metric or "cosine")
        >>> _ = index.add(dataset.vectors, dataset.ids)
    """

    vectors: NDArray[np.float32]
    ids: NDArray[np.int64] | None = None
    metadata: list[dict[str, Any]] | None = None
    name: str = ""
    metric: Metric | None = None
    queries: NDArray[np.float32] | None = None
    neighbors: NDArray[np.int64] | None = None
    id_name: str | None = None
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.vectors.shape[1])

    @property
    def texts(self) -> list[str] | None:
        """The column of metadata that holds texts, when there is one."""
        if not self.metadata:
            return None
        held = {name for row in self.metadata for name in _TEXTS.intersection(row) if isinstance(row[name], str)}
        name = next((name for name in TEXT_NAMES if name in held), None)
        return None if name is None else [str(row.get(name) or "") for row in self.metadata]

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self):,} x {self.dim}, metric={self.metric!r})"
