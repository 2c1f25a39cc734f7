"""EDGEVEC_SIMD: a path that the machine has can be forced, others are refused, and a CPU without AVX still searches."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import need

import edgevec

pytestmark = pytest.mark.subprocess

SHOW = "import edgevec; i = edgevec.simd_info(); print(i.active, i.forced)"
# Points on a line at 0, 1, 2, ...: the neighbors of 4.2 are known. Enough dimensions for whole vectors and for a rest.
SEARCH = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import edgevec
    import numpy as np
index = edgevec.Index(37, "l2", quantization="{quantization}", M=4, ef_construction=20)
index.add(np.outer(np.arange(40), np.ones(37)).astype(np.float32), threads=1)
found = index.search(np.full(37, 4.2, np.float32), k=3)
print(edgevec.simd_info().active, *found.ids, sum(w.category is edgevec.SimdWarning for w in caught))
"""

REFUSED = """
import edgevec
try:
    edgevec.{call}
except edgevec.EdgevecError as error:
    print(type(error).__name__, error)
"""
LACKING = sorted({"avx2", "avx512", "neon", "wasm128"} - set(edgevec.simd_info().available))


def output(code: str, *, simd: str | None = None, under: tuple[str, ...] = ()) -> str:
    """What Python prints for `code` in a process of its own, whatever path this one is forced to."""
    # NumPy's OpenBLAS may have been told to take this very CPU's instructions; an emulated one lacks them.
    unwanted = ("EDGEVEC_SIMD", "OPENBLAS_") if under else ("EDGEVEC_SIMD",)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    if simd is not None:
        environment["EDGEVEC_SIMD"] = simd
    done = subprocess.run([*under, sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_best_path_is_the_default() -> None:
    available = edgevec.simd_info().available
    assert available[0] == "scalar"
    assert output(SHOW) == output(SHOW, simd="") == f"{available[-1]} None"


def test_what_is_available_was_compiled() -> None:
    info = edgevec.simd_info()
    assert info.active in info.available
    assert set(info.available) <= set(info.compiled)


@pytest.mark.parametrize("name", edgevec.simd_info().available)
@pytest.mark.parametrize("quantization", ["none", "sq8", "binary"])
def test_a_forced_path_is_the_one_that_searches(name: str, quantization: str) -> None:
    assert output(SHOW, simd=name) == f"{name} {name}"
    # Who asks for scalar is not warned of it.
    assert output(SEARCH.format(quantization=quantization), simd=name) == f"{name} 4 5 3 0"


@pytest.mark.parametrize("name", ["AVX2", "sse9", "avx2 ", *LACKING])
@pytest.mark.parametrize("call", ["simd_info()", "Index(4)"])
def test_a_path_that_is_not_to_be_had_is_refused(name: str, call: str) -> None:
    said = output(REFUSED.format(call=call), simd=name)
    assert said.startswith("SimdError ")
    assert f"EDGEVEC_SIMD={name}, but" in said


def test_a_cpu_without_avx_warns_once_and_searches() -> None:
    """The wheel imports and answers on an emulated Nehalem: no instruction beyond its own runs."""
    if edgevec.simd_info().compiled != ("scalar", "avx2", "avx512"):
        pytest.skip("not an x86-64 build")
    emulator = need("qemu-x86_64")
    assert output(SEARCH.format(quantization="sq8"), under=(emulator, "-cpu", "Nehalem")) == "scalar 4 5 3 1"
