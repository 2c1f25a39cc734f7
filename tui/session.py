"""What is open: the data, the index in use, those already built of the same data, and queries with their truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .backends.base import SearchBackend
from .file_stamp import Stamp
from .models import BuildSettings, Data, Queries, QuerySetSpec

__all__ = ["IndexEntry", "Session"]


@dataclass
class IndexEntry:
    """An index; seconds: what building it took, when it was built here; path: the file that holds it, when one does;
    unsaved: somebody asked for it to be built, and no file holds it."""

    backend: SearchBackend
    seconds: float | None = None
    path: Path | None = None
    unsaved: bool = False


@dataclass
class Session:
    """What is open.

    filter   the last one on the search screen that made sense, for the screens that measure; "" for none
    name     under which the history knows it: a path, or the sample's name
    stamps   the files that it was read from, as they were then
    changed  the first of them that is another one by now
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
        """That of the data, and that of the index in use."""
        paths = (self.data.path if self.data is not None else None, self.current.path if self.current else None)
        return [path for path in paths if path is not None]

    @property
    def rows(self) -> int:
        """Rows, or records, that can be searched; of data without an index, those that there are."""
        return len(self.backend if self.backend is not None else self.data or ())

    @property
    def backend(self) -> SearchBackend | None:
        """The index in use."""
        return None if self.current is None else self.current.backend

    def open(
        self, data: Data, entry: IndexEntry | None, name: str = "", stamps: Mapping[Path, Stamp | None] | None = None
    ) -> None:
        """Forget everything that was open before."""
        self.data, self.current = data, None
        self.name, self.changed = name, None
        self.stamps = {path: known for path, known in (stamps or {}).items() if known is not None}
        self.entries, self.queries, self.filter = {}, {}, ""
        if entry is not None:
            self.use(entry)

    def use(self, entry: IndexEntry) -> None:
        """Search this one from now on."""
        self.current = entry
        self.keep(entry)

    def keep(self, entry: IndexEntry) -> None:
        """Remember it without using it."""
        self.entries[entry.backend.settings] = entry

    def quantizations(self) -> list[str]:
        """Those that there is an index of, or the data to build one from."""
        if self.data is not None and self.data.vectors is not None:
            return ["none", "sq8", "binary"]
        return [] if self.backend is None else [self.backend.settings.quantization]
