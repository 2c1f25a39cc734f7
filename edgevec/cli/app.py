"""The group of commands, and how all of them report errors: one line on standard error, exit code 2, no traceback.

An error in a condition shows the place on two more lines.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import Any, NoReturn, TextIO

import click

from .. import __version__
from ..errors import EdgevecError, WhereError
from ..printable import printable
from .arguments import Group

__all__ = ["edgevec"]

_INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


_COMMANDS = ("demo", "info", "build", "search", "bench", "convert", "db", "serve", "mcp", "shards", "tui")
"""Each is a module here with a command of its name, imported when it is wanted."""


class _Group(Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f".{name}", __package__), name)
        return command

    def main(self, *args: Any, **settings: Any) -> NoReturn:
        settings["standalone_mode"] = False
        for stream in (sys.stdout, sys.stderr):
            _accept_all(stream)
        try:
            result = super().main(*args, **settings)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt):
            _stop("interrupted", _INTERRUPTED)
        except click.ClickException as error:
            _stop(error.format_message())
        except WhereError as error:
            _stop(error.problem, below=str(error).removeprefix(error.problem))
        except BrokenPipeError:  # who reads the output has seen enough
            _give_up_output()
            sys.exit(1)
        except (EdgevecError, OSError, MemoryError) as error:
            _stop(_give_up_output() or _reason(error))
        finally:
            _drop_unwritten(sys.stderr)
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:  # which click would answer with an empty line, for a terminal that shows ^C
            if sys.stderr is not None and sys.stderr.isatty():
                click.echo(err=True)
            raise click.Abort from None


def _accept_all(stream: TextIO | None) -> None:
    """A character that the stream's encoding cannot hold is shown as an escape."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def _give_up_output() -> str:
    """Why standard output takes no more, or ""."""
    error = _drop_unwritten(sys.stdout)
    return f"standard output: {_reason(error)}" if error else ""


def _drop_unwritten(stream: TextIO | None) -> OSError | None:
    """Why the stream takes no more. What it did not take is dropped: Python would try again at its end, and fail."""
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror and not isinstance(error, EdgevecError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _stop(message: str, code: int = 2, below: str = "") -> NoReturn:
    line = printable(" ".join(message.split())) + printable(below, lines=True)
    if sys.stderr is not None:  # print() would take standard output
        with contextlib.suppress(OSError):
            print("edgevec:", line, file=sys.stderr, flush=True)
    sys.exit(code)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog="\b\nExample:\n  edgevec demo yellow fruit that monkeys like",
)
@click.version_option(__version__, prog_name="edgevec")
@click.pass_context
def edgevec(context: click.Context) -> None:
    """Vector search that goes wherever Python goes."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
