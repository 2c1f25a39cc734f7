"""edgevec tui: start the terminal app."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from ..errors import MissingExtraError
from .common import INPUT

__all__ = ["tui"]


@click.command()
@click.argument("file", type=INPUT, required=False)
def tui(file: Path | None) -> None:
    """Load, search and measure in the terminal; FILE is a file of vectors or an index."""
    if importlib.util.find_spec("edgevec.tui.app") is None:
        raise click.UsageError("this version has no terminal app yet; try edgevec demo, search or bench")
    try:
        app = importlib.import_module("edgevec.tui.app")
    except ImportError as error:
        raise MissingExtraError("the terminal app needs more: pip install 'edgevec[tui]'") from error
    app.run(file)
