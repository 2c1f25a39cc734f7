"""No bytes whatever crash a load or get past it: neither accidents nor wrong content under right checksums."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from index_file import (
    DEAD_DUPLICATE,
    DEAD_NODE,
    DUPLICATE,
    FREE,
    HEADER,
    ITEMS,
    NODE,
    NONE,
    STATE,
    IndexFile,
    padded,
    sealed,
    with_header,
)
from small_index import DIM, each_kind, each_way, make_index, make_rows, saved

import edgevec
from edgevec import KeepVectors, Quantization

pytestmark = pytest.mark.core


def section_at(file: IndexFile, position: int) -> str:
    """The section, with its filling, that a byte belongs to."""
    return next(name for name, offset, size, _, _ in file.table() if offset <= position < offset + padded(size))


# ---- accidents -----------------------------------------------------------------------------------------------------


def test_every_changed_byte_of_the_header_is_noticed(tmp_path: Path, rng: np.random.Generator) -> None:
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
def test_a_file_cut_short_anywhere_is_refused(mmap: bool, tmp_path: Path, rng: np.random.Generator) -> None:
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
def test_hostile_content_is_refused_by_section(change: Change, mmap: bool, tmp_path: Path) -> None:
    index, _ = make_index(np.random.default_rng(3))
    file = IndexFile(saved(index, tmp_path / "index"))
    change(file)
    (tmp_path / "hostile").write_bytes(file.data())
    with pytest.raises(edgevec.CorruptIndexError, match="section '"):
        edgevec.Index.load(tmp_path / "hostile", mmap=mmap)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("quantization", "section"), [("none", "blocks"), ("sq8", "vectors")])
def test_hostile_vectors_are_refused(quantization: Quantization, section: str, value: float, tmp_path: Path) -> None:
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
def test_a_hostile_table_of_sections_is_refused(
    row: int, field: str, values: list[int | bytes], tmp_path: Path
) -> None:
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
def test_a_hostile_header_is_refused(fields: dict[str, object], tmp_path: Path) -> None:
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
def test_any_content_is_refused_or_can_be_used(
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
        from edgevec import CorruptIndexError, Index  # and with them NumPy, while there is memory for it
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)
        files = [path for path in Path(sys.argv[1]).iterdir() if path.name != "index"]
        for path in files:
            try:
                Index.load(path)
            except CorruptIndexError:
                continue
            sys.exit(f"{path.name} was not refused")
        Index.load(Path(sys.argv[1], "index"))
        print(len(files), "refused")
    """
    if not Path("/proc/self/statm").exists():
        pytest.skip("the limit is set from Linux's count of pages")
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, f"{len(claims) + len(HOSTILE)} refused\n"), run.stderr
