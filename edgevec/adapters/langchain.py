"""A LangChain vector store on a collection: pip install 'edgevec[langchain]'."""

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
    """A LangChain vector store whose documents are the records of a collection.

    The ids of documents are strings. A record under an integer id, stored by other means, is the document whose id is
    that number as a string, unless a record has that very string.

    Searches take `where` (also as `filter`, as other stores call it), `params`, `ef`, `recall` and `exact`, as
    Collection.search does. An unexpected keyword is refused: a condition under a misspelled name would be ignored.

    Scores: higher is closer; the cosine, the inner product, or minus the squared distance. Relevance scores lie between
    0 and 1, in the same order: (1 + cosine) / 2; 1 / (1 + squared distance); (1 + x / (1 + abs(x))) / 2 of an inner
    product x, which has no bounds. A hybrid search has ranks and no such score.

    Args:
        collection: where the documents are stored
        embedding: makes the vectors of texts and queries

    Example:
        >>> import edgevec
        >>> from edgevec.adapters.langchain import EdgevecVectorStore
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> store = EdgevecVectorStore(edgevec.open(":memory:"), DeterministicFakeEmbedding(size=8))
        >>> store.add_texts(["a text", "another"], [{"year": 1999}, {"year": 2020}], ids=["a", "b"])
        ['a', 'b']
        >>> [found.page_content for found in store.similarity_search("something", k=4, where="year >= 2000")]
        ['another']
        >>> store.collection.close()
    """

    def __init__(self, collection: Collection, embedding: Embeddings) -> None:
        self.collection = collection
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings:
        """What makes the vectors of texts and queries."""
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
        """A store with these texts in the collection at `path`, which is made where there is none.

        Args:
            texts: the documents
            embedding: makes the vectors of texts and queries
            metadatas: one for each text
            ids: one for each text; None: made up
            path: as in edgevec.open(), which also takes kwargs

        Raises:
            ParameterError: texts, metadatas and ids are not of one number
        """
        store = cls(open(path, **kwargs), embedding)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.collection.close()
            raise
        return store

    @classmethod
    def from_documents(cls, documents: list[Document], embedding: Embeddings, **kwargs: Any) -> EdgevecVectorStore:
        """As from_texts(). Without `ids`, documents keep their own."""
        if kwargs.get("ids") is None:
            kwargs["ids"] = [document.id for document in documents]
        texts = [document.page_content for document in documents]
        return cls.from_texts(texts, embedding, [document.metadata for document in documents], **kwargs)

    @classmethod
    async def afrom_documents(
        cls, documents: list[Document], embedding: Embeddings, **kwargs: Any
    ) -> EdgevecVectorStore:
        """from_documents() in another thread."""
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
        """Store texts, replacing those whose id exists. All or nothing.

        Args:
            texts: the documents
            metadatas: one for each text
            ids: one for each text; one that is None is made up. Where an id comes twice, the last text counts.
            batch_size: texts that are embedded at a time; None: all

        Returns:
            The ids, one for each text.

        Raises:
            ParameterError: texts, metadatas and ids are not of one number, or a keyword is unexpected
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
        """Store documents under `ids`, or without them under their own; otherwise as add_texts()."""
        ids = kwargs.pop("ids", None)
        if ids is None:
            ids = [document.id for document in documents]
        texts = [document.page_content for document in documents]
        return self.add_texts(texts, [document.metadata for document in documents], ids=ids, **kwargs)

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete by ids, or by a condition (`where` or `filter`, `params`); without any argument, everything.

        Returns:
            True

        Raises:
            ParameterError: both ids and a condition are given, the condition is None, or a keyword is unexpected
            WhereError: the condition is empty or cannot be understood
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
        """The documents of these ids; those that do not exist are skipped."""
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
        """The k documents closest to a text. Keywords as in similarity_search_with_score()."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The k documents closest to a text, with their scores: higher is closer.

        Args:
            query: the text
            k: documents wanted
            kwargs: `where` or `filter`, `params`, `ef`, `recall`, `exact` as in Collection.search(); hybrid=True
                searches by the words of the query too, and scores are then those of the fused ranks

        Raises:
            ParameterError: a keyword is unexpected, or both where and filter are given
            WhereError: the condition cannot be understood
        """
        text = query if kwargs.pop("hybrid", False) else None
        _refuse_unknown(kwargs, (*_SEARCH, "hybrid"))
        vector = self._embedding.embed_query(query)
        return [(_document(hit), hit.score) for hit in self._search(vector, k, text=text, **kwargs)]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The k documents closest to a vector. Keywords as in similarity_search_with_score(), but not hybrid."""
        return [_document(hit) for hit in self._search(embedding, k, **kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """As max_marginal_relevance_search_by_vector(), with the vector of a text."""
        return self.max_marginal_relevance_search_by_vector(
            self._embedding.embed_query(query), k, fetch_k, lambda_mult, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """k documents that are close to a vector and differ from each other.

        Args:
            embedding: the vector, float[dim]
            k: documents wanted
            fetch_k: the closest ones among which they are chosen
            lambda_mult: 1: by closeness alone; 0: by difference alone
            kwargs: as in similarity_search_by_vector()
        """
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
        """Turns a score into one between 0 and 1."""
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
