"""edgevec mcp: a collection as tools of the Model Context Protocol."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click

from .. import Storage
from .arguments import INPUT, example, import_extra
from .common import encoder_option, note, open_collection, storage_option

__all__ = ["mcp"]


@click.command(epilog=example("edgevec mcp notes.edgevec"))
@click.argument("file", type=INPUT)
@click.option("--write", is_flag=True, help="Let the client store and delete records.")
@encoder_option
@storage_option
@click.option("--max-k", type=click.IntRange(1), default=100, show_default=True, help="Results of a search.")
@click.option("--max-batch", type=click.IntRange(1), default=1000, show_default=True, help="Records of a call.")
def mcp(file: Path, write: bool, encoder: str | None, storage: Storage, max_k: int, max_batch: int) -> None:
    """Offer the collection in FILE to a client of the Model Context Protocol, which starts this command.

    They speak over standard input and output, until the client closes them.
    """
    server = import_extra("edgevec.servers.mcp_server", "the MCP server", "mcp")
    api: Any = importlib.import_module("edgevec.servers.api")
    with open_collection(file, "a" if write else "r", encoder=encoder, storage=storage) as collection:
        how = "read and write" if write else "read-only"
        ready = f"{file}: {len(collection):,} records for a client at standard input ({how})"
        server.run(collection, api.Limits(k=max_k, batch=max_batch), lambda: note(ready))
