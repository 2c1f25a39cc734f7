"""Dates and times in metadata and conditions are compared as instants, whatever their form."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, need_module

import edgevec
from edgevec.collection import Collection

DAY = 86_400
EPOCH = dt.datetime(1970, 1, 1)
SECONDS = [0, -1, DAY, 1_704_067_199, 1_704_067_200, 1_704_067_201, 1_704_067_200 + 22 * 3600, 1_704_067_200 + DAY]
NANOSECONDS = [0, 0, 1, 500_000_000, 500_000_001, 123_456_000, 123_000_000, 999_999_999]
ZONES = [dt.timezone(dt.timedelta(minutes=minutes)) for minutes in (0, 120, -330, 14 * 60)]
UNITS = {"D": DAY * 10**9, "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def forms(instant: int) -> list[Any]:
    """The ways to write an instant, in nanoseconds since 1970."""
    ways: list[Any] = [np.datetime64(instant // step, unit) for unit, step in UNITS.items() if instant % step == 0]
    if instant % 1000 == 0:
        naive = EPOCH + dt.timedelta(microseconds=instant // 1000)
        ways += [naive, *(naive.replace(tzinfo=dt.timezone.utc).astimezone(zone) for zone in ZONES)]
        if instant % UNITS["D"] == 0:
            ways.append(naive.date())
    return ways


instants = st.builds(lambda second, part: second * 10**9 + part, st.sampled_from(SECONDS), st.sampled_from(NANOSECONDS))
written = instants.flatmap(lambda instant: st.tuples(st.just(instant), st.sampled_from(forms(instant))))
COMPARED = {
    "$eq": lambda a, b: a == b,
    "$ne": lambda a, b: a != b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
}
SIGNS = {"$eq": "=", "$ne": "<>", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}


def collection(values: list[Any]) -> Collection:
    made = edgevec.open(":memory:", dim=2, metric="l2")
    made.upsert(range(len(values)), np.ones((len(values), 2)), [{"at": value, "all": [0, value]} for value in values])
    return made


@settings(max_examples=examples(300))
@given(
    held=st.lists(written, min_size=1, max_size=8),
    asked=st.lists(written, min_size=2, max_size=3),
    indexed=st.booleans(),
)
def test_they_compare_as_instants(held: list[Any], asked: list[Any], indexed: bool) -> None:
    (one, given_one), (other, given_other), *_ = asked
    with collection([value for _, value in held]) as made:
        made.upsert(["missing", "null", "number"], np.ones((3, 2)), [{}, {"at": None}, {"at": 2024}])
        if indexed:
            made.create_index("at")

        def which(test: Any, number: bool = False) -> list[Any]:
            return [at for at, (instant, _) in enumerate(held) if test(instant)] + ["number"] * number

        for name, compare in COMPARED.items():
            expected = which(lambda instant, compare=compare: compare(instant, one), name == "$ne")
            assert made.ids({"at": {name: given_one}}) == expected
            assert made.ids(f"at {SIGNS[name]} ?", [given_one]) == expected
        among = which(lambda instant: instant in [wanted for wanted, _ in asked])
        assert made.ids("at IN ?", [[value for _, value in asked]]) == among
        assert made.ids({"at": {"$in": [value for _, value in asked]}}) == among
        assert made.ids("at IN (?, ?)", [given_one, given_other]) == which(lambda instant: instant in (one, other))
        beyond = which(lambda instant: instant not in [wanted for wanted, _ in asked], True)
        assert made.ids({"at": {"$nin": [value for _, value in asked]}}) == beyond
        between = which(lambda instant: one <= instant <= other)
        assert made.ids("at BETWEEN ? AND ?", [given_one, given_other]) == between
        outside = which(lambda instant: not one <= instant <= other, True)
        assert made.ids("at NOT BETWEEN ? AND ?", [given_one, given_other]) == outside
        equal = which(lambda instant: instant == one)
        assert made.ids({"all": {"$contains": given_one}}) == equal
        assert made.ids("all CONTAINS ?", [given_one]) == equal
        assert made.ids({"all": {"$not_contains": given_one}}) == [at for at in range(len(held)) if at not in equal]


def test_what_is_read_back_is_an_iso_text() -> None:
    berlin = dt.timezone(dt.timedelta(hours=1))
    held = [
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"),
        (dt.datetime(2024, 1, 2, 0, 30, 0, 5, berlin), "2024-01-01T23:30:00.000005+00:00"),
        (np.datetime64("2024-01", "M"), "2024-01-01"),
        (np.datetime64("2024-01-02T03", "h"), "2024-01-02T03:00:00"),
        (np.datetime64("2024-01-02", "ns"), "2024-01-02T00:00:00"),
        (np.datetime64("2024-01-02T00:00:00.5", "ns"), "2024-01-02T00:00:00.500000"),
        (np.datetime64("2024-01-02T00:00:00.000000001", "ns"), "2024-01-02T00:00:00.000000001"),
        (np.datetime64("NaT", "s"), None),
        (dt.time(10, 30), "10:30:00"),
        (np.array(["2024-01-02"], "datetime64[ns]"), ["2024-01-02T00:00:00"]),
        ("2024-01-02T00:00:00Z", "2024-01-02T00:00:00Z"),
    ]
    with collection([value for value, _ in held]) as made:
        assert [record.metadata["at"] for record in made] == [text for _, text in held]


def test_arrays_of_dates_in_a_list() -> None:
    days = np.array(["2024-01-02", "2024-03-04"], "datetime64[ns]")
    with collection([dt.date(2024, 1, 2), dt.datetime(2024, 3, 4), dt.date(2024, 5, 6)]) as made:
        assert made.ids({"at": {"$in": days}}) == [0, 1]
        assert made.ids("at IN ?", [days]) == [0, 1]


def test_timestamps_of_pandas() -> None:
    pandas = need_module("pandas")
    texts = ["2024-01-02T00:30:00+01:00", "2024-01-01T23:30:00", "2024-01-01T23:30:00.000000001", "2024-01-02"]
    stamps = [pandas.Timestamp(text) for text in texts]
    with collection([*stamps, pandas.NaT]) as made:
        assert made.get(4)[0].metadata["at"] is None
        for stamp in stamps:
            aware = stamp.tz_localize("UTC") if stamp.tz is None else stamp
            others = [other.tz_localize("UTC") if other.tz is None else other for other in stamps]
            assert made.ids({"at": stamp}) == [at for at, other in enumerate(others) if other == aware]
            assert made.ids("at > ?", [stamp]) == [at for at, other in enumerate(others) if other > aware]
        assert made.ids("at IN ?", [pandas.DatetimeIndex(stamps[1:])]) == [0, 1, 2, 3]
        made.upsert("half a second", [1, 1], {"at": pandas.Timedelta(milliseconds=500)})
        assert made.ids({"at": pandas.Timedelta(milliseconds=500)}) == ["half a second"]
        assert made.ids("at < ?", [dt.timedelta(seconds=1)]) == ["half a second"]
        with pytest.raises(edgevec.WhereError, match="IS NULL"):
            made.count("at = ?", [pandas.NaT])


class Moment:
    """As the classes of other libraries."""

    def __init__(self, text: str) -> None:
        self.isoformat = lambda: text


def test_whatever_has_an_isoformat_is_a_date() -> None:
    with collection([Moment("2024-01-02T03:00:00Z"), Moment("2024-01-02T04:00:00+01:00"), Moment("Q1")]) as made:
        assert [record.metadata["at"] for record in made] == ["2024-01-02T03:00:00+00:00"] * 2 + ["Q1"]
        assert made.ids({"at": Moment("2024-01-02T03:00:00")}) == [0, 1]
        assert made.ids({"at": {"$lt": dt.datetime(2024, 1, 2, 3, 1)}}) == [0, 1]
        assert made.ids({"at": Moment("Q1")}) == [2]


def test_texts_that_look_like_dates_are_texts() -> None:
    with collection(["2024-01-02", "2024-01-02T00:00:00+00:00", "2024-01-02 05:00", "02.01.2024"]) as made:
        assert made.ids("at = '2024-01-02'") == [0]
        assert made.ids({"at": dt.date(2024, 1, 2)}) == [0, 1]
        assert made.ids({"at": {"$like": "2024-01-02%"}}) == [0, 1, 2]


def test_durations_are_seconds() -> None:
    half = [dt.timedelta(minutes=30), np.timedelta64(30, "m"), np.timedelta64(1_800_000_000_000, "ns")]
    with collection([*half, dt.timedelta(seconds=1), np.timedelta64(1500, "ms")]) as made:
        for value in half:
            assert made.ids({"at": value}) == [0, 1, 2]
            assert made.ids("at < ?", [value]) == [3, 4]
        assert made.get(4)[0].metadata["at"] == 1.5
        with pytest.raises(edgevec.ParameterError, match="in seconds"):
            made.upsert([9], [[1, 1]], [{"at": np.timedelta64(1, "M")}])


@pytest.mark.parametrize("value", [np.datetime64("12000-01-01"), np.datetime64("-0044-03-15"), "before year 1"])
def test_years_that_have_no_such_text_are_refused(value: Any) -> None:
    if isinstance(value, str):
        value = dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    with collection([]) as made:
        with pytest.raises(edgevec.ParameterError, match="beyond the years"):
            made.upsert([1], [[1, 1]], [{"at": value}])
        with pytest.raises(edgevec.WhereError, match="beyond the years"):
            made.count({"at": {"$lt": value}})


class Holiday(dt.date, enum.Enum):
    NEW_YEAR = 2024, 1, 1


def test_an_enum_of_dates_counts_by_its_value() -> None:
    with collection([Holiday.NEW_YEAR, dt.datetime(2024, 1, 1)]) as made:
        assert made.get(0)[0].metadata["at"] == "2024-01-01"
        assert made.ids({"at": Holiday.NEW_YEAR}) == [0, 1]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_dates_are_refused_as_ids(unit: str) -> None:
    dates = np.array(["2024-01-01"], f"datetime64[{unit}]")
    with collection([]) as made:
        for ids in (dates, list(dates), dates - dates, list(dates - dates)):
            with pytest.raises(edgevec.ParameterError, match="integer"):
                made.upsert(ids, [[1, 1]])


def test_an_index_finds_dates() -> None:
    first = dt.datetime(2024, 1, 1, tzinfo=ZONES[1])
    with collection([first + dt.timedelta(hours=at) for at in range(500)]) as made:
        made.create_index("at")
        for where, count in (
            ({"at": first}, 1),
            ({"at": {"$gte": first + dt.timedelta(hours=490)}}, 10),
            ({"at": {"$in": [first, first + dt.timedelta(hours=1), dt.date(1999, 1, 1)]}}, 2),
        ):
            assert made.explain(where).indexes == ("at",)
            assert made.count(where) == count
