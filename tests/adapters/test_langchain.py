"""The recipes of LangChain's documentation, each as it stands there, on a store of this package."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgevec

# LangChain brings pytest plugins of its own, so tox has an environment `adapters` for it.
if os.environ.get("EDGEVEC_ADAPTERS") != "1":
    pytest.skip("tox run -e adapters", allow_module_level=True)

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from edgevec.adapters.langchain import EdgevecVectorStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["a wolf howls", "a fox barks", "an oak grows", "a wolf and a fox"]
METADATAS = [{"n": at} for at in range(len(TEXTS))]
IDS = ["w", "f", "o", "wf"]


class Letters(Embeddings):
    """How often each letter occurs: texts of like words are near each other, and equally near ones exactly so."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[text.lower().count(letter) + 2**-7 for letter in LETTERS] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture(params=["cosine", "l2", "ip"])
def store(request: pytest.FixtureRequest) -> Iterator[EdgevecVectorStore]:
    made = EdgevecVectorStore.from_texts(TEXTS, Letters(), METADATAS, ids=IDS, metric=request.param)
    yield made
    made.collection.close()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """Call a method of the store, or the async one of its name."""

    async def run(target: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        found = getattr(target, name if request.param == "sync" else f"a{name}")(*args, **kwargs)
        return await found if inspect.isawaitable(found) else found

    return run


def true_order(text: str, metric: str) -> list[str]:
    """The ids by what NumPy computes, nearest first."""
    rows, query = np.array(Letters().embed_documents(TEXTS)), np.array(Letters().embed_query(text))
    scores = {
        "cosine": rows @ query / np.linalg.norm(rows, axis=1),
        "ip": rows @ query,
        "l2": -np.square(rows - query).sum(1),
    }[metric]
    return [IDS[at] for at in np.argsort(-scores, kind="stable")]


# ---- making and filling --------------------------------------------------------------------------------------------


async def test_from_texts_and_from_documents(call: Any) -> None:
    for made in (
        await call(EdgevecVectorStore, "from_texts", TEXTS, Letters(), METADATAS, ids=IDS),
        await call(
            EdgevecVectorStore,
            "from_documents",
            [Document(id=i, page_content=t, metadata=m) for i, t, m in zip(IDS, TEXTS, METADATAS, strict=True)],
            Letters(),
        ),
    ):
        assert [(r.id, r.document, r.metadata) for r in made.collection] == list(
            zip(IDS, TEXTS, METADATAS, strict=True)
        )
        made.collection.close()


async def test_add_texts_and_add_documents(store: EdgevecVectorStore, call: Any) -> None:
    assert await call(store, "add_texts", ["elm", "ash"], [{"n": 9}, {}], ids=["e", None]) != ["e", None]
    assert len(store.collection) == 6
    given = [Document(id="x", page_content="yew"), Document(page_content="fir")]
    made = await call(store, "add_documents", given)
    assert made[0] == "x"
    assert len(set(made)) == 2
    assert await call(store, "add_documents", given, ids=["p", "q"]) == ["p", "q"]
    assert [found.page_content for found in await call(store, "get_by_ids", ["q", "p", "none"])] == ["fir", "yew"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"ids": ["1", "2"]},
        {"ids": []},
        {"ids": ["1", "2", "3", "4"]},
        {"metadatas": [{}]},
        {"metadatas": [{}] * 4},
        {"metadatas": []},
        {"color": "red"},
        {"batch_size": -1},
    ],
)
async def test_what_does_not_fit_the_texts_is_refused_and_nothing_stored(call: Any, arguments: dict[str, Any]) -> None:
    with edgevec.open(":memory:") as collection:
        store = EdgevecVectorStore(collection, Letters())
        with pytest.raises(ValueError, match=r"3 texts but|unexpected keyword 'color'|batch_size"):
            store.add_texts(["one", "two", "three"], **arguments)
        with pytest.raises(ValueError, match="not a string"):
            store.add_texts("one")
        assert len(collection) == 0


def test_the_batch_size_of_langchains_index_is_that_of_embedding() -> None:
    sizes = []

    class Counting(Letters):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            sizes.append(len(texts))
            return super().embed_documents(texts)

    with edgevec.open(":memory:") as collection:
        EdgevecVectorStore(collection, Counting()).add_texts(TEXTS, batch_size=3)
        assert (sizes, len(collection)) == ([3, 1], 4)


def test_a_refused_start_closes_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="texts but"):
        EdgevecVectorStore.from_texts(TEXTS, Letters(), ids=["1"], path=str(tmp_path / "a.edgevec"))
    edgevec.open(tmp_path / "a.edgevec").close()


async def test_records_under_integers_are_documents_too(call: Any) -> None:
    with edgevec.open(":memory:") as collection:
        collection.upsert([7, 8, "8", -5], Letters().embed_documents(TEXTS), None, TEXTS)
        store = EdgevecVectorStore(collection, Letters())
        found = await call(store, "similarity_search", TEXTS[0], k=1)
        assert [document.id for document in found] == ["7"]
        assert [document.page_content for document in await call(store, "get_by_ids", ["7", "8", "07"])] == [
            TEXTS[0],
            TEXTS[2],
        ]
        assert await call(store, "add_texts", ["new", "newer"], ids=["7", "9"]) == ["7", "9"]
        assert collection.ids() == [7, 8, "8", -5, "9"]
        assert collection.get(7)[0].document == "new"
        await call(store, "delete", ["7", "8", "-5"])
        assert collection.ids() == [8, "9"]


# ---- searching -----------------------------------------------------------------------------------------------------


async def test_similarity_search(store: EdgevecVectorStore, call: Any) -> None:
    expected = true_order("fox", store.collection.metric)
    assert [found.id for found in await call(store, "similarity_search", "fox", 4)] == expected
    assert [found.id for found in await call(store, "similarity_search", "fox", k=2)] == expected[:2]
    assert [found.id for found in await call(store, "similarity_search", "fox", k=2, exact=True)] == expected[:2]
    scored = await call(store, "similarity_search_with_score", "fox", k=4)
    assert [found.id for found, _ in scored] == expected
    assert [score for _, score in scored] == sorted((score for _, score in scored), reverse=True)
    by_vector = await call(store, "similarity_search_by_vector", Letters().embed_query("fox"), k=4)
    assert [found.id for found in by_vector] == expected
    for kind in ("similarity", "mmr"):
        assert len(await call(store, "search", "fox", kind, k=2)) == 2


async def test_relevance_is_in_0_to_1_and_in_the_order_of_nearness(store: EdgevecVectorStore, call: Any) -> None:
    found = await call(store, "similarity_search_with_relevance_scores", TEXTS[1], k=4)
    assert [document.id for document, _ in found] == true_order(TEXTS[1], store.collection.metric)
    scores = [score for _, score in found]
    assert 1 >= scores[0] > scores[1] > scores[2] > scores[3] >= 0


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_relevance_of_vectors_of_every_direction_and_length(metric: str) -> None:
    rows = np.random.default_rng(1).standard_normal((50, 3)) * np.geomspace(0.01, 100, 50)[:, None]

    class Rows(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [rows[int(text)].tolist() for text in texts]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    made = EdgevecVectorStore.from_texts([str(at) for at in range(50)], Rows(), metric=metric)
    for query in ("0", "20", "49"):
        scored = made.similarity_search_with_score(query, 50)
        relevant = made.similarity_search_with_relevance_scores(query, 50)
        assert [document.id for document, _ in scored] == [document.id for document, _ in relevant]
        scores = [score for _, score in relevant]
        assert scores == sorted(scores, reverse=True)
        assert 0 <= min(scores) <= max(scores) <= 1
    made.collection.close()


async def test_a_hybrid_search_ranks_and_has_no_relevance(store: EdgevecVectorStore, call: Any) -> None:
    found = await call(store, "similarity_search", "oak", k=1, hybrid=True)
    assert [document.id for document in found] == ["o"]
    with pytest.raises(ValueError, match="hybrid search has no relevance scores"):
        await call(store, "similarity_search_with_relevance_scores", "oak", k=1, hybrid=True, score_threshold=0.5)


async def test_maximal_marginal_relevance(store: EdgevecVectorStore, call: Any) -> None:
    assert len(await call(store, "max_marginal_relevance_search", "fox", k=3, fetch_k=4, lambda_mult=0.2)) == 3
    vector = Letters().embed_query("fox")
    found = await call(store, "max_marginal_relevance_search_by_vector", vector, k=3, lambda_mult=1.0)
    assert [document.id for document in found] == true_order("fox", "cosine")[:3]  # LangChain's own measure
    assert await call(store, "max_marginal_relevance_search", "fox", k=2, where="n > 99") == []


@pytest.mark.parametrize("condition", [{"where": "n >= 2"}, {"filter": {"n": {"$gte": 2}}}, {"where": None}, {}])
async def test_conditions_limit_every_kind_of_search(
    store: EdgevecVectorStore, call: Any, condition: dict[str, Any]
) -> None:
    wanted = {"o", "wf"} if any(condition.values()) else set(IDS)
    for name in ("similarity_search", "max_marginal_relevance_search"):
        assert {found.id for found in await call(store, name, "fox", k=4, **condition)} == wanted
    scored = await call(store, "similarity_search_with_relevance_scores", "fox", k=4, **condition)
    assert {found.id for found, _ in scored} == wanted
    beside = await call(store, "similarity_search", "fox", k=4, where=None, filter={"n": 1})
    assert [found.id for found in beside] == ["f"]
    asked = await call(store, "similarity_search", "fox", k=4, where="n = ?", params=[1])
    assert [found.id for found in asked] == ["f"]


@pytest.mark.parametrize("unknown", ["filters", "condition", "wher", "score_threshold"])
async def test_an_unknown_keyword_is_an_error(store: EdgevecVectorStore, call: Any, unknown: str) -> None:
    for name in ("similarity_search", "similarity_search_with_score", "max_marginal_relevance_search"):
        with pytest.raises(ValueError, match=f"unexpected keyword '{unknown}'; expected where, filter"):
            await call(store, name, "fox", k=1, **{unknown: {"n": 1}})
    with pytest.raises(ValueError, match=f"unexpected keyword '{unknown}'"):
        await call(store, "similarity_search_by_vector", [1.0] * 26, k=1, **{unknown: {"n": 1}})
    with pytest.raises(ValueError, match="mean the same"):
        await call(store, "similarity_search", "fox", where="n = 1", filter={"n": 2})


# ---- the retriever -------------------------------------------------------------------------------------------------


async def asked(retriever: Any, call: Any, text: str) -> list[str]:
    return [found.id for found in await call(retriever, "invoke", text)]


async def test_a_retriever_finds_what_a_search_finds(store: EdgevecVectorStore, call: Any) -> None:
    expected = true_order("fox", store.collection.metric)
    assert await asked(store.as_retriever(), call, "fox") == expected
    assert await asked(store.as_retriever(search_kwargs={"k": 1}), call, "fox") == expected[:1]
    assert await asked(store.as_retriever(search_kwargs={"filter": {"n": 2}}), call, "fox") == ["o"]
    mmr = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 4, "lambda_mult": 0.25})
    assert len(await asked(mmr, call, "fox")) == 2
    with pytest.raises(ValueError, match="unexpected keyword 'filters'"):
        await asked(store.as_retriever(search_kwargs={"filters": {"n": 2}}), call, "fox")


async def test_as_retriever_with_a_threshold(store: EdgevecVectorStore, call: Any) -> None:
    scored = store.similarity_search_with_relevance_scores("a fox barks", k=4)
    for count in range(1, 5):
        kept = {"k": 4, "score_threshold": scored[count - 1][1]}
        retriever = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=kept)
        assert await asked(retriever, call, "a fox barks") == [found.id for found, _ in scored[:count]]


# ---- deleting ------------------------------------------------------------------------------------------------------


async def test_delete_takes_ids_or_a_condition(store: EdgevecVectorStore, call: Any) -> None:
    assert await call(store, "delete", ["w", "none"]) is True
    assert store.collection.ids() == ["f", "o", "wf"]
    await call(store, "delete", [])
    await call(store, "delete", where="n = ?", params=[1])
    assert store.collection.ids() == ["o", "wf"]
    await call(store, "delete", filter={"n": 2})
    assert store.collection.ids() == ["wf"]
    await call(store, "delete")
    assert len(store.collection) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        {"filters": {"n": 1}},
        {"where": None},
        {"filter": None},
        {"where": {}},
        {"filter": {}},
        {"where": ""},
        {"ids": ["w"], "where": "n = 1"},
        {"params": [1]},
    ],
)
async def test_a_delete_that_would_take_more_than_it_says(
    store: EdgevecVectorStore, call: Any, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"unexpected keyword|None|empty condition|not both"):
        await call(store, "delete", **arguments)
    assert store.collection.ids() == IDS
