"""The search screen: results while one types, with the cost and recall of each query."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from functools import partial
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

from edgevec import EdgevecError, WhereError
from edgevec.printable import decimals, printable

from .. import export, formatting, workers
from ..backends.base import SearchBackend
from ..filters import fields_of
from ..history import Box
from ..hits import Hit, hits
from ..messages import Answered, Compared, EmptyQuery, Exported, Failed, InvalidQuery, Progressed
from ..models import Answer, Data, FilterResult, SearchCost
from ..query_parser import id_query, parse_query, placeholder
from ..widgets.controls import Choice, Control, Number
from ..widgets.facts import Facts
from ..widgets.filter_input import FilterInput
from ..widgets.history_input import HistoryInput
from ..widgets.probes import Probes
from ..widgets.results import ResultsTable
from ..widgets.time_split import TimeSplit
from ..widgets.topbar import TopBar
from .base import ASKED_FIRST, BaseScreen
from .dialogs import HistoryDialog, PathDialog
from .record import RecordScreen

__all__ = ["SearchScreen"]

_REMEMBER_AFTER = 1.5
"""Seconds without a key after which a query belongs to the history."""

_EXACT_DELAY = 0.1
"""Seconds without a key before the exact search: on large data it costs more than all searches while typing."""

_BACK_LIMIT = 50
"""Queries to go back to, and to show."""

_BOXES: tuple[Box, ...] = ("query", "filter")


class SearchScreen(BaseScreen):
    """Searches as one types."""

    mode = "search"
    CSS_PATH = "search.tcss"
    about = """
[b]Search[/]

What you type is searched for at once: a text (where the data have an encoder), [b]#17[/] for what is near row \
17, [b]id:17[/], a vector \\[0.1, 0.2, …], or [b]@file.npy 3[/]. Enter or space on a result shows the whole record; \
[b]n[/] searches for its neighbors.

↑ brings back what was typed before into the query or the filter, [b]ctrl+r[/] finds it by any part; each file has \
a history of its own, which is kept.

In a [b]collection[/] ids may be texts (id:moby-dick). Where no encoder fits, a text finds the documents with its \
words, by BM25; else [b]words: yellow fruit[/] does, and [b]both: yellow fruit[/] joins both rankings. What another \
program commits is found by the next search; [b]ctrl+l[/] searches again.

[b]ef[/]  candidates a search keeps: more is slower and finds more. Watch [b]recall[/], the share of the true \
neighbors that was found.
[b]nprobe[/]  where shards were built with clusters: how many of them a query is asked of, those that it is nearest \
to. The greatest value asks all. Fewer is quicker; recall is against what lies in all of them.
[b]exact[/]  compares with every vector: the truth, slowly. Of an index with its graph on disk the whole file is read \
for it; where that is large, recall is not found unasked.
[b]filter[/]  topic = 'noun.animal' AND text ILIKE '%dog%' AND NOT (year BETWEEN 1990 AND 1999). Also != < <= > >= \
IN (…), LIKE, CONTAINS, IS NULL, OR; texts go in quotes. → takes what is suggested; a fault is marked where it is. \
Data sets have the fields text and id too.

[b]core[/] is the time spent in the C core, [b]call[/] that of the search called from Python, [b]total[/] that \
from the key press to the filled table. Of a collection the whole [b]search[/] is timed: condition, graph and records. \
[b]reads[/] are those of the file whose graph lies on disk, [b]estimates[/] distances estimated from the codes in it. \
[b]way[/] says whether the graph was walked or all matches compared (exact).
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask", "Query", show=False),
        Binding("escape", "results", "To the results", show=False),
        Binding("ctrl+g", "random", "Random row"),
        Binding("ctrl+b", "back", "Back"),
        Binding("ctrl+l", "search_again", "Search again", show=False),
        Binding("ctrl+s", "export", "Export"),
        Binding("c", "copy_row", "Copy row", show=False),
        Binding("ctrl+y,C", "copy_all", "Copy"),
    ]

    def body(self) -> ComposeResult:
        settings = self.app.settings
        with Horizontal(id="ask", classes="row"):
            yield Static("›", id="prompt")
            query = HistoryInput(placeholder="a text, #17, id:17, [0.1, …] or @file.npy 3", id="query")
            query.tooltip = "Results come as you type: ↓ or Esc goes to them. ↑ or ctrl+r: typed before"
            yield query
        with Horizontal(id="knobs", classes="row"):
            yield Number("k", settings.k, (1, 3, 5, 10, 20, 50, 100), maximum=1000, id="k", hint="How many results")
            yield Number(
                "ef",
                settings.ef,
                (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
                id="ef",
                hint="Candidates that a search keeps. More is slower and finds more; never less than k",
            )
            yield Probes()
            yield Choice("exact", ["off", "on"], "off", id="exact", hint="Compare with every vector: the truth, slowly")
            yield Static("filter", id="filter-label", classes="muted")
            yield FilterInput(id="filter")
        yield Static("", id="status", markup=False)
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
        self._answer: Answer | None = None
        self._recall: float | None = None
        self._why = ""
        self._compared = False
        self._total = 0.0
        self._back_stack: list[str] = []
        self._open: tuple[Data | None, SearchBackend | None] = (None, None)
        self._later: Timer | None = None
        self.app.theme_changed_signal.subscribe(self, lambda _: self.query_one(ResultsTable).redraw())
        super().on_mount()
        for box in _BOXES:
            self.query_one(f"#{box}", HistoryInput).past = partial(self._history_of, box)
        self.query_one("#query").focus()

    def opened(self) -> None:
        session = self.session
        if session.data is None or session.backend is None or self._open == (session.data, session.backend):
            return
        another = session.data is not self._open[0]
        self._open = (session.data, session.backend)
        self.query_one(Probes).offer(session.backend.most_probes, all_of_them=another)
        if another:
            self._start_over(session.data)
        self.search()

    def _start_over(self, data: Data) -> None:
        query, condition = self.query_one("#query", Input), self.query_one(FilterInput)
        condition.set_schema(data)
        said = data.encode is not None or (data.collection and data.texts is not None)
        with self.prevent(Input.Changed):
            condition.value = ""
            query.value = "" if said or not len(data) else "#0"
        query.placeholder = printable(placeholder(data))
        self._back_stack.clear()
        self._show_history()

    # ---- searching -------------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.search()

    def on_control_changed(self, event: Control.Changed) -> None:
        settings = self.app.settings
        settings.k, settings.ef = self.query_one("#k", Number).value, self.query_one("#ef", Number).value
        self.search()

    def search(self) -> None:
        """Search for what is typed. A newer search replaces one that is still running."""
        data, backend = self._open
        if data is None or backend is None:
            return
        since = self.app.services.clock()
        typed, condition = self.query_one("#query", Input).value, self.query_one("#filter", Input).value
        k, ef = self.query_one("#k", Number).value, self.query_one("#ef", Number).value
        exact = self.query_one("#exact", Choice).value == "on"
        nprobe = self.query_one(Probes).chosen

        def work(job: workers.Job) -> Compared | InvalidQuery | EmptyQuery | None:
            try:
                backend.refresh(job.progress)
                filter_result = backend.filter(condition, data)
                parsed = parse_query(typed, data, backend)
                if parsed is None:
                    return EmptyQuery(filter_result, condition)
                query = parsed.query
                answer = backend.search(query, k, ef=ef, filter_result=filter_result, exact=exact, nprobe=nprobe)
            except WhereError as error:
                return InvalidQuery(error.problem, len(condition) if error.position is None else error.position)
            except (EdgevecError, OSError) as error:
                return InvalidQuery(" ".join(str(error).split()))
            among = "" if filter_result is None else f", among {_passing(filter_result, data)}"
            job.post(Answered(parsed.description + among, answer, since, condition))
            time.sleep(_EXACT_DELAY)
            if not job.active:
                return None
            if query.words is not None:
                return Compared(None, "by words: –")
            if backend.whole_scan > ASKED_FIRST and not exact:
                return Compared(None, "– (big file)")
            is_truth = exact and nprobe is None
            truth = answer if is_truth else backend.search(query, k, ef=ef, filter_result=filter_result, exact=True)
            return Compared(answer.recall(truth, backend.settings.metric))

        workers.start(self, "search", work, "The search failed")
        if self._later is not None:
            self._later.stop()
        self._later = self.set_timer(_REMEMBER_AFTER, lambda: self._remember(typed))

    def on_answered(self, message: Answered) -> None:
        data, backend = self._open
        assert data is not None
        assert backend is not None
        self._answer, self._recall, self._compared = message.answer, None, False
        self.query_one(Probes).offer(backend.most_probes)
        found = hits(message.answer, data, backend.settings.metric)
        table = self.query_one(ResultsTable)
        table.show(found, data)
        table.border_title = f"Results, {formatting.plural(len(found), 'record' if data.collection else 'row')}"
        nothing = "" if found else "nothing found" if len(backend) else "nothing found: it is empty"
        self._total = self.app.services.clock() - message.since
        self._show_detail()
        self._accept_filter(message.filter)
        self._set_status(f"{message.description}: {nothing}" if nothing else message.description)
        self._show_cost()

    def _accept_filter(self, condition: str) -> None:
        self.session.filter = condition.strip()
        self.query_one(FilterInput).mark(None)
        self.query_one(TopBar).show(self.session, self.app.services.simd_info())

    def on_progressed(self, message: Progressed) -> None:
        if message.group == "search":
            self._set_status(f"the graph catches up with the records: {message.done:,} of {message.total:,}")

    def on_data_table_row_highlighted(self) -> None:
        self._show_detail()

    def _show_detail(self) -> None:
        hit, data = self.query_one(ResultsTable).current(), self._open[0]
        if hit is None or data is None:
            self.query_one("#detail", Static).update("")
            return
        fields = "  ".join(f"{name}={value}" for name, value in hit.fields.items())
        score = f"id {hit.id}  score {decimals(hit.score)}" if hit.score is not None else ""
        full = "\n".join(part for part in (hit.text, fields, score) if part) or f"id {hit.id}"
        self.query_one("#detail", Static).update(printable(full, lines=True))

    def on_compared(self, message: Compared) -> None:
        self._recall, self._why, self._compared = message.recall, message.why, True
        self._show_cost()

    def on_empty_query(self, message: EmptyQuery) -> None:
        data, filter_result = self._open[0], message.filter_result
        self._accept_filter(message.filter)
        self._empty("" if filter_result is None or data is None else f"{_passing(filter_result, data)}; now a query")

    def on_invalid_query(self, message: InvalidQuery) -> None:
        self.query_one(FilterInput).mark(message.position)
        if message.position is None:
            self._set_status(message.reason, bad=True)
        else:
            self._point_at(message.reason, message.position)

    def _point_at(self, reason: str, position: int) -> None:
        """Show the error below its position in the filter box, to the right or left of it, wherever there is room."""
        reason = printable(reason)
        status, box = self.query_one("#status", Static), self.query_one(FilterInput)
        column, width = box.column_of(position) - status.content_region.x, status.content_region.width
        before, after = f"{reason} ▲", f"▲ {reason}"
        if column + len(after) <= width:
            status.update(" " * column + after)
        else:
            status.update(before.rjust(column + 1) if len(before) <= column + 1 else f"⚠ {reason}")
        status.set_class(True, "bad")

    def _set_status(self, what: str, *, bad: bool = False) -> None:
        status, what = self.query_one("#status", Static), printable(what)
        status.update(f"⚠ {what}" if bad else what)
        status.set_class(bad, "bad")

    def _empty(self, what: str) -> None:
        self._set_status(what)
        data = self._open[0]
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
        cost, around = answer.cost, max(0.0, self._total - answer.seconds)
        if cost.core is None:
            split.show({"search": answer.seconds, "screen": around})
            times = [("search", formatting.seconds(answer.seconds))]
        else:
            split.show({"core": cost.core, "Python": max(0.0, answer.seconds - cost.core), "screen": around})
            times = [("core", formatting.seconds(cost.core)), ("call", formatting.seconds(answer.seconds))]
        facts.show(
            [
                *times,
                ("total", formatting.seconds(self._total)),
                (f"recall@{self.query_one('#k', Number).value}", self._recall_text()),
                *_work(cost),
                ("way", cost.strategy),
            ]
        )

    def _recall_text(self) -> str:
        if self._recall is not None:
            return formatting.recall_text(self._recall)
        return self._why if self._compared else "…"

    # ---- neighbors and history -------------------------------------------------------------------------------------

    def on_results_table_followed(self, message: ResultsTable.Followed) -> None:
        self._follow(message.hit)

    def on_results_table_chosen(self, message: ResultsTable.Chosen) -> None:
        def closed(neighbors: bool | None) -> None:
            if neighbors:
                self._follow(message.hit)

        self.app.push_screen(RecordScreen(message.hit), closed)

    def _follow(self, hit: Hit) -> None:
        self._remember(self.query_one("#query", Input).value)
        self.query_one("#query", Input).value = id_query(hit.id)

    def action_random(self) -> None:
        backend = self._open[1]
        if backend is not None and len(backend):
            self._remember(self.query_one("#query", Input).value)
            self.query_one("#query", Input).value = f"#{random.randrange(len(backend))}"

    def action_search_again(self) -> None:
        """Search again, since records may have been added or removed."""
        self.search()

    def _remember(self, typed: str) -> None:
        """Add the query and its filter to the history."""
        typed = typed.strip()
        self.app.history.add(self.session.name, "filter", self.session.filter)
        if typed and self._answer is not None:
            self.app.history.add(self.session.name, "query", typed)
            if self._back_stack[-1:] != [typed]:
                self._back_stack = [*self._back_stack[-_BACK_LIMIT:], typed]
        self._show_history()

    def _history_of(self, box: Box) -> list[str]:
        return self.app.history.entries(self.session.name, box)

    def _show_history(self) -> None:
        history = self.query_one("#history", OptionList)
        history.clear_options()
        self._listed = self._history_of("query")[::-1][:_BACK_LIMIT]
        history.add_options([Option(Content(printable(typed))) for typed in self._listed])

    @on(Input.Submitted, "#query")
    def _submitted(self, event: Input.Submitted) -> None:
        self._remember(event.value)
        self.action_results()

    @on(OptionList.OptionSelected, "#history")
    def _history_chosen(self, event: OptionList.OptionSelected) -> None:
        self.query_one("#query", Input).value = self._listed[event.option_index]

    @on(Input.Submitted, "#filter")
    def _filter_submitted(self) -> None:
        self._remember(self.query_one("#query", Input).value)
        self.action_results()

    def on_history_input_recall(self, message: HistoryInput.Recall) -> None:
        entry = message.entry

        def chosen(typed: str | None) -> None:
            if typed is not None:
                entry.put(typed)

        self.app.push_screen(HistoryDialog(entry.past(), entry.value), chosen)

    def action_back(self) -> None:
        """Go back to the previous query."""
        query = self.query_one("#query", Input)
        while self._back_stack:
            last = self._back_stack.pop()
            if last != query.value.strip():
                query.value = last
                break

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
        data = self._open[0]
        if hit is not None and data is not None:
            self.app.copy_to_clipboard(export.as_lines([hit], data))
            self.notify(f"Copied row {hit.rank}", timeout=2)

    def action_copy_all(self) -> None:
        found, data = self.query_one(ResultsTable).hits, self._open[0]
        if found and data is not None:
            self.app.copy_to_clipboard(export.as_lines(found, data))
            self.notify(f"Copied {formatting.plural(len(found), 'row')}", timeout=2)

    def action_export(self) -> None:
        if not self.query_one(ResultsTable).hits:
            self.notify("There are no results to export", severity="warning")
            return
        self.app.push_screen(
            PathDialog(
                "Export the results", Path.cwd() / "results.json", (".json", ".csv"), protected=self.session.files
            ),
            self._export,
        )

    def _export(self, path: Path | None) -> None:
        found, data = list(self.query_one(ResultsTable).hits), self._open[0]
        typed = self.query_one("#query", Input).value
        if path is None or data is None:
            return

        def work(job: workers.Job) -> Exported:
            export.write_hits(path, typed, found, data)
            return Exported(path)

        workers.start(self, "export", work, f"{path.name} cannot be written")

    def on_exported(self, message: Exported) -> None:
        self.notify(f"Wrote {message.path}", timeout=4)

    def commands(self) -> Iterable[tuple[str, str, Callable[[], None]]]:
        yield "Search again", "In the records as they are now", self.action_search_again
        yield "Random row", "Search for what is near some row", self.action_random
        yield "Export results", "To JSON or CSV", self.action_export
        yield "Copy results", "To the clipboard, as lines with tabs", self.action_copy_all


def _work(cost: SearchCost) -> list[tuple[str, str]]:
    """What is known of the work that a search did."""
    read = cost.read
    work: list[tuple[str, str]] = [] if cost.visited is None else [("visited", f"{cost.visited:,} nodes")]
    work += [] if cost.distances is None else [("distances", f"{cost.distances:,}")]
    work += [] if cost.reranked is None else [("re-ranked", f"{cost.reranked:,}")]
    if read is not None:
        work += [("reads", f"{read.reads:,}"), ("bytes", formatting.bytes_text(read.bytes))]
        work.append(("estimates", f"{read.estimates:,}"))
    return work


def _passing(filter_result: FilterResult, data: Data) -> str:
    """How many rows pass the filter; if none do, also the fields that there are."""
    what = f"{filter_result.rows:,} {'records' if data.collection else 'rows'} that pass the filter"
    return what if filter_result.rows else f"{what} (fields: {', '.join(fields_of(data))})"
