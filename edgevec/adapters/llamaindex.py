"""A LlamaIndex vector store on a collection: pip install 'edgevec[llamaindex]'."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
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

_EMPTY_FIELDS = "_empty_fields"
"""Beside the metadata: the names of those fields that are [], which a condition cannot ask for."""

_COMPARED = {
    FilterOperator.EQ: "$eq",
    FilterOperator.GT: "$gt",
    FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt",
    FilterOperator.LTE: "$lte",
    FilterOperator.CONTAINS: "$contains",
    FilterOperator.TEXT_MATCH: "$contains",
}
_MOST_CASES = 256
_EVERY: dict[str, Any] = {"_node_id": {"$exists": True}}
_NONE: dict[str, Any] = {"_node_id": {"$exists": False}}


class EdgevecVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store whose nodes are the records of a collection: id, embedding, text and metadata.

    Queries go by vector, by text (BM25) or by both. Filters mean what they mean to LlamaIndex's SimpleVectorStore, and
    may be nested: a field that is missing satisfies NE, NIN and IS_EMPTY alone, and is not equal to anything in a group
    under NOT. An unexpected keyword is refused.

    Args:
        collection: where the nodes are stored

    Example:
        >>> import edgevec
        >>> from edgevec.adapters.llamaindex import EdgevecVectorStore
        >>> from llama_index.core.schema import TextNode
        >>> from llama_index.core.vector_stores.types import VectorStoreQuery
        >>> store = EdgevecVectorStore(collection=edgevec.open(":memory:"))
        >>> store.add([TextNode(id_="a", text="a text", embedding=[1.0, 0.0])])
        ['a']
        >>> store.query(VectorStoreQuery(query_embedding=[1.0, 0.1], similarity_top_k=1)).ids
        ['a']
        >>> store.client.close()
    """

    stores_text: bool = True
    flat_metadata: bool = False

    _collection: Collection = PrivateAttr()

    def __init__(self, collection: Collection, **kwargs: Any) -> None:
        _refuse_unknown(kwargs, type(self).model_fields)
        super().__init__(**kwargs)
        self._collection = collection

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex knows it."""
        return "EdgevecVectorStore"

    @property
    def client(self) -> Collection:
        """The collection."""
        return self._collection

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes, replacing those whose id exists; where an id comes twice, the last node counts.

        Args:
            nodes: with their embeddings

        Returns:
            The ids, one for each node.

        Raises:
            ParameterError: the embeddings do not fit the collection, or a keyword is unexpected
        """
        _refuse_unknown(kwargs)
        last = list({node.node_id: node for node in nodes}.values())
        self._collection.upsert(
            [node.node_id for node in last],
            [node.get_embedding() for node in last],
            [self._metadata(node) for node in last],
            [node.get_content(metadata_mode=MetadataMode.NONE) for node in last],
        )
        return [node.node_id for node in nodes]

    def _metadata(self, node: BaseNode) -> dict[str, Any]:
        metadata = node_to_metadata_dict(node, remove_text=True, flat_metadata=self.flat_metadata)
        empty = [name for name, value in metadata.items() if isinstance(value, (list, tuple)) and not value]
        # to filter by
        return {**metadata, "_node_id": node.node_id, **({_EMPTY_FIELDS: empty} if empty else {})}

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes of these ids that satisfy the filters.

        Args:
            node_ids: None: all; an empty list: none
            filters: None: no restriction

        Raises:
            ParameterError: a filter is not supported
        """
        pages = self._collection.pages(where=_where(filters, node_ids))
        return [metadata_dict_to_node(record.metadata, record.document) for page in pages for record in page]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document."""
        _refuse_unknown(delete_kwargs)
        self._collection.delete(where={"ref_doc_id": {"$eq": ref_doc_id}})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes of these ids that satisfy the filters.

        Args:
            node_ids: None: all; an empty list: none
            filters: None: no restriction

        Raises:
            ParameterError: neither restricts anything (clear() deletes everything), or a filter is not supported
        """
        _refuse_unknown(delete_kwargs)
        where = _where(filters, node_ids)
        if not where:
            raise ParameterError("give node_ids or filters; clear() deletes everything")
        self._collection.delete(where=where)

    def clear(self) -> None:
        """Delete every record of the collection, also those that are not nodes; its settings stay."""
        self._collection.clear()

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Search by vector, by text or by both.

        Args:
            query: its mode is DEFAULT, TEXT_SEARCH or HYBRID, which takes alpha (1: the vector alone, 0: the text
                alone). An empty list of node_ids or doc_ids is no restriction, since an index whose store keeps the
                texts passes one.

        Raises:
            ParameterError: the mode or a filter is not supported, or a keyword is unexpected
        """
        _refuse_unknown(kwargs)
        vector, text, weights = query.query_embedding, None, (1.0, 1.0)
        if query.mode == VectorStoreQueryMode.TEXT_SEARCH:
            vector, text = None, query.query_str
        elif query.mode == VectorStoreQueryMode.HYBRID:
            text = query.query_str
            if query.alpha is not None:
                weights = (query.alpha, 1 - query.alpha)
        elif query.mode != VectorStoreQueryMode.DEFAULT:
            raise ParameterError(f"query mode {query.mode} is not supported")
        k = query.hybrid_top_k if query.mode == VectorStoreQueryMode.HYBRID and query.hybrid_top_k else None
        where = _where(query.filters, query.node_ids or None, query.doc_ids or None)
        hits = self._collection.search(vector, k or query.similarity_top_k, text=text, where=where, weights=weights)
        return VectorStoreQueryResult(
            nodes=[metadata_dict_to_node(hit.metadata, hit.document) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[str(hit.id) for hit in hits],
        )


def _refuse_unknown(kwargs: dict[str, Any], known: Iterable[str] = ()) -> None:
    for name in kwargs:
        if name not in known:
            raise ParameterError(f"unexpected keyword {name!r}")


# ---- filters -------------------------------------------------------------------------------------------------------


def _where(
    filters: MetadataFilters | None, node_ids: list[str] | None = None, doc_ids: list[str] | None = None
) -> dict[str, Any]:
    """{} where nothing is restricted."""
    parts: list[dict[str, Any]] = []
    if node_ids is not None:
        parts.append({"_node_id": {"$in": node_ids}})
    if doc_ids is not None:
        parts.append({"ref_doc_id": {"$in": doc_ids}})
    if filters is not None and filters.filters:
        parts.append(_of_filters(filters))
    return {"$and": parts} if parts else {}


def _of_filters(filters: MetadataFilters) -> dict[str, Any]:
    if not filters.filters:
        return _EVERY  # as a group without filters lets all through, whatever its condition
    parts = [_of_filters(part) if isinstance(part, MetadataFilters) else _of_filter(part) for part in filters.filters]
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$or" if filters.condition == FilterCondition.OR else "$and": parts}


def _of_filter(part: MetadataFilter) -> dict[str, Any]:
    """A condition that is never NULL, so that NOT is right: each comparison comes with a test that the field exists."""
    key, value = f"`{part.key}`", part.value
    values = value if isinstance(value, list) else [value]
    there, missing = {key: {"$exists": True}}, {key: {"$exists": False}}
    if part.operator == FilterOperator.IS_EMPTY:
        return {"$or": [missing, _both(there, {key: {"$eq": ""}}), _listed_as_empty(part.key)]}
    if part.operator == FilterOperator.NE:
        return {"$or": [missing, {key: {"$ne": value}}]} if value is not None else _EVERY
    if part.operator == FilterOperator.NIN:
        return {"$or": [missing, {key: {"$nin": values}}]} if values else _EVERY
    if value is None:
        return _NONE  # nothing equals it, and nothing is less or more
    if part.operator == FilterOperator.IN:
        return _both(there, {key: {"$in": values}}) if values else _NONE
    if part.operator in _COMPARED:
        return _both(there, {key: {_COMPARED[part.operator]: value}})
    if part.operator == FilterOperator.TEXT_MATCH_INSENSITIVE:
        return _both(there, _insensitive(key, str(value)))
    if part.operator == FilterOperator.ANY:
        return _both(there, {"$or": [{key: {"$contains": value}} for value in values]}) if values else _NONE
    if part.operator == FilterOperator.ALL:
        return {"$and": [there, *({key: {"$contains": value}} for value in values)]}
    raise ParameterError(f"filter operator {part.operator} is not supported")


def _both(there: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    return {"$and": [there, asked]}


def _listed_as_empty(key: str) -> dict[str, Any]:
    return _both({_EMPTY_FIELDS: {"$exists": True}}, {_EMPTY_FIELDS: {"$contains": key}})


def _insensitive(key: str, text: str) -> dict[str, Any]:
    """$ilike ignores the case of ASCII letters only, so the others are searched for in each of their cases."""
    if any(c in "%_\\" for c in text):
        raise ParameterError(f"text_match_insensitive does not support %, _ and backslash: {text!r}")
    cases = [
        [c] if c.isascii() else sorted(v for v in {c, c.lower(), c.upper()} if v.lower() == c.lower()) for c in text
    ]
    if math.prod(map(len, cases)) > _MOST_CASES:
        raise ParameterError(f"text_match_insensitive: too many non-ASCII letters in {text!r}")
    return {"$or": [{key: {"$ilike": f"%{''.join(case)}%"}} for case in product(*cases)]}
