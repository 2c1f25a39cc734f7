"""Latency over recall as a picture. matplotlib is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import MissingExtraError, ParameterError
from .evaluation import Point, machine
from .files import replacing

__all__ = ["new_figure", "save"]


def new_figure(path: Path) -> Any:
    """An empty matplotlib Figure that can be saved at the path.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ParameterError: no picture can have the ending of this path.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib; install it with: pip install 'edgevec[plot]'") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    endings = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in endings:
        raise ParameterError(f"{path}: no picture can end in {path.suffix!r}; known are {', '.join(sorted(endings))}")
    return figure


def save(path: Path, title: str, curves: Mapping[str, list[Point]], k: int) -> None:
    """Draw curves of measured points, P50 and P99 over recall@k, in place of the file at the path.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ParameterError: no picture can have the ending of this path.
        OSError: the file cannot be written; what was there is there still.
    """
    figure = new_figure(path)
    axes = figure.subplots()
    for (name, points), marker in zip(curves.items(), "osD^vP", strict=False):
        line = axes.plot([p.recall for p in points], [p.p50 for p in points], marker=marker, label=f"{name}, P50")
        axes.plot(
            [p.recall for p in points],
            [p.p99 for p in points],
            marker=marker,
            markersize=3,
            linestyle=":",
            color=line[0].get_color(),
            label=f"{name}, P99",
        )
        for point in points:
            place = (point.recall, point.p50)
            axes.annotate(str(point.ef), place, xytext=(0, 5), textcoords="offset points", ha="center", size=7)
    axes.set(xlabel=f"recall@{k}", ylabel="latency of one search, µs", yscale="log")
    axes.set_title(title, parse_math=False)
    figure.supxlabel(f"numbers at the points: ef; {machine()}", size=7)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    with replacing(path) as new:
        figure.savefig(new, dpi=150)
