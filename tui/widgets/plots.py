"""Plots by plotext, in the colours of the theme. What a colour says, a marker or a name beside the line says too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from textual.color import Color
from textual_plotext import PlotextPlot

from edgevec.measure import Point

from .. import text
from ..rolling import Moment

__all__ = ["CurvePlot", "HistogramPlot", "LatencyPlot"]

RGB = tuple[int, int, int]


class ThemedPlot(PlotextPlot):
    """Keeps what it shows, and draws it anew when size or theme change."""

    def colour(self, name: str) -> RGB:
        return Color.parse(self.app.theme_variables[name]).rgb

    def on_mount(self) -> None:
        super().on_mount()
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_after_refresh(self.redraw))
        self.redraw()

    def on_resize(self) -> None:
        self.redraw()

    def redraw(self) -> None:
        self.plt.clear_figure()
        self.draw()
        self.refresh()

    def draw(self) -> None:
        raise NotImplementedError

    def frame(self, ticks: int = 5) -> None:
        self.plt.frame(True)
        self.plt.xfrequency(max(2, min(ticks, self.size.width // 12)))
        self.plt.yfrequency(max(2, min(ticks, self.size.height // 3)))

    def time_ticks(self, values: Sequence[float], axis: Any) -> None:
        """Ticks of a logarithmic axis of microseconds: 1, 2, 5, 10, .. in the range."""
        low, high = min(values), max(values)
        steps = [base * 10.0**power for power in range(-1, 8) for base in (1, 2, 5)]
        inside = [step for step in steps if low * 0.99 <= step <= high * 1.01]
        if len(inside) < 2:
            inside = [low, high]
        while len(inside) > max(2, self.size.height // 3):
            inside = inside[::2]
        axis([float(np.log10(step)) for step in inside], [text.micros(step) for step in inside])


class LatencyPlot(ThemedPlot):
    """Percentiles over the last minute, with a mark where a setting changed."""

    _moments: Sequence[Moment] = ()
    _changes: Sequence[tuple[float, str]] = ()
    _now: float = 0.0
    _span: float = 60.0

    def show(self, moments: Sequence[Moment], changes: Sequence[tuple[float, str]], now: float, span: float) -> None:
        self._moments, self._changes, self._now, self._span = moments, changes, now, span
        self.redraw()

    def draw(self) -> None:
        plot = self.plt
        self.frame()
        plot.xlim(-self._span, 0)
        plot.xlabel("seconds ago")
        shown = [moment for moment in self._moments if self._now - moment.at <= self._span]
        if not shown:
            plot.ylim(0, 1)
            plot.yticks([], [])
            return
        x = [moment.at - self._now for moment in shown]
        lines: tuple[tuple[str, list[float], str], ...] = (
            ("P50", [moment.p50 for moment in shown], "primary"),
            ("P95", [moment.p95 for moment in shown], "secondary"),
            ("P99", [moment.p99 for moment in shown], "accent"),
        )
        low = min(lines[0][1]) * 0.8
        high = max(lines[2][1]) * 1.25
        for name, values, colour in lines:
            plot.plot(x, np.log10(values).tolist(), marker="braille", color=self.colour(colour))
            plot.text(name, x=-0.2, y=float(np.log10(values[-1])), color=self.colour(colour), alignment="right")
        for at, what in self._changes:
            if self._now - at <= self._span:
                plot.vline(at - self._now, color=self.colour("foreground"))
                plot.text(what, x=at - self._now, y=float(np.log10(high)), alignment="left")
        plot.ylim(float(np.log10(low)), float(np.log10(high)))
        self.time_ticks([low, high], plot.yticks)


class HistogramPlot(ThemedPlot):
    """How many searches took how long; the axis of time is logarithmic."""

    _counts: NDArray[np.int64] = np.zeros(0, np.int64)
    _edges: NDArray[np.float64] = np.zeros(0)

    def show(self, counts: NDArray[np.int64], edges: NDArray[np.float64]) -> None:
        """counts [n]; edges [n + 1], microseconds"""
        self._counts, self._edges = counts, edges
        self.redraw()

    def draw(self) -> None:
        plot = self.plt
        self.frame(4)
        plot.xlabel("µs a query")
        used = np.flatnonzero(self._counts)
        if not len(used):
            plot.ylim(0, 1)
            plot.yticks([], [])
            plot.xticks([], [])
            return
        first, last = max(0, used[0] - 1), min(len(self._counts) - 1, used[-1] + 1)
        counts = self._counts[first : last + 1]
        middles = np.sqrt(self._edges[first : last + 1] * self._edges[first + 1 : last + 2])
        x = np.log10(middles).tolist()
        plot.bar(x, counts.tolist(), color=self.colour("primary"), width=1, marker="sd")
        steps = [base * 10.0**power for power in range(-1, 8) for base in (1, 2, 5)]
        inside = [step for step in steps if middles[0] <= step <= middles[-1]] or [middles[0]]
        while len(inside) > max(2, self.size.width // 9):
            inside = inside[::2]
        plot.xticks([float(np.log10(step)) for step in inside], [text.count(step) for step in inside])
        plot.yfrequency(3)


class CurvePlot(ThemedPlot):
    """Recall against latency; the points of each contender are its number."""

    _curves: Mapping[str, Sequence[Point]] = {}
    k = 10

    def show(self, curves: Mapping[str, Sequence[Point]], k: int) -> None:
        self._curves, self.k = curves, k
        self.redraw()

    def draw(self) -> None:
        plot = self.plt
        self.frame(6)
        plot.xlabel(f"recall@{self.k}")
        points = [point for curve in self._curves.values() for point in curve]
        if not points:
            plot.xlim(0.5, 1)
            plot.ylim(0, 1)
            plot.yticks([], [])
            return
        colours = ("primary", "accent", "secondary", "success", "error")
        for number, (curve, colour) in enumerate(zip(self._curves.values(), colours, strict=False), 1):
            if curve:
                x = [point.recall for point in curve]
                y = [float(np.log10(point.p50)) for point in curve]
                rgb = self.colour(colour)
                plot.plot(x, y, marker="braille", color=rgb)
                plot.scatter(x, y, marker=str(number), color=rgb)
        low, high = min(point.p50 for point in points) * 0.85, max(point.p50 for point in points) * 1.2
        left = min(point.recall for point in points)
        plot.xlim(max(0.0, left - 0.01), 1.002)
        plot.ylim(float(np.log10(low)), float(np.log10(high)))
        self.time_ticks([low, high], plot.yticks)
