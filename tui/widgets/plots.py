"""Plots by plotext in the colors of the theme. Lines differ by markers or names too, not by color alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from textual.app import RenderResult
from textual.color import Color
from textual_plotext import PlotextPlot

from edgevec.evaluation import Point

from .. import formatting
from ..metrics import Sample

__all__ = ["CurvePlot", "HistogramPlot", "LatencyPlot"]

RGB = tuple[int, int, int]

_LABEL = 10
"""Columns that a label and the space beside it take."""

_RECALLS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0)


class ThemedPlot(PlotextPlot):
    """A plot that is redrawn when its size or the theme changes."""

    DEFAULT_CSS = "ThemedPlot { background: $surface; }"  # where plotext draws, too

    def theme_color(self, name: str) -> RGB:
        return Color.parse(self.app.theme_variables[name]).rgb

    def on_mount(self) -> None:
        super().on_mount()
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_after_refresh(self.redraw))
        self.redraw()

    def on_resize(self) -> None:
        self.redraw()

    def redraw(self) -> None:
        self.refresh()

    def render(self) -> RenderResult:
        """From scratch each time: building a figure changes it."""
        self.plt.clear_figure()
        self.draw()
        return super().render()

    def draw(self) -> None:
        raise NotImplementedError

    def frame(self) -> None:
        """Axes at the left and below only: there is a box around the plot."""
        self.plt.xaxes(True, False)
        self.plt.yaxes(True, False)

    def write(self, what: str, x: float, y: float, color: str, alignment: Literal["left", "center"]) -> None:
        self.plt.text(
            what, x=x, y=y, color=self.theme_color(color), background=self.theme_color("surface"), alignment=alignment
        )

    def times(self, low: float, high: float, maximum: int) -> tuple[list[float], list[str]]:
        """At most `maximum` ticks at round numbers for a logarithmic axis of microseconds."""
        for bases in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
            steps = [base * 10.0**power for power in range(-1, 8) for base in bases]
            inside = [step for step in steps if low <= step <= high]
            if len(inside) <= min(maximum, 7):
                break
        inside = inside or [low, high]
        return [float(np.log10(step)) for step in inside], [formatting.micros(step) for step in inside]


class LatencyPlot(ThemedPlot):
    """Percentiles over the last minute, with a mark where a setting changed."""

    _samples: Sequence[Sample] = ()
    _changes: Sequence[tuple[float, str]] = ()

    def show(self, samples: Sequence[Sample], changes: Sequence[tuple[float, str]]) -> None:
        self._samples, self._changes = samples, changes
        self.redraw()

    def draw(self) -> None:
        plot = self.plt
        self.frame()
        if not self._samples:
            self._draw_nothing()
            return
        now = self._samples[-1].at
        age = now - self._samples[0].at
        span = next((span for span in (10.0, 20.0, 30.0) if age <= span), 60.0)
        shown = [sample for sample in self._samples if now - sample.at <= span]
        x = [sample.at - now for sample in shown]
        low, high = min(sample.p50 for sample in shown) * 0.8, max(sample.p99 for sample in shown) * 1.3
        for name, color in (("p99", "accent"), ("p95", "secondary"), ("p50", "primary")):
            values = [float(np.log10(getattr(sample, name))) for sample in shown]
            plot.plot(x, values, marker="braille", color=self.theme_color(color))
        for at, what in self._changes:
            if now - at <= span:
                plot.vline(at - now, color=self.theme_color("muted"))
                self.write(what, at - now + span / 100, float(np.log10(high)), "foreground", "left")
        self._name_lines(shown[-1], low, high, span)
        plot.xlim(-span, span / 10)
        plot.ylim(float(np.log10(low)), float(np.log10(high)))
        plot.yticks(*self.times(low, high, max(2, self.size.height // 2)))
        steps = [-span, -span / 2, 0.0]
        plot.xticks(steps, [f"{-step:.0f} s ago" if step else "now" for step in steps])

    def _draw_nothing(self) -> None:
        plot = self.plt
        plot.xlim(-10, 1)
        plot.ylim(0, 1)
        plot.xticks([], [])
        plot.yticks([], [])
        self.write("space starts the load", -4.5, 0.5, "muted", "center")

    def _name_lines(self, last: Sample, low: float, high: float, span: float) -> None:
        """Names at the ends of the lines, pushed apart where the lines lie close."""
        apart = float(np.log10(high / low)) / max(4, self.size.height - 4)
        at = -np.inf
        for name, value, color in (
            ("P50", last.p50, "primary"),
            ("P95", last.p95, "secondary"),
            ("P99", last.p99, "accent"),
        ):
            at = max(float(np.log10(value)), at + apart * 1.05)
            self.write(name, span / 50, at, color, "left")


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
        self.frame()
        used = np.flatnonzero(self._counts)
        if not len(used):
            plot.xlim(0, 1)
            plot.ylim(0, 1)
            plot.xticks([], [])
            plot.yticks([], [])
            return
        first, last = max(0, used[0] - 1), min(len(self._counts) - 1, used[-1] + 1)
        counts = self._counts[first : last + 1]
        middles = np.sqrt(self._edges[first : last + 1] * self._edges[first + 1 : last + 2])
        plot.bar(np.log10(middles).tolist(), counts.tolist(), color=self.theme_color("primary"), width=1, marker="sd")
        plot.xticks(*self._spread(*self.times(middles[0], middles[-1], max(2, self.size.width // 9))))
        highest = int(counts.max())
        plot.ylim(0, highest)
        plot.yticks([0, highest / 2, highest], ["0", _short(highest / 2), _short(highest)])

    def _spread(self, ticks: list[float], labels: list[str]) -> tuple[list[float], list[str]]:
        """Without those that have no room for their label: plotext would push it aside, now this way, now that."""
        used = np.flatnonzero(self._counts)
        span = float(np.log10(self._edges[used[-1] + 1] / self._edges[used[0]]))
        room = _LABEL * span / max(1, self.size.width - _LABEL)
        kept = ticks[:1]
        for tick in ticks[1:]:
            if tick - kept[-1] >= room:
                kept.append(tick)
        return kept, [label for tick, label in zip(ticks, labels, strict=True) if tick in kept]


def _short(number: float) -> str:
    """A count in few characters: 940, 12k, 3.4M."""
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{sign}" if number < 10 * size else f"{number / size:.0f}{sign}"
    return f"{number:.0f}"


class CurvePlot(ThemedPlot):
    """Recall against latency; the points of each variant are its number.

    The axis of recall is stretched toward 1, where the contest is: 0.9, 0.99 and 0.999 are as far from each other.
    """

    _curves: Mapping[str, Sequence[Point]] = {}
    _k = 10

    def show(self, curves: Mapping[str, Sequence[Point]], k: int) -> None:
        self._curves, self._k = curves, k
        self.redraw()

    def draw(self) -> None:
        plot = self.plt
        self.frame()
        points = [point for curve in self._curves.values() for point in curve]
        if not points:
            plot.xlim(0, 1)
            plot.ylim(0, 1)
            plot.xticks([], [])
            plot.yticks([], [])
            self.write("r runs the comparison", 0.5, 0.5, "muted", "center")
            return
        colors = ("primary", "accent", "secondary", "success", "error")
        for number, (curve, color) in enumerate(zip(self._curves.values(), colors, strict=False), 1):
            if curve:
                x = [_stretched(point.recall) for point in curve]
                y = [float(np.log10(point.p50)) for point in curve]
                plot.plot(x, y, marker="braille", color=self.theme_color(color))
                plot.scatter(x, y, marker=str(number), color=self.theme_color(color))
        low, high = min(point.p50 for point in points) * 0.85, max(point.p50 for point in points) * 1.2
        left = _stretched(min(point.recall for point in points)) - 0.05
        plot.xlabel(f"recall@{self._k}")
        plot.xlim(left, _stretched(1.0) + 0.02)
        plot.ylim(float(np.log10(low)), float(np.log10(high)))
        plot.yticks(*self.times(low, high, max(2, self.size.height // 2)))
        ticks = [tick for tick in _RECALLS if _stretched(tick) >= left]
        plot.xticks([_stretched(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])


def _stretched(recall: float) -> float:
    """1 is where 0.9996 would be: finer than a sweep can tell."""
    return float(-np.log10(max(1 - recall, 4e-4)))
