"""Run a Python program in Pyodide under Node."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolchain.cache import PROJECT, ToolchainError
from toolchain.runtime import PYODIDE, RUNTIME_PYTHON, runtime_folder

WASM = PROJECT / "wasm"
# Room for the nesting that CPython allows: with Node's own 984 KB the engine gives up before CPython does.
STACK_KB = 4000


@dataclass
class Job:
    """What to put into a fresh Pyodide before the program runs."""

    version: str = PYODIDE
    files: list[dict[str, str]] = field(default_factory=list)
    archives: list[dict[str, str]] = field(default_factory=list)

    @property
    def site_packages(self) -> str:
        return f"/lib/python{RUNTIME_PYTHON[self.version]}/site-packages"

    def add_file(self, path: Path, target: str) -> None:
        self.files.append({"path": str(path), "target": target})

    def add_wheels(self, wheels: Iterable[Path]) -> None:
        """Later ones win."""
        for wheel in wheels:
            self.add_archive(wheel, "wheel", self.site_packages)

    def add_archive(self, path: Path, kind: str, folder: str) -> None:
        self.archives.append({"path": str(path), "format": kind, "folder": folder})

    def run(self, program: str) -> Any:
        """Run one of the programs in wasm/pyodide/; returns what its last expression, as JSON, says."""
        with tempfile.TemporaryDirectory() as scratch:
            job, result = Path(scratch, "job.json"), Path(scratch, "result.json")
            job.write_text(
                json.dumps(
                    {
                        "runtime": str(runtime_folder(self.version)),
                        "files": self.files,
                        "archives": self.archives,
                        "program": str(WASM / "pyodide" / program),
                        "result": str(result),
                    }
                )
            )
            done = subprocess.run(["node", f"--stack-size={STACK_KB}", WASM / "hosts" / "node.mjs", job])
            if done.returncode or not result.exists():
                raise ToolchainError(f"{program} in Pyodide {self.version} did not end well: {done.returncode}")
            return json.loads(result.read_text())
