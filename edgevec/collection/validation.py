"""Ids, vectors, metadata and documents, checked before anything is written."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._validation import as_rows
from ..errors import DuplicateIdError, NotFiniteError, ParameterError, ZeroVectorError
from ..printable import brief
from .dates import as_iso, as_seconds, is_nat

__all__ = [
    "Id",
    "NewRecords",
    "are_valid",
    "as_documents",
    "as_metadata",
    "as_records",
    "as_texts",
    "as_vectors",
    "is_single_id",
    "json_default",
    "json_name",
    "reject_duplicates",
    "validate_ids",
]

Id = int | str

MAX_NESTING = 500
"""SQLite reads JSON up to a depth of 1000 or 2000, depending on its version; Python writes about 990."""

MAX_SQUARED_NORM = 1e37
"""The core refuses a vector whose squared length is this or more."""


class NewRecords(NamedTuple):
    """Records to be stored, without their vectors."""

    ids: list[Id]
    """No two are the same."""
    metadata: list[str]
    """A JSON object each."""
    documents: list[str | None]


def as_records(ids: Any, metadata: Any, documents: Any) -> NewRecords:
    """What is passed to Collection.upsert(), checked."""
    valid = validate_ids(ids)
    reject_duplicates(valid)
    return NewRecords(valid, as_metadata(metadata, len(valid)), as_documents(documents, len(valid)))


def is_single_id(ids: Any) -> bool:
    """Whether this is one id rather than a list of them."""
    return isinstance(ids, (str, int, np.integer)) or (isinstance(ids, np.ndarray) and ids.ndim == 0)


def validate_ids(ids: Any) -> list[Id]:
    """A list of int (64 bits) and str."""
    if is_single_id(ids):
        ids = [ids]
    if isinstance(ids, (Mapping, bytes)) or not isinstance(ids, Iterable):
        raise ParameterError(f"ids must be integers or strings, not {type(ids).__name__}")
    dtype = getattr(ids, "dtype", None)
    if getattr(dtype, "kind", "") in ("m", "M"):  # tolist() may turn them into integers
        raise ParameterError(f"ids must be integers or strings, not {dtype}")
    found = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    return [_as_id(id, at) for at, id in enumerate(found)]


def _as_id(key: Any, at: int) -> Id:
    if isinstance(key, np.integer) and not isinstance(key, np.timedelta64):
        key = int(key)
    if isinstance(key, str):
        _check_text(key, f"id {at}")
        if "\0" in key:
            raise ParameterError(f"id {at} contains a NUL")
        return str.__str__(key)  # the value: str() of an enum's member may be its name
    if isinstance(key, int) and not isinstance(key, bool):
        if not -(2**63) <= key < 2**63:
            raise ParameterError(f"id {at} is {brief(key)}, which does not fit in 64 bits")
        return int.__int__(key)
    raise ParameterError(f"id {at} must be an integer or a string, not {brief(key)}")


def reject_duplicates(keys: Sequence[Id]) -> None:
    if len(set(keys)) == len(keys):
        return
    seen: set[Id] = set()
    for at, key in enumerate(keys):
        if key in seen:
            raise DuplicateIdError(f"id {key!r} comes twice, the second time at {at}")
        seen.add(key)


def as_vectors(vectors: Any, count: int, dim: int | None, metric: str, dtype: str) -> NDArray[Any]:
    """[count, dim] in the stored dtype. Refuses what an index would refuse, and names the row."""
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
    # The core checks again, but only when the batch is committed: too late to name the record, or to let one call of
    # several fail by itself. This pass costs a 2,000th of a large upsert.
    valid = are_valid(stored, metric)
    if not valid.all():
        raise _invalid(stored, np.flatnonzero(~valid))
    return stored


def are_valid(vectors: NDArray[Any], metric: str) -> NDArray[np.bool_]:
    """bool[n]: which of the vectors [n, dim] an index takes."""
    vectors = vectors.astype(np.float32, copy=False)
    norms = np.einsum("ij,ij->i", vectors, vectors)  # squared, in float32, and without a warning when they overflow
    valid: NDArray[np.bool_] = (norms > 0) & (norms < MAX_SQUARED_NORM / 10)
    if not valid.all():
        unclear = np.flatnonzero(~valid)
        exact = np.square(vectors[unclear].astype(np.float64)).sum(axis=1)  # as the core sums them
        valid[unclear] = (exact < MAX_SQUARED_NORM) & ((exact > 0) | (metric != "cosine"))
    return valid


def _invalid(vectors: NDArray[Any], rows: NDArray[np.int64]) -> NotFiniteError | ZeroVectorError:
    """The error for these rows."""
    wrong = rows[vectors[rows].any(axis=1)]
    if wrong.size:
        return NotFiniteError(f"row {wrong[0]}: NaN, infinity or too long a vector for {vectors.dtype}")
    return ZeroVectorError(f"row {rows[0]}: a zero vector has no direction")


def as_metadata(metadata: Any, count: int) -> list[str]:
    """A JSON object for each record, as text."""
    if metadata is None:
        return ["{}"] * count
    if isinstance(metadata, Mapping):
        metadata = [metadata]
    if hasattr(metadata, "columns"):  # which a loop would take for the names of its columns
        raise ParameterError("metadata is a table, not dicts; import_from() stores a whole table")
    if len(metadata) != count:
        raise ParameterError(f"{count} ids but metadata of {len(metadata)}")
    return [_as_object(fields, at) for at, fields in enumerate(metadata)]


def _as_object(fields: Any, at: int) -> str:
    if fields is None:
        return "{}"
    if not isinstance(fields, Mapping):
        raise ParameterError(f"metadata {at} must be a dict, not {type(fields).__name__}")
    try:
        text = _as_json(dict(fields))
    except RecursionError:
        raise ParameterError(f"metadata {at} is nested too deeply") from None
    except TypeError as error:
        raise ParameterError(f"metadata {at} is not JSON: {error}{_failing_field(fields)}") from error
    except ValueError as error:  # a circle, or a float that is none of JSON's
        why = "NaN and infinity are not; None is" if "float" in str(error) else str(error)
        raise ParameterError(f"metadata {at} is not JSON: {why}{_failing_field(fields)}") from error
    if text.count("[") + text.count("{") > MAX_NESTING and _nesting(fields) > MAX_NESTING:
        raise ParameterError(f"metadata {at} is nested too deeply; the limit is {MAX_NESTING} levels")
    plain = "\\u0000" not in text and text.find("{", 1) < 0 and not _has_surrogate(text)
    return text if plain and all(type(name) is str and '"' not in name for name in fields) else _checked(text, at)


def _as_json(fields: dict[Any, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=json_default)


def _failing_field(fields: Mapping[Any, Any]) -> str:
    for name, value in fields.items():
        try:
            _as_json({name: value})
        except (TypeError, ValueError):
            return f" (field {name!r})"
    return ""


def _checked(text: str, at: int) -> str:
    """ParameterError for what SQLite reads differently: two fields of one name, NUL, unpaired surrogates."""
    quotes = False

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal quotes
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ParameterError(f"metadata {at} has two fields that are {twice!r} as a text")
        for name, value in pairs:
            quotes = quotes or '"' in name
            for part in (name, *_texts_in(value)):
                if "\0" in part:
                    raise ParameterError(f"metadata {at} contains a NUL in the field {name!r}")
                if _has_surrogate(part):
                    raise ParameterError(f"metadata {at} contains an unpaired surrogate in the field {name!r}")
        return fields

    json.loads(text, object_pairs_hook=check)
    return _without_quotes(text) if quotes else text


_SURROGATE = re.compile("[\ud800-\udfff]")


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


def _texts_in(value: Any) -> Iterator[str]:
    """The texts in a value and in lists; objects were checked when they were read."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting.extend(value)


def json_name(name: str) -> str:
    """A field's name in quotes, as it is written in metadata and in the paths of SQLite's JSON functions."""
    return _without_quotes(json.dumps(name, ensure_ascii=False))


def _without_quotes(text: str) -> str:
    """JSON with its quotes escaped as \\u0022: in a path, older SQLites take any quote for the end of a name."""
    return re.sub(r"\\(.)", lambda escaped: r"\u0022" if escaped[1] == '"' else escaped[0], text)


def json_default(value: Any) -> Any:
    """For json.dumps(default=...): NumPy's numbers and arrays, dates, times and durations (in seconds).

    Raises:
        TypeError: there is no JSON value for it
        ValueError: a date beyond the years 1 to 9999, a duration of months or years
    """
    if is_nat(value):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in ("m", "M"):  # tolist() may turn them into integers
        return list(value) if value.ndim else value[()]
    known = as_iso(value)
    if known is not None:
        return known
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        return as_seconds(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


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
        raise ParameterError(f"document {at} must be a string or None, not {brief(document)}")
    _check_text(document, f"document {at}")
    return str.__str__(document)


def as_texts(documents: Sequence[str | None]) -> list[str]:
    """The documents, for the encoder: none may be missing."""
    for at, document in enumerate(documents):
        if document is None:
            raise ParameterError(f"record {at} has neither a vector nor a document to make one from")
    return [document for document in documents if document is not None]


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(f"{what} contains an unpaired surrogate at position {error.start}") from None
