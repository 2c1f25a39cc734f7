"""What the benchmarks search: real embeddings when they are at hand, made ones when not, and the exact answers.

A `Workload` is base vectors, queries and the true nearest rows of each query. The truth is computed here with NumPy
alone, never with the engine under test, and kept in `benches/.cache` under the hash of the very bytes it belongs to.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Metric = Literal["cosine", "l2"]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "benches" / ".cache"
REAL_SET = "wordnet-minilm-384"
BLOCK_ROWS = 16_384
MIXED_FROM = 100_000  # real embeddings that base vectors are made of; the rest are for queries


@dataclass(frozen=True)
class Workload:
    """base float32 [n, dim], queries float32 [m, dim], truth int64 [m, k]: rows of base, nearest first by metric."""

    name: str
    real: bool
    base: Floats
    queries: Floats
    truth: Ids
    metric: Metric = "cosine"

    def recall(self, found: NDArray[np.integer]) -> float:
        """What the first len(found) queries found, [m, k], against the truth."""
        few = slice(len(found))
        return recall(found, self.truth[few], self.base, self.queries[few], self.metric)


def named(name: str, n: int | None, n_queries: int = 1000, k: int = 10) -> Workload:
    """One of WORKLOADS, or its first n vectors."""
    full, make = WORKLOADS[name]
    return make(full if n is None else n, n_queries, k)


def real_folder() -> Path | None:
    """The real set's folder: what EDGEVEC_DATA names (it or its parent), else beside the project; None when absent."""
    named = os.environ.get("EDGEVEC_DATA")
    places = [Path(named), Path(named) / REAL_SET] if named else [ROOT.parent / "shared" / "data" / REAL_SET]
    found = next((place for place in places if (place / "base_f16.npy").is_file()), None)
    if named and found is None:
        raise SystemExit(f"EDGEVEC_DATA={named} holds no base_f16.npy")
    return found


def load(n: int, n_queries: int = 1000, k: int = 10) -> Workload:
    """The first n real embeddings under cosine, or, said on stderr, a clustered synthetic set of the same shape."""
    folder = real_folder()
    if folder is None:
        print(
            f"no real embeddings here (set EDGEVEC_DATA to a folder of {REAL_SET}): using a synthetic set",
            file=sys.stderr,
        )
        return clustered(n, n_queries, k)
    half = np.load(folder / "base_f16.npy", mmap_mode="r")
    if n > len(half):
        print(f"{REAL_SET} has {len(half):,} rows, not {n:,}: using all of them", file=sys.stderr)
    base = unit(np.asarray(half[:n], dtype=np.float32))
    queries = np.load(folder / "queries.npy")[:n_queries]
    shipped = folder / f"gt_{len(base)}.npy"
    if shipped.is_file():
        truth = np.load(shipped)[:n_queries, :k].astype(np.int64)
    else:
        truth = exact(base, queries, k, "cosine")
    return Workload(f"{REAL_SET}[:{len(base)}]", True, base, queries, truth)


def mixed(n: int, n_queries: int, k: int, dim: int | None = None) -> Workload:
    """More vectors than there are real embeddings: unit(a + w b + noise) of two of them, w in 0.2..0.8, noise 0.015.

    Queries are made likewise of embeddings that no base vector is made of.

    Args:
        dim: turn them to the directions in which the real ones vary most, and keep as many; None: as they are
    """
    folder = real_folder()
    if folder is None:
        raise SystemExit(f"this set is made of real embeddings: set EDGEVEC_DATA to a folder of {REAL_SET}")
    real = unit(np.load(folder / "base_f16.npy").astype(np.float32))
    held_back = real[MIXED_FROM:]
    base, queries = mixtures(real[:MIXED_FROM], n, 42), mixtures(held_back, n_queries, 43)
    if dim is not None:
        main = np.linalg.eigh(real[:MIXED_FROM].T @ real[:MIXED_FROM])[1][:, : -dim - 1 : -1]
        base, queries = unit(base @ main), unit(queries @ main)
    name = f"mixed({n} x {base.shape[1]} of {REAL_SET})"
    return Workload(name, False, base, queries, exact(base, queries, k, "cosine"))


def mixtures(real: Floats, rows: int, seed: int) -> Floats:
    """As many unit vectors, each of two of these and noise, in blocks, so that memory holds them once."""
    rng = np.random.default_rng(seed)
    made = np.empty((rows, real.shape[1]), np.float32)
    for start in range(0, rows, BLOCK_ROWS):
        block = made[start : start + BLOCK_ROWS]
        a, b = rng.integers(len(real), size=(2, len(block)))
        weights = rng.uniform(0.2, 0.8, (len(block), 1)).astype(np.float32)
        noise = rng.standard_normal(block.shape, np.float32)
        block[:] = unit(real[a] + weights * real[b] + np.float32(0.015) * noise)
    return made


def clustered(n: int, n_queries: int, k: int, dim: int = 384, latent: int = 24, clusters: int = 200) -> Workload:
    """Unit vectors of low intrinsic dimension in clusters, as embeddings are; queries are fresh draws of that kind."""
    base, queries = clustered_parts(n, n_queries, dim, latent, clusters)
    name = f"clustered({n} x {dim}, {latent} latent, {clusters} clusters)"
    return Workload(name, False, base, queries, exact(base, queries, k, "cosine"))


def clustered_parts(n: int, n_queries: int, dim: int, latent: int, clusters: int = 200) -> tuple[Floats, Floats]:
    """The vectors and queries of `clustered`, without the truth."""
    rng = np.random.default_rng(42)
    centers = rng.standard_normal((clusters, latent))
    plane = np.linalg.qr(rng.standard_normal((dim, latent)))[0].T

    def draw(rows: int) -> Floats:
        points = centers[rng.integers(clusters, size=rows)] + 0.6 * rng.standard_normal((rows, latent))
        return unit((points @ plane + 0.02 * rng.standard_normal((rows, dim))).astype(np.float32))

    return draw(n), draw(n_queries)


def uniform(n: int, n_queries: int, dim: int, k: int) -> Workload:
    """Uniform [0, 1) vectors under l2: base from seed 42, queries from 43; a shorter set begins a longer one."""
    base = np.random.default_rng(42).random((n, dim), dtype=np.float32)
    queries = np.random.default_rng(43).random((n_queries, dim), dtype=np.float32)
    return Workload(f"uniform({n} x {dim})", False, base, queries, exact(base, queries, k, "l2"), "l2")


def unit(vectors: Floats) -> Floats:
    """The vectors divided by their lengths."""
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def recall(found: NDArray[np.integer], truth: Ids, base: Floats, queries: Floats, metric: Metric) -> float:
    """The share of true neighbors that was found, by distance as `edgevec.recall` counts it; rows of base, [m, k]."""
    from edgevec import evaluation  # only now: what other engines take is measured in processes that need no edgevec

    far, true_far = (evaluation.distances(base, queries, np.asarray(rows), metric) for rows in (found, truth))
    return evaluation.recall(found, truth, found_distances=far, true_distances=true_far, metric=metric)


def exact(base: Floats, queries: Floats, k: int, metric: Metric) -> Ids:
    """The true k nearest rows of each query, nearest first, from the cache when they were computed before."""
    digest = hashlib.blake2b(f"{metric} {k} {base.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(base).data)
    digest.update(np.ascontiguousarray(queries).data)
    kept = CACHE / f"truth-{digest.hexdigest()}.npy"
    if kept.is_file():
        cached: Ids = np.load(kept)
        return cached
    truth = exact_uncached(base, queries, k, metric)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    partial = kept.with_suffix(f".{os.getpid()}.npy")  # a run that is stopped here must not leave half a truth behind
    np.save(partial, truth)
    partial.replace(kept)
    return truth


def exact_uncached(base: Floats, queries: Floats, k: int, metric: Metric) -> Ids:
    """Float32 products over blocks of rows name a few candidates more than k; float64 distances put them in order."""
    spare = min(k + 16, len(base))
    ids = np.empty((len(queries), 0), dtype=np.int64)
    scores = np.empty((len(queries), 0), dtype=np.float32)
    for start in range(0, len(base), BLOCK_ROWS):
        block = base[start : start + BLOCK_ROWS]
        closer = queries @ block.T
        if metric == "l2":
            closer -= 0.5 * np.einsum("ij,ij->i", block, block)
        rows = np.broadcast_to(np.arange(start, start + len(block)), closer.shape)
        ids, scores = np.hstack([ids, rows]), np.hstack([scores, closer])
        best = np.argpartition(-scores, min(spare, scores.shape[1]) - 1, axis=1)[:, :spare]
        ids, scores = np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1)
    return np.vstack([in_order(base, query, row, metric)[:k] for query, row in zip(queries, ids, strict=True)])


def in_order(base: Floats, query: Floats, rows: Ids, metric: Metric) -> Ids:
    """The rows sorted by their float64 distance to the query, equal ones by row number."""
    vectors, center = base[rows].astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        distances = ((vectors - center) ** 2).sum(axis=1)
    else:
        distances = -(vectors @ center) / np.linalg.norm(vectors, axis=1)
    return rows[np.lexsort((rows, distances))]


WORKLOADS: dict[str, tuple[int, Callable[[int, int, int], Workload]]] = {
    "real": (117_659, load),
    "lowrank768": (100_000, partial(clustered, dim=768, latent=48)),
    "d128": (100_000, partial(clustered, dim=128, latent=32)),
    "million": (1_000_000, mixed),
    "million128": (1_000_000, partial(mixed, dim=128)),
}
"""By the name that command lines know: how many vectors there are, and how to make fewer (n, queries, k)."""
