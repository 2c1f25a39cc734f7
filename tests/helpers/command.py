"""The command line, called in the process of the test."""

from __future__ import annotations

from edgevec.cli.app import edgevec as app

__all__ = ["run"]


def run(*arguments: object) -> int:
    """Its exit code."""
    try:
        app.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0
