"""CRC-32C, the checksum of index files, of arrays of any size."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["crc32c"]

_POLYNOMIAL = np.uint32(0x82F63B78)
_ROW = 1024
"""Bytes of a row. All rows are gone through at once, two bytes at a time, so there should be many."""
_ALL = 0xFFFFFFFF


@cache
def _by_byte() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ _POLYNOMIAL, table >> 1)
    return table


@cache
def _by_two() -> NDArray[np.uint32]:
    table, pairs = _by_byte(), np.arange(1 << 16, dtype=np.uint32)
    first = table[pairs & 0xFF] ^ pairs >> 8
    by_two: NDArray[np.uint32] = table[first & 0xFF] ^ first >> 8
    return by_two


@cache
def _past_a_row() -> list[list[int]]:
    """What a checksum becomes over a row of zeros, by each of its four bytes: a linear map, so they are combined."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(_ROW // 2):
        bits = _by_two()[bits & 0xFFFF] ^ bits >> 16
    values = np.arange(256)
    tables = []
    for byte in range(4):
        table = np.zeros(256, np.uint32)
        for bit in range(8):
            table ^= np.where(values >> bit & 1, bits[8 * byte + bit], 0).astype(np.uint32)
        tables.append(table.tolist())
    return tables


def crc32c(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> int:
    """The checksum of so many bytes, at some 5 ns a byte."""
    rest = np.frombuffer(data, np.uint8)
    count, crc = len(rest) // _ROW, _ALL
    if count:
        rows = rest[: count * _ROW].view("<u2").reshape(count, _ROW // 2)
        sums = np.zeros(count, np.uint32)
        for pair in np.ascontiguousarray(rows.T):
            sums = _by_two()[(sums ^ pair) & 0xFFFF] ^ sums >> 16
        a, b, c, d = _past_a_row()
        for of_row in sums.tolist():
            crc = a[crc & 0xFF] ^ b[crc >> 8 & 0xFF] ^ c[crc >> 16 & 0xFF] ^ d[crc >> 24] ^ of_row
        rest = rest[count * _ROW :]
    table = _by_byte().tolist()
    for byte in rest.tolist():
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ _ALL
