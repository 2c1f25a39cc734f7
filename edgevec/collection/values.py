"""What people pass as ids, metadata and documents, checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays import as_rows
from ..errors import DuplicateIdError, NotFiniteError, ParameterError, ZeroVectorError

__all__ = ["Id", "as_documents", "as_keys", "as_metadata", "as_texts", "as_vectors", "is_one", "refuse_repeated"]

Id = int | str

MAX_NESTING = 500
"""SQLite reads JSON to a depth of 1000 or 2000, depending on its version; Python writes some 990."""

LONGEST = 1e37
"""Squared length from which the core refuses a vector."""


def is_one(ids: Any) -> bool:
    """Whether this is one id rather than a list of them."""
    return isinstance(ids, (str, int, np.integer)) or (isinstance(ids, np.ndarray) and ids.ndim == 0)


def as_keys(ids: Any) -> list[Id]:
    """A list of int (64 bits) and str."""
    if is_one(ids):
        ids = [ids]
    if isinstance(ids, (Mapping, bytes)) or not isinstance(ids, Iterable):
        raise ParameterError(f"ids must be integers or strings, not {type(ids).__name__}")
    keys = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    return [_as_key(key, at) for at, key in enumerate(keys)]


def _as_key(key: Any, at: int) -> Id:
    if isinstance(key, np.integer):
        key = int(key)
    if isinstance(key, str):
        _check_text(key, f"id {at}")
        if "\0" in key:
            raise ParameterError(f"id {at} holds a NUL")
        return str(key)
    if isinstance(key, int) and not isinstance(key, bool):
        if not -(2**63) <= key < 2**63:
            raise ParameterError(f"id {at} is {key}, which is more than 64 bits")
        return key
    raise ParameterError(f"id {at} must be an integer or a string, not {key!r}")


def refuse_repeated(keys: Sequence[Id]) -> None:
    if len(set(keys)) == len(keys):
        return
    seen: set[Id] = set()
    for at, key in enumerate(keys):
        if key in seen:
            raise DuplicateIdError(f"id {key!r} comes twice, the second time at {at}")
        seen.add(key)


def as_vectors(vectors: Any, count: int, dim: int | None, metric: str, dtype: str) -> NDArray[Any]:
    """[count, dim] in the type that is stored. Refuses, by row, what an index would refuse."""
    if dim is None:
        try:
            shape = np.shape(vectors)
        except ValueError as error:
            raise ParameterError(f"vectors cannot be read as an array of numbers: {error}") from error
        if count == 0 and 0 in shape:
            return np.empty((0, 0), dtype)
        dim = int(shape[-1]) if shape else 0
        if not 1 <= dim <= 65535:
            raise ParameterError("the dimensions of the first vectors must be in 1..65535")
    rows = as_rows(vectors, dim, "vectors").reshape(-1, dim)
    if len(rows) != count:
        raise ParameterError(f"{count} ids but {len(rows)} vectors")
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(rows, dtype)
    # Not einsum or a float32 sum: what overflows there may still be a vector.
    norms = np.square(stored.astype(np.float64)).sum(axis=1)
    wrong = np.flatnonzero(~(norms < LONGEST))
    if wrong.size:
        raise NotFiniteError(f"row {wrong[0]}: NaN, infinity or too long a vector for {dtype}")
    if metric == "cosine" and (norms == 0).any():
        raise ZeroVectorError(f"row {np.flatnonzero(norms == 0)[0]}: a zero vector has no direction")
    return stored


def as_metadata(metadata: Any, count: int) -> list[str]:
    """One JSON object a record, as text."""
    if metadata is None:
        return ["{}"] * count
    if isinstance(metadata, Mapping):
        metadata = [metadata]
    if len(metadata) != count:
        raise ParameterError(f"{count} ids but metadata of {len(metadata)}")
    return [_as_object(fields, at) for at, fields in enumerate(metadata)]


def _as_object(fields: Any, at: int) -> str:
    if fields is None:
        return "{}"
    if not isinstance(fields, Mapping):
        raise ParameterError(f"metadata {at} must be a dict, not {type(fields).__name__}")
    try:
        text = json.dumps(dict(fields), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
        _check_text(text, f"metadata {at}")
    except RecursionError:
        raise ParameterError(f"metadata {at} is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise ParameterError(f"metadata {at} is not JSON: {error}") from error
    if text.count("[") + text.count("{") > MAX_NESTING and _nesting(fields) > MAX_NESTING:
        raise ParameterError(f"metadata {at} is nested more than {MAX_NESTING} deep")
    return text


def _plain(value: Any) -> Any:
    """What json does not know, as what it knows: NumPy's numbers and arrays, dates and times."""
    for method in ("tolist", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _nesting(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        level = [
            inner
            for outer in level
            if isinstance(outer, (Mapping, list, tuple))
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        deepest += 1
    return deepest - 1


def as_documents(documents: Any, count: int) -> list[str | None]:
    if documents is None:
        return [None] * count
    if isinstance(documents, str):
        documents = [documents]
    if len(documents) != count:
        raise ParameterError(f"{count} ids but {len(documents)} documents")
    return [_as_document(document, at) for at, document in enumerate(documents)]


def _as_document(document: Any, at: int) -> str | None:
    if document is None:
        return None
    if not isinstance(document, str):
        raise ParameterError(f"document {at} must be a string, not {type(document).__name__}")
    _check_text(document, f"document {at}")
    return str(document)


def as_texts(documents: Sequence[str | None]) -> list[str]:
    """The documents of records that come without vectors, for the encoder."""
    for at, document in enumerate(documents):
        if document is None:
            raise ParameterError(f"record {at} has neither a vector nor a document to make one from")
    return [document for document in documents if document is not None]


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(f"{what} holds half of a surrogate pair at {error.start}") from None
