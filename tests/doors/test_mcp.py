"""edgevec mcp, as a program that the client of the official SDK starts and talks to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from mcp import Client, StdioServerParameters, stdio_client

import edgevec
from edgevec.cli.app import edgevec as command

pytestmark = [pytest.mark.subprocess, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

BIG = 2**53 + 1


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "Notizen 笔记.edgevec"
    with edgevec.open(path, encoder="example:wordnet") as made:
        texts = ["a large yellow fruit", "a device that measures temperature", "the moon of the earth"]
        ids: list[Any] = ["f", BIG, 7]
        made.upsert(ids, None, [{"kind": "food", "n": 1}, {"kind": "tool", "n": 2}, {"ö": "ü"}], texts)
    return path


def talk(path: Path, conversation: Callable[[Client], Awaitable[None]], *options: str, mode: str = "auto") -> None:
    async def go() -> None:
        server = StdioServerParameters(command=sys.executable, args=["-m", "edgevec", "mcp", str(path), *options])
        with anyio.fail_after(60):
            async with Client(stdio_client(server), mode=mode) as client:  # type: ignore[arg-type]
                await conversation(client)

    anyio.run(go)


async def call(client: Client, name: str, **arguments: Any) -> Any:
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    [content] = result.content
    assert json.loads(content.text) == result.structured_content  # type: ignore[union-attr]
    return result.structured_content


async def refusal(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_reads(notes: Path, mode: str) -> None:
    async def conversation(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "get", "info"}
        for tool in tools.values():
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
            assert tool.description
        facts = await call(client, "info")
        assert (facts["records"], facts["encoder"], facts["writable"]) == (3, "example:wordnet", False)
        found = await call(client, "search", vector="thermometer", k=1)
        assert [hit["id"] for hit in found["hits"]] == [{"int64": str(BIG)}]
        found = await call(client, "search", text="fruit", where="kind = 'food'")
        assert [(hit["id"], hit["metadata"], hit["document"]) for hit in found["hits"]] == [
            ("f", {"kind": "food", "n": 1}, "a large yellow fruit")
        ]
        records = (await call(client, "get", ids=[7, {"int64": str(BIG)}]))["records"]
        assert [record["metadata"] for record in records] == [{"ö": "ü"}, {"kind": "tool", "n": 2}]
        assert "UnknownIdError: no record has the id 'x'" in await refusal(client, "get", ids=["x"])
        assert "k can be at most 100 here" in await refusal(client, "search", vector="moon", k=101)
        assert "there is no field 'query'" in await refusal(client, "search", query="moon")
        assert "WhereError" in await refusal(client, "search", vector="moon", where="kind =")
        assert "there is no tool 'upsert'" in await refusal(client, "upsert", records=[])
        assert len((await call(client, "search", vector="moon", k=100))["hits"]) == 3

    talk(notes, conversation, "--encoder", "example:wordnet", mode=mode)


def test_a_client_writes(tmp_path: Path) -> None:
    path = tmp_path / "new.edgevec"

    async def conversation(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "get", "info", "upsert", "update", "delete"}
        assert tools["upsert"].annotations
        assert not tools["upsert"].annotations.read_only_hint
        assert (await call(client, "search", vector=[1, 2]))["hits"] == []
        records = [{"id": n, "vector": [n + 1, 1], "metadata": {"n": n}} for n in range(20)]
        assert await call(client, "upsert", records=records) == {"stored": 20}
        async with anyio.create_task_group() as tasks:  # several at once
            for n in range(20):
                tasks.start_soon(search, client, n)
        assert "zero vector" in await refusal(client, "upsert", records=[{"id": "z", "vector": [0, 0]}])
        assert await call(client, "update", ids=[3], metadata={"seen": True}, documents=["a text"]) == {"updated": 1}
        (changed,) = (await call(client, "get", ids=[3]))["records"]
        assert changed == {"id": 3, "metadata": {"n": 3, "seen": True}, "document": "a text"}
        assert "'nobody'" in await refusal(client, "update", ids=["nobody"], metadata={})
        assert await call(client, "delete", where="n >= 5") == {"deleted": 15}
        assert await call(client, "delete", ids=[0, 99]) == {"deleted": 1}
        assert "an empty condition would delete" in await refusal(client, "delete", where="")

    async def search(client: Client, n: int) -> None:
        hit = (await call(client, "search", vector=[n + 1, 1], k=1))["hits"][0]
        assert hit["id"] == n

    talk(path, conversation, "--write")
    with edgevec.open(path) as made:
        assert made.ids() == [1, 2, 3, 4]
        assert made.check().ok
        np.testing.assert_array_equal(made.get(3)[0].vector, [4, 1])
    assert not [file.name for file in tmp_path.iterdir() if file.name.endswith(("-wal", "-shm"))]


def started(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgevec", "mcp", str(path), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_it_ends_at_a_signal_and_with_its_client(notes: Path, number: int | None) -> None:
    with started(notes, "--write") as process:
        assert process.stderr is not None
        assert "3 records for a client at standard input (read and write)" in process.stderr.readline()
        if number is None:
            out, said = process.communicate("not JSON\n\n", timeout=60)  # which also ends the input
        else:
            process.send_signal(number)
            assert process.wait(60) == 0  # though its input is open
            out, said = process.communicate()
        assert process.returncode == 0
        assert "Traceback" not in said
        for line in out.splitlines():  # nothing but the protocol
            assert json.loads(line)["jsonrpc"] == "2.0"
    assert not [file.name for file in notes.parent.iterdir() if file.name.endswith(("-wal", "-shm"))]


def test_what_cannot_be_offered(notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, options, message in (
        (tmp_path / "nowhere.edgevec", [], "nowhere.edgevec"),
        (notes, ["--encoder", "word2vec:x"], "no encoder has the name 'word2vec:x'"),
        (tmp_path, [], str(tmp_path)),
    ):
        with pytest.raises(SystemExit) as ended:
            command.main(["mcp", str(path), *options])
        out, err = capsys.readouterr()
        assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
        assert message in err
