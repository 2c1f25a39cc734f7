"""Files: what is saved comes back, equal indexes are equal files, and no bytes whatever crash a load or get past it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from index_file import (
    DEAD_DUPLICATE,
    DEAD_NODE,
    DUPLICATE,
    FREE,
    HEADER,
    ITEMS,
    MAGIC,
    NODE,
    NONE,
    STATE,
    IndexFile,
    crc32c,
    padded,
    sealed,
    with_header,
)
from oracle import assert_held

import edgevec
from edgevec.index import KeepVectors, Metric, Quantization

DIM = 12
Rows = npt.NDArray[np.float32]
KINDS: list[tuple[Quantization, KeepVectors]] = [
    ("none", True),
    *[("sq8", keep_vectors) for keep_vectors in (True, "float32", False)],
    *[("binary", keep_vectors) for keep_vectors in (True, "float32", False)],
]
each_kind = pytest.mark.parametrize(("quantization", "keep_vectors"), KINDS)
each_metric = pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
each_way = pytest.mark.parametrize("mmap", [False, pytest.param(True, marks=pytest.mark.mmap)])


def make_rows(rng: np.random.Generator, n: int) -> Rows:
    """Every sixth equals the one before it, so that there are duplicates."""
    rows = rng.standard_normal((n, DIM)).astype(np.float32)
    rows[5::6] = rows[4::6][: len(rows[5::6])]
    return rows


def make_index(
    rng: np.random.Generator,
    metric: Metric = "ip",
    quantization: Quantization = "sq8",
    keep_vectors: KeepVectors = True,
    seed: int = 5,
) -> tuple[edgevec.Index, dict[int, Rows]]:
    """An index with slots in every state and upper levels, and what it holds."""
    index = edgevec.Index(
        DIM, metric, quantization=quantization, M=4, ef_construction=40, seed=seed, keep_vectors=keep_vectors
    )
    index.ef = 77
    held: dict[int, Rows] = {}

    def add(first: int, n: int) -> None:
        rows = make_rows(rng, n)
        ids = np.arange(first, first + n) * 3 - 60
        index.add(rows, ids, threads=1)
        held.update(zip(ids.tolist(), rows, strict=True))

    def remove(step: int) -> None:
        ids = list(held)[::step]
        assert index.remove(ids) == len(ids)
        for id in ids:
            del held[id]

    add(0, 120)
    remove(3)
    add(115, 12)  # buries the dead, replaces five
    remove(11)
    return index, held


def brute_force(metric: str, held: dict[int, Rows], query: Rows) -> npt.NDArray[np.float64]:
    rows, q = np.array(list(held.values()), np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.sort(((rows - q) ** 2).sum(1))
    if metric == "cosine":
        rows, q = rows / np.linalg.norm(rows, axis=1, keepdims=True), q / np.linalg.norm(q)
    return np.sort(1 - rows @ q)


def assert_same(a: edgevec.Index, b: edgevec.Index, rng: np.random.Generator) -> None:
    """Equal in all that can be asked of them."""
    for name in ("dim", "metric", "quantization", "M", "ef_construction", "ef", "seed", "keep_vectors"):
        assert getattr(a, name) == getattr(b, name)
    assert list(a) == list(b)
    assert a.check() == b.check()
    np.testing.assert_array_equal(a.get(list(a)), b.get(list(b)))
    queries = rng.standard_normal((20, DIM)).astype(np.float32)
    for exact in (False, True):
        for x, y in zip(a.search(queries, 7, exact=exact), b.search(queries, 7, exact=exact), strict=True):
            np.testing.assert_array_equal(x, y)


def saved(index: edgevec.Index, path: Path) -> bytes:
    index.save(path)
    return path.read_bytes()


def section_at(file: IndexFile, position: int) -> str:
    """The section, with its filling, that a byte belongs to."""
    return next(name for name, offset, size, _, _ in file.table() if offset <= position < offset + padded(size))


# ---- there and back ------------------------------------------------------------------------------------------------


@each_way
@each_kind
@each_metric
def test_round_trip(
    metric: Metric,
    quantization: Quantization,
    keep_vectors: KeepVectors,
    mmap: bool,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    index, held = make_index(rng, metric, quantization, keep_vectors)
    path = tmp_path / "an index, Индекс"
    data = saved(index, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    loaded = edgevec.Index.load(path, mmap=mmap)
    assert_same(index, loaded, rng)
    assert saved(loaded, tmp_path / "again") == data

    more = make_rows(rng, 30)
    new_ids = loaded.add(more)
    assert new_ids.tolist() == list(range(max(held) + 1, max(held) + 31)), "numbered on from the highest id ever held"
    gone = list(held)[::4]
    loaded.remove(gone)
    held = {id: row for id, row in held.items() if id not in gone} | dict(zip(new_ids.tolist(), more, strict=True))
    loaded.compact()
    assert sorted(loaded) == sorted(held)
    assert loaded.check().ok
    if keep_vectors:
        for query in make_rows(rng, 5):
            for exact in (False, True):
                found = loaded.search(query, 8, ef=500, exact=exact)
                np.testing.assert_allclose(found.distances, brute_force(metric, held, query)[:8], rtol=1e-4, atol=1e-4)
    assert path.read_bytes() == data, "changing a loaded index does not reach its file"


@each_way
@each_kind
def test_empty_index(
    quantization: Quantization, keep_vectors: KeepVectors, mmap: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    index = edgevec.Index(DIM, quantization=quantization, keep_vectors=keep_vectors)
    index.save(tmp_path / "empty")
    loaded = edgevec.Index.load(tmp_path / "empty", mmap=mmap)
    assert len(loaded) == 0
    assert loaded.check().ok
    assert loaded.search(np.ones(DIM)).ids.size == 0
    loaded.add(make_rows(rng, 40))
    assert loaded.check().ok
    assert len(loaded) == 40


@pytest.mark.mmap
def test_mapped_memory_is_reported_and_given_up(tmp_path: Path, rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    index.save(tmp_path / "index")
    loaded = edgevec.Index.load(tmp_path / "index", mmap=True)
    assert edgevec.Index.load(tmp_path / "index").memory_usage()["mapped"] == 0
    file = IndexFile((tmp_path / "index").read_bytes())
    columns = [size for name, _, size, _, _ in file.table() if name != "centre"]
    assert loaded.memory_usage()["mapped"] == sum(columns)
    loaded.compact()
    assert loaded.memory_usage()["mapped"] == 0


@each_kind
def test_same_seed_same_bytes(
    quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def build(seed: int) -> bytes:
        rng = np.random.default_rng(99)
        return saved(make_index(rng, "l2", quantization, keep_vectors, seed)[0], tmp_path / "index")

    assert build(1) == build(1)
    assert build(1) != build(2)


def test_the_file_is_what_its_description_says(tmp_path: Path, rng: np.random.Generator) -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert HEADER.itemsize == 640
    index, held = make_index(rng)
    data = saved(index, tmp_path / "index")
    file = IndexFile(data)
    assert data.startswith(MAGIC)
    assert [name for name, *_ in file.table()] == list(ITEMS)
    assert file.data() == data, "put together again by other code"
    assert file.get("live") == len(held) == len(file.slots(NODE, DUPLICATE))
    assert set(file["ids"][file.slots(NODE, DUPLICATE)].tolist()) == set(held)
    for states in ((FREE,), (NODE,), (DUPLICATE,), (DEAD_NODE, DEAD_DUPLICATE)):
        assert file.slots(*states), "the hostile files below want slots in all states"
    assert file.slots(NODE, level=1)


@pytest.mark.parametrize("copied", [lambda index: pickle.loads(pickle.dumps(index)), copy.deepcopy])
def test_pickle(copied: Callable[[edgevec.Index], edgevec.Index], rng: np.random.Generator) -> None:
    index, _ = make_index(rng)
    other = copied(index)
    assert_same(index, other, rng)
    other.remove(list(other))
    assert len(other) == 0 < len(index)


def test_save_replaces_the_file_under_a_mapped_index(tmp_path: Path, rng: np.random.Generator) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows does not let a mapped file be replaced")
    index, _ = make_index(rng)
    index.save(tmp_path / "index")
    loaded = edgevec.Index.load(tmp_path / "index", mmap=True)
    loaded.add(make_rows(rng, 50))
    loaded.save(tmp_path / "index")
    assert_same(loaded, edgevec.Index.load(tmp_path / "index"), rng)


def test_a_file_that_was_saved_over_can_be_deleted(tmp_path: Path, rng: np.random.Generator) -> None:
    """In Emscripten a file that is renamed over would come back."""
    path = tmp_path / "index"
    for _ in range(3):
        index, _ = make_index(rng)
        for _ in range(3):
            index.add(make_rows(rng, 5))
            index.save(path)
        assert_same(index, edgevec.Index.load(path), rng)
        assert [file.name for file in tmp_path.iterdir()] == ["index"]
        path.unlink()
        assert not path.exists()
        with pytest.raises(FileNotFoundError):
            edgevec.Index.load(path)


@pytest.mark.threads
def test_a_file_saved_while_another_thread_writes_is_one_moment(tmp_path: Path, rng: np.random.Generator) -> None:
    index = edgevec.Index(DIM, "l2", M=4)
    rows = make_rows(rng, 1500)
    writer = threading.Thread(target=lambda: [index.add(rows[i : i + 10], threads=1) for i in range(0, 1500, 10)])
    writer.start()
    sizes: list[int] = []
    while not sizes or sizes[-1] < 1500:
        index.save(tmp_path / "index")
        loaded = edgevec.Index.load(tmp_path / "index")
        sizes.append(len(loaded))
        report = loaded.check()
        assert report.bad_links == report.bad_codes == report.bad_ids == 0
        assert_held(loaded, range(sizes[-1]), rows[: sizes[-1]])
    writer.join()
    assert sizes == sorted(sizes)
    assert all(size % 10 == 0 for size in sizes), "a call is saved whole or not at all"


# ---- what the system refuses ---------------------------------------------------------------------------------------


def test_missing_file_and_folder(tmp_path: Path) -> None:
    index = edgevec.Index(DIM)
    with pytest.raises(edgevec.IndexNotFoundError, match="nowhere") as missing:
        edgevec.Index.load(tmp_path / "nowhere")
    assert isinstance(missing.value, FileNotFoundError)
    with pytest.raises(edgevec.StorageError, match="nowhere") as refused:
        index.save(tmp_path / "nowhere" / "index")
    assert isinstance(refused.value, OSError)
    with pytest.raises(edgevec.StorageError):
        edgevec.Index.load(tmp_path)
    with pytest.raises(edgevec.StorageError):
        index.save(tmp_path)
    assert list(tmp_path.iterdir()) == [], "no temporary file is left"


@each_way
@pytest.mark.parametrize("data", [b"", b"\x89", MAGIC, MAGIC * 80, b"text " * 400, b"\0" * 4096], ids=range(6))
def test_not_an_index_file(data: bytes, mmap: bool, tmp_path: Path) -> None:
    (tmp_path / "index").write_bytes(data)
    with pytest.raises(edgevec.CorruptIndexError, match="section 'header'"):
        edgevec.Index.load(tmp_path / "index", mmap=mmap)


def test_newer_version_is_told_from_damage(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    data = saved(make_index(rng)[0], path)
    path.write_bytes(with_header(data, version=4))
    with pytest.raises(edgevec.FormatVersionError, match=r"format version 4.*up to 3"):
        edgevec.Index.load(path)
    # with another header, of which no more is known than where its checksum lies
    header = data[:8] + (7).to_bytes(4, "little") + (1000).to_bytes(4, "little") + rng.bytes(980)
    path.write_bytes(header + crc32c(header).to_bytes(4, "little") + rng.bytes(3000))
    with pytest.raises(edgevec.FormatVersionError, match="format version 7"):
        edgevec.Index.load(path)
    path.write_bytes(with_header(data, version=0))
    with pytest.raises(edgevec.CorruptIndexError, match="version"):
        edgevec.Index.load(path)


@each_way
@pytest.mark.parametrize(
    ("quantization", "keep_vectors", "version"), [(*kind, 2 if kind == ("sq8", True) else 1) for kind in KINDS]
)
def test_the_lowest_version_that_will_do(
    quantization: Quantization,
    keep_vectors: KeepVectors,
    version: int,
    mmap: bool,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    """Each way to keep vectors has its version, and a file in which they do not go together is refused."""
    index = edgevec.Index(40, quantization=quantization, M=4, keep_vectors=keep_vectors)
    index.add(rng.standard_normal((50, 40)))
    data = saved(index, tmp_path / "index")
    file = IndexFile(data)
    assert file.get("version") == version
    for other in ({"version": 3 - version}, {"version": 1, "keep_vectors": 2}, {"version": 2, "keep_vectors": 1}):
        (tmp_path / "index").write_bytes(with_header(data, **other))
        with pytest.raises(edgevec.CorruptIndexError, match="section 'header': vectors kept"):
            edgevec.Index.load(tmp_path / "index", mmap=mmap)
    if (quantization, keep_vectors) != ("sq8", True):
        (tmp_path / "index").write_bytes(with_header(data, version=2, keep_vectors=2))
        with pytest.raises(edgevec.CorruptIndexError, match="section '"):
            edgevec.Index.load(tmp_path / "index", mmap=mmap)


# ---- accidents -----------------------------------------------------------------------------------------------------


def test_every_header_byte(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    data = bytearray(saved(make_index(rng)[0], path))
    for position in range(HEADER.itemsize):
        flip = int(rng.integers(1, 256))
        data[position] ^= flip
        path.write_bytes(data)
        with pytest.raises(edgevec.CorruptIndexError, match="section 'header'"):
            edgevec.Index.load(path)
        data[position] ^= flip


@each_way
def test_thousands_of_flipped_bits(mmap: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    data = saved(make_index(rng)[0], path)
    file = IndexFile(data)
    for i, position in enumerate(rng.integers(HEADER.itemsize, len(data), 1500)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        other = path.with_name(f"{i % 2}")  # Windows keeps the mapped one until it is collected
        other.write_bytes(damaged)
        with pytest.raises(edgevec.CorruptIndexError, match=f"section '{section_at(file, int(position))}'"):
            edgevec.Index.load(other, mmap=mmap)


@each_way
def test_every_cut(mmap: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "index"
    data = saved(make_index(rng)[0], path)
    file = IndexFile(data)
    ends = {0, HEADER.itemsize, *(at for _, offset, size, _, _ in file.table() for at in (offset, offset + size))}
    near = {end + by for end in ends for by in (-1, 0, 1)}
    cuts = {cut for cut in near if 0 <= cut < len(data)} | set(rng.integers(0, len(data), 200).tolist())
    for cut in sorted(cuts):
        name = "header" if cut < HEADER.itemsize else section_at(file, cut)
        path.write_bytes(data[:cut])
        with pytest.raises(edgevec.CorruptIndexError, match=f"section '{name}'"):
            edgevec.Index.load(path, mmap=mmap)
    path.write_bytes(data + b"\0")
    with pytest.raises(edgevec.CorruptIndexError, match="another length"):
        edgevec.Index.load(path, mmap=mmap)


# ---- intent: wrong content, right checksums ------------------------------------------------------------------------

Change = Callable[[IndexFile], None]


def header(field: str, *values: float) -> list[tuple[str, Change]]:
    def setter(value: float) -> Change:
        return lambda file: file.set(field, value)

    return [(f"{field}={value}", setter(value)) for value in values]


def item(section: str, value: float, *states: int, level: int = 0) -> Change:
    """Another value for the first slot in one of these states; for a section of rows, in its first column."""

    def change(file: IndexFile) -> None:
        slot = file.slots(*states, level=level)[0]
        file[section].reshape(file.get("slots"), -1)[slot, 0] = value

    return change


def link(place: int, target: Callable[[IndexFile, int], int]) -> Change:
    """Another link of the first node that has `place` links at least."""

    def change(file: IndexFile) -> None:
        links = file.links()
        slot = next(s for s in file.slots(NODE) if (links[s] != NONE).sum() >= min(place, 2))
        links[slot, place] = target(file, slot)

    return change


def upper_link(file: IndexFile) -> None:
    """From the upper level to a node that is not there."""
    low = next(slot for slot in file.slots(NODE) if file["level"][slot] == 0)
    file["upper"][file["upper_at"][file.slots(NODE, level=1)[0]]] = low


def gap(file: IndexFile) -> None:
    """A link behind the end of a list."""
    links = file.links()
    slot = next(s for s in file.slots(NODE) if (links[s] == NONE).sum() >= 2)
    links[slot, -1] = links[slot, 0]


def chain_cycle(file: IndexFile) -> None:
    duplicate = file.slots(DUPLICATE)[0]
    file["chain"][duplicate] = duplicate


def chains_that_meet(file: IndexFile) -> None:
    heads = [slot for slot in file.slots(NODE) if file["chain"][slot] != NONE]
    file["chain"][heads[0]] = file["chain"][heads[1]]


def lost_duplicate(file: IndexFile) -> None:
    head = next(slot for slot in file.slots(NODE) if file["chain"][slot] != NONE)
    file["chain"][head] = NONE


def no_chains(file: IndexFile) -> None:
    del file.sections["chain"]


def same_id(file: IndexFile) -> None:
    first, second = file.slots(NODE)[:2]
    file["ids"][first] = file["ids"][second]


def without(section: str) -> Change:
    def change(file: IndexFile) -> None:
        del file.sections[section]

    return change


def cut_short(section: str) -> Change:
    def change(file: IndexFile) -> None:
        file.sections[section] = file[section][:-1]

    return change


def swapped(file: IndexFile) -> None:
    file.sections["ids"] = file.sections.pop("ids")


def renamed(file: IndexFile) -> None:
    file.sections["blocks2"] = file.sections.pop("centre")


def walking(walk: int) -> Change:
    def change(file: IndexFile) -> None:
        file.set("version", 3)
        file.set("walk", walk)

    return change


HOSTILE: list[tuple[str, Change]] = [
    *header("dim", 0, -1, DIM - 1, DIM + 1, 65535, 65536),
    *header("metric", -1, 3),
    *header("quantization", -1, 0, 3),
    *header("M", 1, 3, 5, 256, 257),
    *header("ef_construction", 0, 65536),
    *header("ef", 0, 1_000_001),
    *header("keep_vectors", -1, 0, 1, 3),
    *header("version", 0, 1, 3),
    *header("walk", 1, 2, 3, 4, 2**32 - 1),
    *[(f"version 3, walk {walk}", walking(walk)) for walk in (0, 3, 4, 2**32 - 1)],
    *header("slots", 0, 1, 2**31, 2**32 - 2, 2**63),
    *header("live", -1, 0, 2**62),
    *header("dead", -1, 0, 2**62),
    *header("next_id", -1, 0, 5),
    *header("entry", NONE, NONE - 1, 2**31),
    *header("trainings", -1, 2**31 - 1),
    *header("trained_on", -1, 2**63 - 1),
    *header("unchecked", -1, 2**63 - 1),
    *header("unrepaired", -1, 2**63 - 1),
    ("the entry is a duplicate", lambda file: file.set("entry", file.slots(DUPLICATE)[0])),
    ("the entry is free", lambda file: file.set("entry", file.slots(FREE)[0])),
    *[(f"state {state}", item("state", state, NODE)) for state in (FREE, DUPLICATE, DEAD_NODE, 5, 7, 0x11, 0xFF)],
    ("unknown state of a free slot", item("state", 5, FREE)),
    ("a free slot becomes a node", item("state", NODE, FREE)),
    ("a duplicate becomes a node", item("state", NODE, DUPLICATE)),
    *[(f"level {level}", item("level", level, NODE, level=1)) for level in (0, 30, 31, 255)],
    *[(f"upper_at {at}", item("upper_at", at, NODE, level=1)) for at in (1, 2**31, NONE)],
    ("id beyond next_id", item("ids", 2**62, NODE)),
    ("same id", same_id),
    ("link out of range", link(0, lambda file, slot: file.get("slots"))),
    ("link far out of range", link(1, lambda file, slot: NONE - 1)),
    ("link to itself", link(0, lambda file, slot: slot)),
    ("link to a free slot", link(0, lambda file, slot: file.slots(FREE)[0])),
    ("link to a duplicate", link(0, lambda file, slot: file.slots(DUPLICATE)[0])),
    ("link behind the end", gap),
    ("upper link to a low node", upper_link),
    ("chain round in a circle", chain_cycle),
    ("chains that meet", chains_that_meet),
    ("duplicate on no chain", lost_duplicate),
    ("duplicates without chains", no_chains),
    ("chain to a node", item("chain", 0, NODE)),
    ("chain out of range", item("chain", NONE - 1, DUPLICATE)),
    ("chain of a free slot", item("chain", 1, FREE)),
    ("factors nan", item("factors", np.nan, NODE)),
    ("factors inf", item("factors", np.inf, DUPLICATE)),
    ("centre nan", lambda file: file["centre"].put(0, np.nan)),
    ("code -128", item("blocks", 0x80, NODE)),
    *[(f"no {section}", without(section)) for section in ITEMS],
    *[(f"{section} cut short", cut_short(section)) for section in ITEMS],
    ("sections in another order", swapped),
    ("unknown section", renamed),
]


@pytest.mark.parametrize("change", [change for _, change in HOSTILE], ids=[name for name, _ in HOSTILE])
@each_way
def test_hostile_content(change: Change, mmap: bool, tmp_path: Path) -> None:
    index, _ = make_index(np.random.default_rng(3))
    file = IndexFile(saved(index, tmp_path / "index"))
    change(file)
    (tmp_path / "hostile").write_bytes(file.data())
    with pytest.raises(edgevec.CorruptIndexError, match="section '"):
        edgevec.Index.load(tmp_path / "hostile", mmap=mmap)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("quantization", "section"), [("none", "blocks"), ("sq8", "vectors")])
def test_hostile_vectors(quantization: Quantization, section: str, value: float, tmp_path: Path) -> None:
    """Without codes the vectors lie in the blocks."""
    index, _ = make_index(np.random.default_rng(3), quantization=quantization, keep_vectors="float32")
    file = IndexFile(saved(index, tmp_path / "index"))
    file[section].view("<f4").reshape(file.get("slots"), -1)[file.slots(NODE)[-1], DIM - 1] = value
    (tmp_path / "hostile").write_bytes(file.data())
    with pytest.raises(edgevec.CorruptIndexError, match=f"section '{section}': not a finite number"):
        edgevec.Index.load(tmp_path / "hostile")


@pytest.mark.parametrize(
    ("row", "field", "values"),
    [
        (1, "offset", [0, 1, 640, 2**40, 2**64 - 1]),
        (1, "bytes", [0, 1, 2**40, 2**64 - 1, 2**64 - 64]),
        (0, "bytes", [2**63, 2**64 - 640]),
        (1, "name", [b"", b"blocks", b"centre", b"x" * 16]),
        (1, "zero", [1]),
        (9, "name", [b"ids"]),
    ],
)
def test_hostile_table(row: int, field: str, values: list[int | bytes], tmp_path: Path) -> None:
    index, _ = make_index(np.random.default_rng(3))
    data = saved(index, tmp_path / "index")
    for value in values:
        header = np.frombuffer(data, HEADER, 1).copy()
        header["section"][0][row][field] = value
        (tmp_path / "hostile").write_bytes(sealed(header) + data[HEADER.itemsize :])
        with pytest.raises(edgevec.CorruptIndexError, match="section '"):
            edgevec.Index.load(tmp_path / "hostile")


@pytest.mark.parametrize(
    "fields",
    [
        {"sections": 0},
        {"sections": 9},
        {"sections": 11},
        {"sections": 2**32 - 1},
        {"file_bytes": 0},
        {"zeros": b"\1" * 104},
    ],
    ids=str,
)
def test_hostile_header(fields: dict[str, object], tmp_path: Path) -> None:
    index, _ = make_index(np.random.default_rng(3))
    data = saved(index, tmp_path / "index")
    (tmp_path / "hostile").write_bytes(with_header(data, **fields))
    with pytest.raises(edgevec.CorruptIndexError, match="section '"):
        edgevec.Index.load(tmp_path / "hostile")


def test_check_reports_what_a_load_lets_pass(tmp_path: Path) -> None:
    """Harmless to a search, but not as the library would have made it."""
    index, _ = make_index(np.random.default_rng(3))
    sound = index.check()
    file = IndexFile(saved(index, tmp_path / "index"))
    links, states = file.links(), file["state"] & STATE
    assert sound.ok
    assert sound.live == file.get("live") == len(file.slots(NODE, DUPLICATE))
    assert sound.dead == len(file.slots(DEAD_NODE, DEAD_DUPLICATE))
    assert sound.free_slots == len(file.slots(FREE))
    assert sound.duplicates == len(file.slots(DUPLICATE))
    assert sound.levels == file["level"][file.slots(NODE, DEAD_NODE)].max() + 1
    routing = np.flatnonzero(np.isin(states, (NODE, DEAD_NODE)))
    edges = {(int(a), int(b)) for a in routing for b in links[a] if b != NONE}
    degrees = (links[routing] != NONE).sum(1)
    assert (sound.edges, sound.min_degree, sound.max_degree) == (len(edges), degrees.min(), degrees.max())
    assert sound.mutual_edges == sum((b, a) in edges for a, b in edges)

    def check_loaded() -> edgevec.index.CheckReport:
        (tmp_path / "odd").write_bytes(file.data())
        return edgevec.Index.load(tmp_path / "odd").check()

    file["blocks"].reshape(file.get("slots"), -1)[file.slots(NODE)[3], 0] ^= 1
    assert check_loaded() == sound._replace(bad_codes=1)
    lost = next(slot for slot in reversed(file.slots(NODE)) if slot != file.get("entry"))
    for row in links:  # nothing leads to it any more
        kept = row[(row != NONE) & (row != lost)]
        row[:] = NONE
        row[: kept.size] = kept
    found = check_loaded()
    assert (found.bad_codes, found.bad_links, found.bad_ids, found.unreachable) == (1, 0, 0, 1)
    assert found.edges == len(edges) - sum(b == lost for _, b in edges)
    twice = next(slot for slot in file.slots(NODE) if 1 <= (links[slot] != NONE).sum() < links.shape[1])
    links[twice, (links[twice] != NONE).sum()] = links[twice, 0]
    assert check_loaded().bad_links == 1


@each_kind
def test_random_hostility(
    quantization: Quantization, keep_vectors: KeepVectors, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Anything with right checksums is refused, or can be searched and changed like any other index."""
    path = tmp_path / "hostile"
    index, _ = make_index(rng, "ip", quantization, keep_vectors)
    data = saved(index, path)
    survivors = 0
    for _ in range(400):
        file = IndexFile(data)
        for _ in range(int(rng.integers(1, 4))):
            name = str(rng.choice(list(file.sections)))
            raw = file[name].view(np.uint8)
            position, width = int(rng.integers(raw.size)), int(rng.choice([1, 4, 8]))
            raw[position : position + width] = rng.choice([0, 0xFF, 0x7F, 0x80, int(rng.integers(256))])
        path.write_bytes(file.data())
        try:
            loaded = edgevec.Index.load(path)
        except edgevec.CorruptIndexError:
            continue
        survivors += 1
        with np.errstate(all="ignore"):
            loaded.search(make_rows(rng, 3), 5)
            allowed = [id for id in list(loaded)[::2] if id != -1]  # which only a hostile file holds
            loaded.search(make_rows(rng, 1)[0], 5, filter=allowed)
            loaded.check()
            loaded.add(make_rows(rng, 20), threads=1)
            loaded.remove(list(loaded)[::2])
            loaded.compact()
            loaded.search(make_rows(rng, 3), 5, exact=True)
        assert len(loaded) == len(set(loaded))
    assert survivors, "some changes are harmless: other vectors, other codes"


@pytest.mark.subprocess
def test_memory_is_bounded_by_the_file(tmp_path: Path) -> None:
    """Files that claim to be huge are refused by a process that has no memory to spare."""
    pytest.importorskip("resource", reason="limits are a POSIX thing")
    index, _ = make_index(np.random.default_rng(3))
    data = saved(index, tmp_path / "index")
    claims = [
        {"slots": 2**32 - 2},
        {"slots": 2**27},
        {"dim": 65535},
        {"M": 256},
        {"dim": 65535, "slots": 2**31},
        {"live": 2**31},
    ]
    for i, claim in enumerate(claims):
        (tmp_path / f"claim{i}").write_bytes(with_header(data, **claim))
    for i, (_, change) in enumerate(HOSTILE):
        file = IndexFile(data)
        change(file)
        (tmp_path / f"hostile{i}").write_bytes(file.data())
    script = """
        import resource, sys
        from pathlib import Path
        import edgevec
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)
        files = [path for path in Path(sys.argv[1]).iterdir() if path.name != "index"]
        for path in files:
            try:
                edgevec.Index.load(path)
            except edgevec.CorruptIndexError:
                continue
            sys.exit(f"{path.name} was not refused")
        edgevec.Index.load(Path(sys.argv[1], "index"))
        print(len(files), "refused")
    """
    if not Path("/proc/self/statm").exists():
        pytest.skip("the limit is set from Linux's count of pages")
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, f"{len(claims) + len(HOSTILE)} refused\n"), run.stderr


def test_sections_do_not_overlap(tmp_path: Path, rng: np.random.Generator) -> None:
    data = saved(make_index(rng)[0], tmp_path / "index")
    table = IndexFile(data).table()
    for (_, offset, size, _, _), (_, following, _, _, _) in pairwise(table):
        assert offset % 64 == 0
        assert following == offset + padded(size)
        assert not any(data[offset + size : following])
