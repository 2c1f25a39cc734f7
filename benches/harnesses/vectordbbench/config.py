"""What VectorDBBench is told of a collection: where it lies, how it is built, how it is searched."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from vectordb_bench.backend.clients.api import DBCaseConfig, DBConfig, MetricType

METRICS = {MetricType.COSINE: "cosine", MetricType.L2: "l2", MetricType.IP: "ip", MetricType.DP: "ip"}


class EdgevecConfig(DBConfig):
    """The file, and whether a commit waits for the disk, as `durability` of edgevec.open()."""

    path: str
    durability: str = "full"

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "durability": self.durability}


class EdgevecCaseConfig(BaseModel, DBCaseConfig):
    """
    Attributes:
        metric_type: set by VectorDBBench, which knows the data set
        quantization: "sq8", "none" or "binary"
        M: links of a node
        ef_construction: candidates that are looked at when a node is linked
        ef: candidates that a search keeps; None: edgevec's default, or k, if that is larger
        recall: in place of ef: the share of the k nearest that is to be found
    """

    metric_type: MetricType | None = None
    quantization: str = "sq8"
    M: int = 16
    ef_construction: int = 200
    ef: int | None = None
    recall: float | None = None

    def index_param(self) -> dict[str, Any]:
        return {
            "metric": METRICS[self.metric_type or MetricType.COSINE],
            "quantization": self.quantization,
            "M": self.M,
            "ef_construction": self.ef_construction,
        }

    def search_param(self) -> dict[str, Any]:
        return {"ef": self.ef, "recall": self.recall}
