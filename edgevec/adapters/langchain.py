"""A LangChain vector store on a collection: pip install 'edgevec[langchain]'.

store = EdgevecVectorStore(edgevec.open("notes.edgevec"), embedding)
store.add_texts(["a text", "another"], [{"year": 1999}, {"year": 2020}])
store.similarity_search("something", k=4, where="year >= 2000")
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ..collection import Collection, Hit, Record, open
from ..collection.where import Where

__all__ = ["EdgevecVectorStore"]


class EdgevecVectorStore(VectorStore):
    """The documents are records of the collection; their ids are strings.

    Searches take `where` (also as `filter`, as other stores call it), `params` and `ef`, as Collection.search does.
    """

    def __init__(self, collection: Collection, embedding: Embeddings) -> None:
        self.collection = collection
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings:
        return self._embedding

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str = ":memory:",
        **kwargs: Any,
    ) -> EdgevecVectorStore:
        """path and kwargs: as in edgevec.open()."""
        store = cls(open(path, **kwargs), embedding)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts, replacing those whose id exists; their ids."""
        texts = list(texts)
        keys = [key or str(uuid.uuid4()) for key in (ids if ids is not None else [None] * len(texts))]
        # An interface of lists: where an id comes twice, the last one counts.
        last = list({key: at for at, key in enumerate(keys)}.values())
        self.collection.upsert(
            [keys[at] for at in last],
            self._embedding.embed_documents([texts[at] for at in last]),
            None if metadatas is None else [metadatas[at] for at in last],
            [texts[at] for at in last],
        )
        return keys

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        ids = kwargs.pop("ids", None) or [document.id for document in documents]
        texts, metadatas = (
            [document.page_content for document in documents],
            [document.metadata for document in documents],
        )
        return self.add_texts(texts, metadatas, ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by ids, or by `where`; without either, everything."""
        if ids is None:
            self.collection.delete(where=_where(kwargs) or {}, params=kwargs.get("params"))
        else:
            self.collection.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(record) for record in self.collection.get(list(ids), missing="skip")]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """Documents and their scores, more is better. hybrid=True: by the words of the query too."""
        vector = self._embedding.embed_query(query)
        text = query if kwargs.pop("hybrid", False) else None
        return [(_document(hit), hit.score) for hit in self._search(vector, k, text=text, **kwargs)]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return [_document(hit) for hit in self._search(embedding, k, **kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        return self.max_marginal_relevance_search_by_vector(
            self._embedding.embed_query(query), k, fetch_k, lambda_mult, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        import numpy as np

        hits = self._search(embedding, max(k, fetch_k), **kwargs)
        records = self.collection.get([hit.id for hit in hits], missing="skip")
        vectors: Any = [record.vector for record in records]
        chosen = maximal_marginal_relevance(np.asarray(embedding, np.float32), vectors, lambda_mult, k)
        return [_document(records[at]) for at in chosen]

    def _search(self, vector: list[float], k: int, *, text: str | None = None, **kwargs: Any) -> list[Hit]:
        return self.collection.search(
            vector,
            k,
            text=text,
            where=_where(kwargs),
            params=kwargs.get("params"),
            ef=kwargs.get("ef"),
            recall=kwargs.get("recall"),
        )

    def _select_relevance_score_fn(self) -> Any:
        """Of a score, what lies between 0 and 1."""
        if self.collection.metric == "cosine":
            return lambda score: (1 + score) / 2
        if self.collection.metric == "l2":
            return lambda score: 1 / (1 - score)
        return self._max_inner_product_relevance_score_fn


def _where(kwargs: dict[str, Any]) -> Where | None:
    where: Where | None = kwargs.get("where", kwargs.get("filter"))
    return where


def _document(found: Hit | Record) -> Document:
    return Document(id=str(found.id), page_content=found.document or "", metadata=found.metadata)
