"""Build the demo page as a static folder and serve it on loopback: `python wasm/serve.py [--port N] [--out FOLDER]`.

The folder is all that the page needs: any file server can host it, under any path, with no network behind it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from build import build_if_changed
from hosts.static_server import server
from toolchain.cache import CACHE, ToolchainError, say
from toolchain.prepare import prepare_build, prepare_tests
from website import build_demo


def have_wheel() -> None:
    """The browser wheel, and all that a page needs beside it."""
    python, root = prepare_build(official=False)
    prepare_tests(python, root, official=False)
    build_if_changed()


def require_own_folder(folder: Path) -> None:
    """The folder is written anew, so it must not be one in which somebody keeps other things."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").exists():
        raise ToolchainError(f"{folder} holds other things than a demo; name an empty or new folder")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=CACHE / "demo", metavar="FOLDER", help="where to build (default: %(default)s)"
    )
    parser.add_argument("--no-serve", action="store_true", help="leave the folder for another server")
    arguments = parser.parse_args()
    try:
        require_own_folder(arguments.out)
        have_wheel()
        folder = build_demo(arguments.out.resolve())
    except ToolchainError as error:
        say(str(error))
        return 1
    files = [file for file in folder.rglob("*") if file.is_file()]
    say(f"{folder}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")
    if arguments.no_serve:
        return 0
    with server(folder, arguments.port) as running:
        say(f"open http://127.0.0.1:{running.server_port}/ (Ctrl-C ends)")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
