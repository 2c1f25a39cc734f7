"""What a comparison found: kept as JSON, put together from several runs, shown as tables and as curves.

A table is made for each recall target, with a line for every engine of the run: those that missed the target or could
not be measured say so there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine_process import Built
from engines import FAMILIES, Options, Settings
from param_search import TARGETS, Point, fastest, lowest_latency, pareto_front
from timing import write_json

QUIET = 0.95
HIDDEN_THREADS = 1.1
HEADS = ("engine", "QPS", "P50 us", "P99 us", "recall", "setting", "build s", "CPU s", "B/vector")


@dataclass
class Outcome:
    """All that was measured of one family; what failed is named by its reason."""

    family: str
    builds: list[tuple[Options, Built]] = field(default_factory=list)
    scouted: list[Point] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Outcome:
        """From its JSON."""
        return cls(
            content["family"],
            [(build, Built(**built)) for build, built in content["builds"]],
            [Point(**point) for point in content["scouted"]],
            [Point(**point) for point in content["points"]],
            content["failures"],
        )

    def built(self, build: Options) -> Built:
        """What this index cost."""
        return next(built for options, built in self.builds if options == build)


@dataclass(frozen=True)
class Report:
    """A run over one workload, or several of them put together."""

    workload: str
    real: bool
    settings: Settings
    rounds: int
    machines: list[dict[str, Any]]
    outcomes: list[Outcome]

    @classmethod
    def read(cls, path: Path) -> Report:
        """From the file that `write` made."""
        content = json.loads(path.read_text())
        settings, outcomes = Settings(**content["settings"]), [Outcome.of(each) for each in content["outcomes"]]
        return cls(**{**content, "settings": settings, "outcomes": outcomes})

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def merged(cls, reports: Sequence[Report]) -> Report:
        """One report of many over the same workload; of an engine that is in several the last counts."""
        first = reports[0]
        for other in reports[1:]:
            if (other.workload, other.settings) != (first.workload, first.settings):
                raise SystemExit(
                    f"these runs differ: {first.workload}, {first.settings}; {other.workload}, {other.settings}"
                )
        outcomes = {outcome.family: outcome for report in reports for outcome in report.outcomes}
        machines: list[dict[str, Any]] = []
        for about in (about for report in reports for about in report.machines):
            same = next((each for each in machines if each | {"packages": 0} == about | {"packages": 0}), None)
            if same is None:
                machines.append(about)
            else:
                same["packages"] |= about["packages"]
        rounds = min(report.rounds for report in reports)
        return cls(first.workload, first.real, first.settings, rounds, machines, list(outcomes.values()))

    def title(self, target: float) -> str:
        """Above the table of a target."""
        held = "" if self.settings.simd == "best" else f", {self.settings.simd} where an engine can be held to it"
        k = self.settings.k
        return f"{self.workload}: k={k}, recall@{k} at least {target}, one search thread{held}"

    def notes(self) -> list[str]:
        """What a reader must know of the numbers."""
        lines = [
            f"QPS, queries a second of processor time, and P50 are each of the setting that is best at it; medians of "
            f"{self.rounds} interleaved rounds; built with {self.settings.build_threads} threads."
        ]
        for about in self.machines:
            packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
            system = f"{about['cores']} cores, {about['os']}, Python {about['python']}"
            lines.append(f"{about['date']}, {about['cpu']}, {system}; {packages}.")
        shares = {outcome.family: [point.core_share for point in outcome.points] for outcome in self.outcomes}
        busy = min((min(each) for each in shares.values() if each), default=1.0)
        if busy < QUIET:
            lines.append(
                f"The machine was busy: searching had as little as {busy:.0%} of a core, which P50 and P99 show."
            )
        for family, each in shares.items():
            if each and max(each) > HIDDEN_THREADS:
                lines.append(f"{family} searched with more than its one thread: {max(each):.1f} cores.")
        for outcome in self.outcomes:
            if outcome.builds:
                lines += [f"{outcome.family}: one of its settings failed: {reason}" for reason in outcome.failures]
        return lines


def rows(report: Report, target: float) -> list[list[str]]:
    """A line of HEADS per engine, the fastest first, those that missed the target last."""
    reached, missed = [], []
    for outcome in report.outcomes:
        best, prompt = fastest(outcome.points, target), lowest_latency(outcome.points, target)
        if best is None or prompt is None:
            missed.append([outcome.family, shortfall(outcome), *[""] * (len(HEADS) - 2)])
        else:
            reached.append((best.qps, line(outcome, best, prompt)))
    return [cells for _, cells in sorted(reached, key=lambda each: -each[0])] + missed


def line(outcome: Outcome, best: Point, prompt: Point) -> list[str]:
    """The cells of an engine that reached the target."""
    built = outcome.built(best.build)
    p50 = f"{prompt.p50_us:,.0f}" if prompt is best else f"{prompt.p50_us:,.0f} ({wording(outcome, prompt)})"
    size = "-" if built.bytes_per_vector is None else f"{built.bytes_per_vector:,.0f}"
    return [
        outcome.family,
        f"{best.qps:,.0f}",
        p50,
        f"{prompt.p99_us:,.0f}",
        f"{best.recall:.4f}",
        wording(outcome, best),
        f"{built.seconds:.1f}",
        f"{built.cpu_seconds:.1f}",
        size,
    ]


def shortfall(outcome: Outcome) -> str:
    """Why an engine has no figure."""
    if outcome.points:
        return f"not reached: at best {max(point.recall for point in outcome.points):.4f}"
    return f"not measured: {'; '.join(dict.fromkeys(outcome.failures)) or 'nothing was tried'}"


def wording(outcome: Outcome, point: Point) -> str:
    """A setting in a few words."""
    chosen = {**point.build, **point.search}
    if point.search_param:
        chosen[FAMILIES[outcome.family].search_param] = point.search_param
    return " ".join(f"{name}={value}" for name, value in chosen.items()) or "-"


def show(report: Report) -> None:
    """The tables on a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=200)
    for target in TARGETS:
        table = Table(title=report.title(target))
        for number, head in enumerate(HEADS):
            table.add_column(head, justify="right" if number and head != "setting" else "left")
        for cells in rows(report, target):
            table.add_row(*cells)
        console.print(table)
    for note in report.notes():
        print(note)


def to_markdown(report: Report) -> str:
    """The same tables for a file."""
    parts = []
    for target in TARGETS:
        lines = [f"**{report.title(target)}**", "", row_of(HEADS), row_of(["---"] * len(HEADS))]
        parts.append("\n".join(lines + [row_of(cells) for cells in rows(report, target)]))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in report.notes())]) + "\n"


def row_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(report: Report, stem: Path) -> None:
    """Recall against batch QPS as STEM.png and STEM.svg: up and to the right is better."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "edgevec"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 7))
    colors = pyplot.get_cmap("tab20")
    outcomes = [outcome for outcome in report.outcomes if outcome.points]
    for number, outcome in enumerate(outcomes):
        curve = pareto_front(outcome.points)
        ours = outcome.family.startswith("edgevec")
        axes.plot(
            [point.recall for point in curve],
            [point.qps for point in curve],
            marker="o" if ours else ".",
            linestyle="-" if ours else "--",
            linewidth=2.5 if ours else 1.2,
            color=colors(number % 20),
            label=outcome.family,
        )
    axes.set(
        xlabel=f"recall@{report.settings.k}",
        ylabel="queries a second, one thread",
        yscale="log",
        xlim=(0.8, 1.002),
        title=f"{report.workload}, k={report.settings.k}: the best settings of each",
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small", loc="lower left")
    about = report.machines[0]
    figure.text(0.5, 0.01, f"{about['cpu']}, {about['cores']} cores; {about['date']}", ha="center", fontsize=8)
    for kind, metadata in (("png", None), ("svg", {"Date": None})):
        figure.savefig(f"{stem}.{kind}", dpi=130, bbox_inches="tight", metadata=metadata)
    pyplot.close(figure)
