"""The installed package: what it contains, what importing it costs, and that no signature is written twice."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

import edgevec
from edgevec import _core
from edgevec._core import ffi, lib

HEADER = ROOT / "csrc" / "edgevec.h"


def test_version_is_that_of_the_metadata_and_the_core() -> None:
    assert edgevec.__version__ == importlib.metadata.version("edgevec")
    assert ffi.string(lib.ev_version()).decode() == edgevec.__version__


def test_version_is_that_of_the_citation() -> None:
    citation = ROOT / "CITATION.cff"
    if not citation.is_file():
        pytest.skip("the file is not beside the tests")
    assert f"\nversion: {edgevec.__version__}\n" in citation.read_text(encoding="utf-8")


def test_carries_its_type_marker() -> None:
    assert importlib.resources.files("edgevec").joinpath("py.typed").is_file()


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows marks the limited API by the library it links, not by the name"
)
def test_extension_is_abi3() -> None:
    assert Path(_core.__file__).name == "_core.abi3.so"


def test_binding_has_every_public_function_of_the_header() -> None:
    if not HEADER.is_file():
        pytest.skip("the header is not beside the tests")
    body = HEADER.read_text(encoding="utf-8").partition("/* cdef-begin")[2].partition("/* cdef-end")[0]
    without_comments = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    declared = set(re.findall(r"^[a-z].*?\b(ev_\w+)\(", without_comments, flags=re.MULTILINE))
    bound = {name for name in dir(lib) if name.startswith("ev_") and not name.startswith("ev__")}
    assert declared
    assert bound == declared


@pytest.mark.subprocess
def test_import_leaves_alone_what_may_not_be_used() -> None:
    absent = {"click", "rich", "textual", "h5py", "pyarrow", "matplotlib", "sqlite3", "lark", "ray", "fsspec"}
    program = f"import sys, edgevec; print(*{absent} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
