"""The types of the extension module: those of the header, and the names that Python has for its numbers."""

from __future__ import annotations

import runpy
from typing import get_args

import pytest
from support import ROOT

from edgevec import Metric, Quantization
from edgevec._core import lib

CSRC, STUBS = ROOT / "csrc", ROOT / "edgevec" / "_core.pyi"


def test_stub_is_made_from_the_header_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (CSRC.is_dir() and STUBS.is_file()):
        pytest.skip("the header and the types made from it are not beside the tests")
    monkeypatch.syspath_prepend(CSRC)  # stubs.py uses binding.py
    written = runpy.run_path(str(CSRC / "stubs.py"))["stubs"]()
    committed = STUBS.read_text(encoding="utf-8")
    assert committed == written, "edgevec/_core.pyi is stale: run `python csrc/stubs.py`"


@pytest.mark.parametrize(("names", "prefix"), [(Metric, "EV_METRIC_"), (Quantization, "EV_QUANT_")])
def test_names_stand_in_the_order_of_their_numbers_in_c(names: object, prefix: str) -> None:
    constants = [name for name in dir(lib) if name.startswith(prefix)]
    in_order = sorted(constants, key=lambda name: getattr(lib, name))
    assert list(get_args(names)) == [name[len(prefix) :].lower() for name in in_order]
    assert [getattr(lib, name) for name in in_order] == list(range(len(in_order)))
