"""Runs inside Pyodide: install the wheel in /wheel without its dependencies, and run the C core's self-test."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import site
import zipfile
from pathlib import Path


async def install(wheel: Path) -> None:
    if importlib.util.find_spec("micropip"):
        import micropip

        await micropip.install(f"emfs:{wheel}", deps=False)
        return
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    if parse_wheel_filename(wheel.name)[3].isdisjoint(sys_tags()):
        raise RuntimeError(f"{wheel.name} is not for this Pyodide: {next(sys_tags())}")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site.getsitepackages()[0])


async def selftest() -> str:
    await install(next(Path("/tmp").glob("edgevec-*.whl")))
    module = Path(site.getsitepackages()[0], "edgevec", "_core.abi3.so")
    return json.dumps({"failed_kernel": ctypes.CDLL(str(module)).ev_selftest()})


await selftest()  # noqa: F704
