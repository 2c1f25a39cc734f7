"""What VectorDBBench 2.0.0 gives a client to build on: the names that one for a file needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, ClassVar

from pydantic import BaseModel

from ..filter import Filter, FilterOp


class MetricType(str, Enum):
    L2 = "L2"
    COSINE = "COSINE"
    IP = "IP"
    DP = "DP"


class IndexType(str, Enum):
    HNSW = "HNSW"


class DBConfig(ABC, BaseModel):
    db_label: str = ""
    version: str = ""
    note: str = ""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]: ...


class DBCaseConfig(ABC):
    @abstractmethod
    def index_param(self) -> dict[str, Any]: ...

    @abstractmethod
    def search_param(self) -> dict[str, Any]: ...


class VectorDB(ABC):
    supported_filter_types: ClassVar[list[FilterOp]] = [FilterOp.NonFilter]
    name: str = ""
    thread_safe: bool = True

    @classmethod
    def filter_supported(cls, filters: Filter) -> bool:
        return filters.type in cls.supported_filter_types

    def prepare_filter(self, filters: Filter) -> None:
        return

    @abstractmethod
    def __init__(
        self,
        dim: int,
        db_config: dict[str, Any],
        db_case_config: DBCaseConfig | None,
        collection_name: str,
        drop_old: bool = False,
        **kwargs: Any,
    ) -> None: ...

    @abstractmethod
    def init(self) -> AbstractContextManager[None] | Iterator[None]: ...

    def need_normalize_cosine(self) -> bool:
        return False

    @abstractmethod
    def insert_embeddings(
        self,
        embeddings: list[list[float]],
        metadata: list[int],
        labels_data: list[str] | None = None,
        tenant_labels_data: list[str] | None = None,
        **kwargs: Any,
    ) -> tuple[int, Exception | None]: ...

    @abstractmethod
    def search_embedding(
        self, query: list[float], k: int = 100, payload_profile: Any = None, tenant: str | None = None
    ) -> list[int]: ...

    @abstractmethod
    def optimize(self, data_size: int | None = None) -> None: ...
