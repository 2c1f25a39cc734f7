"""edgevec tui: start the terminal app."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from ..errors import MissingExtraError
from .common import INPUT

__all__ = ["tui"]


@click.command()
@click.argument("file", type=INPUT, required=False)
def tui(file: Path | None) -> None:
    """Load, search and measure in the terminal; FILE is a file of vectors or an index."""
    try:
        app = importlib.import_module("edgevec.tui.app")
    except ImportError as error:
        raise MissingExtraError("the terminal app is not installed: pip install 'edgevec[tui]'") from error
    app.run(file)
