"""edgevec tui: start the terminal app."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import click

from ..files import not_found
from .arguments import example, import_extra

__all__ = ["tui"]


@click.command(epilog=example("edgevec tui vectors.npy"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
def tui(file: Path | None) -> None:
    """Load, search and measure in the terminal.

    FILE is a file of vectors, an index (.ev or .evd), a collection or a folder of shards; without one, choose in the
    app.
    """
    # Until the app has painted its first screen, which comes an eighth sooner: nearly all that is made by then stays.
    gc.disable()
    try:
        _run(file)
    finally:
        gc.enable()


def _run(file: Path | None) -> None:
    app = import_extra("edgevec.tui.app", "the terminal app", "tui")
    if file is not None and not file.exists():
        raise not_found(file)
    if not _on_terminal():
        raise click.UsageError("the terminal app needs a terminal; edgevec demo, search and bench do without")
    app.run(file)


def _on_terminal() -> bool:
    """One that moves its cursor. The app reads from standard input, draws on standard error and asks the output."""
    streams = (sys.stdin, sys.stdout, sys.stderr)  # None where a shell closed one
    able = os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    return able and all(stream is not None and stream.isatty() for stream in streams)
