"""The HTTP server as an application, for what a program shows too seldom: slow bodies, too many requests, faults."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx
import pytest

import edgevec
from edgevec.servers import http_server


@pytest.fixture
def collection() -> Iterator[edgevec.Collection]:
    with edgevec.open(":memory:") as made:
        made.upsert(["a", "b"], [[1, 0], [0, 1]])
        yield made


def ask(app: Any, path: str, **request: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, **request)

    return anyio.run(go)


def test_it_answers(collection: edgevec.Collection) -> None:
    app = http_server.application(collection)
    answer = ask(app, "/v1/search", json={"vector": [0, 1], "k": 1})
    assert answer.json()["hits"][0]["id"] == "b"


def test_a_body_that_does_not_come(collection: edgevec.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep(60)

    answer = ask(
        http_server.application(collection), "/v1/count", content=body(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        408,
        "the body did not arrive within 0.05 seconds",
    )


def test_too_many_requests(collection: edgevec.Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MOST_AT_WORK", 0)
    answer = ask(http_server.application(collection), "/v1/count", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["kind"] == "BusyError"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (edgevec.MemoryLimitError("8 MB are held"), 507, "MemoryLimitError"),
        (MemoryError(), 507, "OutOfMemoryError"),
        (edgevec.BusyError("busy"), 503, "BusyError"),
        (edgevec.ClosedError("closed"), 503, "ClosedError"),
        (edgevec.CorruptCollectionError("damaged"), 500, "CorruptCollectionError"),
        (edgevec.ReadOnlyError("read-only"), 403, "ReadOnlyError"),
        (RuntimeError("a secret of the server"), 500, "InternalError"),
    ],
)
def test_errors_of_the_collection(
    collection: edgevec.Collection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    kind: str,
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(edgevec.Collection, "count", fail)
    with caplog.at_level(logging.CRITICAL):
        answer = ask(http_server.application(collection), "/v1/count", json={})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind)
    assert "secret" not in answer.text


def test_loopback() -> None:
    for host in ("localhost", "127.0.0.1", "127.9.9.9"):
        assert http_server.is_loopback(host)
    for host in ("0.0.0.0", "::", "8.8.8.8", "2001:db8::1"):
        assert not http_server.is_loopback(host)
