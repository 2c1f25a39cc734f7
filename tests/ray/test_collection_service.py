"""A collection in shards, held by actors: it answers as one plain collection, whatever happens to the actors."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray_cluster import Background, wait_for_end
from records_in_shards import CONDITIONS, OTHERS, WORDS, allowed, assert_same, bm25, records, single
from support import HANG, wait_until

import edgevec
import edgevec.ray
from edgevec import Collection, ShardedCollection
from edgevec.collection.where.nodes import MAX_DEPTH
from edgevec.ray import CollectionService

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("default")]

ROWS = records(0, 161, WORDS)
"""More than are fused: so some are found by words alone."""
OPTIONS: dict[str, Any] = {"rows_per_shard": 35, "metric": "l2", "quantization": "none"}
LIGHT: dict[str, Any] = {"ray_remote_args": {"num_cpus": 0.25}}
QUERY: dict[str, Any] = {"vector": [3, 3, 3], "k": 20, "text": "red fox", "exact": True}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection") / "s"
    ShardedCollection.build(ROWS, folder, **OPTIONS).close()
    return folder


@pytest.fixture(scope="module")
def one() -> Iterator[Collection]:
    with single(ROWS) as made:
        yield made


@pytest.fixture(scope="module")
def service(cluster: object, built: Path) -> Iterator[CollectionService]:
    with edgevec.ray.serve_collection(built, replicas=2, actors=2, **LIGHT) as made:
        yield made


@pytest.fixture(scope="module")
def opened(built: Path) -> Iterator[ShardedCollection]:
    with ShardedCollection.open(built) as made:
        yield made


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """One that may be changed."""
    return Path(shutil.copytree(built, tmp_path / "s"))


def pid_of(service: CollectionService, replica: int, part: int) -> int:
    pid: int = ray.get(service._replicas.actor(replica, part).handle.pid.remote(), timeout=HANG)
    return pid


def kill(service: CollectionService, replica: int, part: int) -> None:
    pid = pid_of(service, replica, part)
    os.kill(pid, signal.SIGKILL)
    wait_for_end(pid)


def between_rounds(
    service: CollectionService, monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]
) -> list[str]:
    """Do something just before the first round of this name, once. All names are in the list that is returned."""
    ask, names, todo = service._ask, [], [act]

    def asking(parts: Any, sent: Any, kind: Any, turn: Any = None) -> Any:
        names.extend(kind[0])
        if name in kind[0] and todo:
            todo.pop()()
        return ask(parts, sent, kind, turn)

    monkeypatch.setattr(service, "_ask", asking)
    return names


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_hits_are_those_of_one_collection(
    service: CollectionService, one: Collection, opened: ShardedCollection
) -> None:
    """And how they were found is what a collection in shards says that is open here."""
    rng = np.random.default_rng(3)
    strategies = set()
    for turn in range(60):
        asked: dict[str, Any] = {"k": int(rng.integers(1, 70)), "where": CONDITIONS[turn // 3 % len(CONDITIONS)][0]}
        if turn % 3:
            asked["vector"] = rng.integers(-3, 4, 3).tolist()
        if turn % 3 != 1:
            asked["text"] = " ".join(rng.choice(WORDS + OTHERS, rng.integers(0, 5)))
        if turn % 3 == 2:
            asked["weights"] = [(1.0, 1.0), (2, 0.5), (0, 1), (1, 0)][turn % 4]
        found = service.search(**asked, exact=True)
        assert_same(found, one.search(**asked, exact=True))
        assert found.stats == opened.search(**asked, exact=True).stats
        strategies.add(found.stats.strategy)
    assert strategies >= {"exact", "text", "exact + text"}


def test_hits_are_those_of_arithmetic(service: CollectionService) -> None:
    rows = np.array([row["vector"] for row in ROWS], np.float64)
    for text, (where, sql) in zip(("red", "fox blue", "the dog", "", "green red"), CONDITIONS, strict=False):
        may = allowed(ROWS, sql)
        far = ((rows - [1, 0, 2]) ** 2).sum(axis=1)
        near = sorted(may, key=lambda at: (far[at], at))[:9]
        found = service.search([1, 0, 2], 9, where=where, exact=True)
        assert [(hit.id, hit.distance) for hit in found] == [(ROWS[at]["id"], far[at]) for at in near]
        scores = {at: score for at, score in bm25(ROWS, text.split()).items() if at in may}
        best = sorted(scores, key=lambda at: (-scores[at], at))[:9]
        hits = service.search(text=text, k=9, where=where)
        assert [hit.score for hit in hits] == pytest.approx([scores[at] for at in best])
        assert {hit.id for hit in hits} == {ROWS[at]["id"] for at in best}
        assert service.count(where) == len(may)


def test_records_by_id(service: CollectionService, one: Collection) -> None:
    for record, row in zip(service.get(["t159", 1, "t0", 59, 1]), (ROWS[at] for at in (159, 1, 0, 59, 1)), strict=True):
        assert (record.id, record.metadata, record.document) == (row["id"], row["metadata"], row["text"])
        assert record.vector.tolist() == row["vector"]
    assert [record.id for record in service.get([7, "no", 8], missing="skip")] == [7, 8]
    with pytest.raises(edgevec.UnknownIdError, match="'no'"):
        service.get([7, "no"])
    assert 7 in service
    assert 3 not in service  # which is "t3"
    assert service.ids() == [row["id"] for row in ROWS]
    assert service.ids("year >= ?", [2000]) == one.ids("year >= 2000")
    assert service.unknown_fields("yaer > 1 AND lang = 'de'") == {"yaer": ["year"]}
    assert (len(service), service.share, service.problems) == (161, 1.0, {})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"vector": [1, 2]},
        {"vector": [[1, 2, 3]]},
        {"vector": [1, 2, float("nan")]},
        {"vector": [1, 2, 3], "k": 0},
        {"vector": [1, 2, 3], "k": "a"},
        {"vector": [1, 2, 3], "ef": 0},
        {"vector": [1, 2, 3], "recall": 2},
        {"vector": [1, 2, 3], "weights": (0, 0)},
        {"vector": [1, 2, 3], "where": "a ="},
        {"vector": [1, 2, 3], "where": "year = ?", "params": []},
        {"vector": "a text"},
        {"text": 7},
        {"text": "a", "include": ["all"]},
    ],
)
def test_errors_are_those_of_a_collection_that_is_open_here(
    service: CollectionService, opened: ShardedCollection, given: dict[str, Any]
) -> None:
    with pytest.raises(edgevec.EdgevecError) as wanted:
        opened.search(**given)
    with pytest.raises(edgevec.EdgevecError) as found:
        service.search(**given)
    assert type(found.value) is type(wanted.value)
    assert str(found.value) == str(wanted.value)


def test_without_exact_the_nearest_are_found(service: CollectionService, one: Collection) -> None:
    """So few are all met."""
    for options in ({}, {"ef": 100}, {"recall": 0.9}):
        for include in ((), ("metadata",), ("metadata", "document")):
            found, wanted = (made.search([0, 1, 2], 5, include=include, **options) for made in (service, one))
            assert [hit.distance for hit in found] == [hit.distance for hit in wanted]
            assert all(bool(hit.metadata) == bool(include) for hit in found)


def test_a_condition_as_deep_as_may_be(service: CollectionService, opened: ShardedCollection) -> None:
    """It is sent to the actors."""
    depth = MAX_DEPTH // 2
    where = " OR (year > 1995 AND (".join(["year < 2000"] * depth) + "))" * (depth - 1)
    assert_same(service.search(**QUERY, where=where), opened.search(**QUERY, where=where))
    assert service.count(where) == opened.count(where) > 0
    with pytest.raises(edgevec.WhereError, match="nested"):
        service.count("(year > 1 AND (lang IS NULL OR " * depth + "year > 1" + "))" * depth)


def test_vectors_of_texts_are_made_once_where_the_service_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def encode(found: list[str]) -> Any:
        calls.extend(found)
        return [[len(text), text.count("a") + 1] for text in found]

    mine, other = (edgevec.encoders.TextEncoder(name, encode) for name in ("mine", "other"))
    rows = [{"id": n, "text": "a" * n + "b"} for n in range(6)]
    ShardedCollection.build(rows, tmp_path / "s", rows_per_shard=2, metric="l2", encoder=mine).close()
    calls.clear()
    with pytest.raises(edgevec.ParameterError, match="mine"):
        edgevec.ray.serve_collection(tmp_path / "s", encoder=other)
    with edgevec.ray.serve_collection(tmp_path / "s", encoder=mine, storage="disk", actors=2, **LIGHT) as made:
        kill(made, 0, 1)
        assert [(hit.id, hit.distance) for hit in made.search("aab", 2)] == [(2, 0.0), (1, 2.0)]
        assert calls == ["aab"]
        assert made.search(text="aaaab", k=1)[0].id == 4
        assert calls == ["aab", "aaaab"]
        with ShardedCollection.open(tmp_path / "s") as many:
            names = between_rounds(made, monkeypatch, "some", lambda: (many.delete([2]), many.compact()))
            assert [hit.id for hit in made.search("aabb", 2)] == [3, 1]
        assert names == ["nearest", "some"] * 2
        assert calls == ["aab", "aaaab", "aabb"]
    with edgevec.ray.serve_collection(tmp_path / "s", actors=1, **LIGHT) as made:
        assert made.search(text="aaaab", k=1)[0].distance is None
        with pytest.raises(edgevec.ParameterError, match="mine"):
            made.search("aab")
    with pytest.raises(edgevec.ClosedError):
        made.count()


def test_all_rounds_of_a_search_go_to_one_replica(service: CollectionService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has in memory what it has read of a word in the first one."""
    following, asked = service._replicas._next, []
    monkeypatch.setattr(service._replicas, "_next", lambda turn=None: asked.append(following(turn)) or asked[-1])
    monkeypatch.setattr(service._replicas, "_delays", None)  # so that nobody owes an answer
    wait_until(lambda: {following() for _ in range(4)} == {0, 1}, "a replica owes answers")
    for _ in range(4):
        service.search(**QUERY)
    searches = [asked[at : at + 3] for at in range(0, 12, 3)]
    assert len(asked) == 12
    assert all(len(set(replicas)) == 1 for replicas in searches)
    assert {replicas[0] for replicas in searches} == {0, 1}


# ---- actors that are lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nearest", "matching", "some"])
def test_an_actor_that_is_killed_between_rounds_costs_no_answer(
    service: CollectionService, one: Collection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = service.stats.replaced

    def both() -> None:
        for replica in range(2):
            kill(service, replica, 1)

    names = between_rounds(service, monkeypatch, name, both)
    assert_same(service.search(**QUERY), one.search(**QUERY))
    assert names == ["nearest", "words", "matching", "some"]
    assert service.search(**QUERY)
    assert service.stats.replaced - before == 2


def test_who_is_stopped_is_not_waited_for(folder: Path, one: Collection) -> None:
    found: list[edgevec.Hits] = []
    with edgevec.ray.serve_collection(folder, replicas=2, actors=1, hedge=0.5, **LIGHT) as service:
        for _ in range(5):
            service.search(**QUERY)
        pid = pid_of(service, 0, 0)
        os.kill(pid, signal.SIGSTOP)
        try:
            Background(lambda: found.extend(service.search(**QUERY) for _ in range(4))).end()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert service.stats.won
        assert service.stats.replaced == 0
    for hits in found:
        assert_same(hits, one.search(**QUERY))


# ---- another manifest ------------------------------------------------------------------------------------------------


def change(many: Any) -> Iterator[None]:
    """Some changes, one after the other: of collections of both kinds."""
    many.upsert([2, "new"], [[3, 3, 3], [3, 3, 2]], [{"year": 1990}, None], ["red red", "fox"])
    yield
    many.delete([1, 4, "t0"])
    yield
    many.delete(where="year >= 2005")
    yield
    many.update("t3", documents="red fox fox")
    yield
    many.compact()
    yield
    many.clear()
    yield
    many.upsert([5, 6], [[1, 1, 1], [3, 3, 3]], documents=["red", "fox red"])
    yield


def test_a_service_follows_changes(folder: Path) -> None:
    with (
        ShardedCollection.open(folder) as many,
        single(ROWS) as one,
        edgevec.ray.serve_collection(folder, actors=2, **LIGHT) as service,
    ):
        for _ in zip(change(many), change(one), strict=True):
            assert sorted(map(str, service.ids())) == sorted(map(str, one.ids()))
            for asked in ({"vector": [0, 1, 2]}, {"text": "red fox"}, QUERY):
                found, wanted = service.search(**asked), many.search(**asked)
                assert_same(found, wanted)
                exact = [hit.score for hit in one.search(**{**asked, "exact": True})]
                if "vector" not in asked or "exact" in asked:
                    assert [hit.score for hit in found] == pytest.approx(exact)
        assert len(service) == 2
        assert not service.refresh()
        shutil.rmtree(folder)
        with pytest.raises(edgevec.CollectionNotFoundError):
            service.count()


@pytest.mark.parametrize("what", ["add", "compact", "kill"])
def test_all_rounds_are_of_one_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Of the old one, also where others have asked by the new one; where old files are gone, all begins anew."""
    with ShardedCollection.open(folder) as many, edgevec.ray.serve_collection(folder, actors=2, **LIGHT) as service:
        before = many.search(**QUERY)

        def change() -> None:
            if what == "add":
                many.add("new", [3, 3, 3], documents="red fox")
                assert service.count() == 162
                return
            many.delete(where="year < 2000")
            many.compact()
            if what == "kill":
                kill(service, 0, 0)
                kill(service, 0, 1)

        names = between_rounds(service, monkeypatch, "matching", change)
        found, after = service.search(**QUERY), many.search(**QUERY)
        assert [hit.id for hit in before] != [hit.id for hit in after]
        assert_same(found, before if what == "add" else after)
        assert names.count("nearest") == (1 if what == "add" else 2)
        assert_same(service.search(**QUERY), after)
        assert (service.problems, service.share) == ({}, 1.0)


def test_every_answer_is_that_of_one_state(folder: Path) -> None:
    """Threads ask while another process, so to speak, changes records: nobody sees half of two states."""
    answers: list[edgevec.Hits] = []
    with (
        ShardedCollection.open(folder) as many,
        edgevec.ray.serve_collection(folder, replicas=2, actors=2, **LIGHT) as service,
    ):
        states, over = [many.search(**QUERY)], []

        def ask() -> None:
            while not over:
                answers.append(service.search(**QUERY))

        threads = [Background(ask) for _ in range(2)]
        try:
            for turn in range(12):
                many.upsert([7, f"n{turn}"], [[3, 3, 3 - turn], [3, 3, 3]], documents=["red", "fox red " * turn])
                states.append(many.search(**QUERY))
                count = len(answers)
                wait_until(lambda count=count: len(answers) > count, "nobody is answered")  # type: ignore[misc]
                if turn == 5:
                    kill(service, 0, 0)
                if turn == 8:
                    many.compact()
        finally:
            over.append(True)
            for thread in threads:
                thread.end()
        assert_same(service.search(**QUERY), states[-1])
    keys = [[(hit.id, hit.score, hit.distance) for hit in state] for state in states]
    seen = [keys.index([(hit.id, hit.score, hit.distance) for hit in hits]) for hits in answers]
    assert len(set(seen)) > 2


# ---- shards that are missing -----------------------------------------------------------------------------------------


def test_a_shard_that_cannot_be_read_is_an_error_or_reported(folder: Path) -> None:
    with ShardedCollection.open(folder) as many:
        files = [shard.file for shard in many.shards]
    gone, damaged = folder / f"{files[1]}-graph", folder / files[3]
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes().replace(b"fox", b"fix"))  # which the checksum alone tells
    with edgevec.ray.serve_collection(folder, actors=2, **LIGHT) as service:
        for call in (lambda: service.search([1, 2, 3]), lambda: service.search(text="red"), service.count):
            with pytest.raises((edgevec.ShardNotFoundError, edgevec.CorruptCollectionError), match="|".join(files)):
                call()
    left = [row for at, row in enumerate(ROWS) if at // 35 not in (1, 3)]
    with edgevec.ray.serve_collection(folder, actors=2, missing="report", **LIGHT) as service, single(left) as one:
        assert_same(service.search(**QUERY), one.search(**QUERY))
        assert {file: type(error) for file, error in service.problems.items()} == {
            files[1]: edgevec.ShardNotFoundError,
            files[3]: edgevec.CorruptCollectionError,
        }
        assert service.share == pytest.approx(len(left) / len(ROWS))
        assert service.ids() == one.ids()
        assert [record.id for record in service.get([1, 40], missing="skip")] == [1]
        with pytest.raises((edgevec.ShardNotFoundError, edgevec.CorruptCollectionError)):
            service.get([40])
    for path in folder.glob("*.edgevec"):
        path.unlink()
    with edgevec.ray.serve_collection(folder, actors=2, missing="report", **LIGHT) as service:
        for call in (lambda: service.search(**QUERY), lambda: service.search([1, 2, 3]), service.ids):
            with pytest.raises((edgevec.ShardNotFoundError, edgevec.CorruptCollectionError)):
                call()


def test_what_is_lost_for_good_in_a_later_round(folder: Path, one: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search begins anew without the shards that are gone: their words do not count any more."""
    with edgevec.ray.serve_collection(folder, actors=2, missing="report", **LIGHT) as service:
        service.search(**QUERY)
        lost = {shard.file for shard in service._parts[1].manifest.shards}

        def lose() -> None:
            for file in lost:
                (folder / file).unlink()
            kill(service, 0, 1)

        places = [at for at, shard in enumerate(service._manifest.shards) if shard.file in lost]
        between_rounds(service, monkeypatch, "matching", lose)
        with single([row for at, row in enumerate(ROWS) if at // 35 not in places]) as left:
            assert_same(service.search(**QUERY), left.search(**QUERY))
        assert service.problems.keys() == lost


def test_what_is_served_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(edgevec.CorruptIndexError, match="a collection in shards"):
        edgevec.ray.serve(folder)
    edgevec.ShardedIndex.build(np.eye(3), tmp_path / "i").close()
    with pytest.raises(edgevec.CorruptCollectionError, match="an index in shards"):
        edgevec.ray.serve_collection(tmp_path / "i")
    with pytest.raises(edgevec.CollectionNotFoundError):
        edgevec.ray.serve_collection(tmp_path / "nothing")
    for wrong in ({"replicas": 0}, {"missing": "no"}, {"storage": "tape"}, {"condition_memory": -1}):
        with pytest.raises(edgevec.ParameterError):
            edgevec.ray.serve_collection(folder, **wrong)  # type: ignore[arg-type]


# ---- Ray Data --------------------------------------------------------------------------------------------------------


def test_ray_data_asks_a_collection(built: Path, one: Collection) -> None:
    asked = [{"n": n, "vector": row["vector"], "words": WORDS[n % 6]} for n, row in enumerate(ROWS[:12])]
    where = "year >= ?"
    search = edgevec.ray.SearchCollection(built, 4, text="words", where=where, params=[1995], exact=True)
    found = ray.data.from_items(asked).map_batches(search, batch_size=5).take_all()
    assert len(found) == len(asked)
    for row in found:
        wanted = one.search(
            asked[row["n"]]["vector"], 4, text=asked[row["n"]]["words"], where=where, params=[1995], exact=True
        )
        assert list(row["ids"]) == [hit.id for hit in wanted]
        assert list(row["scores"]) == pytest.approx([hit.score for hit in wanted])


def test_batches_of_words_or_of_vectors_alone(built: Path, one: Collection) -> None:
    words, vectors = {"words": np.array(["red", "dog"], object)}, {"vector": np.eye(3, dtype=np.float32)}
    found = edgevec.ray.SearchCollection(built, 3, text="words")(words)
    assert found["ids"].tolist() == [[hit.id for hit in one.search(text=text, k=3)] for text in words["words"]]
    found = edgevec.ray.SearchCollection(built, 3, exact=True)(vectors)
    assert found["ids"].tolist() == [[hit.id for hit in one.search(row, 3, exact=True)] for row in vectors["vector"]]
    for options, batch in (({"text": "text"}, words), ({}, words), ({"column": "v", "text": "words"}, words)):
        with pytest.raises(edgevec.DataFormatError, match="words"):
            edgevec.ray.SearchCollection(built, **options)(batch)  # type: ignore[arg-type]
    with pytest.raises(edgevec.WhereError):
        edgevec.ray.SearchCollection(built, where="year >")
