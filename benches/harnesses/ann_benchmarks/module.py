"""edgevec for ann-benchmarks: this folder goes there as ann_benchmarks/algorithms/edgevec."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgevec import Index, SearchContext

from ..base.module import BaseANN

METRICS = {"angular": "cosine", "euclidean": "l2"}


class Edgevec(BaseANN):
    """One index in memory, built and searched as config.yml says.

    Args:
        metric: the data set's, "angular" or "euclidean"
        parameters: what edgevec.Index takes beside it: quantization, M, ef_construction, keep_vectors
    """

    def __init__(self, metric: str, parameters: dict[str, Any]) -> None:
        if metric not in METRICS:
            raise ValueError(f"edgevec has no metric {metric!r}, but {', '.join(METRICS)}")
        self.metric = METRICS[metric]
        self.parameters = parameters
        self.ef: int | None = None

    def fit(self, X: np.ndarray) -> None:
        self.index = Index(X.shape[1], self.metric, **self.parameters)
        self.index.add(X)
        self.context = SearchContext(self.index)

    def set_query_arguments(self, ef: int) -> None:
        self.ef = ef

    def query(self, q: np.ndarray, n: int) -> np.ndarray:
        return self.index.search(q, n, ef=self.ef, context=self.context).ids

    def batch_query(self, X: np.ndarray, n: int) -> None:
        """With as many threads as there are cores, which is what `--batch` measures."""
        self.found = self.index.search(X, n, ef=self.ef).ids

    def get_batch_results(self) -> np.ndarray:
        return self.found

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"edgevec({shown}, ef={self.ef})"
