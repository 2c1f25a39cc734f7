"""The recall-latency curves as a picture. matplotlib is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgevec import MissingExtraError, ParameterError
from edgevec.evaluation import Point, machine

__all__ = ["save"]


def save(path: Path, title: str, curves: Mapping[str, list[Point]], k: int) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib: pip install 'edgevec[plot]'; CSV does without") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    endings = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in endings:
        raise ParameterError(f"{path.name}: no picture can end in {path.suffix!r}; use .png, .svg or .csv")
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
    figure.savefig(path, dpi=150)
