"""Fields that a condition names and no record has, by a look at each record in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from where_strategies import Metadata, key_text, metadata, paths

import edgevec
from edgevec import WhereError


def made(records: list[Metadata]) -> edgevec.Collection:
    notes = edgevec.open(":memory:", dim=2)
    notes.upsert(range(len(records)), np.ones((len(records), 2), np.float32), records)
    return notes


def has(record: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(record, dict) or name not in record:
            return False
        record = record[name]
    return True


@settings(max_examples=examples(100))
@given(records=st.lists(metadata, max_size=4), asked=st.lists(paths, min_size=1, max_size=4, unique=True))
def test_fields_that_no_record_has(records: list[Metadata], asked: list[tuple[str, ...]]) -> None:
    with made(records) as notes:
        condition = {"$or": [{key_text(path): 1} for path in asked]}
        missing = [at for at, path in enumerate(asked) if not any(has(record, path) for record in records)]
        unknown = notes.unknown_fields(condition)
        alone = [bool(notes.unknown_fields({key_text(path): 1})) for path in asked]
        assert alone == [bool(records) and at in missing for at in range(len(asked))]
        assert len(unknown) == (len(missing) if records else 0)
        assert list(unknown) == [name for at in missing for name in notes.unknown_fields({key_text(asked[at]): 1})]


def test_what_is_like_a_field_is_offered_and_reads_as_one() -> None:
    with made([{"year": 1, "author": {"name": "x", "the age": 3}}, {"tags": ["author.nmae"], "none": None}]) as notes:
        condition = "NOT (yaer > 1 OR year > 1) AND author.nmae = 'x' AND none = 1 AND author.`teh age` IN (1, 2)"
        unknown = notes.unknown_fields(condition)
        assert unknown == {
            "yaer": ["year"],
            "author.nmae": ["author.name", "author"],
            "author.`teh age`": ["author.`the age`", "author.name"],
        }
        assert notes.count(" OR ".join(f"{near[0]} IS NOT NULL" for near in unknown.values())) == 1
        assert notes.unknown_fields("tags.x = ?", [1]) == {"tags.x": ["tags"]}
        assert notes.unknown_fields("zzz IS NULL") == {"zzz": []}
        notes.update([0], [{"yaer": 0}])
        assert "yaer" not in notes.unknown_fields(condition)
        with pytest.raises(WhereError, match="year >"):
            notes.unknown_fields("year >")


@pytest.mark.subprocess  # a folder of shards needs a lock
def test_of_shards_what_none_of_them_has(tmp_path: Path) -> None:
    fields = [{"year": 1}, {"year": 2}, {"topic": "a"}, {"tpic": 3}]
    with edgevec.ShardedCollection.build(
        [{"id": at, "vector": [1, at], **one} for at, one in enumerate(fields)], tmp_path / "s", rows_per_shard=2
    ) as notes:
        assert notes.unknown_fields("year > 1 AND topic = 'a'") == {}
        assert notes.unknown_fields("yaer > 1 OR topc = 'a'") == {"yaer": ["year"], "topc": ["topic", "tpic"]}
        notes.clear()
        assert notes.unknown_fields("yaer > 1") == {}
