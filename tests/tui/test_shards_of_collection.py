"""The app over a collection in shards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pilot import idle, running, shown, until
from textual.widgets import Button, DataTable, Input

import edgevec
from edgevec.tui.backends import bundle
from edgevec.tui.backends.open import open_file
from edgevec.tui.models import Queries, QuerySpec

VECTORS = np.random.default_rng(7).standard_normal((70, 6)).astype(np.float32)
IDS: list[Any] = [row if row % 2 else f"n{row}" for row in range(70)]


def records(count: int = 70) -> list[dict[str, Any]]:
    animal = ("owls", "bees")
    return [
        {"id": IDS[row], "vector": VECTORS[row], "text": f"about {animal[row % 2]}", "n": row} for row in range(count)
    ]


@pytest.fixture
def notes(folder: Path) -> Path:
    edgevec.ShardedCollection.build(records(), folder / "notes", rows_per_shard=30, metric="l2").close()
    return folder / "notes"


def near(query: np.ndarray, rows: list[int]) -> list[Any]:
    order = np.argsort(((VECTORS[rows] - query) ** 2).sum(1), kind="stable")
    return [IDS[rows[at]] for at in order]


def test_it_answers_as_the_collection_does(notes: Path, tmp_path: Path) -> None:
    for path in (notes, notes / "manifest.json"):
        data, backend = open_file(path, None, lambda done, total: True, time.perf_counter)  # type: ignore[misc]
        assert backend is not None
        assert (len(backend), backend.dim, backend.settings.metric, data.path) == (70, 6, "l2", notes)
        assert backend.ids().tolist() == data.ids.tolist() == IDS
        assert list(data.columns) == ["n"]
        exact = backend.search(QuerySpec(VECTORS[9]), 5, ef=50, filter_result=None, exact=True)
        assert exact.ids.tolist() == near(VECTORS[9], list(range(70)))[:5]
        words = backend.search(QuerySpec(None, "bees"), 50, ef=50, filter_result=None, exact=False)
        assert set(words.ids.tolist()) == set(IDS[1::2])
        only = backend.filter("n < 20", data)
        assert only is not None
        assert only.rows == 20
        answer = backend.search(QuerySpec(VECTORS[9]), 5, ef=50, filter_result=only, exact=True)
        assert answer.ids.tolist() == near(VECTORS[9], list(range(20)))[:5]
        assert [(each.vectors, each.removed) for each in backend.parts()] == [(30, 0), (30, 0), (10, 0)]
        info = backend.info()
        assert info is not None
        assert (info.records, info.documents) == (70, 70)
        assert info.file + info.snapshot == sum(each.bytes for each in backend.parts())
        health = backend.health()
        assert (health.ok, health.lines) == (True, ("3 shards",))
        backend.close()
    with edgevec.ShardedCollection.build(records(40), notes, rows_per_shard=30, metric="l2"):
        data, backend = open_file(notes, None, lambda done, total: True, time.perf_counter)  # type: ignore[misc]
        assert backend is not None
    edgevec.ShardedCollection.build(records(50), notes, rows_per_shard=30, metric="l2").close()
    assert backend.refresh(lambda done, total: True)
    assert not backend.refresh(lambda done, total: True)
    assert (len(backend), backend.ids().tolist()) == (50, IDS[:50])
    truth = np.array([near(VECTORS[9], list(range(50)))[:5]], object)
    queries = Queries(VECTORS[9:10], truth, np.zeros((1, 5)), np.array([None], object), "", "l2")
    bundle.write_queries(tmp_path, queries)
    backend.write_bundle(tmp_path, None)
    measured = bundle.open_backend(tmp_path)
    assert measured.search(VECTORS[9:10], 5, ef=500).ids.tolist() == [[0, 1, 2, 3, 4]]  # the places of the ids
    measured._collection.close()  # type: ignore[union-attr]
    backend.close()


async def test_it_is_searched_and_its_shards_are_shown(notes: Path) -> None:
    async with running(notes) as (app, pilot):
        await until(pilot, lambda: app.current_mode == "search", "the search screen")
        app.screen.query_one("#query", Input).value = "id:n8"
        await until(
            pilot,
            lambda: app.screen._answer is not None and app.screen._answer.ids[0] == "n8" and app.screen._compared,
            "an answer",
        )
        assert app.screen._recall == 1.0
        app.screen.query_one("#query", Input).value = "words: owls"
        await until(pilot, lambda: app.screen._answer.distances is None, "an answer by words")
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == "data" and idle(app), "the data screen")
        table = app.screen.query_one("#preview", DataTable)
        assert table.border_title == "3 shards"
        assert [str(table.get_row_at(row)[1]) for row in range(3)] == ["30", "30", "10"]
        await until(pilot, lambda: "sound, 3 shards" in shown(app), "the check")
        assert "70 × 6" in shown(app)
        for name in ("#save", "#save-as", "#build"):
            assert app.screen.query_one(name, Button).disabled
        edgevec.ShardedCollection.build(records(40), notes, rows_per_shard=30, metric="l2").close()
        await pilot.press("r")
        await until(pilot, lambda: table.border_title == "2 shards" and "40 × 6" in shown(app), "what was built anew")
