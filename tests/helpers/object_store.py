"""An object store on this machine, which refuses requests or breaks off in the middle of them where a test says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

_KEYS = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
Fault = Literal["refuse", "break off"]
_REFUSED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class ObjectStore:
    """A server of S3 with one bucket, "bucket"."""

    def __init__(self) -> None:
        self.faults: Callable[[str, str], Fault | None] = lambda method, path: None
        """Of a request, by its method and path: what befalls it."""
        self.requests: list[tuple[str, str]] = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **_KEYS)
        self.client.create_bucket(Bucket="bucket")

    @property
    def options(self) -> dict[str, Any]:
        """For fsspec."""
        return {
            "key": _KEYS["aws_access_key_id"],
            "secret": _KEYS["aws_secret_access_key"],
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": "us-east-1"},
            "config_kwargs": {"retries": {"max_attempts": 1}},
        }

    def names(self, prefix: str) -> set[str]:
        """Of the objects of a folder."""
        found = self.client.list_objects_v2(Bucket="bucket", Prefix=f"{prefix}/").get("Contents", [])
        return {each["Key"].removeprefix(f"{prefix}/") for each in found}

    def read(self, name: str) -> bytes:
        content: bytes = self.client.get_object(Bucket="bucket", Key=name)["Body"].read()
        return content

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=name, Body=content)

    @contextmanager
    def failing(self, faults: Callable[[str, str], Fault | None]) -> Iterator[None]:
        self.faults = faults
        try:
            yield
        finally:
            self.faults = lambda method, path: None

    def close(self) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        fault = self.faults(method, path)
        if fault == "refuse":
            _read(environ, 1)
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [_REFUSED]
        if fault == "break off" and method == "GET":
            content = b"".join(self._app(environ, start_response))
            return self._half(environ["werkzeug.socket"], content)
        if fault == "break off":
            _read(environ, 2)
            _hang_up(environ["werkzeug.socket"])
            start_response("500 Internal Server Error", [])
            return []
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    @staticmethod
    def _half(connection: socket.socket, content: bytes) -> Iterator[bytes]:
        yield content[: len(content) // 2]
        _hang_up(connection)


def break_nth(count: int, fault: Fault) -> tuple[Callable[[str, str], Fault | None], list[str]]:
    """Fail with the n-th object that is put, however often it is tried again."""
    put: list[str] = []

    def faults(method: str, path: str) -> Fault | None:
        if method in ("PUT", "POST"):
            if path not in put:
                put.append(path)
            return fault if put.index(path) == count else None
        return None

    return faults, put


class _Quiet(MotoRequestHandler):
    def log(self, *_: Any) -> None:
        pass


def _read(environ: dict[str, Any], parts: int) -> None:
    """The first of so many equal parts of what is sent."""
    size = int(environ.get("CONTENT_LENGTH") or 0)
    if size:
        environ["wsgi.input"].read(size // parts)
    elif environ.get("wsgi.input_terminated"):
        environ["wsgi.input"].read()


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
