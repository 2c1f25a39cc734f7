"""The browser wheel in dist/ is what it says: small, SIMD128 in its kernels, nothing that an engine may refuse."""

from __future__ import annotations

from pathlib import Path

import opcodes
import pytest
from build import built_wheel
from hosts.node import Job
from opcodes import Function
from packaging.utils import parse_wheel_filename
from toolchain.runtime import RUNTIME_SHA256, pure_folder, wheel_folder

OPCODES = {name: opcode for opcode, name in opcodes.NAMES.items()}


@pytest.fixture(scope="module")
def wheel() -> Path:
    return built_wheel()


@pytest.fixture(scope="module")
def functions(wheel: Path) -> list[Function]:
    return opcodes.decode(opcodes.read_module(wheel))


@pytest.mark.parametrize(
    ("kernel", "opcode"),
    [
        ("dot_f32", "f32x4.mul"),
        ("l2_f32", "f32x4.mul"),
        ("dot_sq24", "f32x4.mul"),
        ("l2_sq24", "f32x4.mul"),
        ("dot_i8", "i32x4.dot_i16x8_s"),
        ("l2_bits", "i64.popcnt"),
        ("dot_bits", "i64.popcnt"),
    ],
)
def test_kernels_hold_the_instruction_that_makes_them_fast(functions: list[Function], kernel: str, opcode: str) -> None:
    (function,) = (function for function in functions if function.name == f"{kernel}_wasm128")
    assert function.opcodes[OPCODES[opcode]] > 0


def test_nothing_that_a_plain_engine_refuses(functions: list[Function]) -> None:
    assert opcodes.forbidden(opcodes.total(functions)) == []


def test_wheel_is_small_and_without_the_sample(wheel: Path) -> None:
    assert wheel.stat().st_size < 405_000


def test_every_abi_has_a_wheel_of_one_tag_with_the_same_module() -> None:
    wheels = [built_wheel(version) for version in RUNTIME_SHA256]
    assert all(len(parse_wheel_filename(wheel.name)[3]) == 1 for wheel in wheels)
    assert len({opcodes.read_module(wheel) for wheel in wheels}) == 1


@pytest.mark.parametrize("version", RUNTIME_SHA256)
def test_installs_and_passes_its_self_test(version: str) -> None:
    wheel, job = built_wheel(version), Job(version)
    # Where the runtime's own micropip cannot be had, the tags are compared without it.
    for name in ("micropip-*", "packaging-*"):
        found = [*wheel_folder(version).glob(name), *pure_folder().glob(name)]
        job.add_wheels(found[:1])
    job.add_file(wheel, f"/tmp/{wheel.name}")
    assert job.run("selftest.py") == {"failed_kernel": 0}


def module(*instructions: int) -> bytes:
    """A module with one function of these instructions."""
    body = bytes([0, *instructions, 0x0B])
    code = bytes([1, len(body), *body])
    return b"\0asm\1\0\0\0" + bytes([10, len(code), *code])


RELAXED_MADD, ATOMIC_LOAD, THROW = (0xFD, 0x85, 0x02), (0xFE, 0x10, 2, 0), (0x08, 0)


@pytest.mark.parametrize(
    ("instructions", "reasons"),
    [
        (RELAXED_MADD, ["relaxed SIMD 0x105"]),
        (ATOMIC_LOAD, ["atomic 0x10"]),
        (THROW, ["exception 0x8"]),
        # The same bytes as constants are no opcodes.
        ((0xFD, 0x0C, *RELAXED_MADD, *ATOMIC_LOAD, *THROW, *bytes(7)), []),
        ((0x41, 0xFE, 0x10, 0x1A), []),
    ],
)
def test_decoder_tells_opcodes_from_operands(instructions: tuple[int, ...], reasons: list[str]) -> None:
    assert opcodes.forbidden(opcodes.total(opcodes.decode(module(*instructions)))) == reasons


@pytest.mark.parametrize("instructions", [(0xFD, 0x0C, 1, 2), (0xC6,), (0x41,)])
def test_decoder_refuses_what_it_cannot_read(instructions: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, IndexError)):
        opcodes.decode(module(*instructions))
