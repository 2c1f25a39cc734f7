"""Shards with storage="disk": answers are those of mapped ones, bit for bit, and memory holds links and codes."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from edgevec import CorruptIndexError, Metric, ParameterError, Quantization, ShardedIndex, StorageError

ROWS, DIM, SHARD = 700, 48, 250


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    made = rng.standard_normal((ROWS, DIM)).astype(np.float32)
    made[5::6] = made[4::6][: len(made[5::6])]
    return made


def assert_same(disk: ShardedIndex, mapped: ShardedIndex, queries: np.ndarray) -> None:
    disk.refresh(), mapped.refresh()
    ids = list(mapped)
    assert list(disk) == ids
    assert (disk.storage, mapped.storage) == ("disk", "memory")
    assert disk.get(ids).tobytes() == mapped.get(ids).tobytes()
    for arguments in (
        {"k": 7},
        {"k": 90, "ef": 100},
        {"k": 7, "exact": True},
        {"k": 7, "filter": ids[::2]},
        {"k": 5, "filter": ids[::40]},
        {"k": 7, "threads": 1},
    ):
        for query in (queries, queries[0]):
            found, expected = disk.search(query, **arguments), mapped.search(query, **arguments)  # type: ignore[arg-type]
            assert found.ids.tolist() == expected.ids.tolist(), arguments
            assert found.distances.tobytes() == expected.distances.tobytes(), arguments


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("quantization", ["sq8", "binary"])
def test_answers_are_those_of_mapped_shards(
    metric: Metric, quantization: Quantization, rows: np.ndarray, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Before and after changes by either one, which the other follows."""
    folder, queries = tmp_path / "s", rng.standard_normal((6, DIM)).astype(np.float32)
    ShardedIndex.build(rows, folder, rows_per_shard=SHARD, metric=metric, quantization=quantization, M=6).close()
    with ShardedIndex.open(folder) as mapped, ShardedIndex.open(folder, storage="disk") as disk:
        assert_same(disk, mapped, queries)
        # Measured now by both; later, each goes by what it has measured at some time.
        found, expected = (index.search(queries, 5, recall=0.9).ids.tolist() for index in (disk, mapped))
        assert found == expected
        disk.add(rows[:60] * 2 + 1, ids=range(30, 90))
        assert_same(disk, mapped, queries)
        mapped.remove(range(200, 400))
        assert_same(disk, mapped, queries)
        disk.remove(range(100))
        assert_same(disk, mapped, queries)
        with pickle.loads(pickle.dumps(disk)) as again:
            assert_same(again, mapped, queries)
        disk.compact()
        assert_same(disk, mapped, queries)
        assert disk.check() == mapped.check()
    with (
        ShardedIndex.open(folder, storage="disk", verify=False, mmap=False) as disk,
        ShardedIndex.open(folder) as mapped,
    ):
        assert_same(disk, mapped, queries)


def test_vectors_are_not_in_memory(rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path / "s", rows_per_shard=SHARD).close()
    with (
        ShardedIndex.open(tmp_path / "s", mmap=False) as memory,
        ShardedIndex.open(tmp_path / "s", storage="disk") as disk,
    ):
        held, usage = memory.memory_usage(), disk.memory_usage()
        assert (usage["mapped"], usage["vectors"], usage["on_disk"]) == (0, 4 * ROWS, 2 * DIM * ROWS)
        assert held["on_disk"] == 0
        assert held["vectors"] == 2 * DIM * ROWS
        assert usage["total"] <= held["total"] - (2 * DIM - 4) * ROWS + 3 * 2000


@pytest.mark.parametrize(
    ("settings", "words"), [({"quantization": "none"}, "none"), ({"keep_vectors": False}, "codes alone")]
)
@pytest.mark.parametrize("missing", ["error", "report"])
def test_shards_without_vectors_beside_codes_are_refused(
    settings: dict[str, object], words: str, missing: str, rows: np.ndarray, tmp_path: Path
) -> None:
    ShardedIndex.build(rows, tmp_path / "s", **settings).close()  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=rf"manifest.json.*disk.*{words}"):
        ShardedIndex.open(tmp_path / "s", storage="disk", missing=missing)  # type: ignore[arg-type]


def test_another_word_is_refused(rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path / "s").close()
    with pytest.raises(ParameterError, match=r"memory.*disk.*tape"):
        ShardedIndex.open(tmp_path / "s", storage="tape")  # type: ignore[arg-type]


def test_an_index_of_another_kind_in_its_place_is_an_error(rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path / "s").close()
    with ShardedIndex.open(tmp_path / "s", storage="disk") as disk:
        ShardedIndex.build(rows, tmp_path / "s", quantization="none").close()
        with pytest.raises(ParameterError, match="none"):
            disk.search(rows[0], 3)


@pytest.mark.parametrize("verify", [True, False])
def test_damaged_vectors_are_found_when_a_shard_is_opened(verify: bool, rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path / "s", keep_vectors="float32").close()
    file = next((tmp_path / "s").glob("*.ev"))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CorruptIndexError):
        ShardedIndex.open(tmp_path / "s", storage="disk", verify=verify)


@pytest.mark.skipif(sys.platform == "win32", reason="a file that is open cannot be cut off")
def test_a_shard_that_was_cut_off_is_an_error_until_it_is_whole(rows: np.ndarray, tmp_path: Path) -> None:
    ShardedIndex.build(rows, tmp_path / "s").close()
    file = next((tmp_path / "s").glob("*.ev"))
    whole = file.read_bytes()
    with ShardedIndex.open(tmp_path / "s", storage="disk") as disk:
        os.truncate(file, 4096)
        with pytest.raises(StorageError, match="cut off") as caught:
            disk.search(rows[0], 3)
        assert file.name in str(caught.value)
        with file.open("r+b") as stream:
            stream.write(whole)
        assert disk.search(rows[0], 1).ids.tolist() == [0]
