"""A LangChain vector store on a collection: pip install 'edgevec[langchain]'.

store = EdgevecVectorStore(edgevec.open("notes.edgevec"), embedding)
store.add_texts(["a text", "another"], [{"year": 1999}, {"year": 2020}])
store.similarity_search("something", k=4, where="year >= 2000")
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ..collection import Collection, Hit, Record, open
from ..collection.where import Where
from ..errors import ParameterError

__all__ = ["EdgevecVectorStore"]

_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})")
_CONDITION = ("where", "filter", "params")
_SEARCH = (*_CONDITION, "ef", "recall", "exact")


class EdgevecVectorStore(VectorStore):
    """The documents are records of the collection; their ids are strings. A record under an integer, stored by other
    means, is the document whose id spells it, where no record has that very string.

    Searches take `where` (also as `filter`, as other stores call it), `params`, `ef`, `recall` and `exact`, as
    Collection.search does. A keyword that is not known is a ParameterError: a condition under another name would be
    none.

    Scores: more is better; the cosine, the inner product, or minus the squared distance. Relevance scores lie between 0
    and 1, in the same order: (1 + cosine) / 2; 1 / (1 + squared distance); (1 + x / (1 + abs(x))) / 2 of an inner
    product x, which has no bounds. A hybrid search has ranks and no such score.
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
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.collection.close()
            raise
        return store

    @classmethod
    def from_documents(cls, documents: list[Document], embedding: Embeddings, **kwargs: Any) -> EdgevecVectorStore:
        """As from_texts. The documents' ids are kept where no `ids` are given, in every version of LangChain."""
        if kwargs.get("ids") is None:
            kwargs["ids"] = [document.id for document in documents]
        texts = [document.page_content for document in documents]
        return cls.from_texts(texts, embedding, [document.metadata for document in documents], **kwargs)

    @classmethod
    async def afrom_documents(
        cls, documents: list[Document], embedding: Embeddings, **kwargs: Any
    ) -> EdgevecVectorStore:
        return await run_in_executor(None, cls.from_documents, documents, embedding, **kwargs)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts, replacing those whose id exists; their ids. All or nothing.

        Args:
            metadatas, ids: one for each text; an id that is None is made up. Where an id comes twice, the last one
                counts.
            batch_size: texts that are embedded at a time; None: all
        """
        _refuse_unknown(kwargs, ("metadatas", "ids", "batch_size"))
        if isinstance(texts, str):
            raise ParameterError("texts must be a list of strings, not a string")
        texts = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise ParameterError(f"{len(texts)} texts but {len(given)} {name}")
        keys = [str(uuid.uuid4()) if key is None else str(key) for key in ids or [None] * len(texts)]
        # An interface of lists: where an id comes twice, the last one counts.
        last = list({key: at for at, key in enumerate(keys)}.values())
        self.collection.upsert(
            self._stored([keys[at] for at in last]),
            self._embed([texts[at] for at in last], batch_size),
            None if metadatas is None else [metadatas[at] for at in last],
            [texts[at] for at in last],
        )
        return keys

    def _embed(self, texts: list[str], batch_size: int | None) -> list[list[float]]:
        size = batch_size or max(1, len(texts))
        if size < 1:
            raise ParameterError(f"batch_size must be at least 1, not {batch_size}")
        pieces = (texts[at : at + size] for at in range(0, len(texts), size))
        return [vector for piece in pieces for vector in self._embedding.embed_documents(piece)]

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Store documents under `ids`, or without under their own; otherwise as add_texts."""
        ids = kwargs.pop("ids", None)
        if ids is None:
            ids = [document.id for document in documents]
        texts = [document.page_content for document in documents]
        return self.add_texts(texts, [document.metadata for document in documents], ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by ids, or by a condition (`where` or `filter`, `params`); without any argument, everything.

        An empty condition, or None for one, is refused.
        """
        _refuse_unknown(kwargs, ("ids", *_CONDITION))
        if ids is None and not kwargs:
            self.collection.clear()
            return True
        where = _where(kwargs)
        if ids is not None and where is not None:
            raise ParameterError("give ids or a condition, not both")
        if ids is None and where is None:
            raise ParameterError("the condition is None; to delete everything, call delete() without arguments")
        self.collection.delete(None if ids is None else self._stored(ids), where, kwargs.get("params"))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [_document(record) for record in self.collection.get(self._stored(ids), missing="skip")]

    def _stored(self, ids: Iterable[str]) -> list[int | str]:
        """The ids under which the collection holds documents of these ids, or would hold them."""
        keys = [str(id) for id in ids]
        numbers = {key: int(key) for key in keys if _INTEGER.fullmatch(key) and -(2**63) <= int(key) < 2**63}
        if not numbers:
            return list(keys)
        either: list[int | str] = [*numbers, *numbers.values()]
        held = {record.id for record in self.collection.get(either, missing="skip")}
        return [numbers[key] if key not in held and numbers.get(key) in held else key for key in keys]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """Documents and their scores, more is better. hybrid=True: by the words of the query too; the score is then
        that of the fused ranks."""
        text = query if kwargs.pop("hybrid", False) else None
        _refuse_unknown(kwargs, (*_SEARCH, "hybrid"))
        vector = self._embedding.embed_query(query)
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
        hits = self._search(embedding, max(k, fetch_k), **kwargs)
        records = self.collection.get([hit.id for hit in hits], missing="skip")
        vectors: Any = [record.vector for record in records]
        chosen = maximal_marginal_relevance(np.asarray(embedding, np.float32), vectors, lambda_mult, k)
        return [_document(records[at]) for at in chosen]

    def _search(self, vector: list[float], k: int, *, text: str | None = None, **kwargs: Any) -> list[Hit]:
        _refuse_unknown(kwargs, _SEARCH)
        return self.collection.search(
            vector,
            k,
            text=text,
            where=_where(kwargs),
            params=kwargs.get("params"),
            ef=kwargs.get("ef"),
            recall=kwargs.get("recall"),
            exact=kwargs.get("exact", False),
        )

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        _refuse_hybrid(kwargs)
        return super()._similarity_search_with_relevance_scores(query, k, **kwargs)

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        _refuse_hybrid(kwargs)
        return await super()._asimilarity_search_with_relevance_scores(query, k, **kwargs)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Of a score, what lies between 0 and 1."""
        return _RELEVANCE[self.collection.metric]


_RELEVANCE: dict[str, Callable[[float], float]] = {
    "cosine": lambda score: min(1.0, max(0.0, (1 + score) / 2)),  # a rounded cosine may be a little above 1
    "l2": lambda score: 1 / (1 + max(0.0, -score)),
    "ip": lambda score: (1 + score / (1 + abs(score))) / 2,
}


def _refuse_unknown(kwargs: dict[str, Any], known: Sequence[str]) -> None:
    for name in kwargs:
        if name not in known:
            raise ParameterError(f"unexpected keyword {name!r}; expected {', '.join(known)}")


def _refuse_hybrid(kwargs: dict[str, Any]) -> None:
    if kwargs.get("hybrid"):
        raise ParameterError("hybrid search has no relevance scores; search without a threshold")


def _where(kwargs: dict[str, Any]) -> Where | None:
    where, other = kwargs.get("where"), kwargs.get("filter")
    if where is not None and other is not None:
        raise ParameterError("where and filter mean the same: give one, not both")
    return other if where is None else where


def _document(found: Hit | Record) -> Document:
    return Document(id=str(found.id), page_content=found.document or "", metadata=found.metadata)
