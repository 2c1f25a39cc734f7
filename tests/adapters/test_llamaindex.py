"""The recipes of LlamaIndex's documentation, and its own SimpleVectorStore as the oracle of filters."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support import examples

import edgevec

# LlamaIndex brings pytest plugins of its own, so tox has an environment `adapters` for it.
if os.environ.get("EDGEVEC_ADAPTERS") != "1":
    pytest.skip("tox run -e adapters", allow_module_level=True)

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery, utils
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQueryMode,
)

from edgevec.adapters.llamaindex import EdgevecVectorStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = {"wolf": "the wolf howls", "fox": "a fox barks", "oak": "an oak grows"}


class Letters(BaseEmbedding):
    """How often each letter occurs."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [text.lower().count(letter) + 0.01 for letter in LETTERS]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture
def store() -> Iterator[EdgevecVectorStore]:
    with edgevec.open(":memory:") as collection:
        yield EdgevecVectorStore(collection=collection)


@pytest.fixture
def index(store: EdgevecVectorStore) -> VectorStoreIndex:
    documents = [Document(id_=id, text=text, metadata={"kind": id, "n": len(id)}) for id, text in TEXTS.items()]
    context = StorageContext.from_defaults(vector_store=store)
    return VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=Letters())


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """Call a method, or the async one of its name."""

    async def run(target: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        name = name if request.param == "sync" else {"add": "async_add"}.get(name, f"a{name}")
        if isinstance(target, VectorStoreIndex) and not hasattr(target, name):
            name = name[1:]  # indexes of old versions have no adelete_nodes()
        found = getattr(target, name)(*args, **kwargs)
        return await found if inspect.isawaitable(found) else found

    return run


async def retrieved(index: VectorStoreIndex, call: Any, text: str, **options: Any) -> list[str]:
    found = await call(index.as_retriever(**options), "retrieve", text)
    assert [node.get_content() for node in found] == [TEXTS[node.node.ref_doc_id] for node in found]
    return [node.node.ref_doc_id for node in found]


# ---- indexes -------------------------------------------------------------------------------------------------------


async def test_a_retriever_finds_what_from_documents_stored(index: VectorStoreIndex, call: Any) -> None:
    assert await retrieved(index, call, "wolf howls", similarity_top_k=1) == ["wolf"]
    assert set(await retrieved(index, call, "wolf", similarity_top_k=9)) == set(TEXTS)


async def test_a_retriever_finds_what_another_index_stored(index: VectorStoreIndex, call: Any) -> None:
    again = VectorStoreIndex.from_vector_store(index.vector_store, embed_model=Letters())
    assert await retrieved(again, call, "fox barks", similarity_top_k=1) == ["fox"]


async def test_a_query_engine_answers_from_what_is_stored(index: VectorStoreIndex, call: Any) -> None:
    for made in (index, VectorStoreIndex.from_vector_store(index.vector_store, embed_model=Letters())):
        answer = await call(made.as_query_engine(llm=MockLLM(), similarity_top_k=2), "query", "an oak grows")
        assert TEXTS["oak"] in str(answer)
        assert len(answer.source_nodes) == 2
        assert answer.source_nodes[0].node.ref_doc_id == "oak"


async def test_a_retriever_with_filters(index: VectorStoreIndex, call: Any) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="kind", value="oak")])
    assert await retrieved(index, call, "wolf", similarity_top_k=9, filters=filters) == ["oak"]
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=3, operator=FilterOperator.GT)])
    assert await retrieved(index, call, "fox", similarity_top_k=9, filters=filters) == ["wolf"]


async def test_a_retriever_with_ids_of_documents(index: VectorStoreIndex, call: Any) -> None:
    assert await retrieved(index, call, "wolf", similarity_top_k=9, doc_ids=["oak"]) == ["oak"]
    assert len(await retrieved(index, call, "wolf", similarity_top_k=9, doc_ids=[])) == 3


@pytest.mark.parametrize("mode", ["default", "hybrid", "text_search"])
async def test_every_query_mode_finds_the_right_node_first(index: VectorStoreIndex, call: Any, mode: str) -> None:
    options = {"vector_store_query_mode": mode, "similarity_top_k": 3}
    assert (await retrieved(index, call, "the fox barks", **options))[0] == "fox"
    words = await retrieved(index, call, "oak", **options)
    assert words == ["oak"] if mode == "text_search" else len(words) == 3


async def test_hybrid_weights_and_top_k(index: VectorStoreIndex, call: Any) -> None:
    options: dict[str, Any] = {"vector_store_query_mode": "hybrid", "similarity_top_k": 3}
    assert len(await retrieved(index, call, "oak", hybrid_top_k=2, **options)) == 2
    assert await retrieved(index, call, "oak", alpha=0.0, **options) == ["oak"]
    assert len(await retrieved(index, call, "oak", alpha=1.0, **options)) == 3


async def test_a_query_mode_that_there_is_not(index: VectorStoreIndex, call: Any) -> None:
    with pytest.raises(ValueError, match="not supported"):
        await retrieved(index, call, "fox", vector_store_query_mode="mmr")


async def test_insert_and_delete_of_documents(index: VectorStoreIndex, call: Any) -> None:
    index.insert(Document(id_="new", text="zzz zz z"))
    again = VectorStoreIndex.from_vector_store(index.vector_store, embed_model=Letters())
    assert (await call(again.as_retriever(similarity_top_k=1), "retrieve", "zzz"))[0].node.ref_doc_id == "new"
    await call(again, "delete_ref_doc", "new")
    assert len(index.vector_store.client) == 3
    index.delete_ref_doc("fox", delete_from_docstore=True)
    assert set(await retrieved(again, call, "fox", similarity_top_k=9)) == {"wolf", "oak"}
    index.insert_nodes([TextNode(id_="n", text="zzz")])
    await call(index, "delete_nodes", ["n"])
    assert len(index.vector_store.client) == 2


# ---- the store -----------------------------------------------------------------------------------------------------


def node(id: str, source: str = "source", **metadata: Any) -> TextNode:
    related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
    return TextNode(id_=id, text=f"text {id}", embedding=[1.0, len(id)], metadata=metadata, relationships=related)


async def test_add_get_delete_and_clear(store: EdgevecVectorStore, call: Any) -> None:
    assert await call(store, "add", [node("a", year=1), node("b", "other"), node("a", year=2)]) == ["a", "b", "a"]
    assert [found.metadata for found in await call(store, "get_nodes", ["a"])] == [{"year": 2}]
    assert {found.node_id for found in await call(store, "get_nodes")} == {"a", "b"}
    assert await call(store, "get_nodes", []) == []
    await call(store, "delete", "other")
    assert {found.node_id for found in await call(store, "get_nodes")} == {"a"}
    await call(store, "add", [node("c", year=3), node("d", year=3)])
    year = MetadataFilters(filters=[MetadataFilter(key="year", value=3)])
    await call(store, "delete_nodes", ["c", "a"], year)
    assert {found.node_id for found in await call(store, "get_nodes")} == {"a", "d"}
    await call(store, "delete_nodes", [])
    await call(store, "delete_nodes", None, year)
    assert {found.node_id for found in await call(store, "get_nodes")} == {"a"}
    await call(store, "clear")
    assert len(store.client) == 0


async def test_a_delete_of_everything_is_called_clear(store: EdgevecVectorStore, call: Any) -> None:
    store.add([node("a")])
    for filters in (None, MetadataFilters(filters=[])):
        with pytest.raises(ValueError, match=r"give node_ids or filters; clear\(\) deletes everything"):
            await call(store, "delete_nodes", None, filters)
    assert len(store.client) == 1


def test_an_unknown_keyword_is_an_error(store: EdgevecVectorStore) -> None:
    store.add([node("a")])
    for attempt in (
        lambda: store.add([node("b")], filters=1),
        lambda: store.delete("source", filters=1),
        lambda: store.delete_nodes(["a"], where=1),
        lambda: store.query(VectorStoreQuery(query_embedding=[1, 1]), where=1),
        lambda: EdgevecVectorStore(collection=store.client, metric="ip"),
    ):
        with pytest.raises(ValueError, match=r"unexpected keyword '(filters|where|metric)'"):
            attempt()
    assert len(store.client) == 1


# ---- filters, as SimpleVectorStore has them ------------------------------------------------------------------------

KEYS = ["e", "a.b", "two words"]
VALUES = [1, 2.5, "x", "xy", "Ä", ""]
FIELDS = st.dictionaries(
    st.sampled_from(KEYS),
    st.none() | st.sampled_from(VALUES) | st.lists(st.sampled_from(["x", "y", "Ä"]), max_size=2),
    max_size=3,
)
LISTS = st.lists(st.sampled_from(["x", "xy", "y"]), max_size=2)
SINGLE = [op for op in FilterOperator if op.name in ("EQ", "NE", "GT", "GTE", "LT", "LTE", "CONTAINS")]
MATCHES = [FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE]
SEVERAL = [FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL]
TESTS = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(SINGLE), st.sampled_from([*VALUES, None])),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(MATCHES), st.sampled_from(["x", "X", "Ä", "ä", ""])),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(SEVERAL), LISTS),
    st.tuples(st.sampled_from(KEYS), st.just(FilterOperator.IS_EMPTY), st.none()),
)


@pytest.mark.skipif(not hasattr(utils, "build_metadata_filter_fn"), reason="older filters mean something else")
@settings(max_examples=examples(400), suppress_health_check=[HealthCheck.filter_too_much])
@given(
    fields=st.lists(FIELDS, min_size=1, max_size=4),
    tests=st.lists(TESTS, max_size=3),
    condition=st.sampled_from(list(FilterCondition)),
)
def test_filters_mean_what_they_mean_to_the_simple_store(
    fields: list[dict[str, Any]], tests: list[Any], condition: FilterCondition
) -> None:
    filters = MetadataFilters(
        filters=[MetadataFilter(key=key, operator=operator, value=value) for key, operator, value in tests],
        condition=condition,
    )
    nodes = [node(str(at), **metadata) for at, metadata in enumerate(fields)]
    query = VectorStoreQuery(query_embedding=[1.0, 1.0], similarity_top_k=9, filters=filters)
    simple = SimpleVectorStore()
    simple.add(nodes)
    try:
        expected = set(simple.query(query).ids)
    except TypeError:
        assume(False)
    with edgevec.open(":memory:") as collection:
        store = EdgevecVectorStore(collection=collection)
        store.add(nodes)
        assert set(store.query(query).ids) == expected
        assert {found.node_id for found in store.get_nodes(filters=filters)} == expected
        inner = MetadataFilters(filters=[filters], condition=FilterCondition.AND)
        assert {found.node_id for found in store.get_nodes(filters=inner)} == expected


def test_letters_of_either_case() -> None:
    with edgevec.open(":memory:") as collection:
        store = EdgevecVectorStore(collection=collection)
        store.add([node("a", t="GRÖSSE"), node("b", t="größe"), node("c", t="ÖL")])

        def found(text: str) -> list[str]:
            match = MetadataFilter(key="t", value=text, operator=FilterOperator.TEXT_MATCH_INSENSITIVE)
            return [made.node_id for made in store.get_nodes(filters=MetadataFilters(filters=[match]))]

        assert (found("grö"), found("Öl"), found("ß")) == (["a", "b"], ["c"], ["b"])
        with pytest.raises(ValueError, match="non-ASCII letters"):
            found("ö" * 20)


def test_the_query_mode_and_k_of_a_query(store: EdgevecVectorStore) -> None:
    store.add([node("a"), node("bb")])
    query = VectorStoreQuery(query_str="bb", similarity_top_k=2, mode=VectorStoreQueryMode.TEXT_SEARCH)
    assert store.query(query).ids == ["bb"]
    for empty in ({"node_ids": []}, {"doc_ids": []}, {"node_ids": [], "doc_ids": []}):
        assert len(store.query(VectorStoreQuery(query_embedding=[1, 1], similarity_top_k=5, **empty)).ids) == 2
    assert store.query(VectorStoreQuery(query_embedding=[1, 1], similarity_top_k=5, node_ids=["a"])).ids == ["a"]
