"""What every test shares: seeds, the large data set, and a guard that a forced SIMD path is the one that is tested."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from support import IN_CI, ROOT, examples

import edgevec

BIG_SET = "wordnet-minilm-384"
ABSENT_IN_PYODIDE = ("threads", "subprocess", "mmap")

# Machines differ in speed and sanitizers are slow, so no test has a deadline. In CI a failure must repeat itself.
settings.register_profile("edgevec", deadline=None, max_examples=examples(100), derandomize=IN_CI, print_blob=True)
settings.load_profile("edgevec")


def pytest_sessionstart() -> None:
    """EDGEVEC_EXPECT_SIMD names the path that this run is about: end at once when another one would be tested."""
    expected = os.environ.get("EDGEVEC_EXPECT_SIMD")
    if not expected:
        return
    info = edgevec.simd_info()
    if expected not in info.available:
        pytest.exit(f"SKIPPED: this machine lacks {expected}, it has {', '.join(info.available)}", returncode=0)
    if info.active != expected:
        pytest.exit(f"{info.active} is active where {expected} is to be tested", returncode=1)


def pytest_report_header() -> str:
    info = edgevec.simd_info()
    return f"edgevec {edgevec.__version__}: SIMD {info.active}, available {', '.join(info.available)}"


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    if sys.platform != "emscripten":
        return
    for item in items:
        for name in ABSENT_IN_PYODIDE:
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"Pyodide has no {name}"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator whose seed is the test's own name: neither other tests nor the file it stands in change it."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def big_set() -> Path:
    """The folder of the large real set: what EDGEVEC_DATA names (it or its parent), else beside the project.

    Nowhere means skip; named and not there is an error.
    """
    named = os.environ.get("EDGEVEC_DATA")
    parent = Path(named) if named else ROOT.parent / "shared" / "data"
    for folder in (parent, parent / BIG_SET):
        if (folder / "base_f16.npy").is_file():
            return folder
    if named:
        pytest.fail(f"EDGEVEC_DATA={named} holds no base_f16.npy")
    pytest.skip(f"{BIG_SET} is not here; EDGEVEC_DATA can name its folder")
