"""python -m edgevec.tui [FILE]"""

from __future__ import annotations

import sys

from edgevec.cli.app import edgevec

if __name__ == "__main__":
    edgevec(["tui", *sys.argv[1:]], prog_name="edgevec")
