"""edgevec for VectorDBBench: a collection in a file of this machine, which every process of the benchmark opens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from vectordb_bench.backend.clients.api import VectorDB
from vectordb_bench.backend.filter import Filter, FilterOp
from vectordb_bench.backend.payload import PayloadProfile

import edgevec

from .config import EdgevecCaseConfig

log = logging.getLogger(__name__)

NUMBER, LABEL = "number", "label"
"""The fields of the metadata: the id that is filtered by, and the label."""


class Edgevec(VectorDB):
    """It is sent to other processes, so it holds a path, and what is open only between init() and its end."""

    name = "Edgevec"
    supported_filter_types: ClassVar = [FilterOp.NonFilter, FilterOp.NumGE, FilterOp.StrEqual]
    thread_safe = True

    def __init__(
        self,
        dim: int,
        db_config: dict[str, Any],
        db_case_config: EdgevecCaseConfig,
        collection_name: str = "",
        drop_old: bool = False,
        with_scalar_labels: bool = False,
        **kwargs: Any,
    ) -> None:
        self.dim = dim
        self.path = Path(db_config["path"])
        self.durability = db_config["durability"]
        self.parameters = db_case_config.index_param()
        self.search_parameters = db_case_config.search_param()
        self.with_scalar_labels = with_scalar_labels
        self.mode = "a"
        self.where: dict[str, Any] | None = None
        self.collection: edgevec.Collection | None = None
        if drop_old:
            for file in self.path.parent.glob(f"{self.path.name}*"):
                if file.name.removeprefix(self.path.name) in ("", "-graph", "-wal", "-shm", "-journal"):
                    file.unlink()
            self._open().close()

    def _open(self) -> edgevec.Collection:
        if self.mode == "r":
            return edgevec.open(self.path, mode="r", mmap=True)
        return edgevec.open(self.path, self.dim, durability=self.durability, **self.parameters)

    @contextmanager
    def init(self) -> Iterator[None]:
        self.collection = self._open()
        try:
            yield
        finally:
            self.collection.close()
            self.collection = None

    def _opened(self) -> edgevec.Collection:
        if self.collection is None:
            raise RuntimeError("call init() first")
        return self.collection

    def insert_embeddings(
        self,
        embeddings: list[list[float]],
        metadata: list[int],
        labels_data: list[str] | None = None,
        tenant_labels_data: list[str] | None = None,
        **kwargs: Any,
    ) -> tuple[int, Exception | None]:
        """All of them or none, as one commit."""
        fields: list[dict[str, Any]] = [{NUMBER: id} for id in metadata]
        if self.with_scalar_labels and labels_data is not None:
            for row, label in zip(fields, labels_data, strict=True):
                row[LABEL] = label
        try:
            self._opened().upsert(metadata, np.asarray(embeddings, np.float32), fields)
        except (edgevec.EdgevecError, OSError) as error:
            log.warning("%d vectors are not inserted: %s", len(metadata), error)
            return 0, error
        return len(metadata), None

    def optimize(self, data_size: int | None = None) -> None:
        """Index the fields that filters read, and write the graph beside the collection, which readers map."""
        collection = self._opened()
        for field in (NUMBER, *([LABEL] if self.with_scalar_labels else [])):
            collection.create_index(field)
        collection.checkpoint()

    def prepare_filter(self, filters: Filter) -> None:
        """What is searched from now on. Who searches does not write: what is open is opened again, to read."""
        if filters.type == FilterOp.NonFilter:
            self.where = None
        elif filters.type == FilterOp.NumGE:
            self.where = {NUMBER: {"$gte": filters.int_value}}
        elif filters.type == FilterOp.StrEqual:
            self.where = {LABEL: filters.label_value}
        else:
            raise ValueError(f"edgevec's client has no filter {filters.type}")
        if self.mode == "a":
            self.mode = "r"
            if self.collection is not None:
                self.collection.close()
                self.collection = self._open()

    def search_embedding(
        self,
        query: list[float],
        k: int = 100,
        payload_profile: PayloadProfile = PayloadProfile.IDS_ONLY,
        tenant: str | None = None,
        **kwargs: Any,
    ) -> list[int]:
        found = self._opened().search(
            np.asarray(query, np.float32),
            k,
            where=self.where,
            include=(),
            **self.search_parameters,
        )
        return [hit.id for hit in found]
