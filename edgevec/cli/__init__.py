"""The command line: edgevec demo | info | build | search | bench | db | tui."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of the process."""
    try:
        from .app import edgevec

        edgevec(prog_name="edgevec")
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("click", "rich"):
            raise
        print(f"edgevec: the command line needs {library}; install it with: pip install click rich", file=sys.stderr)
        sys.exit(2)
