"""The packages from npm that edgevec is compared with: fetched, pinned by hash, and weighed."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from build import built_wheel
from toolchain import npm
from toolchain.cache import CACHE
from toolchain.runtime import lock_entry, runtime_folder, wheel_folder

FOLDER = CACHE / "baselines"
# What Pyodide fetches before Python runs, and what edgevec needs beside its own wheel.
RUNTIME = ("pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
NEEDED = ("numpy", "cffi")


@dataclass(frozen=True)
class Baseline:
    """A package, and the files of it that a page fetches."""

    package: str
    sha256: str
    files: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.package.partition("@")[0]


BASELINES = {
    "hnswlib-wasm": Baseline(
        "hnswlib-wasm@0.8.2",
        "392ad02284fe1c92197926ae04c848f4c5b49142821b3ea9ffd4a4ad71be38eb",
        ("dist/hnswlib.js", "dist/hnswlib-317962d7.js"),
    ),
    "npm edgevec": Baseline(
        "edgevec@0.9.0",
        "9d0f4707f0a4d2f8fc5bd61e6be523f3038682c77c9b0fb8cde33ed217ea72cd",
        ("edgevec.js", "edgevec_bg.wasm", "snippets/edgevec-d2ba0e32c31531f9/src/js/storage.js"),
    ),
    "voy-search": Baseline(
        "voy-search@0.6.3",
        "3588a48ff5124634053895a10d5368e4d0637a1beec8e370b4922b8f33d8f1f8",
        ("voy_search_bg.js", "voy_search_bg.wasm"),
    ),
}


def fetch() -> Path:
    """The folder that holds every package under its name."""
    for baseline in BASELINES.values():
        npm.unpack(baseline.package, baseline.sha256, FOLDER / baseline.name)
    return FOLDER


def download_bytes(engine: str) -> int | None:
    """What a page fetches for the engine, gzipped; of edgevec the wheel alone, which is packed as it is."""
    if engine.startswith("edgevec "):
        return built_wheel().stat().st_size
    if engine not in BASELINES:
        return None
    baseline = BASELINES[engine]
    return gzipped(FOLDER / baseline.name / file for file in baseline.files)


def runtime_bytes() -> int:
    """What Pyodide, NumPy and cffi add to edgevec's own download, for a page that has no other use for them."""
    wheels = [wheel_folder() / lock_entry(name)["file_name"] for name in NEEDED]
    return gzipped([*(runtime_folder() / name for name in RUNTIME), *wheels])


def gzipped(paths: Iterable[Path]) -> int:
    return sum(len(gzip.compress(path.read_bytes(), 9, mtime=0)) for path in paths)
