"""The session: the open data, the index in use, other indexes of the same data, and query sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from .file_stamp import Stamp
from .models import BuildSettings, Data, Queries, QuerySetSpec

if TYPE_CHECKING:
    from .backends.base import SearchBackend

__all__ = ["IndexEntry", "Session"]


@dataclass
class IndexEntry:
    """An index of the session.

    seconds  that building took, if it was built here
    path     the file that holds it, if any
    unsaved  the user had it built and has not saved it
    """

    backend: SearchBackend
    seconds: float | None = None
    path: Path | None = None
    unsaved: bool = False


@dataclass
class Session:
    """What is open.

    filter   the last valid one of the search screen, used by the screens that measure; "" for none
    name     the key of its history: a path, or the sample's name
    stamps   of the files that it was read from
    changed  the first of these files that has changed on disk
    """

    data: Data | None = None
    current: IndexEntry | None = None
    entries: dict[BuildSettings, IndexEntry] = field(default_factory=dict)
    queries: dict[QuerySetSpec, Queries] = field(default_factory=dict)
    filter: str = ""
    name: str = ""
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    changed: Path | None = None

    @property
    def unsaved(self) -> bool:
        return any(entry.unsaved for entry in self.entries.values())

    @property
    def files(self) -> list[Path]:
        """The files of the data and of the index in use."""
        paths = (self.data.path if self.data is not None else None, self.current.path if self.current else None)
        return [path for path in paths if path is not None]

    @property
    def rows(self) -> int:
        """How many rows or records can be searched; of data without an index, how many there are."""
        return len(self.backend if self.backend is not None else self.data or ())

    @property
    def backend(self) -> SearchBackend | None:
        """The index in use."""
        return None if self.current is None else self.current.backend

    def open(
        self, data: Data, entry: IndexEntry | None, name: str = "", stamps: Mapping[Path, Stamp | None] | None = None
    ) -> None:
        """Replace everything that was open before."""
        self.data, self.current = data, None
        self.name, self.changed = name, None
        self.stamps = {path: known for path, known in (stamps or {}).items() if known is not None}
        self.entries, self.queries, self.filter = {}, {}, ""
        if entry is not None:
            self.use(entry)

    def use(self, entry: IndexEntry) -> None:
        """Make this the index in use."""
        self.current = entry
        self.keep(entry)

    def keep(self, entry: IndexEntry) -> None:
        """Add an index without using it."""
        self.entries[entry.backend.settings] = entry

    def quantizations(self) -> list[str]:
        """The quantizations to choose from: all if the vectors are in memory to build from, else that of the index."""
        if self.data is not None and self.data.vectors is not None:
            from edgevec import Quantization  # here: NumPy comes with it, and the app is to start at once

            return [*get_args(Quantization)]
        return [] if self.backend is None else [self.backend.settings.quantization]
