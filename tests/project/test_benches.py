"""What the benchmarks choose and compute, checked without any engine: a wrong choice there is a wrong figure."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

BENCHES = ROOT / "benches"
if not BENCHES.is_dir():
    pytest.skip("the benchmarks are not here (Pyodide gets the tests alone)", allow_module_level=True)
sys.path.insert(0, str(BENCHES))

import collection  # noqa: E402
import data  # noqa: E402
import rate_distortion  # noqa: E402
from databases import Condition  # noqa: E402
from engine_process import Built  # noqa: E402
from engines import FAMILIES, Settings  # noqa: E402
from hnswlib_baseline import ratio_of  # noqa: E402
from memory_floor import Geometry, cycle, lines_per_query  # noqa: E402
from param_search import Point, fastest, finalists, lowest_latency, pareto_front, smallest, sweep  # noqa: E402
from report import Outcome, Report, rows, to_markdown  # noqa: E402
from runbook import MADE, Step, as_entry, as_step  # noqa: E402
from scaling import fit  # noqa: E402
from timing import cache_sizes, outgrown_cache  # noqa: E402

import edgevec  # noqa: E402

ABOUT = {"date": "2000-01-01", "cpu": "a", "cores": 1, "os": "b", "python": "3", "packages": {"numpy": "2"}}


def point(recall: float, qps: float, p50: float = 1.0, search_param: int = 10, M: int = 16) -> Point:
    return Point({"M": M}, {}, search_param, recall, p50, 2 * p50, qps, 1.0, 1)


@given(
    threshold=st.integers(1, 1200),
    grid=st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True).map(sorted),
)
def test_bisection_finds_the_smallest_breadth(threshold: int, grid: list[int]) -> None:
    def recall_at(search_param: int) -> float:
        return 0.96 if search_param >= threshold else 0.5

    found = smallest(recall_at, {search_param: recall_at(search_param) for search_param in grid}, 0.95)
    reachable = [search_param for search_param in range(grid[0], grid[-1] + 1) if search_param >= threshold]
    assert found == ((reachable[0], 0.96) if reachable else None)


def test_a_sweep_measures_the_edges_and_stops_where_it_is_enough() -> None:
    asked = []

    def recall_at(search_param: int) -> float:
        asked.append(search_param)
        return min(1.0, search_param / 100)

    found = sweep(recall_at, (10, 50, 96, 200, 400), (0.3, 0.95))
    assert found == {10: 0.1, 30: 0.3, 50: 0.5, 95: 0.95, 96: 0.96, 200: 1.0}
    assert 400 not in asked


def test_a_sweep_stops_on_a_plateau() -> None:
    assert sweep(lambda search_param: 0.9, (10, 20, 40), (0.95,)) == {10: 0.9, 20: 0.9}


def test_the_best_points_reach_the_recall() -> None:
    points = [point(0.94, 900, 1), point(0.95, 500, 9), point(0.97, 600, 8), point(0.99, 100, 3)]
    assert fastest(points, 0.95) is points[2]
    assert lowest_latency(points, 0.95) is points[3]
    assert fastest(points, 0.999) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 1000)), max_size=30))
def test_the_front_is_what_no_other_beats(pairs: list[tuple[float, float]]) -> None:
    kept = {(each.recall, each.qps) for each in pareto_front(point(*pair) for pair in pairs)}
    beaten = {a for a in pairs if any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in pairs)}
    assert kept == set(pairs) - beaten


def test_finalists_are_the_best_and_the_front_of_their_indexes() -> None:
    slow, quick = point(0.95, 10, p50=9, M=8), point(0.95, 90)
    wide, late = point(0.992, 40, search_param=20), point(0.8, 80, search_param=5)
    assert finalists([slow, quick, wide, late]) == [quick, wide]
    assert finalists([late, slow], targets=(0.99,)) == [slow]


def report_of(*outcomes: Outcome) -> Report:
    return Report("w", False, Settings(), 1, [ABOUT], list(outcomes))


def test_a_table_has_a_line_for_every_engine() -> None:
    built = [({"M": 16}, Built(1.0, 2.0, 100.0))]
    good = Outcome("hnswlib", built, [], [point(0.96, 500)])
    better = Outcome("edgevec sq8", built, [], [point(0.96, 900)])
    short = Outcome("usearch i8", built, [], [point(0.5, 5000)])
    broken = Outcome("scann AH + reorder", failures=["no such instruction"])
    report = report_of(good, short, broken, better)
    cells = rows(report, 0.95)
    assert [row[0] for row in cells] == ["edgevec sq8", "hnswlib", "usearch i8", "scann AH + reorder"]
    assert cells[2][1] == "not reached: at best 0.5000"
    assert cells[3][1] == "not measured: no such instruction"
    assert to_markdown(report).count("| hnswlib |") == 2


def test_a_report_comes_back_from_its_file_and_the_last_of_two_counts(tmp_path: Path) -> None:
    built = [({"M": 16}, Built(1.0, 2.0, None))]
    old, new = Outcome("hnswlib", built, [], [point(0.96, 500)]), Outcome("hnswlib", built, [], [point(0.96, 700)])
    other = Outcome("usearch i8", built, [], [point(0.96, 300)], ["one setting failed"])
    for number, report in enumerate((report_of(old, other), report_of(new))):
        report.write(tmp_path / f"{number}.json")
    merged = Report.merged([Report.read(tmp_path / f"{number}.json") for number in (0, 1)])
    assert merged.outcomes == [new, other]
    assert merged.machines == [ABOUT]


def test_runs_over_different_data_do_not_merge() -> None:
    with pytest.raises(SystemExit, match="differ"):
        Report.merged([report_of(), Report("other", False, Settings(), 1, [ABOUT], [])])


def test_every_family_has_a_grid() -> None:
    for name, family in FAMILIES.items():
        assert family.builds, name
        assert family.searches, name
        assert list(family.grid) == sorted(set(family.grid)), name


def test_the_line_through_growth_is_least_squares() -> None:
    exact = fit((1024, 4096, 65536), (3 * 10 + 5, 3 * 12 + 5, 3 * 16 + 5))
    assert (exact.a, exact.b) == pytest.approx((3, 5))
    assert exact.deviations == pytest.approx((0, 0, 0), abs=1e-9)
    assert max(map(abs, fit((1024, 4096, 65536), (35, 41, 100)).deviations)) > 0.1


def test_levels_of_short_codes_are_those_of_lloyd_and_max() -> None:
    assert rate_distortion.levels(1) == pytest.approx([-0.798, 0.798], abs=0.01)
    assert rate_distortion.levels(2) == pytest.approx([-1.51, -0.453, 0.453, 1.51], abs=0.01)
    assert rate_distortion.error_of(rate_distortion.levels(3)) == pytest.approx(0.0345, abs=0.001)


def test_bits_go_where_they_pay() -> None:
    errors = [4.0**-bits for bits in range(5)]
    shares = rate_distortion.share_out(np.array([16.0, 4.0, 1.0, 1e-9]), 6, errors)
    assert shares.tolist() == [3, 2, 1, 0]


def test_lines_of_a_query_are_counted_by_what_it_reads() -> None:
    counts = {"visited": 60.0, "prefiltered": 900.0, "distances": 200.0, "reranked": 50.0}
    narrow = lines_per_query(counts, Geometry.of("sq8", 384, 16, 0, prefiltered=True))
    assert narrow == {"prefiltered": 900, "codes": 200 * 6, "links": 60 * 2, "vectors": 50 * 12}
    wide = lines_per_query(counts, Geometry.of("sq8", 768, 32, 0, prefiltered=True))
    assert wide == {"prefiltered": 900 * 2, "codes": 200 * 12, "links": 60 * 4, "vectors": 50 * 24}
    plain = lines_per_query({**counts, "prefiltered": 0.0}, Geometry.of("none", 100, 16, 0, prefiltered=False))
    assert plain == {"prefiltered": 0, "codes": 200 * 7, "links": 60 * 2, "vectors": 0}


def test_the_chain_goes_through_every_line(rng: np.random.Generator) -> None:
    lines = cycle(1000, rng)
    at, seen = 0, set()
    for _ in range(1000):
        at = int(lines[at, 0])
        seen.add(at)
    assert len(seen) == 1000


def test_conditions_are_the_same_in_every_language() -> None:
    rows, texts = collection.make_rows(4000)
    with edgevec.open(":memory:", 2) as made:
        made.upsert(range(4000), np.ones((4000, 2)), rows, texts)
        for condition, share in zip(collection.CONDITIONS, (0.5, 0.1, 0.01), strict=True):
            allowed = condition.matching_rows(rows)
            assert len(allowed) / 4000 == pytest.approx(share, rel=0.3)
            for where in (condition.sql(), condition.chroma()):
                assert [record.id for page in made.pages(where=where) for record in page] == allowed.tolist()
        assert (
            collection.never_asked(3).matching_rows(rows).tolist()
            == collection.CONDITIONS[1].matching_rows(rows).tolist()
        )
        assert collection.never_asked(3).sql() != collection.never_asked(4).sql()
        assert {made.count(where) > 0 for where in collection.OPERATORS} == {True, False}
    assert Condition("", (("n", "<", 2), ("n", "=", 1))).matching_rows([{"n": 0}, {"n": 1}, {"n": 2}]).tolist() == [1]


def test_the_ratio_is_of_medians() -> None:
    assert ratio_of([[1, 1, 100], [2, 2, 2], [3, 3, 3]], [[4, 4, 4], [4, 4, 4], [4, 1000, 4]]) == 0.5


def test_cache_sizes_are_read_from_the_system(tmp_path: Path) -> None:
    shown = (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("3", "Unified", "2M"))
    for number, (level, kind, size) in enumerate(shown):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, content in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(content + "\n")
    found = cache_sizes(tmp_path)
    assert found == {"L1": 48 << 10, "L3": 2 << 20}
    assert [outgrown_cache(size, found) for size in (1000, 1 << 20, 3 << 20)] == ["none", "L1", "L3"]


@pytest.mark.parametrize("name", ["lowrank768", "d128"])
def test_made_vectors_are_of_unit_length_and_repeatable(name: str) -> None:
    first, again = (data.named(name, 300, 5, 3) for _ in range(2))
    assert first.base.shape == (300, {"lowrank768": 768, "d128": 128}[name])
    np.testing.assert_array_equal(first.base, again.base)
    np.testing.assert_allclose(np.linalg.norm(first.base, axis=1), 1, rtol=1e-5)
    brute = np.argsort(-(first.queries @ first.base.T), axis=1)[:, :3]
    assert first.recall(brute) == 1.0


@pytest.mark.bigdata
@pytest.mark.usefixtures("big_set")
@pytest.mark.parametrize(("name", "dim"), [("million", 384), ("million128", 128)])
def test_vectors_mixed_of_real_ones_are_of_unit_length_and_repeatable(name: str, dim: int) -> None:
    first, again = (data.named(name, 300, 5, 3) for _ in range(2))
    assert first.base.shape == (300, dim)
    np.testing.assert_array_equal(first.base, again.base)
    np.testing.assert_allclose(np.linalg.norm(first.base, axis=1), 1, rtol=1e-5)
    assert first.recall(np.argsort(-(first.queries @ first.base.T), axis=1)[:, :3]) == 1.0


@pytest.mark.parametrize("name", MADE)
def test_runbooks_insert_what_is_absent_and_delete_what_is_there(name: str) -> None:
    n = 3210
    held: set[int] = set()
    came: set[int] = set()
    searches = 0
    for step in MADE[name](n):
        rows = set(range(step.start, step.end))
        if step.operation == "search":
            searches += 1
            assert held
        elif step.operation == "insert":
            assert rows
            assert not rows & came
            held |= rows
            came |= rows
        else:
            assert step.operation == "delete"
            assert rows <= held
            held -= rows
    assert came == set(range(n))
    assert searches > 10
    assert len(held) < 2 / 3 * n


@pytest.mark.parametrize("name", MADE)
def test_runbooks_are_what_their_files_say(name: str) -> None:
    steps = [*MADE[name](1000), Step("replace", 5, 9, tags=20)]
    assert [as_step(as_entry(step)) for step in steps] == steps
    assert as_entry(steps[-1]) == {
        "operation": "replace",
        "tags_start": 20,
        "tags_end": 24,
        "ids_start": 5,
        "ids_end": 9,
    }


def test_no_module_that_tests_import_has_the_name_of_a_benchmark() -> None:
    """Which of both is imported would depend on the order of the tests."""
    folders = [ROOT / "tests" / name for name in ("helpers", "fuzz", "tui")]
    names = {path.stem for folder in folders for path in folder.glob("*.py")}
    assert not names & {path.stem for path in BENCHES.glob("*.py")}
