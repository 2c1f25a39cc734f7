"""The package's own sample, built once a session for all tests that need an index of real data."""

from __future__ import annotations

import functools
import pickle

import numpy as np
from oracle import Ids, Rows

import edgevec
from edgevec import Quantization, samples

HELD_OUT = 200


@functools.cache
def sample() -> samples.WordNet:
    return samples.wordnet()


@functools.cache
def split() -> tuple[Rows, Ids, Rows]:
    """What is indexed, its rows in the sample, and the rows kept out of the index as queries."""
    order = np.random.default_rng(0).permutation(len(sample()))
    kept = np.sort(order[HELD_OUT:])
    return sample().vectors[kept], kept, sample().vectors[order[:HELD_OUT]]


@functools.cache
def encoded_texts() -> Rows:
    """Queries as people type them: the definitions of some entries, by the sample's own encoder."""
    texts = [text.split(": ", 1)[1] for text in sample().texts[::125]]
    return np.stack([sample().encode(text) for text in texts])


@functools.cache
def _pickled(quantization: Quantization, first: int | None) -> bytes:
    rows, _, _ = split()
    index = edgevec.Index(
        rows.shape[1], "cosine", quantization=quantization, ef_construction=200 if first is None else 100
    )
    index.add(rows[:first])
    return pickle.dumps(index)


def sample_index(quantization: Quantization, first: int | None = None) -> edgevec.Index:
    """An index of the (first) rows of split(), ids = their order there. Each call gives one of its own."""
    index: edgevec.Index = pickle.loads(_pickled(quantization, first))
    return index
