"""Fetch, verify and build what the browser wheel needs to be built and tested: `python wasm/toolchain [--official]`.

Everything lands in wasm/.cache (or EDGEVEC_WASM_CACHE); what is there is kept, so a torn run is simply repeated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A folder that is run is itself the place where Python looks for modules; this one is a package of the folder above.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from toolchain.cache import ToolchainError, say  # noqa: E402
from toolchain.prepare import (  # noqa: E402
    prepare_build,
    prepare_pages,
    prepare_tests,
    require_firefox,
    require_program,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--official", action="store_true", help="Pyodide's own cross-build environment, SDK and CDN")
    parser.add_argument("--browser", action="store_true", help="Chromium too, and Firefox when CI=true")
    parser.add_argument("--pages", action="store_true", help="Chromium, PyScript, Deno, Bun and the newest Pyodide")
    arguments = parser.parse_args()
    try:
        if arguments.pages:
            prepare_pages(official=arguments.official)
            require_program("chromium")
            return 0
        python, root = prepare_build(official=arguments.official)
        prepare_tests(python, root, official=arguments.official)
        if arguments.browser:
            require_program("chromium")
            require_firefox()
    except ToolchainError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
