"""The command line: edgevec demo | info | build | search | bench | convert | db | serve | mcp | shards | tui."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from .interrupts import repeat_ignored

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of the process."""
    try:
        try:
            repeat_ignored()
            _run()
        finally:
            with suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python, as it ends, has no more to say to Ctrl-C
    except KeyboardInterrupt:  # just before the command, or just after it: until that line, too
        print("edgevec: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)  # what shells report for a program that a signal ended


def _run() -> None:
    try:
        from .app import edgevec

        edgevec(prog_name="edgevec")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("click", "rich"):
            raise
        print(f"edgevec: the command line needs {library}: pip install 'edgevec[cli]'", file=sys.stderr)
        sys.exit(2)
