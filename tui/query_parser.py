"""Parses what is typed as a query.

yellow fruit that monkeys like      a text: its vector, where there is an encoder; else its words, in a collection
words: yellow fruit                 documents of a collection with these words, by BM25
both: yellow fruit                  the text's vector and its words, both rankings fused
#17  or  like row 17                the vector of a row, counted from 0
id:17  or  id:"17"                  the vector stored with an id; in quotes it is a text and no number
[0.1, -0.2, ...]                    a vector
@queries.npy 3                      row 3 of a file of vectors; without a number, its first
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

import edgevec
from edgevec import ParameterError, UnknownIdError
from edgevec.file_kind import require
from edgevec.printable import printable

from .backends.base import SearchBackend
from .models import Data, Floats, Id, QuerySpec

__all__ = ["ParsedQuery", "id_query", "parse_query", "placeholder"]

_ROW = re.compile(r"(?:#|like\s+row\s+|row\s+)(-?\d+)$", re.IGNORECASE)
_ID = re.compile(r"id\s*:\s*(?:(-?\d+)|\"((?:[^\"\\]|\\.)*)\"|(.+))$", re.IGNORECASE)
_RANKED = re.compile(r"(words|both)\s*:\s*(.*)$", re.IGNORECASE | re.DOTALL)
_FILE = re.compile(r"@\s*(.+?)(?:\s+(\d+))?$")


class ParsedQuery(NamedTuple):
    """A parsed query. description: in words, for the screen."""

    description: str
    query: QuerySpec


def id_query(id: Id) -> str:
    """The query text that searches near the record with this id."""
    plain = isinstance(id, int) or re.fullmatch(r"[^\W\d][\w./:-]*", id)
    return f"id:{id if plain else json.dumps(id, ensure_ascii=printable(id) != id)}"


def placeholder(data: Data) -> str:
    """A hint for the empty query box: the kinds of query that this data set takes."""
    said = data.collection and data.texts is not None
    ways = ["a text"] if data.encode is not None or said else []
    if said and data.encode is not None:
        ways += ["words: …", "both: …"]
    return ", ".join([*ways, "#17, id:17, [0.1, …] or @file.npy 3"])


def parse_query(typed: str, data: Data, backend: SearchBackend) -> ParsedQuery | None:
    """Parse a query; None for an empty one. It may be slow, since it encodes texts and reads files.

    Raises ParameterError for what is not a query of this data set.
    """
    typed = typed.strip()
    if not typed:
        return None
    if row := _ROW.match(typed):
        return _row(int(row[1]), data, backend)
    if (id := _ID.match(typed)) and (id[1] or data.collection):
        return _id(id, data, backend)
    if typed.startswith("["):
        vector = _vector(typed, backend.dim)
        return ParsedQuery(f"near a vector of {backend.dim} numbers", QuerySpec(vector))
    if file := _FILE.match(typed):
        path, at = Path(file[1]).expanduser(), int(file[2] or 0)
        return ParsedQuery(f"near row {at} of {path.name}", QuerySpec(_of_file(path, at, backend.dim)))
    return _text(typed, data)


def _id(match: re.Match[str], data: Data, backend: SearchBackend) -> ParsedQuery | None:
    number, quoted, plain = match.groups()
    id: Id = int(number) if number else plain if quoted is None else json.loads(f'"{quoted}"')

    try:
        vector = backend.vector(id)
    except UnknownIdError as unknown:
        if number is None or not data.collection:
            raise
        try:
            vector = backend.vector(number)  # a text of digits
        except UnknownIdError:
            raise unknown from None  # of the number, which is what was typed
    return ParsedQuery(f"near the vector of id {id}", QuerySpec(vector))


def _text(typed: str, data: Data) -> ParsedQuery | None:
    ranked = _RANKED.match(typed) if data.collection and data.texts is not None else None
    ranking, words = (ranked[1].lower(), ranked[2].strip()) if ranked else ("", typed)
    if not words:
        return None
    encode = data.encode
    if ranking == "words" or (encode is None and data.collection and data.texts is not None):
        if ranking == "both":
            raise ParameterError(f"{data.name}: there is no encoder for its vectors; words: … asks for words alone")
        return ParsedQuery("documents with these words, by BM25", QuerySpec(None, words))
    if encode is None:
        why = "no documents to find words in" if data.collection else "no encoder for texts"
        raise ParameterError(f"{data.name} has {why}; ask with #17 (a row), id:17, [0.1, …] or @file.npy 3")
    unknown = data.unknown_words(words) if data.unknown_words is not None else []
    aside = f" (the encoder does not know: {', '.join(unknown)})" if unknown else ""
    if ranking == "both":
        return ParsedQuery(f"near this text{aside}, and documents with its words", QuerySpec(encode(words), words))
    return ParsedQuery(f"near this text{aside}", QuerySpec(encode(words)))


def _row(row: int, data: Data, backend: SearchBackend) -> ParsedQuery:
    if not 0 <= row < len(backend):
        raise ParameterError(f"there is no row {row}, only 0 to {len(backend) - 1:,}")
    if data.vectors is None:
        return ParsedQuery(f"near row {row}", QuerySpec(backend.vector(backend.ids()[row])))
    vector: Floats = data.vectors[row]
    return ParsedQuery(f"near row {row}", QuerySpec(vector))


def _vector(typed: str, dim: int) -> Floats:
    try:
        vector = np.asarray(json.loads(typed), np.float32)
    except (ValueError, TypeError, RecursionError):
        raise ParameterError("not a vector yet: numbers with commas between them, in [ ]") from None
    if vector.shape != (dim,):
        raise ParameterError(f"a vector of {vector.size} numbers, but the index has {dim} dimensions")
    return vector


def _of_file(path: Path, row: int, dim: int) -> Floats:
    require(path, "vectors")
    vectors = edgevec.read_vectors(path, limit=row + 1).vectors
    if row >= len(vectors):
        raise ParameterError(f"{path.name} has no row {row}, only 0 to {len(vectors) - 1:,}")
    if vectors.shape[1] != dim:
        raise ParameterError(f"{path.name} holds vectors of {vectors.shape[1]} dimensions, the index has {dim}")
    vector: Floats = vectors[row]
    return vector
