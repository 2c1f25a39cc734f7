"""edgevec serve: a collection over HTTP."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import click

from .. import Storage
from ..errors import ParameterError, StorageError
from ..files import not_found, refused
from .arguments import INPUT, as_bytes, example, import_extra
from .common import encoder_option, note, open_collection, storage_option

__all__ = ["serve"]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}", re.ASCII)
_VARIABLE = "EDGEVEC_TOKEN"


@click.command(epilog=example("edgevec serve notes.edgevec"))
@click.argument("file", type=INPUT)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option("--write", is_flag=True, help="Let clients store and delete records.")
@click.option(
    "--token-file", type=INPUT, help=f"A file with the token that clients must give. Default: the variable {_VARIABLE}."
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name under which clients reach the server.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="A web page that may ask: https://example.org.")
@encoder_option
@storage_option
@click.option("--max-body", metavar="SIZE", default="32MB", show_default=True, callback=as_bytes, help="Of a request.")
@click.option("--max-k", type=click.IntRange(1), default=1000, show_default=True, help="Results of a search.")
@click.option("--max-batch", type=click.IntRange(1), default=10_000, show_default=True, help="Records of a request.")
def serve(
    file: Path,
    host: str,
    port: int,
    write: bool,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    cors: tuple[str, ...],
    encoder: str | None,
    storage: Storage,
    max_body: int,
    max_k: int,
    max_batch: int,
) -> None:
    """Answer searches of the collection in FILE over HTTP, until Ctrl-C.

    GET /openapi.json describes the requests. Without a token only programs of this machine can be served.
    """
    server = import_extra("edgevec.servers.http_server", "the HTTP server", "serve")
    api: Any = importlib.import_module("edgevec.servers.api")
    token = _token(token_file)
    local = _is_local(server, host)
    if not (local or token):
        raise ParameterError(
            f"{host} can be reached from other machines: set {_VARIABLE} or give --token-file, so that not everyone is "
            "answered"
        )
    hosts = frozenset(name.lower() for name in (*allow_host, host, *(server.LOOPBACK_NAMES if local else ())))
    access = server.Access(token, hosts if local or allow_host else None, cors)
    limits = api.Limits(max_body, max_k, max_batch)
    listening = _listen(server, host, port)
    with listening, open_collection(file, "a" if write else "r", encoder=encoder, storage=storage) as collection:
        address = f"[{host}]" if ":" in host else host
        where = f"http://{address}:{listening.getsockname()[1]}"
        how = ("read and write" if write else "read-only") + (", with a token" if token else "")
        app = server.application(collection, access, limits)
        server.run(app, listening, lambda: note(f"{file}: {len(collection):,} records at {where} ({how})"))
        note(f"{file}: no longer served")


def _token(path: Path | None) -> str | None:
    """Not from the command line, which every user of the machine can read."""
    where = _VARIABLE
    text = os.environ.get(_VARIABLE)
    if path is not None:
        where = str(path)
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            raise not_found(path) from None
        except OSError as error:
            raise refused(error, path) from error
    if text is None:
        return None
    if not _TOKEN.fullmatch(text.strip()):
        raise ParameterError(f"{where}: a token has 16 characters or more: letters, digits and . _ ~ + / = -")
    return text.strip()


def _is_local(server: Any, host: str) -> bool:
    try:
        return bool(server.is_loopback(host))
    except OSError as error:
        raise StorageError(f"--host {host}: {error.strerror or error}") from error


def _listen(server: Any, host: str, port: int) -> Any:
    try:
        return server.listen(host, port)
    except OSError as error:
        raise StorageError(f"--host {host} --port {port}: {error.strerror or error}") from error
