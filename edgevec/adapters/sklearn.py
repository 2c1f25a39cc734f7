"""A scikit-learn transformer that makes a graph of nearest neighbors: pip install 'edgevec[sklearn]'."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import Index, ParameterError

__all__ = ["EdgevecTransformer"]

_METRICS = {"euclidean": "l2", "l2": "l2", "sqeuclidean": "l2", "cosine": "cosine"}
_MODES = ("distance", "connectivity")


class EdgevecTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The nearest neighbors of each row as a sparse matrix, as KNeighborsTransformer makes it, by an edgevec index.

    What takes such a matrix, or such a transformer, takes this one: scikit-learn's estimators with
    `metric="precomputed"` (DBSCAN, Isomap, TSNE, SpectralClustering with `affinity="precomputed_nearest_neighbors"`),
    scanpy's `neighbors(transformer=)`.

    Args:
        n_neighbors: neighbors of each row. With mode="distance" there is one more, as in KNeighborsTransformer: a row
            that was fitted is its own nearest.
        mode: "distance" gives distances, "connectivity" ones
        metric: "euclidean" (also "l2"), "sqeuclidean" or "cosine"
        recall: the share of the true neighbors to be found, measured on a sample; None: `ef` decides
        ef: candidates that a search keeps, at least n_neighbors + 1; more of them find more of the true neighbors
        M: links of a node
        ef_construction: candidates while building
        quantization: "sq8", "binary" or "none": what the search goes by; distances are of the stored vectors
        n_jobs: threads, where -1 and None are all cores

    Attributes:
        index_: the edgevec.Index; ids are rows
        n_features_in_: dimensions of the fitted rows
        n_samples_fit_: fitted rows

    Example:
        >>> import numpy as np
        >>> from edgevec.adapters.sklearn import EdgevecTransformer
        >>> rows = np.array([[0.0], [1.0], [3.0]])
        >>> EdgevecTransformer(n_neighbors=1).fit_transform(rows).toarray().round(3)
        array([[0., 1., 0.],
               [1., 0., 0.],
               [0., 2., 0.]])
    """

    index_: Index
    n_samples_fit_: int

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        mode: Literal["distance", "connectivity"] = "distance",
        metric: str = "euclidean",
        recall: float | None = None,
        ef: int | None = None,
        M: int = 16,
        ef_construction: int = 200,
        quantization: str = "sq8",
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.mode = mode
        self.metric = metric
        self.recall = recall
        self.ef = ef
        self.M = M
        self.ef_construction = ef_construction
        self.quantization = quantization
        self.n_jobs = n_jobs

    def fit(self, X: ArrayLike, y: Any = None) -> EdgevecTransformer:
        """Build the index of the rows.

        Args:
            X: [n_samples, n_features], numbers, dense
            y: passed over

        Raises:
            ValueError: X or a parameter is not what it must be.
        """
        self._fit(X)
        return self

    def _fit(self, X: ArrayLike) -> NDArray[Any]:
        if self.mode not in _MODES:
            raise ParameterError(f"mode must be one of {', '.join(_MODES)}, not {self.mode!r}")
        if self.metric not in _METRICS:
            raise ParameterError(f"metric must be one of {', '.join(_METRICS)}, not {self.metric!r}")
        if not isinstance(self.n_neighbors, Integral) or self.n_neighbors < 1:
            raise ParameterError(f"n_neighbors must be an integer of at least 1, not {self.n_neighbors!r}")
        rows: NDArray[Any] = validate_data(self, X, dtype=[np.float64, np.float32], order="C")
        index = Index(
            rows.shape[1],
            _METRICS[self.metric],
            quantization=self.quantization,
            M=self.M,
            ef_construction=self.ef_construction,
        )
        index.add(rows, threads=self._threads())
        self.index_ = index
        self.n_samples_fit_ = len(rows)
        self._n_features_out = len(rows)
        return rows

    def transform(self, X: ArrayLike) -> csr_matrix:
        """The neighbors of each row among the fitted ones.

        Args:
            X: [n_queries, n_features]

        Returns:
            `[n_queries, n_samples_fit_]` of X's type, with n_neighbors stored in each row, nearest first; one more with
            mode="distance". Distances are computed in float32.

        Raises:
            ValueError: X has another number of features, or fewer rows were fitted than a row has neighbors.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=[np.float64, np.float32], order="C", reset=False)
        return self._matrix(*self._neighbors(rows))

    def fit_transform(self, X: ArrayLike, y: Any = None) -> csr_matrix:
        """fit(X).transform(X), in which each row is among its own neighbors, whatever its copies.

        Args:
            X: [n_samples, n_features]
            y: passed over

        Returns:
            As transform does.
        """
        rows = self._fit(X)
        ids, distances = self._neighbors(rows)
        own = np.arange(len(rows))
        crowded_out = ~(ids == own[:, None]).any(axis=1)  # by copies, which are as near
        ids[crowded_out, 0], distances[crowded_out, 0] = own[crowded_out], 0
        return self._matrix(ids, distances)

    def _threads(self) -> int:
        return 0 if self.n_jobs is None else effective_n_jobs(self.n_jobs)

    def _neighbors(self, rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Ids, and distances in the type of the rows."""
        k = self.n_neighbors + (self.mode == "distance")
        if k > self.n_samples_fit_:
            raise ValueError(
                f"Expected n_neighbors < n_samples_fit, but n_neighbors = {self.n_neighbors}, "
                f"n_samples_fit = {self.n_samples_fit_}, n_samples = {len(rows)}"
            )
        found = self.index_.search(rows, k, ef=self.ef, recall=self.recall, threads=self._threads())
        return found.ids, found.distances.astype(rows.dtype, copy=False)

    def _matrix(self, ids: NDArray[np.int64], distances: NDArray[Any]) -> csr_matrix:
        if self.mode == "connectivity":
            distances = np.ones_like(distances)
        elif self.metric in ("euclidean", "l2"):
            distances = np.sqrt(distances)
        starts = np.arange(0, ids.size + 1, ids.shape[1])
        return csr_matrix((distances.ravel(), ids.ravel(), starts), shape=(len(ids), self.n_samples_fit_))
