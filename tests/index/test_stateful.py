"""Any sequence of calls leaves an index that answers like a dict of vectors and brute force over it."""

from __future__ import annotations

import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from oracle import METRICS, QUANTIZATIONS, Rows, assert_right, assert_valid, step_of, unit
from support import examples

import edgevec
from edgevec import KeepVectors, Metric, Quantization, Storage

CAN_MAP = sys.platform != "emscripten"
# Ids from a small set meet each other; the ends of int64 are in it.
SOME_IDS = st.one_of(st.integers(-20, -2), st.integers(0, 60), st.sampled_from([2**63 - 1, -(2**63), 2**62, -(2**40)]))
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0, 1)


class Machine(RuleBasedStateMachine):
    metric: Metric
    quantization: Quantization

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.held: dict[int, Rows] = {}
        self.next_id = 0
        self.unmended = 0
        self.all_reachable = True
        self.files = 0

    def teardown(self) -> None:
        self.__dict__.pop("index", None)  # a mapped file cannot be deleted on Windows
        self.__dict__.pop("context", None)
        self.folder.cleanup()

    @initialize(
        dim=st.sampled_from([2, 3, 5, 8, 17, 200]),
        M=st.sampled_from([2, 3, 8]),
        seed=st.integers(0, 2**64 - 1),
        keep_vectors=st.sampled_from([True, "float32"]),
        on_disk=st.booleans(),
    )
    def make(self, dim: int, M: int, seed: int, keep_vectors: KeepVectors, on_disk: bool) -> None:
        self.storage: Storage = "disk" if on_disk and self.quantization != "none" else "memory"
        self.take(
            edgevec.Index(
                dim,
                self.metric,
                quantization=self.quantization,
                M=M,
                ef_construction=12,
                seed=seed,
                keep_vectors=keep_vectors,
                storage=self.storage,
            )
        )

    def take(self, index: edgevec.Index) -> None:
        self.index = index
        self.context = edgevec.SearchContext(index)

    def random_rows(self, n: int, seed: int, *, copies: bool) -> Rows:
        """Standard normal; with copies, many equal each other or something that is held."""
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((n, self.index.dim)).astype(np.float32)
        if copies and n:
            pool = np.array([*list(self.held.values())[:2], *rows[:2]])
            rows = pool[rng.integers(len(pool), size=n)]
        return rows

    def remember(self, ids: list[int], rows: Rows) -> None:
        self.held.update(zip(ids, rows, strict=True))
        self.next_id = max([self.next_id, *(min(id + 1, 2**63 - 1) for id in ids)])
        if ids:
            self.unmended += len(ids)
            self.all_reachable = self.unmended > len(self.held) // 32
            self.unmended *= not self.all_reachable

    # ---- changes ---------------------------------------------------------------------------------------------------

    @rule(n=st.integers(0, 40), seed=seeds, copies=st.booleans(), threads=st.integers(0, 2))
    def add_numbered(self, n: int, seed: int, copies: bool, threads: int) -> None:
        rows = self.random_rows(n, seed, copies=copies)
        if self.next_id > 2**63 - 1 - n and n:
            with pytest.raises(MemoryError):
                self.index.add(rows)
            return
        ids = self.index.add(rows, threads=threads).tolist()
        assert ids == list(range(self.next_id, self.next_id + n))
        self.remember(ids, rows)

    @rule(ids=st.lists(SOME_IDS, unique=True, max_size=30), seed=seeds, copies=st.booleans(), threads=st.integers(0, 2))
    def add_or_replace(self, ids: list[int], seed: int, copies: bool, threads: int) -> None:
        rows = self.random_rows(len(ids), seed, copies=copies)
        assert self.index.add(rows, ids, threads=threads).tolist() == ids
        self.remember(ids, rows)

    @rule(fraction=fractions, seed=seeds)
    def replace_by_the_same(self, fraction: float, seed: int) -> None:
        ids = self.some_of_the_held(fraction, seed)
        rows = np.array([self.held[id] for id in ids], np.float32).reshape(len(ids), self.index.dim)
        self.index.add(rows, ids)
        self.remember(ids, rows)

    @rule(fraction=fractions, seed=seeds, others=st.lists(SOME_IDS, max_size=5))
    def remove(self, fraction: float, seed: int, others: list[int]) -> None:
        ids = [*self.some_of_the_held(fraction, seed), *others]
        gone = self.held.keys() & set(ids)
        assert self.index.remove(ids) == len(gone)
        for id in gone:
            del self.held[id]

    @rule()
    def compact(self) -> None:
        self.index.compact()
        self.unmended, self.all_reachable = 0, True
        stats = self.index.stats()
        assert stats["slots"] == stats["live"] == len(self.held)
        assert stats["dead"] == 0

    @rule(mmap=st.booleans())
    def save_and_load(self, mmap: bool) -> None:
        self.files += 1  # a mapped file must stay as it is
        path = Path(self.folder.name, f"index-{self.files}")
        self.index.save(path)
        loaded = edgevec.Index.load(path, mmap=mmap and CAN_MAP and self.storage == "memory", storage=self.storage)
        again = Path(self.folder.name, "again")
        loaded.save(again)
        assert again.read_bytes() == path.read_bytes()
        assert loaded.check() == self.index.check()
        self.take(loaded)

    @rule()
    def pickle(self) -> None:
        self.take(pickle.loads(pickle.dumps(self.index)))

    # ---- questions -------------------------------------------------------------------------------------------------

    def some_of_the_held(self, fraction: float, seed: int) -> list[int]:
        order = np.random.default_rng(seed).permutation(len(self.held))
        ids = list(self.held)
        return [ids[i] for i in order[: int(fraction * len(ids))]]

    def query(self, seed: int) -> Rows:
        """Something new, or one of the held."""
        rng = np.random.default_rng(seed)
        if self.held and seed % 2:
            return list(self.held.values())[int(rng.integers(len(self.held)))]
        return rng.standard_normal(self.index.dim).astype(np.float32)

    @rule(k=st.integers(1, 50), seed=seeds)
    def search_exactly(self, k: int, seed: int) -> None:
        query = self.query(seed)
        result = self.index.search(query, k, exact=True, context=self.context)
        assert_right(result, self.metric, self.held, query, k, self.step())

    @rule(k=st.integers(1, 20), ef=st.sampled_from([1, 2, 10, 200]), seed=seeds)
    def search(self, k: int, ef: int, seed: int) -> None:
        query = self.query(seed)
        result = self.index.search(query, k, ef=ef, context=self.context)
        assert_valid(result, self.metric, self.held, query, k, self.step())
        np.testing.assert_array_equal(result.ids, self.index.search(query, k, ef=ef).ids)

    @rule(
        k=st.integers(1, 20),
        ef=st.sampled_from([1, 5, 100]),
        fraction=fractions,
        others=st.lists(SOME_IDS, max_size=5),
        exact=st.booleans(),
        seed=seeds,
    )
    def search_filtered(self, k: int, ef: int, fraction: float, others: list[int], exact: bool, seed: int) -> None:
        allowed = [*self.some_of_the_held(fraction, seed), *others]
        matches = {id: self.held[id] for id in set(allowed) & self.held.keys()}
        query = self.query(seed)
        result = self.index.search(query, k, ef=ef, filter=allowed, exact=exact)
        (assert_right if exact else assert_valid)(result, self.metric, matches, query, k, self.step())

    @rule(ids=st.lists(SOME_IDS, min_size=1, max_size=4))
    def get(self, ids: list[int]) -> None:
        if set(ids) <= self.held.keys():
            self.same_vectors(ids)
            return
        with pytest.raises(KeyError):
            self.index.get(ids)

    def step(self) -> float:
        """How far what is held may be from what was given: the largest number that was drawn lies below 7."""
        return step_of(self.index, [[1.0 if self.metric == "cosine" else 7.0]])

    def same_vectors(self, ids: list[int]) -> None:
        step = self.step()
        expected = np.array([self.held[id] for id in ids])
        if self.metric == "cosine":
            np.testing.assert_allclose(self.index.get(ids), unit(expected), rtol=1e-6, atol=1e-7 + step)
        else:
            np.testing.assert_allclose(self.index.get(ids), expected, rtol=0, atol=step)

    @precondition(lambda self: self.held)
    @rule()
    def get_all(self) -> None:
        self.same_vectors(list(self.held))

    # ---- always ----------------------------------------------------------------------------------------------------

    @invariant()
    def holds_the_same_ids(self) -> None:
        if not hasattr(self, "index"):
            return
        assert len(self.index) == len(self.held)
        ids = list(self.index)
        assert len(ids) == len(self.held)
        assert set(ids) == self.held.keys()
        for id in (0, 7, -3, 2**63 - 1, *ids[:3]):
            assert (id in self.index) == (id in self.held)

    @invariant()
    def is_sound(self) -> None:
        if not hasattr(self, "index"):
            return
        report = self.index.check()
        # Links may cut a few nodes off until the graph is mended, which happens when it has grown by a 32nd.
        assert report._replace(unreachable=0).ok, report
        assert report.unreachable == 0 or not self.all_reachable, report
        assert report.live == len(self.held)
        assert report.max_degree <= 2 * self.index.M


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("metric", METRICS)
def test_any_sequence_of_calls(metric: Metric, quantization: Quantization) -> None:
    machine = type("Machine", (Machine,), {"metric": metric, "quantization": quantization})
    case = machine.TestCase()
    case.settings = settings(max_examples=examples(25), stateful_step_count=25, deadline=None)
    case.runTest()
