"""This machine's Python under the name of the target's: `python lookalike_python.py TARGET ARGUMENT...`

Meson finds out what a Python is by running its own python_info.py with it. The target's cannot run here, so its answers
are those of this machine's with what differs written over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def information(target: Path, arguments: list[str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE).stdout)
    variables = json.loads((target / "sysconfigdata" / "variables.json").read_text())
    own, minor = "python{}.{}".format(*sys.version_info), variables["VERSION"]
    answer["variables"].update(variables)
    for kind in ("paths", "sysconfig_paths", "install_paths"):
        answer[kind] = {name: path.replace(own, f"python{minor}") for name, path in answer[kind].items()}
    for kind in ("paths", "sysconfig_paths"):
        answer[kind]["include"] = answer[kind]["platinclude"] = str(target / "include")
    return answer | {
        "version": minor,
        "platform": "emscripten-wasm32",
        "link_libpython": False,
        "suffix": variables["EXT_SUFFIX"],
        "limited_api_suffix": ".abi3.so",
        "is_freethreaded": False,
    }


def main(target: Path, arguments: list[str]) -> int:
    if arguments and arguments[0].endswith("python_info.py"):
        print(json.dumps(information(target, arguments)))
        return 0
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
