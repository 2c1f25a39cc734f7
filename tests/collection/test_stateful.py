"""Any sequence of calls, reopenings and crashes leaves a collection that answers like a dict and brute force."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from oracle import Rows, distances
from support import examples

import edgevec

DIM = 4
SHARES_FILES = sys.platform != "emscripten"
some_ids = st.lists(st.integers(-3, 25) | st.sampled_from(["a", "b", "1", "é", ""]), max_size=8, unique=True)
seeds = st.integers(0, 2**32 - 1)
WORDS = ["red", "green", "blue", "wolf", "tree"]

Held = dict[Any, tuple[Rows, dict[str, Any], "str | None"]]


class Failure(Exception):
    pass


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "c.edgevec"
        self.held: Held = {}
        self.kept: list[tuple[list[edgevec.Hit], Held]] = []
        self.crashes = 0

    def teardown(self) -> None:
        self.db.close()
        while self.kept:
            self.look_back(0)
        shutil.rmtree(self.folder)

    @initialize(metric=st.sampled_from(["cosine", "ip", "l2"]), quantization=st.sampled_from(["none", "sq8", "binary"]))
    def make(self, metric: Any, quantization: Any) -> None:
        self.metric, self.quantization = metric, quantization
        self.db = edgevec.open(self.path, DIM, metric, quantization=quantization, M=4, ef_construction=20)

    def how(self, disk: bool) -> dict[str, Any]:
        """Where the vectors of the graph are to lie, as far as they can."""
        return {"storage": "disk" if disk and self.quantization != "none" and os.name != "nt" else "memory"}

    def records(self, ids: list[Any], seed: int) -> Held:
        rng = np.random.default_rng(seed)
        made: Held = {}
        for id in ids:
            vector = rng.integers(-3, 4, DIM).astype(np.float32)
            vector[0] += 0.5  # never zero
            document = None if rng.random() < 0.3 else " ".join(rng.choice(WORDS, 3))
            made[id] = (vector, {"n": int(rng.integers(5)), "tag": str(rng.choice(WORDS))}, document)
        return made

    def store(self, held: Held) -> None:
        self.db.upsert(
            list(held),
            np.array([vector for vector, _, _ in held.values()], np.float32).reshape(len(held), DIM),
            [metadata for _, metadata, _ in held.values()],
            [document for _, _, document in held.values()],
        )

    # ---- changes ---------------------------------------------------------------------------------------------------

    @rule(ids=some_ids, seed=seeds)
    def upsert(self, ids: list[Any], seed: int) -> None:
        new = self.records(ids, seed)
        self.store(new)
        self.held.update(new)

    @rule(ids=some_ids)
    def delete(self, ids: list[Any]) -> None:
        gone = self.held.keys() & set(ids)
        assert self.db.delete(ids) == len(gone)
        for id in gone:
            del self.held[id]

    @rule(n=st.integers(0, 4))
    def delete_where(self, n: int) -> None:
        gone = [id for id, (_, metadata, _) in self.held.items() if metadata["n"] == n]
        assert self.db.delete(where={"n": n}) == len(gone)
        for id in gone:
            del self.held[id]

    @rule(ids=some_ids, seed=seeds, parts=st.integers(1, 7), beside=some_ids)
    def update(self, ids: list[Any], seed: int, parts: int, beside: list[Any]) -> None:
        """Metadata, documents or vectors of those that there are, beside records that are written with them."""
        with self.db.batch():
            self.upsert(beside, seed + 1)
            new = self.records([id for id in ids if id in self.held], seed)
            given: dict[str, Any] = {}
            if parts & 1:
                # "mark" comes and goes, and "tag" stays
                given["metadata"] = [{"n": fields["n"], "mark": fields["n"] or None} for _, fields, _ in new.values()]
            if parts & 2:
                given["documents"] = [document for _, _, document in new.values()]
            if parts & 4:
                given["vectors"] = np.array([vector for vector, _, _ in new.values()]).reshape(len(new), DIM)
            assert self.db.update(list(new), **given) == len(new)
        for id, (vector, fields, document) in new.items():
            old = self.held[id]
            if parts & 1:
                fields = {**old[1], "n": fields["n"], "mark": fields["n"]}
                fields = {name: value for name, value in fields.items() if name != "mark" or value}
            self.held[id] = (
                vector if parts & 4 else old[0],
                fields if parts & 1 else old[1],
                document if parts & 2 else old[2],
            )

    @rule(n=st.integers(0, 4), to=st.integers(0, 4))
    def update_where(self, n: int, to: int) -> None:
        changed = [id for id, (_, fields, _) in self.held.items() if fields["n"] >= n]
        assert self.db.update(where="n >= ?", params=[n], metadata={"n": to}) == len(changed)
        for id in changed:
            vector, fields, document = self.held[id]
            self.held[id] = vector, {**fields, "n": to}, document

    @rule(ids=some_ids, others=some_ids, seed=seeds, search=st.booleans(), fail=st.booleans())
    def batch(self, ids: list[Any], others: list[Any], seed: int, search: bool, fail: bool) -> None:
        """Replace some and delete others at once, or fail to."""
        before = dict(self.held)
        try:
            with self.db.batch():
                self.upsert(ids, seed)
                if search:
                    self.agrees()
                    self.keep(None)
                    self.look_back(seed)
                self.delete(others)
                if search:
                    self.agrees()
                    self.look_back(seed)
                if fail:
                    raise Failure
        except Failure:
            self.held = before

    @rule(ids=some_ids, seed=seeds)
    def refuse(self, ids: list[Any], seed: int) -> None:
        new = self.records(ids, seed)
        for vector, _, _ in list(new.values())[-1:]:
            vector[1] = np.nan
        if new:
            with pytest.raises(ValueError, match="NaN"):
                self.store(new)

    # ---- the file --------------------------------------------------------------------------------------------------

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule()
    def compact(self) -> None:
        self.db.compact()

    @rule(disk=st.booleans())
    def reopen(self, disk: bool) -> None:
        self.db.close()
        self.db = edgevec.open(self.path, **self.how(disk))

    @rule(lose=st.booleans(), torn=st.floats(0, 1), disk=st.booleans())
    def crash(self, lose: bool, torn: float, disk: bool) -> None:
        """Go on with the files as they are on the disk this moment, in a batch; the snapshot may be torn."""
        self.crashes += 1
        folder = self.folder / str(self.crashes)
        folder.mkdir()
        try:
            with self.db.batch():
                self.store(self.records([1, 2, "a"], 7))
                for file in self.path.parent.glob("c.edgevec*"):
                    if not file.name.endswith("-shm"):
                        shutil.copy(file, folder)
                raise Failure
        except Failure:
            pass
        self.db.close()
        self.path = folder / "c.edgevec"
        graph = Path(f"{self.path}-graph")
        if lose and graph.exists():
            data = graph.read_bytes()
            graph.write_bytes(data[: int(torn * len(data))])
        self.db = edgevec.open(self.path, **self.how(disk))

    @precondition(lambda self: SHARES_FILES)
    @rule(disk=st.booleans())
    def read_beside(self, disk: bool) -> None:
        with edgevec.open(self.path, mode="r", **self.how(disk)) as reader:
            assert {record.id for record in reader} == self.held.keys()
            assert len(reader.search(np.ones(DIM), 100)) == len(self.held)

    @rule(repair=st.booleans())
    def check(self, repair: bool) -> None:
        report = self.db.check(repair=repair)
        assert report.ok
        assert report.records == len(self.held)

    # ---- questions -------------------------------------------------------------------------------------------------

    @rule(seed=seeds, k=st.integers(1, 12), n=st.none() | st.integers(0, 4))
    def search(self, seed: int, k: int, n: int | None) -> None:
        query = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
        hits = self.db.search(query, k, where=None if n is None else f"n >= {n}")
        allowed = {id: vector for id, (vector, metadata, _) in self.held.items() if n is None or metadata["n"] >= n}
        assert len(hits) == min(k, len(allowed))
        true = dict(zip(allowed, distances(self.metric, list(allowed.values()), query), strict=True)) if allowed else {}
        best = sorted(true.values())[:k]
        np.testing.assert_allclose([true[hit.id] for hit in hits], best, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose([hit.distance for hit in hits], best, rtol=1e-4, atol=1e-4)
        for hit in hits:
            assert (hit.metadata, hit.document) == self.held[hit.id][1:]

    @rule(word=st.sampled_from(WORDS), k=st.integers(1, 30))
    def search_text(self, word: str, k: int) -> None:
        said = {id for id, (_, _, document) in self.held.items() if document and word in document.split()}
        hits = self.db.search(text=word, k=k)
        assert len(hits) == min(k, len(said))
        assert {hit.id for hit in hits} <= said

    @rule(word=st.none() | st.sampled_from(WORDS))
    def keep(self, word: str | None) -> None:
        """Hits that are looked into some time later."""
        self.kept.append((self.db.search(None if word else np.ones(DIM), 100, text=word), dict(self.held)))

    @precondition(lambda self: self.kept)
    @rule(at=st.integers(0, 100))
    def look_back(self, at: int) -> None:
        if self.kept:
            hits, held = self.kept.pop(at % len(self.kept))
            for hit in hits:
                assert (hit.metadata, hit.document) == held[hit.id][1:]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "db"):
            return
        assert len(self.db) == len(self.held)
        records = {record.id: record for record in self.db}
        assert records.keys() == self.held.keys()
        for id, (vector, metadata, document) in self.held.items():
            np.testing.assert_array_equal(records[id].vector, vector)
            assert (records[id].metadata, records[id].document) == (metadata, document)
        found = {hit.id for hit in self.db.search(np.ones(DIM), len(self.held) + 1)}
        assert found == self.held.keys()


TestAnySequence = Machine.TestCase
TestAnySequence.settings = settings(max_examples=examples(25), stateful_step_count=120)
