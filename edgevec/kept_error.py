"""What a callback has raised, kept while the code of others, which would lose it, comes to its end."""

from __future__ import annotations

import threading

__all__ = ["KeptError"]


class KeptError(threading.local):
    """The exception of a callback, of each thread its own: C would lose it, a library take it for its own."""

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def keep(self, error: BaseException) -> None:
        self._errors = [error]

    def reraise(self) -> None:
        """Raise what is kept, if anything is.

        No frame of its traceback has a name for it: that circle would hold all that those frames hold, an open `with`
        among them, until the garbage collector comes.
        """
        if self._errors:
            raise self._errors.pop()
