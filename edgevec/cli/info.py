"""edgevec info: what is installed and which SIMD path it takes on this machine."""

from __future__ import annotations

import click
import numpy as np
from rich.table import Table

import edgevec

from .. import evaluation
from .common import example, show, show_json

__all__ = ["info"]


@click.command(epilog=example("edgevec info"))
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def info(as_json: bool) -> None:
    """Show the version, the SIMD path in use, and what this build and this machine offer."""
    simd = edgevec.simd_info()
    facts = {
        "version": edgevec.__version__,
        "simd": simd.active,
        "available": list(simd.available),
        "compiled": list(simd.compiled),
        "forced": simd.forced,
        "numpy": np.__version__,
        "machine": evaluation.machine(),
    }
    if as_json:
        show_json(facts)
        return
    table = Table(show_header=False, box=None)
    table.add_row("edgevec", edgevec.__version__)
    table.add_row("SIMD in use", simd.active + (" (EDGEVEC_SIMD)" if simd.forced else ""))
    table.add_row("this machine", " ".join(simd.available))
    table.add_row("this build", " ".join(simd.compiled))
    table.add_row("NumPy", np.__version__)
    table.add_row("machine", evaluation.machine())
    show(table)
