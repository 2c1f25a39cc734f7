"""A program of `edgevec serve` that a test talks to."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

__all__ = ["Answer", "Served"]

READY = re.compile(r"records at http://(?P<host>.+):(?P<port>\d+) \((?P<how>.*)\)$")


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: Any
    """Of JSON."""

    @property
    def message(self) -> str:
        return str(self.content["error"]["message"])


class Served:
    """As a context: the program, once it answers; ended by SIGTERM, unless it has ended."""

    def __init__(self, file: Path, *options: Any, token: str | None = None, **settings: Any) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "EDGEVEC_TOKEN"}
        if token is not None:
            environment["EDGEVEC_TOKEN"] = token
        command = [sys.executable, "-m", "edgevec", "serve", file, "--port", 0, *options]
        self.process = subprocess.Popen(
            [*map(str, command)], stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment, **settings
        )
        self.said: list[str] = []
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        assert self.process.stderr is not None
        found = None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            found = READY.search(self.said[-1])
            if found:
                break
        if found is None:
            self.process.wait()
            self.process.stderr.close()
            raise AssertionError(self.said)
        self.host, self.port, self.how = found["host"].strip("[]"), int(found["port"]), found["how"]

    def ask(self, path: str, fields: Any = None, method: str | None = None, **headers: str) -> Answer:
        """The answer to a POST of these fields, which may be bytes, or to a GET without any."""
        with closing(http.client.HTTPConnection(self.host, self.port, timeout=60)) as connection:
            return ask(connection, path, fields, method, **(self.headers | headers))

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        assert self.process.stderr is not None
        with self.process.stderr as rest:
            self.said += rest.read().splitlines()
        return self.process.wait(60)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.end()
        elif self.process.stderr is not None:
            self.process.stderr.close()


def ask(
    connection: http.client.HTTPConnection, path: str, fields: Any = None, method: str | None = None, **headers: str
) -> Answer:
    body = fields if fields is None or isinstance(fields, bytes) else json.dumps(fields).encode()
    if body is not None:
        headers = {"Content-Type": "application/json"} | headers
    method = method or ("GET" if body is None else "POST")
    connection.request(method, path if path.startswith("/") else f"/v1/{path}", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    return Answer(
        answer.status,
        answer.headers,
        json.loads(text) if answer.headers["content-type"] == "application/json" else None,
    )
