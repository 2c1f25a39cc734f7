"""The parts that need no screen: filters, settings, percentiles, the load generator."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgevec
from edgevec.tui import query_set, sweep
from edgevec.tui.backends import bundle
from edgevec.tui.backends.index import IndexBackend
from edgevec.tui.filters import where_over
from edgevec.tui.metrics import MetricsWindow
from edgevec.tui.models import Answer, Data, Measurements, QuerySpec, SearchCost
from edgevec.tui.priority import run_behind
from edgevec.tui.query_parser import id_query, parse_query
from edgevec.tui.settings import Settings, SettingsFile
from edgevec.tui.widgets.filter_input import _Completion

ROWS = [
    {"kind": "cat", "legs": 4, "weight": 3.5, "note": "sleeps a lot"},
    {"kind": "sea horse", "legs": 0, "weight": None, "note": "Swims"},
    {"kind": "dog", "legs": 4, "weight": 20, "note": "barks AND runs"},
    {"kind": "Dog", "legs": 3, "weight": 18.25, "note": None},
]
DATA = Data(
    "animals",
    2,
    np.array([10, 11, 12, 13]),
    texts=["a cat", "a sea horse", "a dog", "another dog"],
    columns={name: np.array([row[name] for row in ROWS], object) for name in ROWS[0]},
)
COLLECTION = Data("notes", 2, np.array(["a", 1], object), texts=["a text", ""], collection=True)


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("kind = 'dog'", [12]),
        ("kind ILIKE 'dog'", [12, 13]),
        ("NOT kind = 'dog'", [10, 11, 13]),
        ('kind = "sea horse"', [11]),
        ("legs = 4", [10, 12]),
        ("legs >= 3 AND kind ILIKE 'dog'", [12, 13]),
        ("legs < 4 and legs > 0", [13]),
        ("weight <= 18.25", [10, 13]),
        ("weight IS NULL OR weight = 20", [11, 12]),
        ("note LIKE '%AND%'", [12]),
        ("text LIKE '%dog'", [12, 13]),
        ("id = 12", [12]),
        ("id > 12", [13]),
        ("kind = 'fish'", []),
        ("color = 'red'", []),
    ],
)
def test_filters(typed: str, ids: list[int]) -> None:
    filter_result = where_over(DATA)(typed)
    assert filter_result is not None
    assert filter_result.rows == len(ids)
    assert np.asarray(filter_result.selection).tolist() == ids


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("`Größe` = 1", [0]),
        ('`say "x"` = 2', [0]),
        ("`a``b` = 3", [0]),
        ("inner.`é` = 4", [0]),
        ("day = '2024-01-02T00:00:00'", [0]),
        ("number IS NULL", [0]),
        ("number = 0.5", [1]),
    ],
)
def test_filters_see_any_name_and_value(typed: str, ids: list[int]) -> None:
    day = datetime.datetime(2024, 1, 2)
    first = {"Größe": 1, 'say "x"': 2, "a`b": 3, "inner": {"é": 4}, "day": day, "number": float("nan")}
    rows = [first, {**dict.fromkeys(first), "number": 0.5, "day": "\ud800"}]
    columns = {name: np.array([row[name] for row in rows], object) for name in first}
    filter_result = where_over(Data("odd", 2, np.array([0, 1]), columns=columns))(typed)
    assert filter_result is not None
    assert np.asarray(filter_result.selection).tolist() == ids


@pytest.mark.parametrize("typed", ["", "   "])
def test_an_empty_filter_allows_all(typed: str) -> None:
    assert where_over(DATA)(typed) is None


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_filter_or_an_error_of_ours(typed: str) -> None:
    try:
        filter_result = where_over(DATA)(typed)
    except edgevec.WhereError:
        return
    assert filter_result is None or set(np.asarray(filter_result.selection).tolist()) <= {10, 11, 12, 13}


def test_the_first_picture_does_without_plots_and_the_language_of_conditions() -> None:
    late = {"plotext", "edgevec.collection.where.parser", "matplotlib"}
    program = f"import sys, edgevec.cli.app, edgevec.tui.app; print(*{late} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# ---- what is typed -------------------------------------------------------------------------------------------------


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(min_size=1, max_size=20)))
def test_the_query_for_the_neighbors_of_a_record_means_its_id(id: int | str) -> None:
    """Ids that look like numbers, quotes or line ends among them."""

    class Stored:
        def vector(self, asked: int | str) -> tuple[int | str]:
            return (asked,)

    asked = parse_query(id_query(id), COLLECTION, Stored())
    assert asked is not None
    assert asked.query.vector == (id,)
    assert type(asked.query.vector[0]) is type(id)


def completed(typed: str) -> str | None:
    return asyncio.run(_Completion(["kind", "author.born", "`odd name`"], ["sea horse", "it's"]).get_suggestion(typed))


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("ki", "kind"),
        ("kind = 'x' AND au", "kind = 'x' AND author.born"),
        ("legs > 3 a", "legs > 3 author.born"),
        ("kind = 'x' an", "kind = 'x' and"),
        ("kind = 'x' BET", "kind = 'x' BETWEEN"),
        ("kind = 'se", "kind = 'sea horse'"),
        ("kind = 'it", "kind = 'it''s'"),
        ('kind = "it', 'kind = "it\'s"'),
        ("kind = 'ki'", None),
        ("kind = 'x'", None),
        ("`o", "`odd name`"),
        ("", None),
        ("kind = ", None),
    ],
)
def test_the_filter_box_completes_fields_words_and_values(typed: str, suggested: str | None) -> None:
    assert completed(typed) == suggested


@given(st.lists(st.integers(-(2**40), 2**40), unique=True, min_size=1), st.lists(st.integers(-(2**40), 2**40)))
def test_ids_lead_to_their_rows(ids: list[int], asked: list[int]) -> None:
    data = Data("ids", 2, np.array(ids))
    rows = data.rows_of(np.array([*asked, *ids], np.int64)).tolist()
    assert rows == [ids.index(id) if id in ids else -1 for id in [*asked, *ids]]


# ---- settings ------------------------------------------------------------------------------------------------------


def test_settings_are_kept(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "deep" / "tui.json")
    assert file.read() == Settings()
    settings = Settings(theme="edgevec-light", ef=128)
    settings.remember(tmp_path / "a.ev")
    settings.remember(tmp_path / "b.ev")
    settings.remember(tmp_path / "a.ev")
    file.write(settings)
    assert SettingsFile(file.path).read() == settings
    assert [Path(name).name for name in settings.recent] == ["a.ev", "b.ev"]


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"ef": "many"}', '{"ef": 0}', '{"recent": [1]}', '{"quantization": "pq"}', "[" * 100_000, "\0"],
)
def test_damaged_settings_are_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tui.json"
    path.write_text(content)
    file = SettingsFile(path)
    assert file.read() == Settings()
    assert "damaged" in file.notice
    assert (tmp_path / "tui.json.damaged").read_text() == content
    file.write(Settings(ef=99))
    assert json.loads(path.read_text())["ef"] == 99


def test_settings_that_cannot_be_kept_are_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    file = SettingsFile(tmp_path / "taken" / "tui.json")
    file.write(Settings())
    assert "cannot be kept" in file.notice


# ---- percentiles ---------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(1e-7, 1.0), min_size=1, max_size=30), min_size=1, max_size=8))
def test_totals_are_those_of_all_calls_since_the_last_change(parts: list[list[float]]) -> None:
    metrics = MetricsWindow()
    metrics.take(Measurements(np.array([5.0]), np.array([6.0]), 1, 1, 1, 1.0), 0.0)
    metrics.mark(0.5, "ef 10")
    for at, part in enumerate(parts, 1):
        core = np.array(part)
        metrics.take(Measurements(core, core * 2, len(part), 3, 4, 0.5), float(at))
    every = np.concatenate([np.array(part) for part in parts]) * 1e6
    totals = metrics.totals()
    assert totals is not None
    np.testing.assert_allclose([totals.p50, totals.p95, totals.p99], np.percentile(every, (50, 95, 99)))
    assert totals.maximum == every.max()
    assert totals.n == len(every) == metrics.counts.sum()
    assert totals.recall == 0.75
    np.testing.assert_allclose(totals.qps, len(every) / (0.5 * len(parts)))


def equal_rows() -> tuple[Data, IndexBackend]:
    """200 rows, of which ten each are the same, and an index over them."""
    rows = np.repeat(np.random.default_rng(2).normal(size=(20, 6)), 10, axis=0).astype(np.float32)
    index = edgevec.Index(6, "l2")
    index.add(rows, np.arange(1000, 1200), threads=1)
    return Data("equal", 6, np.arange(1000, 1200), rows, metric="l2"), IndexBackend(index, time.perf_counter)


def test_a_condition_is_evaluated_once_while_its_text_stays() -> None:
    backend = equal_rows()[1]
    few = backend.filter("kind = 'dog'", DATA)
    assert few is not None
    assert backend.filter("kind = 'dog'", DATA) is few
    more = backend.filter("kind ILIKE 'dog'", DATA)
    assert more is not None
    assert np.asarray(more.selection).tolist() == [12, 13]
    other = dataclasses.replace(DATA, ids=np.array([20, 21, 22, 23]))
    assert np.asarray(backend.filter("kind ILIKE 'dog'", other).selection).tolist() == [22, 23]
    assert backend.filter("", DATA) is None


def test_answers_follow_the_filter_from_one_search_to_the_next() -> None:
    data, backend = equal_rows()
    query = QuerySpec(data.vectors[0])
    for condition, ids in (("id < 1005", {*range(1000, 1005)}), ("id = 1150", {1150}), ("", None), ("id < 0", set())):
        filter_result = backend.filter(condition, data)
        for _ in range(2):
            found = backend.search(query, 10, ef=50, filter_result=filter_result, exact=False).ids.tolist()
            assert len(found) == 10 if ids is None else set(found) == ids


def test_searches_on_several_threads_do_not_meet_in_one_context() -> None:
    data, backend = equal_rows()
    filter_result = backend.filter("id >= 1000", data)

    def search(row: int) -> list[int]:
        spec = QuerySpec(data.vectors[row])
        return backend.search(spec, 10, ef=100, filter_result=filter_result, exact=False).ids.tolist()

    with ThreadPoolExecutor(4) as pool:
        for row, ids in enumerate(pool.map(search, range(len(data)))):
            assert 1000 + row // 10 * 10 in {id // 10 * 10 for id in ids}


def test_of_equally_near_rows_the_load_counts_any_as_found() -> None:
    data, backend = equal_rows()
    queries = query_set.make(data, backend, "rows", lambda done, total: True, filter_result=None, count=50)
    assert queries is not None
    wanted, limits = queries.expected(5), queries.limits(5)
    for row, vector in enumerate(queries.vectors):
        far = ((data.vectors.astype(float) - vector) ** 2).sum(axis=1)
        others = [at for at in np.argsort(far, kind="stable").tolist() if data.ids[at] != queries.own[row]]
        k = len(wanted[row])
        worst = [at for at in reversed(others) if far[at] == far[others[k - 1]]][:k]
        assert queries.found(row, 5, data.ids[worst], far[worst], limits[row]) == k  # others than the truth picked
        assert queries.found(row, 5, data.ids[others[-k:]], far[others[-k:]], limits[row]) == 0
        known = queries.own[row] in queries.truth[row, :5]  # then finding itself is nothing found
        assert queries.found(row, 5, queries.own[row : row + 1], [0.0], limits[row]) == (not known)


def test_of_equally_near_rows_the_comparison_counts_any_as_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, backend = equal_rows()
    queries = query_set.make(data, backend, "rows", lambda done, total: True, filter_result=None, count=50)
    assert queries is not None
    backend.write_bundle(tmp_path, None)
    bundle.write_queries(tmp_path, queries)
    sweep.measure(tmp_path, 5, [200])
    assert json.loads(capsys.readouterr().out)[1] == 1.0  # ef is all of the rows


def test_of_equally_near_records_an_answer_with_any_is_whole() -> None:
    cost = SearchCost("graph", 0, 0, None, None)
    near = np.array([0.5, 1.0, 1.0], np.float32)
    found = Answer(np.array(["a", 7, "c"], object), near, cost, 0.0)
    truth = Answer(np.array(["a", "b", 7], object), near, cost, 0.0)
    assert found.recall(truth, "l2") == 1.0
    assert found._replace(distances=near + np.float32([0, 0, 1])).recall(truth, "l2") == pytest.approx(2 / 3)


@pytest.mark.subprocess
def test_the_first_screen_does_without_numpy() -> None:
    modules = "sys, edgevec.cli.app, edgevec.cli.tui, edgevec.tui.app"
    code = f"import {modules}; print([name for name in ('numpy', 'sqlite3') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.threads
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_work_behind_the_keys() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    inherited = ThreadPoolExecutor(1)
    assert run_behind(lambda: (priority(), inherited.submit(priority).result())) == (max(before, 10),) * 2
    inherited.shutdown()
    assert priority() == before
    with pytest.raises(ZeroDivisionError):
        run_behind(lambda: 1 / 0)
