"""What all commands share and what needs neither NumPy nor rich: the terminal app is to start at once."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any, cast

import click

from ..errors import MissingExtraError

__all__ = ["INPUT", "Group", "as_bytes", "example", "import_extra"]


class Group(click.Group):
    """Commands; one that is not there is answered with the one that was probably meant."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches  # of use to nobody else

        known = self.list_commands(context)
        if args[0] not in known and (near := get_close_matches(args[0], known, 1)):
            context.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(context, args)


class _Input(click.Path):
    """A file. For a folder of shards, which is what most resembles one, the message names its own commands."""

    def convert(
        self, value: str | os.PathLike[str], parameter: click.Parameter | None, context: click.Context | None
    ) -> Path:
        if Path(value).is_dir() and _holds_shards(Path(value)):
            self.fail(f"{value} is a folder of shards; use edgevec shards info or search {value}", parameter, context)
        return cast(Path, super().convert(value, parameter, context))


def _holds_shards(folder: Path) -> bool:
    from ..sharded import MANIFEST  # here: NumPy comes with it

    return (folder / MANIFEST).is_file()


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


def import_extra(module: str, what: str, extra: str) -> Any:
    """A module of edgevec's whose libraries come with an extra.

    Raises:
        MissingExtraError: when one is not installed; the message names the extra
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").startswith("edgevec"):
            raise
        raise MissingExtraError(f"{what} needs more: pip install 'edgevec[{extra}]'") from error
