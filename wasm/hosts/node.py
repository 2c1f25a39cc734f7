"""Run a Python program in Pyodide under Node, or another engine that runs Node's scripts."""

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
    engine: list[str] = field(default_factory=lambda: ["node", f"--stack-size={STACK_KB}"])
    files: list[dict[str, str]] = field(default_factory=list)
    archives: list[dict[str, str]] = field(default_factory=list)
    mounts: list[dict[str, str]] = field(default_factory=list)

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

    def mount(self, folder: Path, target: str) -> None:
        """Show a folder of this machine inside; what is written there is written here."""
        self.mounts.append({"path": str(folder), "target": target})

    def run(self, program: str, label: str = "") -> Any:
        """Run one of the programs in wasm/pyodide/; returns what its last expression, as JSON, says.

        Args:
            program: Name of the file.
            label: Put before each line of output, where several processes write at the same time.

        Raises:
            ToolchainError: The process ended without a result.
        """
        with tempfile.TemporaryDirectory() as scratch:
            job, result = Path(scratch, "job.json"), Path(scratch, "result.json")
            job.write_text(
                json.dumps(
                    {
                        "runtime": str(runtime_folder(self.version)),
                        "files": self.files,
                        "archives": self.archives,
                        "mounts": self.mounts,
                        "program": str(WASM / "pyodide" / program),
                        "result": str(result),
                    }
                )
            )
            code = _run([*self.engine, str(WASM / "hosts" / "node.mjs"), str(job)], label)
            if code or not result.exists():
                raise ToolchainError(f"{program} in Pyodide {self.version} did not end well: {code}")
            return json.loads(result.read_text())


def _run(command: list[str], label: str) -> int:
    if not label:
        return subprocess.run(command).returncode
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(f"{label}{line}", end="", flush=True)
    return process.returncode
