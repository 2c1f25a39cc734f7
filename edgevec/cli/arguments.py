"""What all commands share and what needs neither NumPy nor rich: the terminal app is to start at once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

import click

__all__ = ["INPUT", "as_bytes", "example"]


class _Input(click.Path):
    """A file. For a folder of shards, which is what most resembles one, the message names its own commands."""

    def convert(
        self, value: str | os.PathLike[str], parameter: click.Parameter | None, context: click.Context | None
    ) -> Path:
        if Path(value, "manifest.json").is_file():
            self.fail(f"{value} is a folder of shards; use edgevec shards info or search {value}", parameter, context)
        return cast(Path, super().convert(value, parameter, context))


INPUT = _Input(dir_okay=False, path_type=Path)

_UNITS = {"": 1, "B": 1} | {
    unit: size
    for n, letter in enumerate("KMGT", 1)
    for unit, size in ((f"{letter}B", 1000**n), (f"{letter}IB", 1024**n))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)


def as_bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """An option's number of bytes, with a unit or without: 500MB, 1.5GiB."""
    if value is None:
        return None
    found = _SIZE.fullmatch(value)
    unit = _UNITS.get(found[2].upper()) if found else None
    size = 0 if found is None or unit is None else round(float(found[1]) * unit)
    if not 0 < size < 2**63:
        raise click.BadParameter(f"{value!r} is no size, such as 500MB or 2GiB", context, parameter)
    return size


def example(command: str) -> str:
    """The end of a command's help: a command line that can be run, which click must not fold."""
    return f"\b\nExample:\n  {command}"
