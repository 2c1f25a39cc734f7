"""Files out of packages of other Debian releases than the machine's: nothing is installed, nobody needs to be root."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from toolchain.cache import CACHE, ToolchainError, fresh_folder, run, say

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def unpack(package: str, release: str, folder: Path, wanted: Callable[[str], bool]) -> Path:
    """Put those files of a package of that Debian release into the folder whose paths are wanted."""
    if folder.exists():
        say(f"{package} of Debian {release}: in the cache")
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ToolchainError(f"{package} of Debian {release} is needed, and apt and dpkg to fetch it")
    say(f"{package}: fetching from Debian {release}")
    with fresh_folder(folder) as scratch, tempfile.TemporaryDirectory(dir=CACHE) as download:
        archive = _download(package, release, Path(download))
        with (
            subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as process,
            tarfile.open(fileobj=process.stdout, mode="r|") as packed,
        ):
            for member in packed:
                if wanted(member.name.removeprefix("./")):
                    packed.extract(member, scratch)
        if process.returncode:
            raise ToolchainError(f"dpkg-deb could not read {archive.name}")
    return folder


def _download(package: str, release: str, folder: Path) -> Path:
    """apt with lists of its own, which checks signatures and hashes as ever."""
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {release} main\n")
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    own = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # its own user cannot write here
        "Acquire::Languages": "none",
    }
    options = [f"-o{name}={value}" for name, value in own.items()]
    run(["apt-get", *options, "update"])
    run(["apt-get", *options, "download", package], cwd=folder)
    return next(folder.glob("*.deb"))


def _mirror() -> str:
    """The server from which this machine has its own packages."""
    known = run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]).stdout
    for line in known.splitlines():
        label, _, address = line.partition(" ")
        if label == "Debian":
            return address
    raise ToolchainError("apt knows no server of Debian's packages yet; run: sudo apt-get update")
