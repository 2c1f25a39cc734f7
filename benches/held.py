"""Engines held to AVX2 on a machine that has more: what each understands, in the environment of its process."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from shutil import which

SIMD = ("best", "avx2")
ASKED = {"EDGEVEC_SIMD": "avx2", "FAISS_OPT_LEVEL": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
REFUSALS = """namespace rabitqlib { namespace cpu {
bool has_avx512_core() { return false; }
bool has_avx512_popcnt() { return false; }
} }
"""
"""rabitqlib asks these two of itself and takes no option, so they are answered before it can."""


def environment(simd: str) -> dict[str, str]:
    """What holds the engines that can be held to this path; those that cannot choose for themselves."""
    if simd == "best":
        return {}
    refusals = rabitqlib_refusals()
    return ASKED | ({"LD_PRELOAD": str(refusals)} if refusals else {})


@cache
def rabitqlib_refusals() -> Path | None:
    """A library to load before rabitqlib (Linux, with a C++ compiler), else None, which is said."""
    compiler = next(filter(None, map(which, ("c++", "g++", "clang++"))), None)
    if sys.platform != "linux" or compiler is None:
        print("rabitqlib is not held to AVX2: that takes Linux and a C++ compiler", file=sys.stderr)
        return None
    folder = Path(__file__).parent / ".cache"
    folder.mkdir(exist_ok=True)
    made, temporary = folder / "rabitqlib-avx2.so", folder / f"rabitqlib-avx2-{os.getpid()}.so"
    command = [compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", str(temporary)]
    subprocess.run(command, input=REFUSALS, text=True, check=True)
    temporary.replace(made)
    return made
