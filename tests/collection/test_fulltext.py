"""Text search finds words in texts of every script, as a tokenizer in plain Python does."""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, examples

import edgevec
from edgevec.collection import Collection

OLD = ROOT / "tests" / "files" / "0.1.0.edgevec"
UNSPACED = "日本語国人のはをカ한국어는กขคง"


def collection(documents: list[str | None]) -> Collection:
    """Ids are positions in the list."""
    made = edgevec.open(":memory:", dim=2, metric="l2")
    made.upsert(range(len(documents)), np.ones((len(documents), 2)), documents=documents)
    return made


def found(made: Collection, text: str) -> set[Any]:
    return {hit.id for hit in made.search(text=text, k=100)}


@pytest.mark.parametrize(
    ("document", "queries"),
    [
        ("各国の人々は日本語を話す。", ["日本", "日本語", "各国", "人々", "話", "す", "日本語を話す"]),
        ("ｶﾀｶﾅとひらがな", ["カタカナ", "ひらがな", "ｶﾀ", "ナ"]),
        ("我愛北京天安門", ["北京", "天安門", "愛", "門"]),
        ("나는 한국어를 배운다", ["한국", "한국어", "배운다", "나", unicodedata.normalize("NFD", "한국어")]),
        ("ภาษาไทยไม่มีช่องว่างระหว่างคำ", ["ไทย", "ภาษา", "ช่องว่าง", "คำ", "ท"]),
        ("ພາສາລາວບໍ່ມີຊ່ອງຫວ່າງ", ["ລາວ", "ພາສາ", "ຊ່ອງ"]),
        ("ភាសាខ្មែរគ្មានដកឃ្លា", ["ខ្មែរ", "ភាសា"]),
        ("မြန်မာဘာသာစကား", ["မြန်မာ", "ဘာသာ", "စကား"]),
        ("iPhone15を買う2024年", ["iphone15", "買う", "2024", "年"]),
        ("İstanbul güzel", ["İstanbul", "istanbul", "İSTANBUL", "i\u0307stanbul", "guzel", "GÜZEL", "gu\u0308zel"]),
        ("cafe\u0301 au lait", ["café", "cafe\u0301", "cafe", "CAFÉ"]),
        ("Việt Nam", ["việt", unicodedata.normalize("NFD", "việt"), "viet"]),
        ("\ufb01ne \uff21\uff42\uff43 x²", ["fine", "abc", "x2", "\uff26\uff29NE"]),
        ("हिन्दी में लिखा", ["हिन्दी", "में"]),
        ("தமிழ் மொழி", ["தமிழ்"]),
        ("שָׁלוֹם עולם", ["שלום", "שָׁלוֹם"]),
        ("مُحَمَّد", ["محمد"]),
        ("Donau\u00addampf\u00adschiff", ["Donaudampfschiff"]),
        ("before\0after", ["before", "after"]),
    ],
)
def test_words_of_every_script_are_found(document: str, queries: list[str]) -> None:
    others = ["other words", "他の文", "นี่", "다른", None]
    with collection([document, *others]) as made:
        for query in queries:
            assert found(made, query) == {0}, query
        assert made.search(text=queries[0])[0].document == document
        assert made.get(0)[0].document == document


@pytest.mark.parametrize("query", ["国語", "門京", "ไมย", "क", "ह", "stanbul", "", "。", "👍", "\ud800", '"', "*"])
def test_what_is_not_there_is_not_found(query: str) -> None:
    with collection(["各国の人々は日本語を話す", "我愛北京天安門", "ภาษาไทย", "हिन्दी में", "İstanbul"]) as made:
        assert found(made, query) == set()


pieces = st.sampled_from(["dog", "Dog", "café", "İz", "iz", "Straße", "x_y", "42", " ", " ", ", ", "。", "\0", "…\xa0"])
texts = st.lists(pieces | st.text(UNSPACED, min_size=1, max_size=3), max_size=6).map("".join)
ways = st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"])


def folded(word: str) -> str:
    letters = unicodedata.normalize("NFD", word)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).lower()


def tokens(text: str, *, query: bool) -> set[str]:
    """Words as they are compared. Of a document also the single characters of what has no spaces."""
    result = set()
    for run in re.findall(rf"[{UNSPACED}]+|[^\W_{UNSPACED}]+", text):
        if run[0] not in UNSPACED:
            result.add(folded(run))
            continue
        result.update(run[at : at + 2] for at in range(len(run) - 1))
        if not query or len(run) == 1:
            result.update(run)
    return result


@settings(max_examples=examples(300))
@given(documents=st.lists(texts, min_size=1, max_size=8), query=texts, form=ways, asked=ways)
def test_search_finds_what_a_plain_tokenizer_finds(documents: list[str], query: str, form: Any, asked: Any) -> None:
    query = query.replace("_", " ")  # a word with _ in it is looked for as a whole
    wanted = tokens(query, query=True)
    expected = {at for at, document in enumerate(documents) if tokens(document, query=False) & wanted}
    with collection([unicodedata.normalize(form, document) for document in documents]) as made:
        assert found(made, unicodedata.normalize(asked, query)) == expected
        assert made.check().ok
        made.upsert(range(len(documents)), np.ones((len(documents), 2)), documents=documents[::-1])
        assert found(made, query) == {len(documents) - 1 - at for at in expected}
        made.delete(range(0, len(documents), 2))
        assert found(made, query) == {at for at in found(made, query) if at % 2}
        assert made.check().ok


@settings(max_examples=examples(200))
@given(documents=st.lists(st.text(max_size=12), max_size=5), query=st.text(max_size=6))
def test_any_text_can_be_stored_looked_for_and_removed(documents: list[str], query: str) -> None:
    with collection([*documents]) as made:
        found(made, query)
        assert [record.document for record in made] == documents
        made.upsert(range(len(documents)), np.ones((len(documents), 2)), documents=[query] * len(documents))
        assert made.check().ok
        made.clear()
        assert made.check().ok


def test_repair_rebuilds_the_full_text_index() -> None:
    with collection(["日本語", "cafe\u0301"]) as made:
        made._store.database.main.execute("INSERT INTO texts(texts) VALUES ('delete-all')")
        assert not made.check().ok
        assert made.check(repair=True).ok
        assert found(made, "本語") == {0}
        assert found(made, "café") == {1}


# ---- collections of an earlier version -----------------------------------------------------------------------------
# OLD was made by version 0.1.0: open(path, 2, "l2", quantization="none", M=4, ef_construction=20), upsert and
# create_index("Year"); then VACUUM, in pages of 512 bytes.


def test_an_old_collection_is_indexed_again_when_opened_for_writing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, seen = Path(shutil.copy(OLD, tmp_path)), []
    with caplog.at_level(logging.INFO), edgevec.open(path, progress=lambda *so_far: seen.append(so_far)) as made:
        assert "indexed again" in caplog.text
        assert (5, 5) in seen
        check_words(made)
        assert made.check().ok
        assert made.indexes() == ["Year"]
        made.upsert("b", [1, 1], documents="他の文")
        assert found(made, "日本語") == set()
        assert found(made, "他") == {"b"}
    caplog.clear()
    with edgevec.open(path) as made:
        assert found(made, "他の") == {"b"}
        assert made.check().ok
    assert caplog.text == ""


def check_words(made: Collection) -> None:
    assert found(made, "wolves") == {"a"}
    assert found(made, "日本語") == {"b"}
    assert found(made, "ไทย") == {3}
    assert found(made, "İstanbul") == {4}
    assert found(made, "café") == {"f"}


def test_an_old_collection_opened_for_reading_says_so_and_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(OLD, tmp_path))
    before = path.read_bytes()
    with edgevec.open(path, mode="r") as reader:
        assert "earlier edgevec" in caplog.text
        assert found(reader, "wolves") == {"a"}
        assert found(reader, "日本語") == set()
        assert found(reader, "各国の人々は日本語を話す") == {"b"}
        assert path.read_bytes() == before
    if sys.platform == "emscripten":  # one connection at a time
        return
    with edgevec.open(path, mode="r") as reader, edgevec.open(path):
        check_words(reader)


@pytest.mark.parametrize("how", ["stop", "raise"])
def test_an_upgrade_that_ends_early_leaves_the_old_collection(tmp_path: Path, how: str) -> None:
    path = Path(shutil.copy(OLD, tmp_path))

    def progress(done: int, total: int) -> bool:
        if how == "raise":
            raise KeyError(done)
        return False

    with pytest.raises(edgevec.EdgevecError if how == "stop" else KeyError):
        edgevec.open(path, progress=progress)
    assert version(path) == 1
    with edgevec.open(path, mode="r") as reader:
        assert found(reader, "wolves") == {"a"}
    with edgevec.open(path) as made:
        check_words(made)
        assert made.check().ok


@pytest.mark.subprocess
def test_an_upgrade_that_is_killed_leaves_the_old_collection(tmp_path: Path) -> None:
    path = Path(shutil.copy(OLD, tmp_path))
    code = "import edgevec, os, sys; edgevec.open(sys.argv[1], progress=lambda *_: os._exit(9))"
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 9
    assert version(path) == 1
    with edgevec.open(path) as made:
        check_words(made)
        assert made.check().ok


def test_a_damaged_document_does_not_stop_the_upgrade(tmp_path: Path) -> None:
    path = Path(shutil.copy(OLD, tmp_path))
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TRIGGER text_changed")
        raw.execute("UPDATE records SET document = CAST(x'ff41' AS TEXT) WHERE id = 'a'")
        raw.execute("UPDATE records SET document = x'00ff' WHERE id = 'f'")
    with edgevec.open(path) as made:
        assert found(made, "日本語") == {"b"}
    assert version(path) == 2


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("PRAGMA user_version").fetchone()[0])
