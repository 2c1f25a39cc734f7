"""What all commands share and what needs neither NumPy nor rich: the terminal app is to start at once."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["INPUT", "example"]

INPUT = click.Path(dir_okay=False, path_type=Path)


def example(command: str) -> str:
    """The end of a command's help: a command line that can be run, which click must not fold."""
    return f"\b\nExample:\n  {command}"
