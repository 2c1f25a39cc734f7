"""SIMD in the artifact: the built extension holds what its kernels promise, and none of it where any CPU passes."""

from __future__ import annotations

import importlib.util
import platform
import re
import subprocess
import sys

import pytest
from support import absent, need

pytestmark = pytest.mark.subprocess

# What each kernel must hold: a pattern at the start of "mnemonic operands".
EXPECTED = {
    "x86_64": {
        ("dot_f32", "avx2"): r"vfmadd\d+ps .*%ymm",
        ("l2_f32", "avx2"): r"vfmadd\d+ps .*%ymm",
        ("dot_sq24", "avx2"): r"vfmadd\d+ps .*%ymm",
        ("l2_sq24", "avx2"): r"vfmadd\d+ps .*%ymm",
        ("dot_i8", "avx2"): r"vpmaddubsw .*%ymm",
        ("dot_f32", "avx512"): r"vfmadd\d+ps .*%zmm",
        ("l2_f32", "avx512"): r"vfmadd\d+ps .*%zmm",
        ("dot_sq24", "avx512"): r"vfmadd\d+ps .*%zmm",
        ("l2_sq24", "avx512"): r"vfmadd\d+ps .*%zmm",
        ("dot_i8", "avx512"): r"vpmaddubsw .*%zmm",
        ("dot_i8", "vnni_avx512"): r"vpdpbusd .*%[yz]mm",
        ("l2_bits", "avx512"): r"vpopcntq .*%zmm",
        ("dot_bits", "avx512"): r"vpopcntq .*%zmm",
        ("ev__l2_bits", "avx2"): r"vpshufb .*%ymm",
        ("ev__dot_bits", "avx2"): r"vpshufb .*%ymm",
    },
    "aarch64": {
        ("dot_f32", "neon"): r"fmla .*\.4s",
        ("l2_f32", "neon"): r"fmla .*\.4s",
        ("dot_sq24", "neon"): r"fmla .*\.4s",
        ("l2_sq24", "neon"): r"fml[as] .*\.4s",
        ("dot_i8", "neon"): r"smlal2? .*\.8h",
        ("dot_i8", "dot_neon"): r"sdot .*\.4s",
        ("l2_bits", "neon"): r"cnt .*\.16b",
        ("dot_bits", "neon"): r"cnt .*\.16b",
    },
}
# Instructions that fault on a CPU without AVX: VEX and EVEX ones start with v, and these few with k or a name of BMI.
AVX = re.compile(
    r"v|k(?:mov|or|and|x|not|shift|test|unpck|add)|.*%[yz]mm|(?:andn|bextr|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx)\b"
)
SSE42 = re.compile(r"popcnt|crc32|pcmp[ei]str")
HEADER = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")

Functions = dict[str, list[str]]


def disassemble(path: str) -> Functions:
    """Every function's instructions, as "mnemonic operands"; parts split off by the compiler (`name.cold`) count in."""
    command = [need("objdump"), "-d", "--no-show-raw-insn", path]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    functions: Functions = {}
    code: list[str] = []
    for line in listing.splitlines():
        if header := HEADER.match(line):
            code = functions.setdefault(header[1].split(".")[0], [])
        elif "\t" in line:
            code.append(" ".join(line.split("\t", 1)[1].split()))
    return functions


@pytest.fixture(scope="module")
def machine() -> str:
    if sys.platform != "linux":
        pytest.skip("objdump speaks another dialect here")
    name = platform.machine()
    if name not in EXPECTED:
        absent(f"no instructions are known for {name}")
    return name


@pytest.fixture(scope="module")
def functions(machine: str) -> Functions:
    spec = importlib.util.find_spec("edgevec._core")
    assert spec is not None
    assert spec.origin is not None
    return disassemble(spec.origin)


def test_kernels_hold_their_instructions(machine: str, functions: Functions) -> None:
    kernels = {f"{kernel}_{isa}": pattern for (kernel, isa), pattern in EXPECTED[machine].items()}
    missing = [name for name in kernels if name not in functions]
    assert not missing, f"not in the symbol table (stripped?): {missing}"
    poor = [name for name, pattern in kernels.items() if not any(re.match(pattern, code) for code in functions[name])]
    assert not poor, f"kernels without their SIMD instruction: {poor}"


def test_nothing_else_needs_more_than_the_oldest_cpu(machine: str, functions: Functions) -> None:
    if machine != "x86_64":
        pytest.skip(f"every {machine} CPU has the instructions of the baseline")
    found = {
        name: bad
        for name, code in functions.items()
        if not name.endswith(("_avx2", "_avx512"))
        for bad in code
        if AVX.match(bad) or (SSE42.match(bad) and not name.endswith("_sse42"))
    }
    assert not found, f"instructions that run before, or without, dispatch: {found}"
    assert any(AVX.match(code) for code in functions["dot_f32_avx2"])
