"""Loss of power: the log that faults.c keeps of what a disk was told, and the states that it may leave behind.

python power.py FOLDER LOG      under LD_PRELOAD: writes to the collection in FOLDER, and logs it
"""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from crash_worker import commit
from faults import library

import edgevec

FIRST, LAST = 6, 20
"""The batches that are written while it is logged; those before are there already."""
SECTOR = 512


def main() -> None:
    folder, log = Path(sys.argv[1]), sys.argv[2]
    library().faults_record(os.fsencode(folder), os.fsencode(log))
    with edgevec.open(folder / "c.edgevec") as made:
        for batch in range(FIRST, LAST):
            commit(made, batch)
            library().faults_mark(str(batch).encode())
            if batch % 4 == 0:
                made.checkpoint()
            if batch == 14:
                made.compact()


class Entry(NamedTuple):
    """Something that the disk was told.

    kind: C(reate), W(rite), T(runcate), S(ync), R(ename), U(nlink), D(irectory); M: the caller was told that a batch is
    durable
    """

    kind: str
    path: str
    other: str
    offset: int
    data: bytes


def read_log(file: Path) -> list[Entry]:
    data, at, entries = file.read_bytes(), 0, []
    while at < len(data):
        kind, path, other, offset, size = struct.unpack_from("<cHHqq", data, at)
        at += 21
        names = data[at : at + path + other].decode()
        at += path + other
        content = data[at : at + size] if kind == b"W" else b""
        at += len(content)
        entries.append(Entry(kind.decode(), names[:path], names[path:], offset, content))
    return entries


@dataclass
class File:
    """What is on the disk for sure, and what was told since."""

    durable: bytearray
    pending: list[Entry] = field(default_factory=list)

    def apply(self, entry: Entry) -> None:
        """One write or truncation, for sure."""
        if entry.kind == "T":
            self.durable[entry.offset :] = bytes(max(0, entry.offset - len(self.durable)))
            return
        if len(self.durable) < entry.offset:
            self.durable.extend(bytes(entry.offset - len(self.durable)))
        self.durable[entry.offset : entry.offset + len(entry.data)] = entry.data

    def sync(self) -> None:
        for entry in self.pending:
            self.apply(entry)
        self.pending.clear()


class Disk:
    """Files and names. What is not synced may be lost: each write for itself, or in part; names from some change on."""

    def __init__(self, folder: Path, before: Path) -> None:
        """folder: as the log names it; before: its copy from before the log began."""
        self.root = str(folder)
        self.names = {str(folder / path.name): File(bytearray(path.read_bytes())) for path in before.iterdir()}
        self.durable_names = dict(self.names)
        self.renames: list[dict[str, File]] = []
        """The names after each change that is not synced."""
        self.acknowledged = FIRST - 1

    def tell(self, entry: Entry) -> None:
        if entry.kind == "M":
            self.acknowledged = int(entry.other)
        elif entry.kind in "WT":
            if entry.path in self.names:
                self.names[entry.path].pending.append(entry)
        elif entry.kind == "S":
            if entry.path in self.names:
                self.names[entry.path].sync()
            elif entry.path.rstrip("/") == self.root:
                self.durable_names = dict(self.names)
                self.renames.clear()
        elif self._change_names(entry):
            self.renames.append(dict(self.names))

    def _change_names(self, entry: Entry) -> bool:
        if entry.kind == "C" and entry.path not in self.names:
            self.names[entry.path] = File(bytearray())
        elif entry.kind == "R" and entry.path in self.names:
            self.names[entry.other] = self.names.pop(entry.path)
        elif entry.kind == "U" and entry.path in self.names:
            del self.names[entry.path]
        else:
            return False
        return True

    def write_to(self, folder: Path, rng: np.random.Generator) -> None:
        """What may be found after the power went off now."""
        keep = int(rng.integers(0, len(self.renames) + 1))
        names = self.renames[keep - 1] if keep else self.durable_names
        share = rng.choice([0.0, 0.5, 1.0])
        for path, file in names.items():
            if path.endswith("-shm") or os.path.dirname(path) != self.root:
                continue  # shared memory; and what is half-made, which nobody reads
            left = File(bytearray(file.durable))
            for entry in file.pending:
                if rng.random() >= share:
                    continue
                if entry.kind == "W" and share < 1 and rng.random() < 0.3:
                    cut = SECTOR * int(rng.integers(0, len(entry.data) // SECTOR + 1))
                    entry = entry._replace(data=entry.data[:cut])
                left.apply(entry)
            (folder / os.path.basename(path)).write_bytes(left.durable)


if __name__ == "__main__":
    main()
