"""The group of commands, and how all of them report errors: one line on standard error, exit code 2, no traceback.

An error in a condition shows the place on two more lines.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import EdgevecError, WhereError
from .bench import bench
from .build import build
from .db import db
from .demo import demo
from .info import info
from .search import search
from .tui import tui

__all__ = ["edgevec"]

_INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


class _Group(click.Group):
    def main(self, *args: Any, **settings: Any) -> NoReturn:
        settings["standalone_mode"] = False
        try:
            result = super().main(*args, **settings)
        except click.Abort:
            _stop("interrupted", _INTERRUPTED)
        except click.ClickException as error:
            _stop(error.format_message())
        except WhereError as error:
            _stop(error.problem, below=str(error).removeprefix(error.problem))
        except (EdgevecError, OSError, MemoryError) as error:
            _stop(str(error) or type(error).__name__)
        sys.exit(result if isinstance(result, int) else 0)


def _stop(message: str, code: int = 2, below: str = "") -> NoReturn:
    print("edgevec:", " ".join(message.split()), end=f"{below}\n", file=sys.stderr)
    sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="edgevec")
@click.pass_context
def edgevec(context: click.Context) -> None:
    """Vector search that goes wherever Python goes."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (demo, info, build, search, bench, db, tui):
    edgevec.add_command(_command)
