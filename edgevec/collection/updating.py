"""Changes of some fields of records that exist: what the others hold is read, and stored again, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._types import Progress
from ..encoders import TextEncoder
from ..errors import ParameterError
from . import encoding, operations, validation
from .records import Record
from .store import Store
from .validation import Id, NewRecords
from .where import Condition

__all__ = ["Changes", "as_changes", "update"]

_RECORDS = 1024
"""Records that are read, and stored again, at a time."""

_Fields = dict[str, Any]


class Changes(NamedTuple):
    """What records are to hold from now on, by their position; None: what they hold already."""

    metadata: list[_Fields] | _Fields | None
    """Fields of each, or of all. One that is None is taken away."""
    documents: list[str | None] | None
    vectors: Mapping[int, NDArray[Any]]
    """Of those that get another one."""
    encoder: TextEncoder | None
    """What made the vectors, if it did."""

    def of(self, at: int, record: Record) -> tuple[_Fields, str | None, NDArray[Any]]:
        """Metadata, document and vector of the record at this position."""
        given = self.metadata[at] if isinstance(self.metadata, list) else self.metadata or {}
        kept = {name: value for name, value in record.metadata.items() if name not in given}
        fields = {name: value for name, value in given.items() if value is not None}
        document = record.document if self.documents is None else self.documents[at]
        return {**kept, **fields}, document, self.vectors.get(at, record.vector)

    def taken(self, places: Sequence[int]) -> Changes:
        """Of the records at these positions."""
        metadata, documents, vectors = self.metadata, self.documents, self.vectors
        return Changes(
            [metadata[at] for at in places] if isinstance(metadata, list) else metadata,
            None if documents is None else [documents[at] for at in places],
            {to: vectors[at] for to, at in enumerate(places) if at in vectors},
            self.encoder,
        )


def as_changes(
    store: Store, ids: list[Id] | None, metadata: Any, documents: Any, vectors: Any, encoder: TextEncoder | None
) -> Changes:
    """What is passed to Collection.update(), checked. ids: None where it is of those that satisfy a condition."""
    validation.reject_duplicates(ids or [])
    count = None if ids is None else len(ids)
    if metadata is None and documents is None and vectors is None:
        raise ParameterError("give metadata, documents or vectors: there is nothing to change")
    if count is None and (documents is not None or vectors is not None or not isinstance(metadata, Mapping)):
        raise ParameterError("with where, give metadata alone: a dict, whose fields all of the records get")
    texts = None if documents is None else validation.as_documents(documents, count or 0)
    made: dict[int, NDArray[Any]] = {}
    if vectors is not None:
        given = validation.as_vectors(vectors, count or 0, store.dim, store.metric, store.dtype)
        made, encoder = dict(enumerate(given)), None
    elif texts is not None and (encoder is not None or store.encoder is not None):
        made = _encoded(store, encoder, texts)
    return Changes(_as_fields(metadata, count), texts, made, encoder if made else None)


def _as_fields(metadata: Any, count: int | None) -> list[_Fields] | _Fields | None:
    """As JSON has them."""
    if metadata is None:
        return None
    if isinstance(metadata, Mapping):
        fields: _Fields = json.loads(validation.as_metadata(metadata, 1)[0])
        return fields
    return [json.loads(text) for text in validation.as_metadata(metadata, count or 0)]


def _encoded(store: Store, encoder: TextEncoder | None, documents: list[str | None]) -> dict[int, NDArray[Any]]:
    """The vectors of the texts, by their position. ParameterError: the collection was opened without its encoder."""
    texts = {at: text for at, text in enumerate(documents) if text is not None}
    if not texts:
        return {}
    problem = "new documents take new vectors: give them"
    return dict(zip(texts, encoding.encode(store, encoder, list(texts.values()), problem), strict=True))


def update(
    store: Store, ids: list[Id] | None, condition: Condition, changes: Changes, progress: Progress | None
) -> int:
    """As Collection.update(). condition: in place of ids, where they are None."""
    with store.batch(progress):
        if ids is None:
            ids = operations.ids_where(store, condition)
        report = store.progress_guard.wrap(progress)
        for start in range(0, len(ids), _RECORDS):
            end = min(start + _RECORDS, len(ids))
            _update(store, ids[start:end], start, changes)
            if report is not None:
                report(end, len(ids))
    return len(ids)


def _update(store: Store, ids: list[Id], start: int, changes: Changes) -> None:
    """Of these records, the first of which has the position `start`."""
    found = operations.get(store, ids, "raise")
    metadata, documents, vectors = zip(*(changes.of(at, record) for at, record in enumerate(found, start)), strict=True)
    new = NewRecords(ids, validation.as_metadata(metadata, len(ids)), list(documents))
    operations.upsert(store, new, np.stack(vectors), encoder=changes.encoder)
