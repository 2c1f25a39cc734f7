"""edgevec info: what is installed and which SIMD path it takes on this machine, or what a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

import edgevec

from .. import evaluation
from ..file_kind import kind_of, require
from .common import example, show, show_json

__all__ = ["info"]


@click.command(epilog=example("edgevec info"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.pass_context
def info(context: click.Context, file: Path | None, as_json: bool) -> None:
    """Show the version, the SIMD path in use, and what this build and this machine offer.

    With FILE: what an index, a collection or a folder of shards holds, and its settings.
    """
    if file is None:
        _show_build(as_json)
        return
    kind = kind_of(file)
    if file.is_dir():
        from .shards import info as of_shards

        context.invoke(of_shards, folder=str(file), as_json=as_json)
    elif kind == "collection":
        from .db import info as of_collection

        context.obj = file
        context.invoke(of_collection, as_json=as_json)
    elif kind == "disk_index":
        with edgevec.DiskIndex(file) as on_disk:
            _show_facts({"kind": "disk index", **_of_any(file, on_disk)}, as_json)
    else:
        require(file, "index")
        with edgevec.Index.load(file, mmap=True) as index:
            of_index = ("quantization", "keep_vectors", "M", "ef_construction", "seed")
            facts = {"removed": index.stats()["dead"], **{name: getattr(index, name) for name in of_index}}
            _show_facts({"kind": "index", **_of_any(file, index), **facts}, as_json)


def _show_build(as_json: bool) -> None:
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
    _show_rows(
        {
            "edgevec": edgevec.__version__,
            "SIMD in use": simd.active + (" (EDGEVEC_SIMD)" if simd.forced else ""),
            "this machine": " ".join(simd.available),
            "this build": " ".join(simd.compiled),
            "NumPy": np.__version__,
            "machine": evaluation.machine(),
        }
    )


def _of_any(file: Path, index: edgevec.Index | edgevec.DiskIndex) -> dict[str, Any]:
    return {
        "vectors": len(index),
        "dim": index.dim,
        "metric": index.metric,
        "ef": index.ef,
        "bytes": file.stat().st_size,
    }


def _show_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(facts)
    else:
        _show_rows(
            {
                name.replace("_", " "): f"{value:,}" if type(value) is int else str(value)
                for name, value in facts.items()
            }
        )


def _show_rows(rows: dict[str, str]) -> None:
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, value)
    show(table)
