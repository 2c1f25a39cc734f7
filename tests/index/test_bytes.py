"""An index as bytes: those of its file, and as safe."""

from __future__ import annotations

import pickle
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from index_file import HEADER, NODE, IndexFile
from small_index import each_kind, make_index, make_rows, saved

import edgevec
from edgevec import Index, KeepVectors, Metric, Quantization


@each_kind
def test_bytes_are_those_of_the_file(
    quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, rng: np.random.Generator
) -> None:
    metrics: tuple[Metric, ...] = ("cosine", "ip", "l2")
    for metric in metrics:
        index, _ = make_index(rng, metric, quantization, keep_vectors)
        data = index.to_bytes()
        assert type(data) is bytes
        assert data == saved(index, tmp_path / "index")
        again = Index.from_bytes(data)
        assert again.to_bytes() == data
        assert again.check() == index.check()
        empty = Index(3, metric, quantization=quantization)
        assert Index.from_bytes(empty.to_bytes()).to_bytes() == saved(empty, tmp_path / "empty")


def test_any_buffer_will_do(rng: np.random.Generator) -> None:
    data = make_index(rng)[0].to_bytes()
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), memoryview(data).cast("I")):
        assert Index.from_bytes(buffer).to_bytes() == data  # type: ignore[arg-type]
    unaligned = memoryview(b"x" + data)[1:]
    assert Index.from_bytes(unaligned).to_bytes() == data
    for wrong in ("text", None, 7, ["list"], memoryview(data)[::2]):
        with pytest.raises(edgevec.ParameterError, match="data must be"):
            Index.from_bytes(wrong)  # type: ignore[arg-type]


def test_the_bytes_are_not_needed_afterwards(rng: np.random.Generator) -> None:
    data = bytearray(make_index(rng)[0].to_bytes())
    index = Index.from_bytes(data)
    before = index.to_bytes()
    data[:] = bytes(len(data))
    assert index.to_bytes() == before


def test_no_file_is_made(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("TemporaryDirectory", "NamedTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, never)
    assert pickle.loads(pickle.dumps(index)).to_bytes() == index.to_bytes()


def test_a_flipped_byte_is_noticed_and_its_section_named(rng: np.random.Generator) -> None:
    data = make_index(rng)[0].to_bytes()
    positions = [*range(HEADER.itemsize), *rng.integers(HEADER.itemsize, len(data), 1000).tolist()]
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        with pytest.raises(edgevec.CorruptIndexError, match="section '"):
            Index.from_bytes(damaged)


def test_bytes_cut_short_or_too_many_are_refused(rng: np.random.Generator) -> None:
    data = make_index(rng)[0].to_bytes()
    for cut in [*range(0, 700, 7), *rng.integers(0, len(data), 200).tolist(), len(data) - 1]:
        with pytest.raises(edgevec.CorruptIndexError, match="section '"):
            Index.from_bytes(data[:cut])
    with pytest.raises(edgevec.CorruptIndexError, match="another length"):
        Index.from_bytes(data + b"\0")


def test_bytes_made_with_intent_are_refused(rng: np.random.Generator) -> None:
    """As of files (test_hostile_files.py), which the same code reads."""
    file = IndexFile(make_index(rng)[0].to_bytes())
    file["level"][file.slots(NODE)[0]] = 200
    with pytest.raises(edgevec.CorruptIndexError, match="section 'level'"):
        Index.from_bytes(file.data())


@pytest.mark.threads
def test_bytes_are_of_one_moment_whoever_adds_meanwhile(rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    stop = threading.Event()
    rows = make_rows(rng, 200)

    def add() -> None:
        at = 10_000
        while not stop.is_set() and at < 30_000:
            index.add(rows, np.arange(at, at + len(rows)), threads=1)
            at += len(rows)

    adder = threading.Thread(target=add)
    adder.start()
    try:
        before = len(index)
        for _ in range(20):
            copied = Index.from_bytes(index.to_bytes())
            assert (len(copied) - before) % len(rows) == 0
            assert copied.check().ok
    finally:
        stop.set()
        adder.join()
