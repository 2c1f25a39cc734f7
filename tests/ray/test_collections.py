"""Collections in shards, built by tasks from Ray Data and files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

import edgevec
import edgevec.ray
from edgevec import ShardedCollection

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("default")]

ROWS: list[dict[str, Any]] = [
    {"id": f"r{n}", "vector": [float(n), 1.0], "text": f"note {n}", "year": 2000 + n, "lang": "de" if n % 2 else None}
    for n in range(90)
]
OPTIONS: dict[str, Any] = {"rows_per_shard": 40, "metric": "l2", "quantization": "none"}


def assert_all_there(folder: Path) -> None:
    with ShardedCollection.open(folder) as notes, edgevec.open(":memory:", 2, "l2", quantization="none") as one:
        one.import_from(ROWS)
        assert notes.ids() == one.ids()
        for where in (None, "year < 2050 AND lang = 'de'", "lang IS NULL"):
            found = notes.search([7, 1], 5, text="note 60", where=where, exact=True)
            assert found == one.search([7, 1], 5, text="note 60", where=where, exact=True)


def test_a_dataset_and_a_file_give_the_shards_of_one_machine(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with ShardedCollection.build(ROWS, tmp_path / "here", **OPTIONS) as notes:
        wanted = [shard.file.split("-")[0] for shard in notes.shards]
    told: list[int] = []
    dataset = ray.data.from_items(ROWS)
    for name, source in (("file", tmp_path / "rows.jsonl"), ("dataset", dataset)):
        manifest = edgevec.ray.build_collection(
            source, tmp_path / name, **OPTIONS, progress=lambda done, total: told.append(done)
        )
        assert [shard.file.split("-")[0] for shard in manifest.shards] == wanted
        assert_all_there(tmp_path / name)
    assert len(told) == 6
    assert told[2] == told[5] == 90
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "file").glob("*.edgevec*")}
    assert edgevec.ray.build_collection(dataset, tmp_path / "file", **OPTIONS).generation == 2
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "file").glob("*.edgevec*")}


def test_vectors_that_a_stage_of_the_dataset_has_made(tmp_path: Path) -> None:
    def encode(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        return {**batch, "embedding": np.array([[len(text), 1.0] for text in batch["text"]], np.float32)}

    dataset = ray.data.from_items([{"id": n, "text": "a" * n} for n in range(9)]).map_batches(encode)
    edgevec.ray.build_collection(dataset, tmp_path / "s", rows_per_shard=4, metric="l2")
    with ShardedCollection.open(tmp_path / "s") as notes:
        assert [(hit.id, hit.document) for hit in notes.search([7, 1], 1)] == [(7, "aaaaaaa")]


def test_a_worker_that_is_killed_costs_its_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, mark = edgevec.ray.collections._build_part, tmp_path / "mark"

    def dying_once(address: str, options: Any, settings: Any, block: Any) -> Any:
        made = work(address, options, settings, block)
        if block.tables[0][0][0] == "r40" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return made

    monkeypatch.setattr(edgevec.ray.collections, "_build_part", dying_once)
    manifest = edgevec.ray.build_collection(ROWS, tmp_path / "s", **OPTIONS)
    assert mark.exists()
    assert_all_there(tmp_path / "s")
    wanted = {name for shard in manifest.shards for name in (shard.file, shard.file + "-graph")}
    assert {path.name for path in (tmp_path / "s").iterdir()} == {*wanted, "manifest.json", "manifest.json-lock"}


def test_errors_commit_nothing(tmp_path: Path) -> None:
    bad = [*ROWS[:60], {**ROWS[60], "vector": [float("nan"), 1.0]}]
    for source, error in (
        (bad, edgevec.NotFiniteError),
        ([*ROWS, ROWS[0]], edgevec.DuplicateIdError),
        ([], edgevec.ParameterError),
        ([{"id": 1, "text": "no vector"}], edgevec.ParameterError),
    ):
        with pytest.raises(error):
            edgevec.ray.build_collection(source, tmp_path / "s", **OPTIONS)
    with pytest.raises(edgevec.CancelledError):
        edgevec.ray.build_collection(ROWS, tmp_path / "s", **OPTIONS, progress=lambda done, total: False)
    assert not (tmp_path / "s" / "manifest.json").exists()
    edgevec.ray.build_collection(ROWS, tmp_path / "s", **OPTIONS)
    with pytest.raises(edgevec.CorruptIndexError, match="a collection in shards"):
        edgevec.ray.serve(tmp_path / "s")
