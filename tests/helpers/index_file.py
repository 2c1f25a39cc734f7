"""Index files taken apart and put together in plain Python (csrc/file/format.h), with right checksums."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

NONE = 0xFFFFFFFF
"""No slot: ends a list of links."""
FREE, NODE, DUPLICATE, DEAD_NODE, DEAD_DUPLICATE = range(5)
STATE = 7
"""The bits of a state byte that hold one of these."""
MAGIC = b"\x89EVX\r\n\x1a\n"
LINE = 64

SECTION = np.dtype([("name", "S16"), ("offset", "<u8"), ("bytes", "<u8"), ("crc", "<u4"), ("zero", "<u4")])
HEADER = np.dtype(
    [
        ("magic", "V8"),
        ("version", "<u4"),
        ("header_bytes", "<u4"),
        ("file_bytes", "<u8"),
        ("sections", "<u4"),
        *[(name, "<i4") for name in ("dim", "metric", "quantization", "M", "ef_construction", "ef", "keep_vectors")],
        ("seed", "<u8"),
        ("slots", "<u8"),
        *[(name, "<i8") for name in ("live", "dead", "next_id")],
        ("entry", "<u4"),
        ("trainings", "<i4"),
        *[(name, "<i8") for name in ("trained_on", "unchecked", "unrepaired")],
        ("section", SECTION, 10),
        ("walk", "<u4"),
        ("zeros", "V104"),
        ("crc", "<u4"),
    ]
)
ITEMS = {
    "blocks": "u1",
    "factors": "<f4",
    "vectors": "<f4",
    "ids": "<i8",
    "state": "u1",
    "level": "u1",
    "upper_at": "<u4",
    "upper": "<u4",
    "chain": "<u4",
    "centre": "<f4",
}
FINE_VERSION = 2
"""Of files whose vectors refine their codes."""
REFINEMENT = "<i2"
"""Their items in place of floats."""


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


@lru_cache(maxsize=256)
def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def padded(size: int) -> int:
    return -(-size // LINE) * LINE


def with_header(data: bytes, **fields: object) -> bytes:
    """The file with other header fields and a header checksum that fits them."""
    header = np.frombuffer(data, HEADER, 1).copy()
    for name, value in fields.items():
        header[name][0] = value
    return sealed(header) + data[HEADER.itemsize :]


def sealed(header: npt.NDArray[np.void]) -> bytes:
    header["crc"] = crc32c(header.tobytes()[:-4])
    return header.tobytes()


class IndexFile:
    """The header's fields and the sections as arrays, to be changed at will; `data()` is the file they make."""

    def __init__(self, data: bytes) -> None:
        self._header = np.frombuffer(data, HEADER, 1).copy()
        self.sections: dict[str, npt.NDArray[Any]] = {}
        for name, offset, size, _, _ in self.table():
            item = REFINEMENT if name == "vectors" and self.get("version") == FINE_VERSION else ITEMS[name]
            self.sections[name] = np.frombuffer(data[offset : offset + size], item).copy()

    def __getitem__(self, section: str) -> npt.NDArray[Any]:
        return self.sections[section]

    def get(self, field: str) -> int:
        return int(self._header[field][0])

    def set(self, field: str, value: float) -> None:
        self._header[field][0] = value

    def table(self) -> list[tuple[str, int, int, int, int]]:
        rows = self._header["section"][0][: self.get("sections")]
        return [
            (row["name"].decode(), *(int(row[field]) for field in ("offset", "bytes", "crc", "zero"))) for row in rows
        ]

    def links(self) -> npt.NDArray[np.uint32]:
        """Level 0, [slots, 2 M], as a view into the blocks of an index with 8-bit codes."""
        blocks = self["blocks"].reshape(self.get("slots"), -1)
        start, width = -(-self.get("dim") // 4), 2 * self.get("M")
        return blocks.view("<u4")[:, start : start + width]

    def slots(self, *states: int, level: int = 0) -> list[int]:
        """The slots in one of these states, at this level or higher."""
        wanted = np.isin(self["state"] & STATE, states) & (self["level"] >= level)
        return [int(slot) for slot in np.flatnonzero(wanted)]

    def data(self) -> bytes:
        body = b""
        table = np.zeros(len(ITEMS), SECTION)
        for row, (name, array) in zip(table, self.sections.items(), strict=False):
            section = array.tobytes()
            row["name"], row["offset"], row["bytes"] = name, HEADER.itemsize + len(body), len(section)
            row["crc"] = crc32c(section)
            body += section.ljust(padded(len(section)), b"\0")
        self._header["section"][0] = table
        self._header["sections"] = len(self.sections)
        self._header["file_bytes"] = HEADER.itemsize + len(body)
        return sealed(self._header) + body
