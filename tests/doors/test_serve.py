"""edgevec serve, as a program on loopback: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import openapi_spec_validator
import pytest
from served import Served, ask

import edgevec
from edgevec.cli.app import edgevec as command

pytestmark = pytest.mark.subprocess

DIM = 8
TOKEN = "0123456789abcdef"
BIG = 2**53 + 1
"""A double of it is 2**53."""


def big(id: int) -> dict[str, str]:
    return {"int64": str(id)}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "Notizen – 笔记.edgevec"
    rows = np.random.default_rng(1).standard_normal((300, DIM))
    with edgevec.open(path) as made:
        ids: list[Any] = [*range(295), "naïve", "1", BIG, -(2**63), 2**63 - 1]
        metadata = [{"year": 1990 + n % 30, "lang": ["de", "fr"][n % 2], "名": f"ü{n}"} for n in range(300)]
        made.upsert(ids, rows, metadata, [f"text number{n} こんにちは" for n in range(300)])
    return path


@pytest.fixture(scope="module")
def served(notes: Path) -> Iterator[Served]:
    with Served(notes) as server:
        assert server.how == "read-only"
        yield server


@pytest.fixture(scope="module")
def direct(notes: Path) -> Iterator[edgevec.Collection]:
    with edgevec.open(notes, mode="r") as collection:
        yield collection


def shown(hits: edgevec.Hits) -> list[dict[str, Any]]:
    found = [hit.as_dict() for hit in hits]
    for hit in found:
        if isinstance(hit["id"], int) and abs(hit["id"]) >= 2**53:
            hit["id"] = big(hit["id"])
    return found


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {"vector": [1, 0, 0, 0, 2, 0, 0, 0.5]},
        {"vector": [1] * DIM, "k": 1000},
        {"vector": [1] * DIM, "k": 300, "exact": True, "include": []},
        {"text": "number77"},
        {"text": "こんにちは", "k": 7, "vector": [1] * DIM, "weights": [2, 1]},
        {"vector": [1] * DIM, "k": 300, "where": "year >= ? AND lang = 'de'", "params": [2010]},
        {"vector": [1] * DIM, "where": {"名": "ü7"}, "ef": 200, "include": ["metadata"]},
        {"vector": [1] * DIM, "where": "year > 3000"},
        {"vector": [1] * DIM, "where": None, "params": None, "text": None, "recall": None},
    ],
)
def test_searches_are_those_of_the_library(
    served: Served, direct: edgevec.Collection, request_: dict[str, Any]
) -> None:
    answer = served.ask("search", request_)
    hits = direct.search(**request_)
    expected = shown(hits)
    for hit in expected:
        for name in ("metadata", "document"):
            if name not in request_.get("include", ["metadata", "document"]):
                del hit[name]
    assert answer.status == 200
    assert answer.content == {"hits": expected, "strategy": hits.stats.strategy}


def test_many_searches_are_those_of_the_library(served: Served, direct: edgevec.Collection) -> None:
    vectors = [[1, 0, 0, 0, 2, 0, 0, 0.5], [1] * DIM, [0, 1] * 4]
    for request_ in (
        {"vectors": vectors, "k": 1000},
        {"vectors": vectors, "texts": ["number77", "こんにちは", "nothing"], "where": "year >= 2010"},
        {"texts": ["number77"]},
        {"vectors": []},
    ):
        answer = served.ask("search_many", request_)
        assert answer.status == 200
        assert answer.content == {"hits": [shown(hits) for hits in direct.search_many(**request_)]}


def test_records_counts_and_what_it_is(served: Served, direct: edgevec.Collection) -> None:
    ids: list[Any] = [3, "naïve", "1", 1, BIG, -(2**63), 2**63 - 1]
    asked = [big(id) if isinstance(id, int) and abs(id) >= 2**53 else id for id in ids]
    answer = served.ask("get", {"ids": asked, "include": ["vector", "metadata", "document"]})
    for record, sent, expected in zip(answer.content["records"], asked, direct.get(ids), strict=True):
        assert record["id"] == sent
        assert (record["metadata"], record["document"]) == (expected.metadata, expected.document)
        np.testing.assert_array_equal(np.float32(record["vector"]), expected.vector)
    assert "vector" not in served.ask("get", {"ids": [3]}).content["records"][0]
    assert served.ask("get", {"ids": ["nobody", 4], "missing": "skip", "include": []}).content == {
        "records": [{"id": 4}]
    }
    missing = served.ask("get", {"ids": ["nobody", 4]})
    assert (missing.status, missing.content["error"]["kind"]) == (404, "UnknownIdError")
    assert "'nobody'" in missing.message
    assert served.ask("count", {}).content == served.ask("count", b"").content == {"count": 300}
    assert served.ask("count", {"where": "lang = ?", "params": ["de"]}).content == {"count": 150}
    assert served.ask("count", {"where": "lagn = ? OR lang = 'x'", "params": ["de"]}).content == {
        "count": 0,
        "unknown_fields": {"lagn": ["lang"]},
    }
    unknown = served.ask("search", {"vector": [1] * DIM, "where": {"yaer": {"$gt": 3}}}).content
    assert (unknown["hits"], unknown["unknown_fields"]) == ([], {"yaer": ["year"]})
    info = served.ask("/v1/info").content
    assert info["name"] == direct.path.name if direct.path else None
    assert (info["records"], info["dim"], info["metric"], info["writable"]) == (300, DIM, "cosine", False)
    assert served.ask("/health").content == {"status": "ok"}


def test_the_description_is_valid_and_true(served: Served, notes: Path, tmp_path: Path) -> None:
    document = served.ask("/openapi.json").content
    openapi_spec_validator.validate(document)
    assert "/v1/upsert" not in document["paths"]
    with Served(tmp_path / "new.edgevec", "--write", token=TOKEN) as server:
        document = server.ask("/openapi.json").content
        openapi_spec_validator.validate(document)
        assert document["security"] == [{"token": []}]
        record = {"id": big(BIG), "vector": [1.0, 2.0], "metadata": {"a": 1}, "document": "x"}
        requests: dict[str, Any] = {
            "/health": None,
            "/v1/info": None,
            "/v1/upsert": {"records": [record, record | {"id": "a", "document": None}]},
            "/v1/search": {"vector": [1, 2]},
            "/v1/search_many": {"vectors": [[1, 2], [2, 1]], "texts": ["x", "y"]},
            "/v1/get": {"ids": [big(BIG), "a"], "include": ["vector", "document"]},
            "/v1/count": {"where": "a = 1"},
            "/v1/update": {
                "ids": [big(BIG), "a"],
                "metadata": [{"a": None}, None],
                "documents": ["y", None],
                "vectors": [[1, 2], [2, 1]],
            },
            "/v1/delete": {"ids": [big(BIG)]},
        }
        assert set(document["paths"]) == set(requests)
        for path, fields in requests.items():
            [entry] = document["paths"][path].values()
            if fields is not None:
                jsonschema.validate(fields, entry["requestBody"]["content"]["application/json"]["schema"])
            answer = server.ask(path, fields)
            assert answer.status == 200
            jsonschema.validate(answer.content, entry["responses"]["200"]["content"]["application/json"]["schema"])


# ---- refusals --------------------------------------------------------------------------------------------------------

VECTOR = [1] * DIM


@pytest.mark.parametrize(
    ("path", "fields", "status", "message"),
    [
        ("search", b"{", 400, "the body is not JSON"),
        ("search", b"\xff", 400, "the body is not JSON"),
        ("search", b"[" * 100_000, 400, "the body is not JSON"),
        ("search", b'{"vector": [1, NaN]}', 400, "NaN is no number"),
        ("search", b'{"vector": [-Infinity]}', 400, "-Infinity is no number"),
        ("search", b'{"vector": [1e999, 1, 1, 1, 1, 1, 1, 1]}', 422, "NaN or infinity"),
        ("search", [1], 400, "the body must be a JSON object, not array"),
        ("search", {"wher": "a = 1"}, 400, "there is no field 'wher', only vector, text"),
        ("search", {}, 422, "give a vector or a text"),
        ("search", {"vector": {"a": 1}}, 400, "vector must be array or string or null, not object"),
        ("search", {"vector": [1, 2]}, 422, "2 dimensions, the index has 8"),
        ("search", {"vector": [VECTOR]}, 422, "must be one vector"),
        ("search", {"vector": ["x"] * DIM}, 422, "vector"),
        ("search", {"vector": [0] * DIM}, 422, "zero vector"),
        ("search", {"vector": "no encoder"}, 422, "open the collection with an encoder"),
        ("search_many", {}, 422, "give vectors or texts"),
        ("search_many", {"vectors": [VECTOR, 5]}, 400, r"vectors\[1\] must be array or string, not integer"),
        ("search_many", {"vectors": [VECTOR, [0] * DIM]}, 422, "query 1: a zero vector"),
        ("search_many", {"texts": ["a"] * 11, "k": 1000}, 400, "11 queries of k=1,000 can find 11,000 records"),
        ("search", {"vector": VECTOR, "k": 0}, 400, "k must be at least 1, not 0"),
        ("search", {"vector": VECTOR, "k": 1001}, 400, "k can be at most 1,000 here"),
        ("search", {"vector": VECTOR, "k": True}, 400, "k must be integer, not boolean"),
        ("search", {"vector": VECTOR, "k": 1.5}, 400, "k must be integer, not number"),
        ("search", {"vector": VECTOR, "ef": 10**7}, 400, "ef can be at most"),
        ("search", {"vector": VECTOR, "weights": [1]}, 400, "weights must have 2 elements, not 1"),
        ("search", {"vector": VECTOR, "include": ["vector"]}, 400, r"include\[0\] must be 'metadata' or 'document'"),
        ("search", {"vector": VECTOR, "where": "year >"}, 422, "expected"),
        ("search", {"vector": VECTOR, "where": "year > ?"}, 422, "param"),
        ("search", {"vector": VECTOR, "where": "lang = ?", "params": ["\ud800"]}, 422, "unpaired surrogate"),
        ("get", {}, 400, "the field 'ids' is missing"),
        ("get", {"ids": [1, 2.5]}, 400, r"ids\[1\] must be an integer or a string, not number"),
        ("get", {"ids": [None]}, 400, r"ids\[0\] must be an integer or a string, not null"),
        ("get", {"ids": [True]}, 400, r"ids\[0\] must be an integer or a string, not boolean"),
        ("get", {"ids": [BIG]}, 400, r"ids\[0\] is beyond 2\^53 - 1"),
        ("get", {"ids": [{"int64": "1e3"}]}, 400, r"ids\[0\] must be"),
        ("get", {"ids": [{"int64": str(2**63)}]}, 400, r"ids\[0\] does not fit in 64 bits"),
        ("get", {"ids": list(range(10_001))}, 400, "ids can have at most 10,000 elements here, not 10,001"),
        ("get", {"ids": [1], "missing": "x"}, 400, "missing must be 'raise' or 'skip', not 'x'"),
        ("count", {"where": ""}, 422, "expected a condition"),
        ("upsert", {"records": []}, 403, "read-only"),
        ("update", {"ids": [1], "metadata": {}}, 403, "read-only"),
        ("delete", {"ids": [1]}, 403, "read-only"),
        ("/v1/nothing", {}, 404, "POST /v1/nothing: Not Found; GET /openapi.json"),
        ("/v1/search", None, 405, "GET /v1/search"),
    ],
)
def test_what_is_refused_and_why(served: Served, path: str, fields: Any, status: int, message: str) -> None:
    answer = served.ask(path, fields)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.content) == {"error"}
    assert re.search(message, answer.message), answer.message
    if status == 405:
        assert answer.headers["allow"] == "POST"


def test_an_error_in_a_condition_has_its_place(served: Served) -> None:
    error = served.ask("count", {"where": "year >= 1990 AN lang = 'de'"}).content["error"]
    assert (error["kind"], error["position"]) == ("WhereError", 13)


def test_other_hosts_pages_and_kinds_of_bodies(served: Served, notes: Path) -> None:
    for host in ("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1"):
        answer = served.ask("/v1/info", Host=host)
        assert answer.status == 421, host
        assert served.ask("/health", Host=host).status == 421
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80"):
        assert served.ask("/v1/info", Host=host).status == 200
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
        assert served.ask("count", b"{}", **{"Content-Type": kind}).status == 415
    assert served.ask("count", b"{}", **{"Content-Type": "Application/JSON; charset=utf-8"}).status == 200
    page = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    asked = served.ask("/v1/count", method="OPTIONS", **page)
    assert asked.status == 405
    assert not [name for name in asked.headers if name.lower().startswith("access-control")]
    with Served(notes, "--cors", "https://page.example", "--allow-host", "notes.example", token=TOKEN) as server:
        asked = server.ask("/v1/count", method="OPTIONS", Host="notes.example", **page)
        assert asked.headers["access-control-allow-origin"] == "https://page.example"
        asked = server.ask("/v1/count", method="OPTIONS", **page | {"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in asked.headers


def test_a_token(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with Served(notes, "--token-file", tmp_path / "token") as server:
        assert server.how == "read-only, with a token"
        assert server.ask("/health").status == 200
        for given in ({}, {"Authorization": ""}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            answer = server.ask("count", {}, **given)  # type: ignore[arg-type]
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in answer.message
        for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            assert server.ask("count", {}, Authorization=given).content == {"count": 300}
        assert server.ask("/openapi.json").status == 401


def test_a_body_has_a_limit(notes: Path) -> None:
    with Served(notes, "--max-body", "2kB", "--max-k", "5", "--max-batch", "3") as server:
        assert server.ask("count", b" " * 1998 + b"{}").status == 200
        assert server.ask("count", b" " * 1999 + b"{}").status == 413
        with closing(http.client.HTTPConnection(server.host, server.port, timeout=60)) as connection:
            parts = (b" " * 500 for _ in range(10))  # in chunks, of which the length is not told
            connection.request("POST", "/v1/count", parts, {"Content-Type": "application/json"}, encode_chunked=True)
            assert connection.getresponse().status == 413
        with closing(http.client.HTTPConnection(server.host, server.port, timeout=60)) as connection:
            connection.putrequest("POST", "/v1/count")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(10**12))
            connection.endheaders()
            assert connection.getresponse().status == 413  # before anything of it has come
        assert server.ask("search", {"vector": VECTOR, "k": 6}).message == "k can be at most 5 here"
        assert "at most 3 elements here, not 4" in server.ask("get", {"ids": [1, 2, 3, 4]}).message


# ---- writing ---------------------------------------------------------------------------------------------------------


def test_it_stores_and_deletes(tmp_path: Path) -> None:
    path = tmp_path / "new.edgevec"
    with Served(path, "--write") as server:
        assert server.how == "read and write"
        assert server.ask("search", {"vector": [1, 2], "k": 3}).content["hits"] == []
        assert server.ask("/v1/info").content["dim"] is None
        assert server.ask("upsert", {"records": []}).content == {"stored": 0}
        records = [{"id": n, "vector": [n + 1, 1], "metadata": {"n": n}, "document": f"text {n}"} for n in range(10)]
        records += [
            {"id": big(BIG), "vector": [0, 1]},
            {"id": BIG - 2, "vector": [0, 2]},
            {"id": "3", "vector": [3, 0]},
        ]
        assert server.ask("upsert", {"records": records}).content == {"stored": 13}
        assert server.ask("search", {"vector": [0, 1], "k": 100}).content["hits"][0]["id"] in (big(BIG), BIG - 2)
        for records, status, message in [
            (
                [{"id": "x", "vector": [1, 2]}, {"id": "y", "vector": [1]}],
                400,
                r"records[1].vector has 1 dimensions, not 2",
            ),
            ([{"id": "x", "vector": [1, 2]}, {"id": "y"}], 400, "records[1] has no vector, and others have one"),
            ([{"id": "x", "document": "y"}], 422, "vectors are missing"),
            ([{"id": "x", "vector": [1, 2]}] * 2, 422, "id 'x' comes twice"),
            ([{"vector": [1, 2]}], 400, "records[0] lacks the field 'id'"),
            ([{"id": "x", "vector": [1, 2], "text": "t"}], 400, "records[0] has a field 'text'"),
            ([{"id": "x", "vector": [1, 2], "metadata": [1]}], 400, "records[0].metadata must be object or null"),
            ([{"id": "x", "vector": [1, 2], "document": 5}], 400, "records[0].document must be string or null"),
            ([{"id": "x", "vector": [1, 1e39]}], 422, "row 0: NaN, infinity or too long"),
            ([{"id": "x", "vector": [1, None]}], 422, "vector"),
            ([{"id": "x\0", "vector": [1, 2]}], 422, "id 0 contains a NUL"),
            ([{"id": BIG, "vector": [1, 2]}], 400, "records[0].id is beyond 2^53 - 1"),
            ("x", 400, "records must be array, not string"),
        ]:
            answer = server.ask("upsert", {"records": records})
            assert (answer.status, message in answer.message) == (status, True), answer
        for fields, status, content in (
            ({"ids": [2, big(BIG)], "metadata": {"seen": True, "n": None}}, 200, {"updated": 2}),
            ({"ids": ["3", 2], "metadata": [None, {"n": 2}], "documents": ["t", None]}, 200, {"updated": 2}),
            ({"where": "seen AND n = ?", "params": [2], "metadata": {"n": 3}}, 200, {"updated": 1}),
            ({"ids": [2], "vectors": [[5, 1]], "metadata": {"n": 2}}, 200, {"updated": 1}),
            ({"ids": [2], "vectors": [5, 1]}, 400, "vectors[0] must be array, not integer"),
            ({"ids": [2], "vectors": [[5, 1, 2]]}, 422, "vectors have 3 dimensions"),
            ({"ids": [2, 99], "metadata": {"n": 0}}, 404, "99"),
            ({"ids": [2], "metadata": [1]}, 400, "metadata[0] must be object or null, not integer"),
            ({"ids": [2], "documents": [5]}, 400, "documents[0] must be string or null, not integer"),
            ({"metadata": {"n": 0}}, 422, "give ids or where"),
            ({"ids": [2]}, 422, "nothing to change"),
        ):
            answer = server.ask("update", fields)
            assert answer.status == status, answer
            assert content == answer.content if status == 200 else content in answer.message, answer
        for fields, status in (
            ({}, 422),
            ({"where": ""}, 422),
            ({"ids": [1], "where": "n = 1"}, 422),
            ({"id": [1]}, 400),
        ):
            assert server.ask("delete", fields).status == status
        assert server.ask("count", {}).content == {"count": 13}
        assert server.ask("delete", {"ids": [big(BIG), "nobody"]}).content == {"deleted": 1}
        assert server.ask("delete", {"where": "n >= ?", "params": [5]}).content == {"deleted": 5}
        assert server.ask("get", {"ids": [BIG - 2]}).status == 200
        assert server.end() == 0
    with edgevec.open(path) as made:
        assert set(made.ids()) == {0, 1, 2, 3, 4, BIG - 2, "3"}
        assert made.check().ok
    assert not [file.name for file in tmp_path.iterdir() if file.name.endswith(("-wal", "-shm"))]


def test_texts_by_an_encoder(tmp_path: Path) -> None:
    path = tmp_path / "texts.edgevec"
    with Served(path, "--write", "--encoder", "example:wordnet") as server:
        records = [{"id": "f", "document": "a large yellow fruit"}, {"id": "d", "document": "a device for temperature"}]
        assert server.ask("upsert", {"records": records}).status == 200
        assert server.ask("search", {"vector": "thermometer", "k": 1}).content["hits"][0]["id"] == "d"
        assert server.ask("/v1/info").content["encoder"] == "example:wordnet"
        answer = server.ask("search", {"vector": "qzxqzx"})
        assert (answer.status, "no known word" in answer.message) == (422, True)


def test_what_cannot_be_served(
    notes: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDGEVEC_TOKEN", raising=False)

    def refused(*arguments: Any) -> str:
        with pytest.raises(SystemExit) as ended:
            command.main(["serve", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
        return str(err)

    for host in ("0.0.0.0", "::"):
        assert "can be reached from other machines: set EDGEVEC_TOKEN" in refused(notes, "--host", host)
    assert f"--port {served.port}: " in refused(notes, "--port", served.port)
    (tmp_path / "short").write_text("secret")
    said = refused(notes, "--token-file", tmp_path / "short")
    assert "a token has 16 characters or more" in said
    assert "secret" not in said
    assert "no such file" in refused(notes, "--token-file", tmp_path / "nowhere")
    assert "nowhere.edgevec" in refused(tmp_path / "nowhere.edgevec", "--port", 0)
    assert not (tmp_path / "nowhere.edgevec").exists()
    np.save(tmp_path / "v.npy", np.eye(3))
    assert "not a collection" in refused(tmp_path / "v.npy", "--port", 0)
    assert "no encoder has the name 'word2vec:x'" in refused(notes, "--encoder", "word2vec:x", "--port", 0)
    (tmp_path / "link.edgevec").symlink_to(notes)
    with Served(tmp_path / "link.edgevec", "--write"):
        assert "is open for writing already" in refused(notes, "--write", "--port", 0)
        with Served(notes) as second:  # reads beside it
            assert second.ask("count", {}).content == {"count": 300}


def test_it_sees_what_another_program_writes(tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    with edgevec.open(path) as writer:
        writer.upsert(["a"], [[1, 0]])
        with Served(path) as server:
            for n in range(20):
                writer.upsert([n], [[1, n]], [{"n": n}])
                assert server.ask("count", {}).content == {"count": n + 2}
                hit = server.ask("search", {"vector": [1, n], "k": 1, "where": f"n = {n}"}).content["hits"][0]
                assert hit["id"] == n
        assert writer.check().ok


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    with edgevec.open(path) as made:
        made.upsert(["a"], [[1, 0]])
    with Served(path) as server:
        path.unlink()
        answer = server.ask("search", {"vector": [1, 0]})
        assert (answer.status, answer.content["error"]["kind"]) == (503, "StorageError")
        assert server.ask("/health").status == 503
        assert server.end() == 0


# ---- clients that go, and the end ------------------------------------------------------------------------------------


def test_clients_that_go_in_the_midst(tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    records = [{"id": n, "vector": [n + 1, 1]} for n in range(2000)]
    body = json.dumps({"records": records}).encode()
    head = "POST /v1/upsert HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}"
    with Served(path, "--write") as server:
        server.ask("upsert", {"records": [{"id": "kept", "vector": [1, 2]}]})
        for sent in (b"POST /v1/ups", head.encode(), head.encode() + b"\r\n\r\n" + body[:-5]):
            with socket.create_connection((server.host, server.port)) as connection:
                connection.sendall(sent)
        assert server.ask("count", {}).content == {"count": 1}
        for _ in range(5):
            with socket.create_connection((server.host, server.port)) as connection:
                connection.sendall(head.encode() + b"\r\n\r\n" + body)  # whole, but nobody waits for the answer
        assert server.ask("count", {}).content["count"] in (1, 2001)
        assert server.ask("upsert", {"records": [{"id": "later", "vector": [1, 2]}]}).content == {"stored": 1}
        assert server.end() == 0
        assert not [line for line in server.said if "Traceback" in line]
    with edgevec.open(path) as made:
        assert len(made) in (2, 2002)
        assert made.check().ok


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_it_finish(number: int, tmp_path: Path) -> None:
    path = tmp_path / "n.edgevec"
    rows = np.random.default_rng(3).standard_normal((5000, 32)).round(3).tolist()
    body = {"records": [{"id": n, "vector": row} for n, row in enumerate(rows)]}
    begun = threading.Event()
    answers: list[Any] = []
    with Served(path, "--write") as server:

        def store() -> None:
            with closing(http.client.HTTPConnection(server.host, server.port, timeout=60)) as connection:
                connection.connect()
                begun.set()
                with suppress(OSError, http.client.HTTPException):  # the server had ended before it came
                    answers.append(ask(connection, "upsert", body))

        thread = threading.Thread(target=store)
        thread.start()
        begun.wait()
        while server.ask("count", {}).status != 200:  # the server has taken the first connection, too
            pass
        assert server.end(number) == 0
        thread.join()
        assert server.said[-1].endswith("no longer served")
        assert not [line for line in server.said if "Traceback" in line or "interrupted" in line]
    with edgevec.open(path) as made:
        assert len(made) in (0, 5000)
        if answers and answers[0].status == 200:
            assert len(made) == 5000
        assert made.check().ok
    assert not [file.name for file in tmp_path.iterdir() if file.name.endswith(("-wal", "-shm"))]


# ---- load ------------------------------------------------------------------------------------------------------------

THREADS, STEPS = 6, 60


def test_many_clients_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """Each thread has ids of its own and keeps a dict of what it has stored; every answer is compared with it."""
    path = tmp_path / "n.edgevec"
    wrong: list[Any] = []
    kept: dict[int, dict[int, list[float]]] = {owner: {} for owner in range(THREADS)}

    def client(owner: int) -> None:
        rng, mine = np.random.default_rng(owner), kept[owner]
        with closing(http.client.HTTPConnection(server.host, server.port, timeout=120)) as connection:
            for step in range(STEPS):
                ids = (rng.permutation(40)[: rng.integers(1, 8)] + 1000 * owner).tolist()
                if rng.random() < 0.25:
                    answer = ask(connection, "delete", {"ids": ids})
                    expected: Any = {"deleted": len([mine.pop(id) for id in ids if id in mine])}
                else:
                    rows = rng.standard_normal((len(ids), DIM)).astype(np.float32).tolist()
                    records = [
                        {"id": id, "vector": row, "metadata": {"owner": owner, "step": step}}
                        for id, row in zip(ids, rows, strict=True)
                    ]
                    answer = ask(connection, "upsert", {"records": records})
                    mine.update(zip(ids, rows, strict=True))
                    expected = {"stored": len(ids)}
                if answer.content != expected:
                    wrong.append((answer, expected))
                answer = ask(connection, "count", {"where": f"owner = {owner}"})
                if answer.content != {"count": len(mine)}:
                    wrong.append((answer, len(mine)))
                if mine:
                    id = int(rng.choice(list(mine)))
                    answer = ask(connection, "search", {"vector": mine[id], "k": 3})
                    first = answer.content["hits"][0]
                    if first["id"] != id or abs(first["distance"]) > 1e-5:
                        wrong.append((answer, id))
                    query = {"vector": mine[id], "k": 100, "where": {"owner": owner}, "include": []}
                    found = {hit["id"] for hit in ask(connection, "search", query).content["hits"]}
                    if found != set(mine):
                        wrong.append((found, set(mine)))

    with Served(path, "--write") as server:
        threads = [threading.Thread(target=client, args=(owner,)) for owner in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        whole = {id: row for mine in kept.values() for id, row in mine.items()}
        records = server.ask("get", {"ids": list(whole), "include": ["vector"]}).content["records"]
        assert {record["id"]: record["vector"] for record in records} == whole
        assert server.end() == 0
    with edgevec.open(path) as made:
        assert set(made.ids()) == set(whole)
        assert made.check().ok
