"""The cross-build environment that `pyodide build` works in, and cffi built with it.

Pyodide publishes this environment as a release tarball. Where that cannot be had, the same thing is put together from
what the runtime itself tells about its Python: the sysconfig data in its standard library, and the headers of a host
CPython of the same minor version with the target's pyconfig.h values written in.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from toolchain.cache import CACHE, PROJECT, ToolchainError, fresh_folder, run, say
from toolchain.runtime import PYODIDE, PYTHON, lock_entry, runtime_folder, wheel_folder
from toolchain.target_python import SYSCONFIG_NAME, unpack_sysconfig, write_headers

PYODIDE_BUILD = "pyodide-build==0.39.0"
ENVIRONMENT_ROOT = CACHE / "xbuildenv"
OFFICIAL_ROOT = CACHE / "xbuildenv-official"
TOOLCHAIN = PROJECT / "wasm" / "toolchain"
# The C library's types as the runtime has them; a system's emcc may carry older headers.
LIBC_FLAGS = f"-include {TOOLCHAIN / 'libc' / 'abi.h'} -I{TOOLCHAIN / 'libc'}"


@dataclass(frozen=True)
class Target:
    """The Python that the wheel is for, as the runtime's lock file describes it."""

    python: str
    abi: str
    emscripten: str

    @classmethod
    def of_runtime(cls) -> Target:
        info = json.loads((runtime_folder() / "pyodide-lock.json").read_text())["info"]
        emscripten = info["platform"].removeprefix("emscripten_").replace("_", ".")
        return cls(python=info["python"], abi=info["abi_version"], emscripten=emscripten)

    @property
    def environment(self) -> Path:
        return ENVIRONMENT_ROOT / PYODIDE / "xbuildenv"

    @property
    def install(self) -> Path:
        return self.environment / "pyodide-root" / "cpython" / "installs" / f"python-{self.python}"


def host_python() -> Path:
    """A venv of the target's minor version with pyodide-build in it."""
    venv = CACHE / "host"
    python = venv / "bin" / "python"
    stamp = venv / "installed"
    if stamp.exists() and stamp.read_text() == PYODIDE_BUILD:
        say(f"{PYODIDE_BUILD}: in the cache")
        return python
    base = _find_python()
    say(f"installing {PYODIDE_BUILD} for {base}")
    run([base, "-m", "venv", "--clear", venv])
    run([python, "-m", "pip", "install", "-q", PYODIDE_BUILD])
    stamp.write_text(PYODIDE_BUILD)
    return python


def assemble() -> Path:
    """Lay out the environment; returns its root for PYODIDE_XBUILDENV_PATH."""
    target = Target.of_runtime()
    release = ENVIRONMENT_ROOT / PYODIDE
    if (release / ".installed").exists():
        say("cross-build environment: in the cache")
        return ENVIRONMENT_ROOT
    say(f"cross-build environment: assembling for Python {target.python}, ABI {target.abi}")
    with fresh_folder(release / "xbuildenv") as scratch:
        (scratch / "site-packages-extras").mkdir()
        (scratch / "requirements.txt").touch()
        install = scratch / target.install.relative_to(target.environment)
        variables = unpack_sysconfig(install / "sysconfigdata")
        headers = _headers()
        write_headers(headers, headers / "pyconfig.h", install / "include" / f"python{PYTHON}", variables)
        (scratch / "pyodide-root" / "Makefile.envs").write_text(_makefile(target))
    link = ENVIRONMENT_ROOT / "xbuildenv"
    link.unlink(missing_ok=True)
    link.symlink_to(PYODIDE)
    (release / ".build-python-version").write_text(PYTHON)
    (release / ".installed").touch()
    return ENVIRONMENT_ROOT


def install_official(python: Path) -> Path:
    """Pyodide's own cross-build environment; pyodide-build then brings the Emscripten SDK that belongs to it."""
    say(f"cross-build environment: installing Pyodide's own for {PYODIDE}")
    run([python.parent / "pyodide", "xbuildenv", "install", PYODIDE, "--path", OFFICIAL_ROOT])
    return OFFICIAL_ROOT


def build_environment(root: Path, *, compile_flags: str = "", link_flags: str = "") -> dict[str, str]:
    """Environment variables for `pyodide build` in the cross-build environment at root, with flags that win."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    variables |= {"PYODIDE_XBUILDENV_PATH": str(root), "USE_LEGACY_PLATFORM": "1"}
    variables |= {"CFLAGS": compile_flags, "LDFLAGS": link_flags}
    if root == ENVIRONMENT_ROOT:
        variables |= {"SKIP_EMSCRIPTEN_VERSION_CHECK": "1", "PYODIDE_SKIP_EMSCRIPTEN_INSTALL": "1"}
        # Debian's emcc runs under the first python3 of the PATH, and within a build that is not the one it came with.
        variables["EMSDK_PYTHON"] = "/usr/bin/python3"
        variables["CFLAGS"] = f"{LIBC_FLAGS} {compile_flags}"
    return variables


def build_cffi(python: Path, root: Path) -> Path:
    """cffi's wheel for the runtime, from its sdist."""
    entry = lock_entry("cffi")
    folder = wheel_folder()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / entry["file_name"]
    if wheel.exists():
        say(f"{wheel.name}: in the cache")
        return wheel
    say(f"building cffi {entry['version']} from its sdist")
    with tempfile.TemporaryDirectory() as scratch:
        source = unpack_sdist(python, f"cffi=={entry['version']}", Path(scratch))
        variables = build_environment(root, compile_flags=f"-I{TOOLCHAIN / 'libffi'}") | {"PKG_CONFIG": "false"}
        run([python.parent / "pyodide", "build", source, "--outdir", scratch], cwd=source, env=variables)
        shutil.move(next(Path(scratch).glob("cffi-*.whl")), wheel)
    return wheel


def _find_python() -> str:
    versions = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{PYTHON}.*/bin/python")
    )
    named = shutil.which(f"python{PYTHON}")
    for candidate in (sys.executable, named, *versions):
        # pyenv's shims exist for versions that are not selected; only running one tells.
        if candidate and _minor_version(candidate) == PYTHON:
            return str(candidate)
    raise ToolchainError(f"Python {PYTHON} is needed to build for Pyodide {PYODIDE}; put python{PYTHON} on the PATH")


def _minor_version(python: str | Path) -> str:
    try:
        return run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).stdout.strip()
    except (ToolchainError, OSError):
        return ""


def _headers() -> Path:
    return Path(run([_find_python(), "-c", "import sysconfig; print(sysconfig.get_path('include'))"]).stdout.strip())


def _makefile(target: Target) -> str:
    major, minor, micro = target.python.split(".")
    exports = {
        "PYVERSION": target.python,
        "PYMAJOR": major,
        "PYMINOR": minor,
        "PYMICRO": micro,
        "PYODIDE_VERSION": PYODIDE,
        "PYODIDE_ABI_VERSION": target.abi,
        "PYODIDE_EMSCRIPTEN_VERSION": target.emscripten,
        "PLATFORM_TRIPLET": "wasm32-emscripten",
        "SYSCONFIG_NAME": SYSCONFIG_NAME,
        "CPYTHONINSTALL": str(target.install),
        "TARGETINSTALLDIR": str(target.install),
        "SYSCONFIGDATA_DIR": str(target.install / "sysconfigdata"),
        "PYTHONINCLUDE": str(target.install / "include" / f"python{PYTHON}"),
        "CFLAGS_BASE": "-O2 -g0 -fPIC",
        "CXXFLAGS_BASE": "-O2 -g0 -fPIC",
        "LDFLAGS_BASE": "-O2 -g0 -s WASM_BIGINT",
        "PIP_CONSTRAINT": "",
    }
    lines = [f"export {name} = {value}" for name, value in exports.items()]
    return "\n".join([*lines, ".output_vars:", "\t@env", ""])


def unpack_sdist(python: Path, requirement: str, folder: Path, *, backend: Path | None = None) -> Path:
    """Fetch an sdist and unpack it.

    Args:
        python: Whose pip fetches it.
        requirement: Name and version.
        folder: To unpack into.
        backend: A folder with the module that pip asks for metadata, in place of the build backend.
    """
    download = [python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "-d", folder, requirement]
    if backend:
        run([*download, "--no-build-isolation"], env=os.environ | {"PYTHONPATH": str(backend)})
    else:
        run(download)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as packed:
        packed.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else packed.extractall(folder)
    return next(path for path in folder.iterdir() if (path / "PKG-INFO").exists())
