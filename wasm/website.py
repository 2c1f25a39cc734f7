"""A static folder from which edgevec runs in a browser with nothing fetched from elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from build import built_wheel
from toolchain.cache import CACHE, PROJECT, fresh_folder, run, sha256
from toolchain.runtime import (
    RUNTIME_WHEELS,
    lock_entry,
    pure_folder,
    runtime_folder,
    site_folder,
    wheel_folder,
)

SITE = CACHE / "site"
DEMO = PROJECT / "wasm" / "demo"
SAMPLE = PROJECT / "sample" / "edgevec_sample"
SAMPLE_FILES = ("wordnet25k.npz", "entries.jsonl.gz", "LICENSE-WordNet-3.0.txt")
DEMO_PACKAGES = ("numpy", "cffi", "pycparser", "sqlite3", "edgevec")
RUNTIME_FILES = ("pyodide.js", "pyodide.mjs", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")


def build_site(folder: Path = SITE) -> Path:
    """Write the folder anew: pyodide/ with the runtime, the wheels, and a lock file that knows these and no others."""
    with fresh_folder(folder) as scratch:
        pyodide = scratch / "pyodide"
        pyodide.mkdir()
        for name in RUNTIME_FILES:
            shutil.copy(runtime_folder() / name, pyodide)
        lock = json.loads((runtime_folder() / "pyodide-lock.json").read_text())
        known = lock["packages"]
        lock["packages"] = {name: known[name] for name in RUNTIME_WHEELS}
        lock["packages"]["cffi"] = known["cffi"] | {"sha256": sha256(wheel_folder() / lock_entry("cffi")["file_name"])}
        lock["packages"]["pycparser"] = _entry(next(pure_folder().glob("pycparser-*.whl")), [])
        lock["packages"]["edgevec"] = _entry(built_wheel(), ["numpy", "cffi"])
        for entry in lock["packages"].values():
            shutil.copy(_find(entry["file_name"]), pyodide)
        (pyodide / "pyodide-lock.json").write_text(json.dumps(lock))
    return folder


def build_newer_site(folder: Path, version: str) -> Path:
    """The same with a newer Pyodide, NumPy and cffi as built for it, and what JupyterLite's kernel imports."""
    with fresh_folder(folder) as scratch:
        pyodide = scratch / "pyodide"
        pyodide.mkdir()
        for file in runtime_folder(version).iterdir():
            if file.suffix in (".js", ".mjs", ".wasm", ".zip"):
                shutil.copy(file, pyodide)
        lock = json.loads((runtime_folder(version) / "pyodide-lock.json").read_text())
        known = lock["packages"] | {"edgevec": {"depends": ["numpy", "cffi"]}}
        built = [wheel_folder(version) / known[name]["file_name"] for name in ("numpy", "cffi")]
        lock["packages"] = {}
        for wheel in [*built, *site_folder(version).glob("*.whl"), built_wheel(version)]:
            shutil.copy(wheel, pyodide)
            name = wheel.name.partition("-")[0].replace("_", "-")
            kept = {key: known[name][key] for key in ("depends", "imports") if key in known.get(name, {})}
            lock["packages"][name] = _entry(wheel, []) | kept
        (pyodide / "pyodide-lock.json").write_text(json.dumps(lock))
    return folder


def build_notebooks(folder: Path, version: str) -> Path:
    """JupyterLite's console over that Pyodide, with the wheel in its package index, which is the only one."""
    settings = {"@jupyterlite/pyodide-kernel-extension:kernel": {"disablePyPIFallback": True}}
    config = {"jupyter-lite-schema-version": 0, "jupyter-config-data": {"litePluginSettings": settings}}
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch)
        pyodide = build_newer_site(source / "static", version) / "pyodide"
        (source / "pypi").mkdir()
        shutil.move(pyodide / built_wheel(version).name, source / "pypi")
        lock = json.loads((pyodide / "pyodide-lock.json").read_text())
        del lock["packages"]["edgevec"]  # which would be asked first
        (pyodide / "pyodide-lock.json").write_text(json.dumps(lock))
        (source / "jupyter-lite.json").write_text(json.dumps(config))
        program = Path(sys.executable).parent / "jupyter-lite"
        run([program, "build", "--lite-dir", source, "--output-dir", folder, "--apps", "repl"], cwd=source)
    return folder


def build_demo(folder: Path) -> Path:
    """The same with the demo page, the sample's files in data/, and the manifest that the page starts from."""
    build_site(folder)
    shutil.copytree(DEMO, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / "data").mkdir()
    for name in SAMPLE_FILES:
        shutil.copy(SAMPLE / name, folder / "data")
    (folder / "manifest.json").write_text(json.dumps(_manifest(folder), indent=1))
    return folder


def _manifest(folder: Path) -> dict[str, Any]:
    """What the page's worker fetches, with sizes, so that loading can be shown in bytes."""
    lock = json.loads((folder / "pyodide" / "pyodide-lock.json").read_text())
    wheels = [lock["packages"][name]["file_name"] for name in DEMO_PACKAGES]
    runtime = [name for name in RUNTIME_FILES if name != "pyodide.js"]
    groups = {
        "runtime": [folder / "pyodide" / name for name in [*runtime, "pyodide-lock.json", *wheels]],
        "python": sorted((folder / "python").glob("*.py")),
        "sample": [folder / "data" / name for name in SAMPLE_FILES if not name.startswith("LICENSE")],
    }
    return {
        group: [{"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size} for file in files]
        for group, files in groups.items()
    }


def _entry(wheel: Path, depends: list[str]) -> dict[str, Any]:
    name, version = wheel.name.split("-")[:2]
    return {
        "name": name,
        "version": version,
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": sha256(wheel),
        "package_type": "package",
        "imports": [name],
        "depends": depends,
        "unvendored_tests": False,
    }


def _find(file_name: str) -> Path:
    folders = (wheel_folder(), pure_folder(), built_wheel().parent)
    return next(folder / file_name for folder in folders if (folder / file_name).exists())
