"""The HTTP server of `edgevec serve`: a Starlette application, and uvicorn, which runs it.

A request goes through the gate (Host header, token, number of requests at work), then its body is read up to a limit,
and a thread does the rest: parsing, the operation, the answer's JSON. One thread at a time writes; others search.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..collection import Collection
from ..errors import (
    BusyError,
    ClosedError,
    CorruptCollectionError,
    EdgevecError,
    LockedError,
    OutOfMemoryError,
    ParameterError,
    ReadOnlyError,
    StorageError,
    UnknownIdError,
    WhereError,
)
from .api import Json, Limits, Operation, RequestError, find, info, operations, parse
from .openapi import PREFIX, description

__all__ = ["Access", "application", "is_loopback", "listen", "run"]

log = logging.getLogger("edgevec")

READERS = 8
"""Threads that read at once: as many connections as a collection keeps open."""
MOST_AT_WORK = 256
"""Requests that wait or are at work; more are told to come later."""
BODY_SECONDS = 60
"""For a body to arrive."""
END_SECONDS = 10
"""That requests have to finish when the server ends."""

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (RequestError, 400),
    (UnknownIdError, 404),
    (ReadOnlyError, 403),
    (OutOfMemoryError, 507),
    (BusyError, 503),
    (ClosedError, 503),
    (LockedError, 503),
    (StorageError, 503),
    (CorruptCollectionError, 500),
    (ParameterError, 422),
    (ValueError, 422),  # NotFiniteError, ZeroVectorError, WhereError, DuplicateIdError, ...
)


class Access(NamedTuple):
    """Who may ask."""

    token: str | None = None
    """None: everyone who can reach the address."""
    hosts: frozenset[str] | None = frozenset()
    """Names that the Host header may have; None: any."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may ask; none by default."""


def application(collection: Collection, access: Access | None = None, limits: Limits | None = None) -> Starlette:
    """The server as an ASGI application.

    Args:
        collection: what is served; whether it can be written to is its mode
        access: who may ask; None: any program that reaches it, under the names of this machine
        limits: what one request may ask for
    """
    access = Access(hosts=frozenset(LOOPBACK_NAMES)) if access is None else access
    limits = Limits() if limits is None else limits
    served = _Server(collection, limits, token=access.token is not None)
    routes = [
        Route("/health", served.health),
        Route("/openapi.json", served.openapi),
        Route(f"{PREFIX}/info", served.info),
    ]
    for name, operation in operations(limits).items():
        routes.append(Route(f"{PREFIX}/{name}", partial(served.post, operation), methods=["POST"]))
    middleware = [Middleware(_Gate, access=access)]
    if access.origins:  # outside the gate: a browser asks for permission without the token
        cors = Middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
        middleware.insert(0, cors)
    handlers: dict[Any, Any] = {HTTPException: _not_there, Exception: _fault}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


# ---- answers ---------------------------------------------------------------------------------------------------------


def _answer(content: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), status, headers, "application/json")


def _error(status: int, kind: str, message: str, **more: Any) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"} if status == 503 else None
    return _answer({"error": {"kind": kind, "message": message, **more}}, status, headers)


def _refusal(error: EdgevecError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, WhereError):
        more = {} if error.position is None else {"position": error.position}
        return _error(status, "WhereError", error.problem, **more)
    if status >= 500:
        log.warning("%s: %s", type(error).__name__, error)
    return _error(status, type(error).__name__, str(error))


async def _not_there(request: Request, error: HTTPException) -> Response:
    hint = "; GET /openapi.json says what can be asked" if error.status_code == 404 else ""
    answer = _error(error.status_code, "HTTPError", f"{request.method} {request.url.path}: {error.detail}{hint}")
    answer.headers.update(error.headers or {})
    return answer


async def _fault(request: Request, error: Exception) -> Response:
    return _error(
        500, "InternalError", f"{request.method} {request.url.path}: a fault of the server; its log says more"
    )


# ---- the gate --------------------------------------------------------------------------------------------------------

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class _Gate:
    """Lets a request through that may be asked here, by whoever asks.

    The Host header is what a browser makes of an address. A page whose name was made to point to this machine (DNS
    rebinding) sends its own name, and is refused.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._hosts = access.hosts
        self._token = None if access.token is None else f"bearer {access.token}".encode()
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._at_work += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._at_work -= 1

    def _refusal(self, scope: Scope) -> Response | None:
        headers = scope["headers"]
        if self._hosts is not None:
            hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
            if len(hosts) != 1 or _host_name(hosts[0]) not in self._hosts:
                shown = ", ".join(hosts)[:100]
                return _error(421, "HostError", f"the Host header {shown!r} is not a name of this server: --allow-host")
        if scope["path"] == "/health":
            return None
        if self._token is not None:
            given = [value for name, value in headers if name == b"authorization"]
            kind, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
            if not hmac.compare_digest(kind.lower() + b" " + token.strip(), self._token):
                return _error(401, "TokenError", "the header 'Authorization: Bearer TOKEN' is missing or wrong")
        if self._at_work >= MOST_AT_WORK:
            return _error(503, "BusyError", f"{MOST_AT_WORK} requests are at work")
        return None


def _host_name(host: str) -> str | None:
    """Without the port."""
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname
    return None


# ---- requests --------------------------------------------------------------------------------------------------------


class _Server:
    def __init__(self, collection: Collection, limits: Limits, *, token: bool) -> None:
        self._collection = collection
        self._limits = limits
        self._description = description(limits, writable=collection.mode == "a", token=token)
        self._readers = anyio.CapacityLimiter(READERS)
        self._writer = anyio.CapacityLimiter(1)

    async def health(self, request: Request) -> Response:
        def answers() -> Json:
            len(self._collection)
            return {"status": "ok"}

        return await self._in_thread(answers, self._readers)

    async def openapi(self, request: Request) -> Response:
        return _answer(self._description)

    async def info(self, request: Request) -> Response:
        return await self._in_thread(lambda: info(self._collection), self._readers)

    async def post(self, operation: Operation, request: Request) -> Response:
        if operation.writes and self._collection.mode != "a":
            return _error(403, "ReadOnlyError", "this server is read-only: edgevec serve --write")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Which a web page cannot send here without asking first; and there is nobody to give permission.
            return _error(415, "HTTPError", "the header 'Content-Type: application/json' is missing")
        try:
            with anyio.fail_after(BODY_SECONDS):
                body = await self._body(request)
        except TimeoutError:
            return _error(408, "HTTPError", f"the body did not arrive within {BODY_SECONDS} seconds")
        except ClientDisconnect:
            return Response()  # to nobody
        if body is None:
            return _error(413, "HTTPError", f"the body can have at most {self._limits.body:,} bytes here")

        def work() -> Json:
            return operation.run(self._collection, find(operation, parse(body)))

        return await self._in_thread(work, self._writer if operation.writes else self._readers)

    async def _body(self, request: Request) -> bytearray | None:
        """None when it is too large, which is known before all of it has come."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limits.body:
            return None
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._limits.body:
                return None
        return body

    async def _in_thread(self, work: Callable[[], Json], limiter: anyio.CapacityLimiter) -> Response:
        def answer() -> Response:
            try:
                return _answer(work())
            except EdgevecError as error:
                return _refusal(error)
            except MemoryError:
                return _error(507, "OutOfMemoryError", "out of memory")

        return await anyio.to_thread.run_sync(answer, limiter=limiter)


# ---- running ---------------------------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether every address of this name is one that other machines cannot reach.

    Raises:
        OSError: when it has none
    """
    addresses = [entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: when the address is in use, or not one of this machine
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind, protocol)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows, where the other would let two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def run(app: ASGIApp, listening: socket.socket, ready: Callable[[], None] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM, and finish what is at work then. Returns, and leaves signals as they were.

    Args:
        app: of application()
        listening: of listen(); it is closed
        ready: called once requests are answered
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=END_SECONDS,
    )
    server = _Announcing(config, ready)
    with listening, _signals_that_only_end():
        server.run([listening])


class _Announcing(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None:
            self._ready()


class _signals_that_only_end:
    """uvicorn ends at them, and raises them again when it has. There is still the collection to be closed."""

    def __enter__(self) -> None:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, _do_nothing)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Of a signal."""
