"""What all commands share and what needs neither NumPy nor rich: the terminal app is to start at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

__all__ = ["BYTES", "INPUT", "example"]

INPUT = click.Path(dir_okay=False, path_type=Path)

_UNITS = {"": 1, "B": 1} | {
    unit: size
    for n, letter in enumerate("KMGT", 1)
    for unit, size in ((f"{letter}B", 1000**n), (f"{letter}IB", 1024**n))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)


class _Bytes(click.ParamType):  # type: ignore[type-arg]  # generic in later releases only
    """A number of bytes, with a unit or without: 500MB, 1.5GiB."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        found = _SIZE.fullmatch(str(value))
        unit = _UNITS.get(found[2].upper()) if found else None
        size = 0 if found is None or unit is None else round(float(found[1]) * unit)
        if not 0 < size < 2**63:
            self.fail(f"{value!r} is no size, such as 500MB or 2GiB", parameter, context)
        return size


BYTES = _Bytes()


def example(command: str) -> str:
    """The end of a command's help: a command line that can be run, which click must not fold."""
    return f"\b\nExample:\n  {command}"
