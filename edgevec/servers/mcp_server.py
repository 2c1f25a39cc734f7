"""The server of `edgevec mcp`: a collection as tools of the Model Context Protocol, over standard input and output."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskStatus
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from .. import __version__
from ..collection import Collection
from ..errors import EdgevecError
from .api import INFO, Json, Limits, Operation, find, info, operations

__all__ = ["run", "server"]

log = logging.getLogger("edgevec")

_INSTRUCTIONS = (
    "Search and read one collection of records: each has an id, a vector, metadata (a JSON object) and a document (a "
    "text). `info` says how many there are and whether texts can stand in place of vectors. `search` with `text` finds "
    'words, and meaning too where there is an encoder; `where` is a condition on metadata, such as "year >= 1990 AND '
    "lang IN ('de', 'fr')\"."
)

_TOOLS = ("search", "get", "upsert", "update", "delete")


def server(collection: Collection, limits: Limits | None = None) -> Server[Any]:
    """The tools: search, get and info; and upsert, update and delete, where the collection is open for writing."""
    known = {
        name: operation
        for name, operation in operations(Limits() if limits is None else limits).items()
        if name in _TOOLS and (collection.mode == "a" or not operation.writes)
    }
    known["info"] = Operation("What the collection is", {}, (), INFO, lambda collection, fields: info(collection))
    tools = [_tool(name, operation) for name, operation in known.items()]
    one_at_a_time = {True: anyio.Semaphore(1), False: anyio.Semaphore(4)}

    async def list_tools(context: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        operation = known.get(params.name)
        if operation is None:
            return _failure(f"there is no tool {params.name!r}, only {', '.join(known)}")

        def work() -> Json:
            return operation.run(collection, find(operation, params.arguments or {}))

        try:
            async with one_at_a_time[operation.writes]:
                answer = await anyio.to_thread.run_sync(work)
        except (EdgevecError, MemoryError) as error:  # which the model reads, and may ask better
            return _failure(f"{type(error).__name__}: {error}")
        text = json.dumps(answer, ensure_ascii=False)
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=answer)

    return Server(
        "edgevec",
        version=__version__,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _failure(message: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=message)], is_error=True)


def _tool(name: str, operation: Operation) -> types.Tool:
    schema: Json = {"type": "object", "properties": operation.fields, "additionalProperties": False}
    if operation.required:
        schema["required"] = list(operation.required)
    hints = types.ToolAnnotations(
        read_only_hint=not operation.writes,
        destructive_hint=operation.writes,
        idempotent_hint=True,
        open_world_hint=False,
    )
    answer = {"type": "object", "properties": operation.answer}
    return types.Tool(
        name=name, description=operation.summary, input_schema=schema, output_schema=answer, annotations=hints
    )


# ---- running ---------------------------------------------------------------------------------------------------------


def run(collection: Collection, limits: Limits | None = None, ready: Callable[[], None] | None = None) -> None:
    """Serve the client at standard input and output, until it closes them, or Ctrl-C or SIGTERM.

    What else is printed meanwhile goes to standard error.
    """
    anyio.run(_run, server(collection, limits), ready)


async def _run(served: Server[Any], ready: Callable[[], None] | None) -> None:
    async with anyio.create_task_group() as tasks:
        await tasks.start(_end_at_a_signal, tasks.cancel_scope)
        async with stdio_server(stdin=_Lines(0)) as (read, write):  # type: ignore[arg-type]
            if ready is not None:
                ready()
            await served.run(read, write, served.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _end_at_a_signal(scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    if sys.platform == "win32":  # whose event loop knows no signals
        task_status.started()
        return
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            scope.cancel()
            return


class _Lines:
    """The lines of a file as they come. Nobody waits for the thread that reads them: the next may never come."""

    def __init__(self, file: int) -> None:
        self._file = file

    async def __aiter__(self) -> AsyncIterator[str]:
        send, receive = anyio.create_memory_object_stream[bytes](16)
        token = anyio.lowlevel.current_token()

        def read() -> None:
            with suppress(OSError, RuntimeError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                while part := os.read(self._file, 1 << 16):
                    anyio.from_thread.run(send.send, part, token=token)
                anyio.from_thread.run_sync(send.close, token=token)

        threading.Thread(target=read, daemon=True).start()
        waiting = b""
        async with receive:
            async for part in receive:
                *lines, waiting = (waiting + part).split(b"\n")
                for line in lines:
                    yield line.decode("utf-8", "replace")
        if waiting:
            yield waiting.decode("utf-8", "replace")
