"""The command `edgevec` of VectorDBBench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Unpack

import click
from vectordb_bench.cli.cli import (
    CommonTypedDict,
    click_parameter_decorators_from_typed_dict,
    run,
)

from .config import EdgevecCaseConfig, EdgevecConfig
from .register import register


class EdgevecTypedDict(CommonTypedDict):
    path: Annotated[str, click.option("--path", required=True, help="The collection's file, which is replaced")]
    durability: Annotated[
        str,
        click.option(
            "--durability",
            type=click.Choice(["full", "fast"]),
            default="full",
            show_default=True,
            help="Whether each commit waits for the disk",
        ),
    ]
    quantization: Annotated[
        str,
        click.option(
            "--quantization",
            type=click.Choice(["sq8", "none", "binary"]),
            default="sq8",
            show_default=True,
            help="Codes that the graph is searched on",
        ),
    ]
    m: Annotated[int, click.option("--m", default=16, show_default=True, help="Links of a node")]
    ef_construction: Annotated[
        int,
        click.option("--ef-construction", default=200, show_default=True, help="Candidates when a node is linked"),
    ]
    ef_search: Annotated[int | None, click.option("--ef-search", type=int, help="Candidates that a search keeps")]
    recall: Annotated[
        float | None, click.option("--recall", type=float, help="In place of --ef-search: the share to be found")
    ]


@click.command("edgevec")
@click_parameter_decorators_from_typed_dict(EdgevecTypedDict)
def command(**parameters: Unpack[EdgevecTypedDict]) -> None:
    """Run a case on an edgevec collection."""
    given: dict[str, Any] = {**parameters}
    run(
        db=register(),
        db_config=EdgevecConfig(db_label=given["db_label"] or "", path=given["path"], durability=given["durability"]),
        db_case_config=EdgevecCaseConfig(
            quantization=given["quantization"],
            M=given["m"],
            ef_construction=given["ef_construction"],
            ef=given["ef_search"],
            recall=given["recall"],
        ),
        **parameters,
    )


@click.command("edgevec-filters")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--path", required=True, help="The collection's file, which is replaced")
@click.option("--quantization", type=click.Choice(["sq8", "none", "binary"]), default="sq8", show_default=True)
@click.option("--ef-search", type=int, help="Candidates that a search keeps")
@click.option("--k", default=100, show_default=True, help="Neighbors that are searched for")
@click.option("--processes", default="1,2", show_default=True, help="How many search at the same time")
@click.option("--seconds", default=5, show_default=True, help="For which they search")
def filters_command(
    folder: Path, path: str, quantization: str, ef_search: int | None, k: int, processes: str, seconds: int
) -> None:
    """Run the case on a FOLDER that dataset.py wrote: without a filter, and with each it has answers for."""
    from .cases import measure

    config, case_config = EdgevecConfig(path=path), EdgevecCaseConfig(quantization=quantization, ef=ef_search)
    counts = [int(count) for count in processes.split(",")]
    lines = ["| filter | load s | recall | p99 ms | queries/s, most |", "|---|---|---|---|---|"]
    for name, metric in measure(folder, config, case_config, k=k, processes=counts, seconds=seconds):
        p99 = 1000 * metric.serial_latency_p99
        lines.append(f"| {name} | {metric.load_duration:.1f} | {metric.recall:.4f} | {p99:.1f} | {metric.qps:,.0f} |")
    click.echo("\n".join(lines))
