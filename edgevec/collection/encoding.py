"""Vectors of texts by the collection's encoder, checked, and its name, which the collection keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._types import Metric
from .._validation import as_rows
from ..encoders import TextEncoder
from ..errors import NotFiniteError, ParameterError, ZeroVectorError
from ..printable import brief
from .store import Store
from .validation import NewRecords, are_valid, as_texts

__all__ = ["documents", "encode", "keep_name", "queries", "query"]


def documents(store: Store, encoder: TextEncoder | None, new: NewRecords) -> NDArray[np.float32] | list[Any]:
    """The vectors of these records' documents."""
    return encode(store, encoder, as_texts(new.documents), "vectors are missing: give them")


def encode(
    store: Store, encoder: TextEncoder | None, texts: list[str], problem: str
) -> NDArray[np.float32] | list[Any]:
    """float32[n, dim], vectors of texts that are stored. problem: in front of the error where there is no encoder."""
    if encoder is None:
        raise ParameterError(f"{problem}, or {_lacking(store)}")
    return _checked(encoder.documents(texts), encoder, texts, store.dim, store.metric) if texts else []


def query(store: Store, encoder: TextEncoder | None, text: str) -> NDArray[np.float32]:
    """float32[dim], the vector of a text that is searched for."""
    vector: NDArray[np.float32] = queries(store, encoder, [text])[0]
    return vector


def queries(store: Store, encoder: TextEncoder | None, texts: list[str]) -> NDArray[np.float32]:
    """float32[n, dim], the vectors of texts that are searched for, at least one: by one call of the encoder."""
    if encoder is None:
        raise ParameterError(f"to search for a text by its vector, {_lacking(store)}; text= searches for its words")
    return _checked(encoder.queries(texts), encoder, texts, store.dim, store.metric)


def keep_name(store: Store, encoder: TextEncoder | None) -> bool:
    """Whether the collection is yet to keep the name of the encoder that has made vectors for it."""
    return encoder is not None and encoder.name is not None and store.encoder is None


def _lacking(store: Store) -> str:
    name = store.encoder
    return "open the collection with " + ("an encoder" if name is None else f"encoder={name!r}, which is its own")


def _checked(
    vectors: Any, encoder: TextEncoder, texts: list[str], dim: int | None, metric: Metric
) -> NDArray[np.float32]:
    """What an encoder has returned: as many vectors as texts, of the right dimension, that the index takes."""
    who = f"the encoder {encoder.label}"
    try:
        shape = np.shape(vectors)
        rows = as_rows(vectors, shape[-1] if shape else 0, "vectors")
    except (ParameterError, TypeError, ValueError) as error:
        raise ParameterError(f"{who} returned what is no array of vectors: {error}") from error
    if rows.ndim == 1 and len(texts) == 1:
        rows = rows[None]
    if rows.ndim != 2 or len(rows) != len(texts):
        raise ParameterError(f"{who} returned {len(rows)} vectors for {len(texts)} texts")
    found = rows.shape[1]
    if not 1 <= found <= 65535 or (dim is not None and found != dim):
        wanted = "1..65535 are possible" if dim is None else f"the collection has {dim}"
        raise ParameterError(f"{who} makes vectors of {found} dimensions; {wanted}")
    valid = are_valid(rows, metric)
    if not valid.all():
        at = int(np.flatnonzero(~valid)[0])
        if rows[at].any():
            raise NotFiniteError(f"{who}: NaN, infinity or too long a vector for the text {brief(texts[at])}")
        raise ZeroVectorError(f"{who}: a zero vector, which has no direction, for the text {brief(texts[at])}")
    return rows
