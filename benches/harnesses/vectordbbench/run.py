"""VectorDBBench with edgevec in it: `python benches/harnesses/vectordbbench/run.py edgevec --path FILE ...`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vectordbbench.register import register

# Here and not below: the processes that it starts run this file again.
register()

if __name__ == "__main__":
    from vectordb_bench.cli.vectordbbench import cli

    from vectordbbench.cli import command, filters_command

    cli.add_command(command)
    cli.add_command(filters_command)
    cli()
