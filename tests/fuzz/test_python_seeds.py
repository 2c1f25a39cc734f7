"""What is fuzzed in Python, with the bytes that are kept: seeds, and what once broke a promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from python_targets import TARGETS
from support import need_module

SEEDS = Path(__file__).parent / "seeds" / "python"
NEEDED = {"hdf5": "h5py", "parquet": "pyarrow", "arrow": "pyarrow", "safetensors": "safetensors"}


@pytest.mark.parametrize("name", sorted(folder.name for folder in SEEDS.iterdir()))
def test_no_kept_bytes_break_a_promise(name: str) -> None:
    if name in NEEDED:
        need_module(NEEDED[name])
    for path in sorted((SEEDS / name).iterdir()):
        TARGETS[name](path.read_bytes())


def test_every_target_has_seeds() -> None:
    assert {folder.name for folder in SEEDS.iterdir()} == set(TARGETS)
