"""Search as one types: results in a table, and beside it what this query cost and how good it was."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from edgevec import EdgevecError, measure

from .. import export, text, workers
from ..asking import understand
from ..messages import Answered, Compared, Exported, Failed, Nothing, Unclear
from ..model import Answer, Data
from ..protocols import Searcher
from ..widgets.controls import Choice, Control, Number
from ..widgets.facts import Facts
from ..widgets.results import ResultsTable, hits
from ..widgets.split import TimeSplit
from .base import Place
from .dialogs import PathDialog

__all__ = ["SearchScreen"]

_REMEMBER_AFTER = 1.5
"""Seconds without a key after which a query belongs to the history."""

_SETTLE = 0.1
"""Seconds without a key before the exact search: on large data it costs more than all searches while typing."""

_HISTORY = 50


class SearchScreen(Place):
    place = "search"
    CSS_PATH = "search.tcss"
    about = """
[b]Search[/]

What you type is searched for at once: a text (where the data have an encoder), [b]#17[/] for what is near row \
17, [b]id:17[/], a vector \\[0.1, 0.2, …], or [b]@file.npy 3[/]. Enter on a result searches for its neighbours.

[b]ef[/]  candidates a search keeps: more is slower and finds more. Watch [b]recall[/], the share of the true \
neighbours that was found.
[b]exact[/]  compares with every vector: the truth, slowly.
[b]filter[/]  topic = noun.animal AND text contains dog. Operators: = != < <= > >= contains; a value with blanks \
goes in quotes.

[b]core[/] is the time spent in the C core, [b]call[/] that of the search called from Python, [b]total[/] that \
from the key press to the filled table.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask", "Query", show=False),
        Binding("escape", "results", "To the results", show=False),
        Binding("ctrl+r", "random", "Random row"),
        Binding("ctrl+b", "back", "Back"),
        Binding("ctrl+s", "export", "Export"),
        Binding("c", "copy_row", "Copy row", show=False),
        Binding("ctrl+y,C", "copy_all", "Copy"),
    ]

    def body(self) -> ComposeResult:
        state = self.host.state
        with Horizontal(id="ask", classes="row"):
            yield Static("›", id="prompt")
            query = Input(placeholder="a text, #17, id:17, [0.1, …] or @file.npy 3", compact=True, id="query")
            query.tooltip = "Results come as you type. ↓ or Esc goes to them, ctrl+r asks for a random row"
            yield query
        with Horizontal(id="knobs", classes="row"):
            yield Number("k", state.k, (1, 3, 5, 10, 20, 50, 100), most=1000, id="k", hint="How many results")
            yield Number(
                "ef",
                state.ef,
                (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
                id="ef",
                hint="Candidates that a search keeps. More is slower and finds more; never less than k",
            )
            yield Choice("exact", ["off", "on"], "off", id="exact", hint="Compare with every vector: the truth, slowly")
            yield Static("filter", id="filter-label", classes="muted")
            filter_box = Input(placeholder="topic = noun.animal AND …", compact=True, id="filter")
            filter_box.tooltip = "column = value, !=, <, <=, >, >=, contains; joined by AND"
            yield filter_box
        yield Static("", id="told", markup=False)
        with Horizontal(id="found"):
            with Vertical(id="answers"):
                results = ResultsTable(id="results")
                results.add_class("box")
                results.border_title = "Results"
                yield results
                detail = Static("", id="detail", classes="box", markup=False)
                detail.border_title = "In full"
                yield detail
            with Vertical(id="side"):
                cost = Vertical(id="cost-box", classes="box")
                cost.border_title = "This query"
                with cost:
                    yield TimeSplit(id="split")
                    yield Facts(id="cost")
                history = OptionList(id="history", classes="box")
                history.border_title = "History"
                history.tooltip = "Enter asks again"
                yield history

    def on_mount(self) -> None:
        self._asked_at = 0.0
        self._answer: Answer | None = None
        self._recall: float | None = None
        self._total = 0.0
        self._history: list[str] = []
        self._of: tuple[Data | None, Searcher | None] = (None, None)
        self._later: Timer | None = None
        self.app.theme_changed_signal.subscribe(self, lambda _: self.query_one(ResultsTable).redraw())
        super().on_mount()
        self.query_one("#query").focus()

    def opened(self) -> None:
        session = self.session
        if session.data is None or session.searcher is None or self._of == (session.data, session.searcher):
            return
        another = session.data is not self._of[0]
        self._of = (session.data, session.searcher)
        if another:
            self._start_over(session.data)
        self.ask()

    def _start_over(self, data: Data) -> None:
        names = ", ".join(data.columns)
        self.query_one("#filter", Input).placeholder = f"{next(iter(data.columns), 'id')} = …  ({names or 'id'})"
        query = self.query_one("#query", Input)
        with self.prevent(Input.Changed):
            self.query_one("#filter", Input).value = ""
            query.value = "" if data.encode is not None else "#0"
        if data.encode is None:
            query.placeholder = "#17, id:17, [0.1, …] or @file.npy 3"
        self._history.clear()
        self._show_history()

    # ---- asking ----------------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.ask()

    def on_control_changed(self, event: Control.Changed) -> None:
        state = self.host.state
        state.k, state.ef = self.query_one("#k", Number).value, self.query_one("#ef", Number).value
        self.ask()

    def ask(self) -> None:
        """Search for what stands in the box. The latest question wins: an earlier one says nothing more."""
        data, searcher = self._of
        if data is None or searcher is None:
            return
        self._asked_at = since = self.host.clock()
        typed, condition = self.query_one("#query", Input).value, self.query_one("#filter", Input).value
        k, ef = self.query_one("#k", Number).value, self.query_one("#ef", Number).value
        exact, filters = self.query_one("#exact", Choice).value == "on", self.host.filters

        def work(job: workers.Job) -> Compared | Unclear | Nothing | None:
            try:
                asked = understand(typed, data, searcher)
                if asked is None:
                    return Nothing()
                vector, allowed = asked.vector(), filters(condition, data)
                answer = searcher.search(vector, k, ef=ef, allowed=allowed, exact=exact)
            except (EdgevecError, OSError) as error:
                return Unclear(" ".join(str(error).split()))
            among = "" if allowed is None else f", among {len(allowed):,} rows that pass the filter"
            job.tell(Answered(asked.reading + among, vector, answer, since))
            time.sleep(_SETTLE)
            if not job.wanted:
                return None
            truth = answer if exact else searcher.search(vector, k, ef=ef, allowed=allowed, exact=True)
            return Compared(measure.recall(answer.ids, truth.ids))

        self.job("ask", work, "The search failed")
        if self._later is not None:
            self._later.stop()
        self._later = self.set_timer(_REMEMBER_AFTER, lambda: self._remember(typed))

    def on_answered(self, message: Answered) -> None:
        data, searcher = self._of
        assert data is not None
        assert searcher is not None
        self._answer, self._recall = message.answer, None
        found = hits(message.answer, data, searcher.settings.metric)
        table = self.query_one(ResultsTable)
        table.show(found, data)
        table.border_title = f"Results, {text.plural(len(found), 'row')}"
        self._total = self.host.clock() - message.since
        self._show_detail()
        self._tell(message.asked)
        self._show_cost()

    def on_data_table_row_highlighted(self) -> None:
        self._show_detail()

    def _show_detail(self) -> None:
        hit, data = self.query_one(ResultsTable).current(), self._of[0]
        if hit is None or data is None:
            self.query_one("#detail", Static).update("")
            return
        fields = "  ".join(f"{name}={value}" for name, value in zip(data.columns, hit.fields, strict=True))
        self.query_one("#detail", Static).update(
            "\n".join(part for part in (hit.text, fields) if part) or f"id {hit.id}"
        )

    def on_compared(self, message: Compared) -> None:
        self._recall = message.recall
        self._show_cost()

    def on_nothing(self) -> None:
        self._empty("")

    def on_unclear(self, message: Unclear) -> None:
        self._tell(message.reason, bad=True)

    def _tell(self, what: str, *, bad: bool = False) -> None:
        told = self.query_one("#told", Static)
        told.update(f"⚠ {what}" if bad else what)
        told.set_class(bad, "bad")

    def _empty(self, what: str) -> None:
        self._tell(what)
        data = self._of[0]
        if data is not None:
            self.query_one(ResultsTable).show([], data)
        self._answer = None
        self._show_cost()

    def failed(self, message: Failed) -> None:
        self._empty("")

    def _show_cost(self) -> None:
        answer, facts = self._answer, self.query_one("#cost", Facts)
        split = self.query_one(TimeSplit)
        if answer is None:
            split.show(None)
            facts.show([("Type a query.", "")])
            return
        work = answer.work
        split.show((work.seconds, max(0.0, answer.seconds - work.seconds), max(0.0, self._total - answer.seconds)))
        k = self.query_one("#k", Number).value
        facts.show(
            [
                ("core", text.seconds(work.seconds)),
                ("call", text.seconds(answer.seconds)),
                ("total", text.seconds(self._total)),
                (f"recall@{k}", "…" if self._recall is None else text.recall_text(self._recall)),
                ("visited", f"{work.visited:,} nodes"),
                ("distances", f"{work.distances:,}"),
                ("re-ranked", f"{work.reranked:,}"),
                ("way", work.strategy),
            ]
        )

    # ---- following and history -------------------------------------------------------------------------------------

    def on_results_table_followed(self, message: ResultsTable.Followed) -> None:
        self._remember(self.query_one("#query", Input).value)
        self.query_one("#query", Input).value = f"id:{message.hit.id}"

    def action_random(self) -> None:
        data = self._of[0]
        if data is not None and len(data):
            self._remember(self.query_one("#query", Input).value)
            self.query_one("#query", Input).value = f"#{random.randrange(len(data))}"

    def _remember(self, typed: str) -> None:
        typed = typed.strip()
        if typed and self._answer is not None and (not self._history or self._history[-1] != typed):
            self._history = [*self._history[-_HISTORY:], typed]
            self._show_history()

    def _show_history(self) -> None:
        history = self.query_one("#history", OptionList)
        history.clear_options()
        history.add_options(
            [Option(Content(typed), id=str(at)) for at, typed in reversed(list(enumerate(self._history)))]
        )

    @on(Input.Submitted, "#query")
    def _submitted(self, event: Input.Submitted) -> None:
        self._remember(event.value)
        self.action_results()

    @on(OptionList.OptionSelected, "#history")
    def _again(self, event: OptionList.OptionSelected) -> None:
        self.query_one("#query", Input).value = self._history[int(event.option_id or 0)]

    def action_back(self) -> None:
        """To the query before this one."""
        query = self.query_one("#query", Input)
        while self._history:
            last = self._history.pop()
            if last != query.value.strip():
                query.value = last
                break
        self._show_history()

    # ---- focus -----------------------------------------------------------------------------------------------------

    def action_ask(self) -> None:
        self.query_one("#query").focus()

    def action_results(self) -> None:
        self.query_one("#results").focus()

    def on_key(self, event: object) -> None:
        focused = self.focused
        if getattr(event, "key", "") == "down" and focused is not None and focused.id in ("query", "filter"):
            self.action_results()

    # ---- taking results away ---------------------------------------------------------------------------------------

    def action_copy_row(self) -> None:
        hit = self.query_one(ResultsTable).current()
        data = self._of[0]
        if hit is not None and data is not None:
            self.app.copy_to_clipboard(export.as_lines([hit], data))
            self.notify(f"Copied row {hit.rank}", timeout=2)

    def action_copy_all(self) -> None:
        found, data = self.query_one(ResultsTable).hits, self._of[0]
        if found and data is not None:
            self.app.copy_to_clipboard(export.as_lines(found, data))
            self.notify(f"Copied {text.plural(len(found), 'row')}", timeout=2)

    def action_export(self) -> None:
        if not self.query_one(ResultsTable).hits:
            self.notify("There are no results to export", severity="warning")
            return
        self.app.push_screen(
            PathDialog("Export the results", Path.cwd() / "results.json", (".json", ".csv")), self._export
        )

    def _export(self, path: Path | None) -> None:
        found, data, asked = list(self.query_one(ResultsTable).hits), self._of[0], self.query_one("#query", Input).value
        if path is None or data is None:
            return

        def work(job: workers.Job) -> Exported:
            export.write_hits(path, asked, found, data)
            return Exported(path)

        self.job("export", work, f"{path.name} cannot be written")

    def on_exported(self, message: Exported) -> None:
        self.notify(f"Wrote {message.path}", timeout=4, markup=False)

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        yield "Random row", "Search for what is near some row", self.action_random
        yield "Export results", "To JSON or CSV", self.action_export
        yield "Copy results", "To the clipboard, as lines with tabs", self.action_copy_all
