"""What servers offer: operations on a collection, from JSON to JSON, each described by the schema that checks it.

Ids are JSON integers and strings, and 1 and "1" are two ids, as everywhere. Clients that keep numbers as doubles round
integers beyond 2^53 - 1, and would then name other records without noticing. So these go both ways as
{"int64": "9007199254740993"}, and as plain numbers they are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ..collection import Collection, Hit, Record
from ..errors import ParameterError

__all__ = ["INFO", "Json", "Limits", "Operation", "RequestError", "find", "info", "operations", "parse"]

Json = dict[str, Any]
Id = int | str

_EXACT = 2**53 - 1
"""JavaScript's Number.MAX_SAFE_INTEGER."""
_INT64 = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)


class RequestError(ParameterError):
    """A request that is not what the API describes; the message names the part of it."""


class Limits(NamedTuple):
    """What one request may ask for."""

    body: int = 32_000_000
    """Bytes."""
    k: int = 1000
    """Results of a search."""
    batch: int = 10_000
    """Records that are stored, or ids that are named, or results of several searches together."""


class Operation(NamedTuple):
    """One thing that a client may ask for."""

    summary: str
    fields: dict[str, Json]
    """The JSON schema of each field of a request."""
    required: tuple[str, ...]
    answer: Json
    """The JSON schema of each field of the answer."""
    run: Callable[[Collection, Json], Json]
    """The fields, all of which are as described, to the answer."""
    writes: bool = False
    sometimes: tuple[str, ...] = ()
    """Fields of the answer that are not in every one."""


# ---- schemas ---------------------------------------------------------------------------------------------------------

_COUNT = {"type": "integer", "minimum": 0}
_ID: Json = {
    "description": 'An integer of at most 53 bits, {"int64": "..."} for a larger one, or a string.',
    "oneOf": [
        {"type": "integer", "minimum": -_EXACT, "maximum": _EXACT},
        {"type": "string"},
        {
            "type": "object",
            "properties": {"int64": {"type": "string", "pattern": f"^{_INT64.pattern}$"}},
            "required": ["int64"],
            "additionalProperties": False,
        },
    ],
}
_WHERE: Json = {
    "description": 'A condition on metadata: "year >= 1990 AND lang IN (\'de\', \'fr\')", or {"year": {"$gte": 1990}}.',
    "type": ["string", "object", "null"],
}
_PARAMS: Json = {"description": "Values for the condition's question marks.", "type": ["array", "null"]}
_UNKNOWN: Json = {
    "description": "Where nothing was found: the fields of the condition that no record has, with names like theirs.",
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "string"}},
}
_METADATA: Json = {"description": "A JSON object.", "type": ["object", "null"]}
_DOCUMENT: Json = {"description": "A text.", "type": ["string", "null"]}
_VECTOR: Json = {"type": "array", "items": {"type": "number"}}
_HIT: Json = {
    "type": "object",
    "properties": {
        "id": _ID,
        "score": {"type": "number"},
        "distance": {"type": ["number", "null"]},
        "metadata": _METADATA,
        "document": _DOCUMENT,
    },
}
_RECORD: Json = {
    "type": "object",
    "properties": {"id": _ID, "vector": _VECTOR, "metadata": _METADATA, "document": _DOCUMENT},
}

INFO: Json = {
    "name": {"type": "string", "description": "The name of the file."},
    "records": _COUNT,
    "dim": {"type": ["integer", "null"]},
    "metric": {"type": "string"},
    "quantization": {"type": "string"},
    "dtype": {"type": "string"},
    "encoder": {"type": ["string", "null"]},
    "indexes": {"type": "array", "items": {"type": "string"}},
    "writable": {"type": "boolean"},
}
"""The answer of info()."""


def operations(limits: Limits) -> dict[str, Operation]:
    """By name."""
    ids = {"type": "array", "items": _ID, "maxItems": limits.batch}
    common: dict[str, Json] = {
        "k": {"type": "integer", "minimum": 1, "maximum": limits.k, "default": 10},
        "where": _WHERE,
        "params": _PARAMS,
        "ef": {"type": ["integer", "null"], "minimum": 1, "maximum": 10 * limits.k},
        "exact": {"type": "boolean", "default": False},
        "recall": {"type": ["number", "null"]},
        "weights": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "include": _included("metadata", "document"),
    }
    return {
        "search": Operation(
            "The k best records, best first: by vector, by words, or by both",
            {
                "vector": {
                    "description": "A vector; or a text, from which the collection's encoder makes one.",
                    "type": ["array", "string", "null"],
                    "items": {"type": "number"},
                },
                "text": {
                    "description": "Words to find in the documents; with a vector, or an encoder, both rankings are "
                    "fused.",
                    "type": ["string", "null"],
                },
                **common,
            },
            (),
            {"hits": {"type": "array", "items": _HIT}, "strategy": {"type": "string"}, "unknown_fields": _UNKNOWN},
            _search,
            sometimes=("unknown_fields",),
        ),
        "search_many": Operation(
            "What search finds for each of several queries, all as of one state of the records",
            {
                "vectors": {
                    "description": "A vector for each query, or a text for each, from which the encoder makes one.",
                    "type": ["array", "null"],
                    "items": {"type": ["array", "string"], "items": {"type": "number"}},
                    "maxItems": limits.batch,
                },
                "texts": {
                    "description": "Words for each query, as `text` of a search.",
                    "type": ["array", "null"],
                    "items": {"type": "string"},
                    "maxItems": limits.batch,
                },
                **common,
            },
            (),
            {"hits": {"type": "array", "items": {"type": "array", "items": _HIT}}},
            partial(_search_many, limits),
        ),
        "get": Operation(
            "Records by their ids, in this order",
            {
                "ids": ids,
                "missing": {"enum": ["raise", "skip"], "type": "string", "default": "raise"},
                "include": _included("vector", "metadata", "document", default=["metadata", "document"]),
            },
            ("ids",),
            {"records": {"type": "array", "items": _RECORD}},
            _get,
        ),
        "count": Operation(
            "How many records there are, or how many satisfy a condition",
            {"where": _WHERE, "params": _PARAMS},
            (),
            {"count": _COUNT, "unknown_fields": _UNKNOWN},
            _count,
            sometimes=("unknown_fields",),
        ),
        "upsert": Operation(
            "Store records, replacing those whose id exists: all or none",
            {
                "records": {
                    "type": "array",
                    "maxItems": limits.batch,
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": _ID,
                            "vector": {
                                "type": ["array", "null"],
                                "items": {"type": "number"},
                                "description": "Without one the collection's encoder makes it of the document.",
                            },
                            "metadata": _METADATA,
                            "document": _DOCUMENT,
                        },
                        "required": ["id"],
                        "additionalProperties": False,
                    },
                }
            },
            ("records",),
            {"stored": _COUNT},
            _upsert,
            writes=True,
        ),
        "update": Operation(
            "Change parts of records that exist; what is not given stays: all or none",
            {
                "ids": {**ids, "type": ["array", "null"]},
                "where": _WHERE,
                "params": _PARAMS,
                "metadata": {
                    "description": "Fields to set: an object for all records, or one for each id. null takes one away.",
                    "type": ["object", "array", "null"],
                    "items": _METADATA,
                },
                "documents": {
                    "description": "A text for each id; null takes it away.",
                    "type": ["array", "null"],
                    "items": _DOCUMENT,
                },
                "vectors": {"description": "One for each id.", "type": ["array", "null"], "items": _VECTOR},
            },
            (),
            {"updated": _COUNT},
            _update,
            writes=True,
        ),
        "delete": Operation(
            "Delete records by their ids, or those that satisfy a condition",
            {"ids": {**ids, "type": ["array", "null"]}, "where": _WHERE, "params": _PARAMS},
            (),
            {"deleted": _COUNT},
            _delete,
            writes=True,
        ),
    }


def _included(*names: str, default: list[str] | None = None) -> Json:
    return {"type": "array", "items": {"type": "string", "enum": list(names)}, "default": default or list(names)}


# ---- checks ----------------------------------------------------------------------------------------------------------

_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


def parse(body: bytes | bytearray) -> Json:
    """The fields of a request. Neither NaN nor what JSON does not know is let through.

    Raises:
        RequestError: when it is not JSON, or not an object
    """
    try:
        fields = json.loads(body, parse_constant=_refuse_constant) if body else {}
    except RequestError:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError among it
        raise RequestError(f"the body is not JSON: {error or 'nested too deeply'}") from None
    if not isinstance(fields, dict):
        raise RequestError(f"the body must be a JSON object, not {_kind(fields)}")
    return fields


def _refuse_constant(name: str) -> Any:
    raise RequestError(f"the body is not JSON: {name} is no number")


def find(operation: Operation, fields: Mapping[str, Any]) -> Json:
    """The fields of a request to this operation, checked against its description.

    Raises:
        RequestError: when one is unknown, missing, or not as described
    """
    for name in fields:
        if name not in operation.fields:
            raise RequestError(f"there is no field {name!r}, only {', '.join(operation.fields)}")
    for name in operation.required:
        if name not in fields:
            raise RequestError(f"the field {name!r} is missing")
    for name, value in fields.items():
        _check(value, operation.fields[name], name)
    return dict(fields)


def _check(value: Any, schema: Json, place: str) -> None:
    """What the schemas above say, but for the elements of vectors and params, which the collection checks."""
    if "oneOf" in schema:  # an id, which as_id() reads
        return
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(isinstance(value, _TYPES[kind]) for kind in kinds) or (
        isinstance(value, bool) and "boolean" not in kinds
    ):
        raise RequestError(f"{place} must be {' or '.join(kinds)}, not {_kind(value)}")
    if "enum" in schema and value not in schema["enum"]:
        raise RequestError(f"{place} must be {' or '.join(map(repr, schema['enum']))}, not {value!r:.60}")
    if isinstance(value, (int, float)):
        if value < schema.get("minimum", value):
            raise RequestError(f"{place} must be at least {schema['minimum']:,}, not {value}")
        if value > schema.get("maximum", value):
            raise RequestError(f"{place} can be at most {schema['maximum']:,} here")
    if isinstance(value, list):
        _check_list(value, schema, place)
    if isinstance(value, dict) and "properties" in schema:
        for name in value:
            if name not in schema["properties"]:
                raise RequestError(f"{place} has a field {name!r}; there are only {', '.join(schema['properties'])}")
        for name in schema["required"]:
            if name not in value:
                raise RequestError(f"{place} lacks the field {name!r}")
        for name, part in value.items():
            _check(part, schema["properties"][name], f"{place}.{name}")


def _check_list(value: list[Any], schema: Json, place: str) -> None:
    if not schema.get("minItems", 0) <= len(value):
        raise RequestError(f"{place} must have {schema['minItems']} elements, not {len(value)}")
    if len(value) > schema.get("maxItems", len(value)):
        raise RequestError(f"{place} can have at most {schema['maxItems']:,} elements here, not {len(value):,}")
    items = schema.get("items")
    if items is not None and items.get("type") != "number":
        for at, part in enumerate(value):
            _check(part, items, f"{place}[{at}]")


def _kind(value: Any) -> str:
    return next(name for name, types in _TYPES.items() if isinstance(value, types))


# ---- ids -------------------------------------------------------------------------------------------------------------


def _as_id(value: Any, place: str) -> Id:
    if isinstance(value, dict):
        digits = value.get("int64")
        if len(value) != 1 or not isinstance(digits, str) or not _INT64.fullmatch(digits):
            raise RequestError(f'{place} must be an integer, a string or {{"int64": "digits"}}')
        number = int(digits)
        if not -(2**63) <= number < 2**63:
            raise RequestError(f"{place} does not fit in 64 bits")
        return number
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise RequestError(f"{place} must be an integer or a string, not {_kind(value)}")
    if isinstance(value, int) and abs(value) > _EXACT:
        raise RequestError(f'{place} is beyond 2^53 - 1, where many clients round: write {{"int64": "..."}}')
    return value


def _shown_id(id: Id) -> Any:
    return {"int64": str(id)} if isinstance(id, int) and abs(id) > _EXACT else id


def _as_ids(values: list[Any]) -> list[Id]:
    return [_as_id(value, f"ids[{at}]") for at, value in enumerate(values)]


# ---- operations ------------------------------------------------------------------------------------------------------


def info(collection: Collection) -> Json:
    """What the collection is. Nothing of where it lies."""
    return {
        "name": collection.path.name if collection.path else ":memory:",
        "records": len(collection),
        "dim": collection.dim,
        "metric": collection.metric,
        "quantization": collection.quantization,
        "dtype": collection.dtype,
        "encoder": collection.encoder,
        "indexes": collection.indexes(),
        "writable": collection.mode == "a",
    }


def _search(collection: Collection, fields: Json) -> Json:
    include = fields.pop("include", ["metadata", "document"])
    hits = collection.search(**fields, include=include)
    found = {"hits": [_shown_hit(hit, include) for hit in hits], "strategy": hits.stats.strategy}
    return found if hits else found | _unknown_fields(collection, fields)


def _unknown_fields(collection: Collection, fields: Json) -> Json:
    if not fields.get("where"):
        return {}
    unknown = collection.unknown_fields(fields["where"], fields.get("params"))
    return {"unknown_fields": unknown} if unknown else {}


def _search_many(limits: Limits, collection: Collection, fields: Json) -> Json:
    include = fields.pop("include", ["metadata", "document"])
    count, k, most = len(fields.get("vectors") or fields.get("texts") or ()), fields.get("k", 10), limits.batch
    if count * k > max(most, limits.k):
        raise RequestError(f"{count:,} queries of k={k:,} can find {count * k:,} records; {most:,} are possible here")
    found = collection.search_many(**fields, include=include)
    return {"hits": [[_shown_hit(hit, include) for hit in hits] for hits in found]}


def _shown_hit(hit: Hit, include: list[str]) -> Json:
    shown = {"id": _shown_id(hit.id), "score": hit.score, "distance": hit.distance}
    return shown | {name: getattr(hit, name) for name in include}


def _get(collection: Collection, fields: Json) -> Json:
    records = collection.get(_as_ids(fields["ids"]), missing=fields.get("missing", "raise"))
    include = fields.get("include", ["metadata", "document"])
    return {"records": [_shown_record(record, include) for record in records]}


def _shown_record(record: Record, include: list[str]) -> Json:
    shown: Json = {"id": _shown_id(record.id)}
    for name in include:
        shown[name] = record.vector.tolist() if name == "vector" else getattr(record, name)
    return shown


def _count(collection: Collection, fields: Json) -> Json:
    count = collection.count(**fields)
    return {"count": count} | ({} if count else _unknown_fields(collection, fields))


def _upsert(collection: Collection, fields: Json) -> Json:
    records = fields["records"]
    ids = [_as_id(record["id"], f"records[{at}].id") for at, record in enumerate(records)]
    vectors = [record.get("vector") for record in records]
    if all(vector is None for vector in vectors) and vectors:
        given = None
    else:
        _check_lengths(vectors, collection.dim)
        given = vectors
    metadata = [record.get("metadata") for record in records]
    return {"stored": collection.upsert(ids, given, metadata, [record.get("document") for record in records])}


def _check_lengths(vectors: list[Any], dim: int | None) -> None:
    for at, vector in enumerate(vectors):
        if vector is None:
            raise RequestError(f"records[{at}] has no vector, and others have one")
        dim = len(vector) if dim is None else dim
        if len(vector) != dim:
            raise RequestError(f"records[{at}].vector has {len(vector)} dimensions, not {dim}")


def _update(collection: Collection, fields: Json) -> Json:
    ids = fields.pop("ids", None)
    return {"updated": collection.update(None if ids is None else _as_ids(ids), **fields)}


def _delete(collection: Collection, fields: Json) -> Json:
    ids = fields.pop("ids", None)
    return {"deleted": collection.delete(None if ids is None else _as_ids(ids), **fields)}
