"""Where the benchmark runs: in a page of Chromium, in a Node process, or natively. Each answers calls by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hosts.static_server import served

CLIENT = Path(__file__).resolve().parent / "client"


class HostError(Exception):
    """What the other side threw."""


class Host(Protocol):
    def call(self, name: str, *args: Any) -> Any:
        """Have a method of the other side's Benchmark called."""


class ChromiumPage:
    """One page, in which all engines live beside one another."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def call(self, name: str, *args: Any) -> Any:
        from playwright.sync_api import Error

        try:
            return self.page.evaluate("([name, args]) => benchmark[name](...args)", [name, list(args)])
        except Error as error:
            raise HostError(error.message.partition("\n")[0]) from error


class Process:
    """A process that answers lines of JSON."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def call(self, name: str, *args: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"name": name, "args": args}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended early with code {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise HostError(answer["error"])
        return answer["result"]


@contextmanager
def chromium(folder: Path) -> Iterator[Host]:
    from hosts.chromium import launch
    from playwright.sync_api import sync_playwright

    with served(folder) as address, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.goto(f"{address}page.html")
        page.wait_for_function("globalThis.benchmark")
        yield ChromiumPage(page)
        browser.close()


@contextmanager
def node(folder: Path) -> Iterator[Host]:
    with _process(["node", str(CLIENT / "node.mjs"), str(folder)]) as host:
        yield host


@contextmanager
def native(folder: Path, simd: str | None) -> Iterator[Host]:
    """The installed edgevec, with its kernels forced to one instruction set where one is named."""
    forced = {"EDGEVEC_SIMD": simd} if simd else {}
    with _process([sys.executable, str(CLIENT / "native.py"), str(folder)], **forced) as host:
        yield host


@contextmanager
def _process(command: list[str], **environment: str) -> Iterator[Host]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as process:
        try:
            yield Process(process)
        finally:
            process.kill()
