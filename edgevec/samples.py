"""Real data to try things with: 25,000 entries of WordNet as vectors, and an encoder for queries.

    sample = edgevec.samples.wordnet()
    index = edgevec.Index(sample.dim)
    index.add(sample.vectors, sample.ids)
    found = index.search(sample.encode("device for measuring temperature"))
    print([sample.texts[id] for id in found.ids])

The vectors are all-MiniLM-L6-v2 embeddings of the entries, reduced from 384 to 128 dimensions by PCA. The encoder adds
up the vectors of a query's words, so it needs neither a model nor a network. The data, 6.5 MB, are a package of their
own: `pip install "edgevec[demo]"`.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import DataNotFoundError, ParameterError, about_file

if TYPE_CHECKING:
    from importlib.abc import Traversable  # moved to importlib.resources.abc by 3.11

__all__ = ["WordNet", "wordnet"]

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")


@dataclass(frozen=True, eq=False, repr=False)
class WordNet:
    """The sample; entry i is vectors[i], texts[i], topics[i], pos[i].

    Attributes:
        vectors: float32 [25000, 128], unit length
        texts: "words: definition"
        topics: one of 45, such as "noun.animal" or "verb.motion"
        pos: part of speech: "noun", "verb", "adjective", "adverb"
        ids: int64 [25000], 0 to 24,999, so that an id is also the entry's row

    Example:
        >>> from edgevec import samples
        >>> sample = samples.wordnet()
        >>> len(sample), sample.vectors.shape == (len(sample), sample.dim)
        (25000, True)
        >>> sample.encode("yellow fruit").shape
        (128,)
    """

    vectors: NDArray[np.float32]
    texts: list[str]
    topics: list[str]
    pos: list[str]
    ids: NDArray[np.int64]
    _words: dict[str, int]
    _word_vectors: NDArray[np.int8]
    _word_scales: NDArray[np.float32]

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def encode(self, text: str) -> NDArray[np.float32]:
        """The query vector of a text: float32 [128], unit length. Unknown words are passed over.

        Raises ParameterError, which names the words, when none of them is known.
        """
        words = _WORD.findall(text.lower())
        rows = [self._words[word] for word in words if word in self._words]
        vector = self._word_scales[rows] @ self._word_vectors[rows].astype(np.float32)
        length = np.linalg.norm(vector)
        if length == 0:
            unknown = ", ".join(dict.fromkeys(words)) or "the text has no words"
            raise ParameterError(f"no known word in the query {text!r}: {unknown}")
        return np.asarray(vector / length, np.float32)

    def unknown_words(self, text: str) -> list[str]:
        """Those that encode() passes over, each once."""
        return list(dict.fromkeys(word for word in _WORD.findall(text.lower()) if word not in self._words))

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"WordNet({len(self):,} x {self.dim})"


def _packaged() -> Traversable:
    try:
        return resources.files("edgevec_sample")
    except ModuleNotFoundError as error:
        raise DataNotFoundError('the WordNet sample is not installed: pip install "edgevec[demo]"') from error


def wordnet(path: str | os.PathLike[str] | None = None) -> WordNet:
    """Read the sample, in a fraction of a second.

    Args:
        path: the folder that holds wordnet25k.npz and entries.jsonl.gz; without it, those of edgevec-sample.

    Raises DataNotFoundError when they are not there.

    Example:
        >>> from edgevec import samples
        >>> sample = samples.wordnet()
        >>> sample.vectors.shape
        (25000, 128)
    """
    folder = _packaged() if path is None else Path(path)
    try:
        with (folder / "wordnet25k.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            vectors = arrays["vectors"].astype(np.float32)
            words = arrays["words"].tobytes().decode().split("\n")
            word_vectors, word_scales = arrays["word_vectors"], arrays["word_scales"].astype(np.float32)
        with (folder / "entries.jsonl.gz").open("rb") as stream, gzip.open(stream, "rt", encoding="utf-8") as lines:
            entries = [json.loads(line) for line in lines]
    except FileNotFoundError as error:
        missing = f"the WordNet sample is not in {folder}: {Path(error.filename or '').name} is missing"
        raise about_file(DataNotFoundError(missing), error.filename, error.errno) from error
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return WordNet(
        vectors=vectors,
        texts=[entry["text"] for entry in entries],
        topics=[entry["topic"] for entry in entries],
        pos=[entry["pos"] for entry in entries],
        ids=np.array([entry["id"] for entry in entries], np.int64),
        _words={word: row for row, word in enumerate(words)},
        _word_vectors=word_vectors,
        _word_scales=word_scales,
    )
