"""The transformer: scikit-learn's own checks, exact neighbors as the oracle, and what takes its matrices."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

if os.environ.get("EDGEVEC_ADAPTERS") != "1":
    pytest.skip("tox run -e adapters", allow_module_level=True)

from sklearn.cluster import DBSCAN
from sklearn.datasets import make_blobs
from sklearn.manifold import Isomap
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from edgevec.adapters.sklearn import EdgevecTransformer


@parametrize_with_checks(
    [
        EdgevecTransformer(),
        EdgevecTransformer(mode="connectivity", quantization="none"),
        EdgevecTransformer(quantization="binary", recall=0.9),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def rows(many: int = 600, dim: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((many, dim))


@pytest.mark.parametrize("metric", ["euclidean", "l2", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_the_matrix_is_that_of_exact_neighbors(metric: str, mode: Any) -> None:
    base, queries = rows(), rows(50) + 0.1
    ours = EdgevecTransformer(n_neighbors=7, mode=mode, metric=metric, ef=600, quantization="none").fit(base)
    theirs = KNeighborsTransformer(n_neighbors=7, mode=mode, metric=metric, algorithm="brute").fit(base)
    for found, expected in [
        (ours.transform(queries), theirs.transform(queries)),
        (ours.fit_transform(base), theirs.fit_transform(base)),
    ]:
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert (np.diff(found.indptr) == np.diff(expected.indptr)).all()
        np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=2e-3 if metric != "sqeuclidean" else 1e-5)


def test_each_row_is_its_own_nearest_whatever_its_copies() -> None:
    base = np.repeat(rows(20), 10, axis=0)
    found = EdgevecTransformer(n_neighbors=3).fit_transform(base)
    for row in range(len(base)):
        ids = found.indices[found.indptr[row] : found.indptr[row + 1]]
        assert row in ids
        assert len(set(ids)) == 4
    assert found.data.max() == 0


def test_recall_is_what_was_asked_for() -> None:
    base = rows(5000, 48)
    found = EdgevecTransformer(n_neighbors=10, recall=0.95).fit_transform(base)
    exact = np.argsort(pairwise_distances(base[:300], base), axis=1)[:, :11]
    share = np.mean([len(set(found[row].indices) & set(exact[row])) / 11 for row in range(300)])
    assert share > 0.93


def test_estimators_take_it() -> None:
    base, truth = make_blobs(300, centers=3, n_features=8, random_state=0, cluster_std=0.5)
    classifier = make_pipeline(
        EdgevecTransformer(n_neighbors=20), KNeighborsClassifier(n_neighbors=10, metric="precomputed")
    )
    assert (classifier.fit(base, truth).predict(base) == truth).all()
    clusters = make_pipeline(EdgevecTransformer(n_neighbors=30), DBSCAN(eps=3, metric="precomputed")).fit_predict(base)
    assert len({(a, b) for a, b in zip(truth, clusters, strict=True)}) == 3
    one = make_blobs(200, centers=1, n_features=8, random_state=0)[0]
    flat = make_pipeline(EdgevecTransformer(n_neighbors=20), Isomap(n_neighbors=10, metric="precomputed"))
    assert flat.fit_transform(one).shape == (200, 2)


def test_too_many_neighbors_are_an_error_that_names_both() -> None:
    with pytest.raises(ValueError, match="n_neighbors = 5, n_samples_fit = 5"):
        EdgevecTransformer(n_neighbors=5).fit_transform(rows(5))
    assert EdgevecTransformer(n_neighbors=5, mode="connectivity").fit_transform(rows(5)).nnz == 25


@pytest.mark.parametrize("wrong", [{"mode": "both"}, {"metric": "cityblock"}, {"n_neighbors": 0}, {"M": 1}, {"ef": 0}])
def test_a_wrong_parameter_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EdgevecTransformer(**wrong).fit_transform(rows(20))


def test_a_zero_vector_under_cosine_is_named() -> None:
    base = rows(20)
    base[7] = 0
    with pytest.raises(ValueError, match="row 7"):
        EdgevecTransformer(metric="cosine").fit(base)
