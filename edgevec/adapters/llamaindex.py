"""A LlamaIndex vector store on a collection: pip install 'edgevec[llamaindex]'.

store = EdgevecVectorStore(collection=edgevec.open("notes.edgevec"))
index = VectorStoreIndex.from_vector_store(store)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from ..collection import Collection
from ..errors import ParameterError

__all__ = ["EdgevecVectorStore"]

_SIMPLE = {
    FilterOperator.EQ: "$eq",
    FilterOperator.NE: "$ne",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.IN: "$in",
    FilterOperator.NIN: "$nin",
    FilterOperator.CONTAINS: "$contains",
    FilterOperator.TEXT_MATCH: "$contains",
}


class EdgevecVectorStore(BasePydanticVectorStore):
    """Nodes are records: the node's id, its embedding, its text, and its metadata with what makes it a node again."""

    stores_text: bool = True
    flat_metadata: bool = False

    _collection: Collection = PrivateAttr()

    def __init__(self, collection: Collection, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._collection = collection

    @classmethod
    def class_name(cls) -> str:
        return "EdgevecVectorStore"

    @property
    def client(self) -> Collection:
        return self._collection

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        self._collection.upsert(
            [node.node_id for node in nodes],
            [node.get_embedding() for node in nodes],
            [self._metadata(node) for node in nodes],
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes],
        )
        return [node.node_id for node in nodes]

    def _metadata(self, node: BaseNode) -> dict[str, Any]:
        metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=self.flat_metadata)
        return {**metadata, "_node_id": node.node_id}  # to filter by

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        pages = self._collection.pages(where=_where(filters, node_ids))
        return [metadata_dict_to_node(record.metadata, record.document) for page in pages for record in page]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        self._collection.delete(where={"ref_doc_id": ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        if node_ids is None and filters is None:
            return
        self._collection.delete([node.node_id for node in self.get_nodes(node_ids, filters)])

    def clear(self) -> None:
        self._collection.delete(where={})

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        vector, text, weights = query.query_embedding, None, (1.0, 1.0)
        if query.mode == VectorStoreQueryMode.TEXT_SEARCH:
            vector, text = None, query.query_str
        elif query.mode == VectorStoreQueryMode.HYBRID:
            text = query.query_str
            if query.alpha is not None:
                weights = (query.alpha, 1 - query.alpha)
        elif query.mode != VectorStoreQueryMode.DEFAULT:
            raise ParameterError(f"the query mode {query.mode} is not supported")
        k = query.hybrid_top_k if query.mode == VectorStoreQueryMode.HYBRID and query.hybrid_top_k else None
        where = _where(query.filters, query.node_ids, query.doc_ids)
        hits = self._collection.search(vector, k or query.similarity_top_k, text=text, where=where, weights=weights)
        return VectorStoreQueryResult(
            nodes=[metadata_dict_to_node(hit.metadata, hit.document) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[str(hit.id) for hit in hits],
        )


def _where(
    filters: MetadataFilters | None, node_ids: list[str] | None = None, doc_ids: list[str] | None = None
) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if node_ids is not None:
        parts.append({"_node_id": {"$in": node_ids}})
    if doc_ids is not None:
        parts.append({"ref_doc_id": {"$in": doc_ids}})
    if filters is not None and filters.filters:
        parts.append(_of_filters(filters))
    return {"$and": parts} if parts else {}


def _of_filters(filters: MetadataFilters) -> dict[str, Any]:
    parts = [_of_filters(part) if isinstance(part, MetadataFilters) else _of_filter(part) for part in filters.filters]
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$or" if filters.condition == FilterCondition.OR else "$and": parts}


def _of_filter(part: MetadataFilter) -> dict[str, Any]:
    values = part.value if isinstance(part.value, list) else [part.value]
    if part.operator in _SIMPLE:
        return {part.key: {_SIMPLE[part.operator]: part.value}}
    if part.operator == FilterOperator.TEXT_MATCH_INSENSITIVE:
        pattern = "".join(f"\\{c}" if c in "%_\\" else c for c in str(part.value))
        if pattern != str(part.value):
            raise ParameterError(f"{part.operator} cannot look for % , _ or a backslash")
        return {part.key: {"$ilike": f"%{pattern}%"}}
    if part.operator in (FilterOperator.ANY, FilterOperator.ALL):
        joined = "$or" if part.operator == FilterOperator.ANY else "$and"
        return {joined: [{part.key: {"$contains": value}} for value in values]}
    if part.operator == FilterOperator.IS_EMPTY:
        return {part.key: {"$exists": False}}
    raise ParameterError(f"the filter {part.operator} is not supported")
