"""One small adapter per engine, and `FAMILIES`: all that is compared, each with its grid of settings.

The grids are the whole of the tuning. An engine's line in a table is its best setting for each recall target, so a
wider grid can only help it; to try another setting, add it here.
"""

from __future__ import annotations

from functools import partial

from engines.base import Engine, Family, Options, Settings
from engines.edgevec_engine import Edgevec
from engines.embedded import QdrantEdge, SqliteVector, Zvec
from engines.graphs import Ngt, RabitqHnsw, Svs, SymphonyQG, Vsag
from engines.hnsw import FaissHnsw, FaissRabitq, Hnswlib, Usearch, Voyager
from engines.ivf import FaissFastScan, NumpyExact, Scann, Turbovec

__all__ = ["FAMILIES", "Edgevec", "Engine", "Family", "Hnswlib", "Options", "Settings"]

LISTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
FETCHED = (10, 12, 16, 24, 32, 48, 64, 96)
RERANKS = ({"rerank": 30}, {"rerank": 60}, {"rerank": 120}, {"rerank": 240})
DEGREES = ({"M": 16}, {"M": 24}, {"M": 32})
TWO_DEGREES = ({"M": 16}, {"M": 32})
EPSILONS = (0, 20, 40, 60, 80, 100, 120, 140, 160, 200, 250, 300)
ZVEC_GRAPHS = (
    {"m": 16},
    {"m": 16, "quantize": "INT8"},
    {"m": 32, "quantize": "INT8"},
    {"m": 16, "quantize": "UNIFORM_UINT8"},
)
ZVEC_VAMANAS = ({"max_degree": 32}, {"max_degree": 32, "quantize": "UNIFORM_UINT8"}, {"max_degree": 64})

FAMILIES: dict[str, Family] = {
    "edgevec sq8": Family("edgevec", partial(Edgevec, quantization="sq8"), DEGREES),
    "edgevec binary": Family("edgevec", partial(Edgevec, quantization="binary"), DEGREES),
    "edgevec none": Family("edgevec", partial(Edgevec, quantization="none"), TWO_DEGREES),
    "hnswlib": Family("hnswlib", Hnswlib, TWO_DEGREES),
    "faiss HNSW": Family("faiss-cpu", partial(FaissHnsw, sq8=False), TWO_DEGREES),
    "faiss HNSW-SQ8": Family("faiss-cpu", partial(FaissHnsw, sq8=True), TWO_DEGREES),
    "faiss IVF-PQ-FastScan + refine": Family(
        "faiss-cpu",
        FaissFastScan,
        ({"nlist": 512}, {"nlist": 1024}, {"nlist": 512, "dims_per_code": 4}),
        RERANKS,
        "nprobe",
        LISTS,
    ),
    "usearch f32": Family("usearch", partial(Usearch, dtype="f32"), ({"M": 16},)),
    "usearch i8": Family("usearch", partial(Usearch, dtype="i8"), TWO_DEGREES),
    "voyager f32": Family("voyager", partial(Voyager, storage="Float32"), TWO_DEGREES),
    "voyager E4M3": Family("voyager", partial(Voyager, storage="E4M3"), ({"M": 16},)),
    "scalable-vs Vamana LVQ4x8": Family(
        "scalable-vs",
        partial(Svs, codes="LVQ4x8"),
        ({"degree": 32}, {"degree": 64}),
        ({"capacity": 1.0}, {"capacity": 1.5}, {"capacity": 1.0, "visited_set": True}),
        "window",
    ),
    "scalable-vs Vamana LVQ8": Family(
        "scalable-vs",
        partial(Svs, codes="LVQ8"),
        ({"degree": 32}, {"degree": 64}),
        ({}, {"visited_set": True}),
        "window",
    ),
    "scalable-vs Vamana f16": Family(
        "scalable-vs",
        partial(Svs, codes="f16"),
        ({"degree": 32}, {"degree": 64}),
        ({}, {"visited_set": True}),
        "window",
    ),
    "scann AH + reorder": Family(
        "scann",
        Scann,
        ({"leaves": 1000, "soar": 1.5}, {"leaves": 3000, "soar": 1.5}, {"leaves": 1000}, {"leaves": 350}),
        RERANKS,
        "leaves",
        LISTS,
    ),
    "rabitqlib SymqgIndex": Family(
        "rabitqlib",
        SymphonyQG,
        ({"degree": 32}, {"degree": 32, "bits": 8}, {"degree": 32, "init": "pipnn"}, {"degree": 64}),
    ),
    "rabitqlib HnswIndex": Family("rabitqlib", RabitqHnsw, ({"bits": 8}, {"bits": 5}, {"bits": 8, "M": 32})),
    "turbovec + re-rank in NumPy": Family(
        "turbovec", Turbovec, ({"bits": 4}, {"bits": 3}, {"bits": 2}), search_param="fetched", grid=FETCHED
    ),
    "faiss HNSW-RaBitQ + refine": Family(
        "faiss-cpu",
        FaissRabitq,
        ({"bits": 4}, {"bits": 8}, {"bits": 4, "M": 32}),
        ({"rerank": 10}, {"rerank": 20}, {"rerank": 40}),
    ),
    "pyvsag HGraph": Family(
        "pyvsag",
        Vsag,
        ({"codes": "sq8_uniform"}, {"codes": "sq8"}, {"codes": "sq8_uniform", "degree": 64}),
    ),
    "zvec HNSW": Family("zvec", partial(Zvec, kind="Hnsw", ef_construction=200), ZVEC_GRAPHS),
    "zvec HNSW-RaBitQ": Family(
        "zvec",
        partial(Zvec, kind="HnswRabitq", ef_construction=200),
        ({"m": 16}, {"m": 32}, {"m": 16, "total_bits": 5}),
    ),
    "zvec Vamana": Family("zvec", partial(Zvec, kind="Vamana"), ZVEC_VAMANAS),
    "qdrant-edge HNSW": Family("qdrant-edge-py", partial(QdrantEdge, codes=False), ({"M": 16},)),
    "qdrant-edge HNSW-SQ8": Family(
        "qdrant-edge-py", partial(QdrantEdge, codes=True), TWO_DEGREES, ({"oversampling": 1.0}, {"oversampling": 2.0})
    ),
    "NGT ANNG": Family("ngt", Ngt, ({"edges": 10}, {"edges": 20}), ({}, {"search_edges": 20}), "epsilon", EPSILONS),
    "sqlite-vector scan": Family(
        "sqliteai-vector",
        SqliteVector,
        ({"quantize": "qtype=INT8"}, {"quantize": "qtype=TURBO,qbits=4"}),
        search_param="fetched",
        grid=FETCHED,
    ),
    "numpy exact": Family("numpy", NumpyExact, search_param="none", grid=(0,)),
}
