"""Stands in for meson-python while pip downloads an sdist: tells the name and version that the sdist states."""

from __future__ import annotations

import re
from pathlib import Path


def get_requires_for_build_wheel(settings: object = None) -> list[str]:
    return []


def prepare_metadata_for_build_wheel(folder: str, settings: object = None) -> str:
    stated = dict(re.findall(r"^(Name|Version): (.*)$", Path("PKG-INFO").read_text(encoding="utf-8"), re.MULTILINE))
    information = f"{stated['Name']}-{stated['Version']}.dist-info"
    (Path(folder) / information).mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {stated['Name']}", f"Version: {stated['Version']}", ""]
    (Path(folder) / information / "METADATA").write_text("\n".join(lines))
    return information
