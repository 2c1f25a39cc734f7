"""The adapters: LangChain's own conformance suite, and LlamaIndex's interface used as its indexes use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import edgevec

# These libraries bring pytest plugins of their own, so tox has an environment `adapters` for them.
if os.environ.get("EDGEVEC_ADAPTERS") != "1":
    pytest.skip("tox run -e adapters", allow_module_level=True)

from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

# Not our warnings: of pydantic, asyncio and the like, on some Pythons.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class TestLangChain(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        from edgevec.adapters.langchain import EdgevecVectorStore

        with edgevec.open(":memory:") as collection:
            yield EdgevecVectorStore(collection, self.get_embeddings())


def test_langchain_filters_and_scores() -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from edgevec.adapters.langchain import EdgevecVectorStore

    store = EdgevecVectorStore.from_texts(
        ["wolf", "fox", "oak"],
        DeterministicFakeEmbedding(size=6),
        [{"n": 1}, {"n": 2}, {"n": 3}],
        ids=["a", "b", "c"],
    )
    assert [found.id for found in store.similarity_search("oak", 1)] == ["c"]
    assert {found.id for found in store.similarity_search("oak", 5, filter={"n": {"$lt": 3}})} == {"a", "b"}
    assert {found.id for found in store.similarity_search("oak", 5, where="n < ?", params=[2])} == {"a"}
    found, score = store.similarity_search_with_score("fox", 1)[0]
    assert (found.page_content, found.metadata, pytest.approx(score)) == ("fox", {"n": 2}, 1)
    assert 0 <= store.similarity_search_with_relevance_scores("fox", 3)[-1][1] <= 1
    assert store.similarity_search("wolf", 1, hybrid=True)[0].id == "a"
    assert len(store.max_marginal_relevance_search("wolf", 2)) == 2
    store.collection.close()


def node(id: str, text: str, vector: list[float], source: str, **metadata: Any) -> Any:
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    return TextNode(
        id_=id,
        text=text,
        embedding=vector,
        metadata=metadata,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)},
    )


@pytest.fixture
def llama() -> Iterator[Any]:
    from edgevec.adapters.llamaindex import EdgevecVectorStore

    with edgevec.open(":memory:") as collection:
        store = EdgevecVectorStore(collection=collection)
        store.add(
            [
                node("a", "a wolf", [1, 0, 0], "animals", year=1990, tags=["x", "y"]),
                node("b", "a fox", [0, 1, 0], "animals", year=2000, tags=["y"]),
                node("c", "an oak", [0, 0, 1], "plants", year=2010),
            ]
        )
        yield store


def ids(store: Any, *filters: Any, condition: str = "and") -> list[str]:
    from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery

    query = VectorStoreQuery(
        query_embedding=[1, 0.5, 0.1],
        similarity_top_k=5,
        filters=MetadataFilters(filters=list(filters), condition=condition) if filters else None,
    )
    return list(store.query(query).ids)


def test_llamaindex_uses_the_store_as_its_own(llama: Any) -> None:
    from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
    from llama_index.core.vector_stores.types import VectorStoreQueryMode

    def field(key: str, operator: str, value: Any) -> MetadataFilter:
        return MetadataFilter(key=key, operator=FilterOperator(operator), value=value)

    assert ids(llama) == ["a", "b", "c"]
    assert ids(llama, field("year", ">", 1990)) == ["b", "c"]
    assert ids(llama, field("year", "==", 1990), field("year", "==", 2010), condition="or") == ["a", "c"]
    assert ids(llama, field("year", "==", 1990), condition="not") == ["b", "c"]
    assert ids(llama, field("tags", "contains", "x")) == ["a"]
    assert ids(llama, field("tags", "any", ["x", "y"])) == ["a", "b"]
    assert ids(llama, field("tags", "all", ["x", "y"])) == ["a"]
    assert ids(llama, field("tags", "is_empty", None)) == ["c"]
    assert ids(llama, field("year", "in", [1990, 2010]), MetadataFilters(filters=[field("year", "<", 2000)])) == ["a"]

    result = llama.query(VectorStoreQuery(query_embedding=[0, 0, 1], similarity_top_k=1))
    assert result.nodes[0].get_content() == "an oak"
    assert result.nodes[0].metadata == {"year": 2010}
    assert result.nodes[0].ref_doc_id == "plants"
    assert result.similarities == [pytest.approx(1)]
    hybrid = VectorStoreQuery(
        query_embedding=[0, 0, 1], query_str="wolf", similarity_top_k=3, mode=VectorStoreQueryMode.HYBRID, alpha=0.1
    )
    assert llama.query(hybrid).ids[0] == "a"
    text = VectorStoreQuery(query_str="fox", similarity_top_k=3, mode=VectorStoreQueryMode.TEXT_SEARCH)
    assert llama.query(text).ids == ["b"]
    within = VectorStoreQuery(query_embedding=[1, 0, 0], similarity_top_k=3, doc_ids=["plants"])
    assert llama.query(within).ids == ["c"]

    assert {found.node_id for found in llama.get_nodes(["a", "c"])} == {"a", "c"}
    llama.add([node("a", "a dog", [1, 0, 0], "animals", year=1)])
    assert llama.get_nodes(["a"])[0].get_content() == "a dog"
    llama.delete_nodes(["a"])
    llama.delete("plants")
    assert ids(llama) == ["b"]
    llama.clear()
    assert ids(llama) == []
