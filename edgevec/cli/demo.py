"""edgevec demo: text queries on the sample that comes with the package."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import click
from rich.table import Table

import edgevec

from .. import evaluation
from ..errors import ParameterError
from ..samples import WordNet, wordnet
from .common import QUANTIZATIONS, build_index, bytes_per_vector, example, note, on_terminal, show, shown_rows

__all__ = ["demo"]

_EXAMPLES = ("device for measuring temperature", "yellow fruit that monkeys like", "to walk slowly without purpose")


@click.command(epilog=example("edgevec demo yellow fruit that monkeys like"))
@click.argument("query", nargs=-1)
@click.option("-q", "--quantization", type=click.Choice(QUANTIZATIONS), default="sq8", show_default=True)
@click.option("-k", type=click.IntRange(1), default=5, show_default=True, help="Results per query.")
@click.option("--ef", type=click.IntRange(1), help="Candidates that a search keeps; more is slower and finds more.")
@click.option("--repeats", type=click.IntRange(1), default=200, show_default=True, help="Searches timed per query.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Threads to build with; 0 (default): one per core.")
def demo(query: tuple[str, ...], quantization: str, k: int, ef: int | None, repeats: int, threads: int) -> None:
    """Search 25,000 dictionary entries by meaning.

    Answers QUERY and ends. Without one it answers a few examples and then, on a terminal, what you type.
    """
    start = time.perf_counter()
    sample = wordnet()
    note(f"WordNet: {len(sample):,} entries, {sample.dim} dimensions, read in {time.perf_counter() - start:.2f} s")
    if query:
        sample.encode(" ".join(query))  # so that unknown words are told before the work
    index, seconds = build_index(
        sample.vectors, sample.ids, metric="cosine", threads=threads, quantization=quantization
    )
    note(f"Index: {quantization}, M={index.M}, built in {seconds:.2f} s")
    session = _Session(sample, index, k, ef, repeats)
    if query:
        session.answer(" ".join(query))
        return
    for text in _EXAMPLES:
        session.answer(text)
    if on_terminal():
        session.converse()


@dataclass(frozen=True)
class _Session:
    sample: WordNet
    index: edgevec.Index
    k: int
    ef: int | None
    repeats: int

    def answer(self, query: str) -> None:
        vector = self.sample.encode(query)
        if unknown := self.sample.unknown_words(query):
            note(f"not known, and passed over: {', '.join(unknown)}")
        found = self.index.search(vector, self.k, ef=self.ef)
        table = Table(title=query, title_justify="left", title_style="bold")
        table.add_column("rank", justify="right")
        table.add_column("id", justify="right")
        table.add_column("text", ratio=1)
        table.add_column("topic")
        table.add_column("distance", justify="right")
        for rank, id, distance in shown_rows(found.ids, found.distances):
            table.add_row(rank, str(id), self.sample.texts[id], self.sample.topics[id], distance)
        show(table)

        exact = self.index.search(vector, self.k, exact=True)
        search = (lambda: self.index.search(vector, self.k, ef=self.ef),)
        spent = evaluation.latency(search * self.repeats)
        show(
            f"P50 {spent.p50:,.0f} µs over {spent.n} searches; "
            f"recall@{self.k} {evaluation.recall(found, exact, metric=self.index.metric):.2f} against exact search; "
            f"{bytes_per_vector(self.index):,} bytes per vector; SIMD {edgevec.simd_info().active}\n"
        )

    def converse(self) -> None:
        """Answer what is typed, until an empty line, "quit" or the end of input."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives input() history and line editing
        while True:
            try:
                query = input("query (empty to end): ").strip()
            except (EOFError, KeyboardInterrupt):
                print()
                return
            if query.lower() in ("", "quit", "exit"):
                return
            try:
                self.answer(query)
            except ParameterError as error:
                note(str(error))
