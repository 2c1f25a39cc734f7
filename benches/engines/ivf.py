"""Engines that scan short codes and re-rank what is left: faiss IVF-PQ-FastScan, ScaNN, turbovec; and NumPy, exact."""

from __future__ import annotations

from importlib import import_module

import numpy as np
from data import Floats, Ids

from engines.base import Engine, Settings


class FaissFastScan(Engine):
    """4-bit product codes in inverted lists, re-ranked on the float vectors. The search parameter is nprobe."""

    def __init__(self, settings: Settings, nlist: int, dims_per_code: int = 2) -> None:
        super().__init__(settings)
        self.lib = import_module("faiss")
        self.nlist, self.dims_per_code = nlist, dims_per_code

    def build(self, base: Floats) -> None:
        dim = base.shape[1]
        self.lib.omp_set_num_threads(self.settings.build_threads)
        self.index = self.lib.index_factory(dim, f"IVF{self.nlist},PQ{dim // self.dims_per_code}x4fs,RFlat")
        self.index.train(base)
        self.index.add(base)
        self.lists = self.lib.extract_index_ivf(self.index)
        self.lib.omp_set_num_threads(1)

    def tune(self, search_param: int, rerank: int = 100) -> None:
        self.lists.nprobe = search_param
        self.index.k_factor = rerank / self.settings.k

    def one(self, query: Floats) -> object:
        return self.index.search(query[None], self.settings.k)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search(queries, self.settings.k)[1])


class Scann(Engine):
    """Asymmetric hashing in a tree of leaves, re-ranked on the floats. The search parameter is leaves searched."""

    def __init__(self, settings: Settings, leaves: int, soar: float = 0.0) -> None:
        super().__init__(settings)
        self.lib = import_module("scann").scann_ops_pybind
        self.leaves, self.soar = leaves, soar

    def build(self, base: Floats) -> None:
        extra = {"soar_lambda": self.soar} if self.soar else {}
        self.index = (
            self.lib.builder(base, self.settings.k, "dot_product")
            .set_n_training_threads(self.settings.build_threads)
            .tree(num_leaves=self.leaves, num_leaves_to_search=10, training_sample_size=len(base), **extra)
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(100)
            .build()
        )

    def tune(self, search_param: int, rerank: int = 100) -> None:
        self.arguments = (self.settings.k, rerank, search_param)

    def one(self, query: Floats) -> object:
        return self.index.search(query, *self.arguments)

    def many(self, queries: Floats) -> Ids:
        return np.asarray(self.index.search_batched(queries, *self.arguments)[0], dtype=np.int64)


class Turbovec(Engine):
    """A scan of 2- to 4-bit codes. The search parameter is how many it fetches: k is its own order, more
    are re-ranked here.

    It has no re-ranking of its own and does not reach high recall without; the float vectors are kept for it.
    """

    block = 64

    def __init__(self, settings: Settings, bits: int) -> None:
        super().__init__(settings)
        self.lib = import_module("turbovec")
        self.bits = bits

    def build(self, base: Floats) -> None:
        self.index = self.lib.TurboQuantIndex(dim=base.shape[1], bit_width=self.bits)
        self.index.calibrate(base[:2048])  # rows are in random order
        self.index.add(base)
        self.index.prepare()
        self.vectors = base.copy()

    def tune(self, search_param: int) -> None:
        self.fetched = search_param

    def one(self, query: Floats) -> object:
        return self._top(query[None])

    def many(self, queries: Floats) -> Ids:
        return np.vstack([self._top(queries[at : at + self.block]) for at in range(0, len(queries), self.block)])

    def _top(self, queries: Floats) -> Ids:
        ids = np.asarray(self.index.search(queries, k=self.fetched)[1])
        k = self.settings.k
        if self.fetched == k:
            return ids
        scores = np.matmul(self.vectors[ids], queries[:, :, None])[:, :, 0]
        return np.take_along_axis(ids, np.argsort(-scores, axis=1)[:, :k], axis=1)


class NumpyExact(Engine):
    """A matrix product and a partial sort: what every index must beat."""

    block = 64

    def build(self, base: Floats) -> None:
        self.base = base.copy()

    def tune(self, search_param: int) -> None:
        """Exact search has no search_param."""

    def one(self, query: Floats) -> object:
        return self._top(query[None])

    def many(self, queries: Floats) -> Ids:
        return np.vstack([self._top(queries[at : at + self.block]) for at in range(0, len(queries), self.block)])

    def _top(self, queries: Floats) -> Ids:
        distances = -(queries @ self.base.T)
        near = np.argpartition(distances, self.settings.k - 1, axis=1)[:, : self.settings.k]
        order = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1)
        return np.take_along_axis(near, order, axis=1)
