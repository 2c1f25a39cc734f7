"""Which WebAssembly instructions a module holds: `python wasm/opcodes.py WHEEL-OR-MODULE`.

The code section is decoded instruction by instruction, because a byte that looks like an opcode is as often a
constant or an index. Names and numbers are those of the WebAssembly core specification and its threads and exceptions
proposals.
"""

from __future__ import annotations

import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

Opcode = tuple[int, int]
"""(prefix, number); the prefix is 0 for one-byte opcodes."""

SIMD, ATOMIC, MISC = 0xFD, 0xFE, 0xFC
FIRST_RELAXED = 0x100
EXCEPTIONS = frozenset({0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F})
NAMES = {
    (0, 0x7B): "i64.popcnt",
    (SIMD, 0x00): "v128.load",
    (SIMD, 0x0B): "v128.store",
    (SIMD, 0x87): "i16x8.extend_low_i8x16_s",
    (SIMD, 0x88): "i16x8.extend_high_i8x16_s",
    (SIMD, 0xBA): "i32x4.dot_i16x8_s",
    (SIMD, 0xE4): "f32x4.add",
    (SIMD, 0xE6): "f32x4.mul",
}

# What follows an opcode: u = LEB128 number, m = memory argument, b = one byte, 4/8/16 = that many bytes,
# v = counted list of numbers, c = the catch clauses of try_table.
_PLAIN = {
    **dict.fromkeys((0x02, 0x03, 0x04, 0x06, 0x07, 0x08, 0x09, 0x0C, 0x0D, 0x10, 0x12, 0x18), "u"),
    **dict.fromkeys((0x11, 0x13), "uu"),
    0x0E: "vu",
    0x1C: "v",
    0x1F: "uc",
    **dict.fromkeys(range(0x20, 0x27), "u"),
    **dict.fromkeys(range(0x28, 0x3F), "m"),
    **dict.fromkeys((0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2), "u"),
    0x43: "4",
    0x44: "8",
    **dict.fromkeys((0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x19, 0x1A, 0x1B, 0xD1), ""),
    **dict.fromkeys(range(0x45, 0xC5), ""),
}
_MISC = {
    **dict.fromkeys(range(8), ""),
    **dict.fromkeys((8, 10, 12, 14), "uu"),
    **dict.fromkeys((9, 11, 13, 15, 16, 17), "u"),
}
_SIMD = {
    **dict.fromkeys(range(0x114), ""),
    **dict.fromkeys(range(0x0C), "m"),
    **dict.fromkeys((0x0C, 0x0D), "16"),
    **dict.fromkeys(range(0x15, 0x23), "b"),
    **dict.fromkeys(range(0x54, 0x5C), "mb"),
    **dict.fromkeys((0x5C, 0x5D), "m"),
}
_ATOMIC = {**dict.fromkeys((0x00, 0x01, 0x02, *range(0x10, 0x4F)), "m"), 0x03: "b"}
_PREFIXED = {SIMD: _SIMD, MISC: _MISC, ATOMIC: _ATOMIC}


@dataclass
class Function:
    name: str
    opcodes: Counter[Opcode] = field(default_factory=Counter)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """An LEB128 number, read as unsigned: of signed ones only the length matters here."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bytes(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise ValueError("truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def block(self) -> _Reader:
        return _Reader(self.bytes(self.number()))

    def text(self) -> str:
        return self.bytes(self.number()).decode()

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)


def decode(module: bytes) -> list[Function]:
    """The functions that a module defines, in order, with how often each holds each opcode."""
    reader = _Reader(module)
    if reader.bytes(8) != b"\0asm" + struct.pack("<I", 1):
        raise ValueError("not a WebAssembly module")
    imported, names, bodies = 0, dict[int, str](), list[_Reader]()
    while not reader.done:
        section, content = reader.byte(), reader.block()
        if section == 0 and content.text() == "name":
            names = _function_names(content)
        elif section == 2:
            imported = _imported_functions(content)
        elif section == 10:
            bodies = [content.block() for _ in range(content.number())]
    numbered = enumerate(bodies, start=imported)
    return [Function(names.get(index, f"function {index}"), _count(body)) for index, body in numbered]


def _function_names(reader: _Reader) -> dict[int, str]:
    while not reader.done:
        kind, content = reader.byte(), reader.block()
        if kind == 1:
            return {content.number(): content.text() for _ in range(content.number())}
    return {}


def _imported_functions(reader: _Reader) -> int:
    functions = 0
    for _ in range(reader.number()):
        reader.text()
        reader.text()
        kind = reader.byte()
        functions += kind == 0
        if kind == 0:  # its type
            reader.number()
        elif kind in (1, 2):  # a table's element type comes first; then the limits
            reader.bytes(kind == 1)
            for _ in range(2 if reader.byte() & 1 else 1):
                reader.number()
        elif kind in (3, 4):  # a global's type and mutability; a tag's attribute and type
            reader.bytes(2)
        else:
            raise ValueError(f"unknown import kind {kind}")
    return functions


def _count(reader: _Reader) -> Counter[Opcode]:
    for _ in range(reader.number()):  # local variables: how many, of which type
        reader.number()
        reader.byte()
    found: Counter[Opcode] = Counter()
    last = (0, 0)
    while not reader.done:
        last = _instruction(reader)
        found[last] += 1
    if last != (0, 0x0B):
        raise ValueError("a function does not end with `end`")
    return found


def _instruction(reader: _Reader) -> Opcode:
    first = reader.byte()
    prefix, number, table = (first, reader.number(), _PREFIXED[first]) if first in _PREFIXED else (0, first, _PLAIN)
    if number not in table:
        raise ValueError(f"unknown opcode {prefix:#x} {number:#x}")
    _skip(reader, table[number])
    return prefix, number


def _skip(reader: _Reader, operands: str) -> None:
    if operands.isdigit():
        reader.bytes(int(operands))
        return
    for operand in operands:
        if operand == "u":
            reader.number()
        elif operand == "b":
            reader.byte()
        elif operand == "m":
            _skip(reader, "uu" + "u" * (reader.data[reader.at] >> 6 & 1))
        elif operand == "v":
            _skip(reader, "u" * reader.number())
        elif operand == "c":
            for _ in range(reader.number()):
                _skip(reader, "uu" if reader.byte() < 2 else "u")


def total(functions: Iterable[Function]) -> Counter[Opcode]:
    return sum((function.opcodes for function in functions), Counter[Opcode]())


def forbidden(opcodes: Iterable[Opcode]) -> list[str]:
    """Those that a plain SIMD128 engine without threads or exceptions refuses."""
    reasons = []
    for prefix, number in sorted(set(opcodes)):
        if prefix == SIMD and number >= FIRST_RELAXED:
            reasons.append(f"relaxed SIMD {number:#x}")
        elif prefix == ATOMIC:
            reasons.append(f"atomic {number:#x}")
        elif prefix == 0 and number in EXCEPTIONS:
            reasons.append(f"exception {number:#x}")
    return reasons


def read_module(path: Path) -> bytes:
    """A module's bytes, out of a wheel where it is one."""
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        return wheel.read(next(name for name in wheel.namelist() if name.endswith(".so")))


def main() -> int:
    functions = decode(read_module(Path(sys.argv[1])))
    counts = total(functions)
    vector = {opcode: count for opcode, count in sorted(counts.items()) if opcode[0] == SIMD}
    print(f"{len(functions)} functions, {sum(counts.values())} instructions, {sum(vector.values())} of them v128")
    for opcode, count in vector.items():
        print(f"  {NAMES.get(opcode, f'0xfd {opcode[1]:#04x}')}: {count}")
    print("refused by plain engines:", ", ".join(forbidden(counts)) or "none")
    return 0


if __name__ == "__main__":
    sys.exit(main())
