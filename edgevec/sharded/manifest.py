"""The manifest: which shards an index has, what they were built with, and which of their ids are removed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from .._types import KeepVectors, Metric, Quantization
from .._validation import as_int
from ..errors import CorruptIndexError, FormatVersionError, ParameterError

__all__ = [
    "BESIDE",
    "COLLECTION",
    "FORMAT_OF_COLLECTION",
    "MANIFEST",
    "OURS",
    "Centroids",
    "Manifest",
    "Parsed",
    "Removed",
    "Settings",
    "Shard",
    "kind_of_manifest",
    "live",
    "named",
    "one_of",
    "parsed",
]

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "edgevec shards", 1
FORMAT_OF_COLLECTION = "edgevec collection shards"
_KINDS = {
    _FORMAT: "an index in shards, which ShardedIndex.open() opens",
    FORMAT_OF_COLLECTION: "a collection in shards, which ShardedCollection.open() opens",
}
_HEX = 32
"""Digits of a checksum that a file's name has."""
_SHARD = re.compile(rf"[0-9a-f]{{{_HEX}}}-([0-9a-f]{{{_HEX}}})\.ev")
_REMOVED = re.compile(rf"([0-9a-f]{{{_HEX}}})\.removed")
_CENTROIDS = re.compile(rf"([0-9a-f]{{{_HEX}}})\.centroids")
COLLECTION = re.compile(rf"[0-9a-f]{{{_HEX}}}-([0-9a-f]{{{_HEX}}})\.edgevec")
BESIDE = ("", "-graph", "-lock", "-wal", "-shm", "-journal")
"""Ends of the names of the files that a collection may have."""
OURS = re.compile(rf"{_SHARD.pattern}|{_REMOVED.pattern}|{_CENTROIDS.pattern}|{COLLECTION.pattern}({'|'.join(BESIDE)})")
"""Names of the files that a manifest may refer to: they lie beside it."""
Parsed = TypeVar("Parsed")
_LEAST_ID, _MOST_ID = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Settings:
    """What all shards of an index are built with; see `Index`."""

    dim: int
    metric: Metric
    quantization: Quantization = "sq8"
    M: int = 16
    ef_construction: int = 200
    seed: int = 0
    keep_vectors: KeepVectors = True

    def parameters(self) -> dict[str, Any]:
        """Those by keyword."""
        return {name: value for name, value in asdict(self).items() if name not in ("dim", "metric")}

    def key(self, rows: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> str:
        """The checksum of what a shard is made of, which is in the name of its file."""
        digest = hashlib.sha256(json.dumps([_FORMAT, _VERSION, asdict(self), len(ids)]).encode())
        digest.update(np.ascontiguousarray(ids, "<i8").data)
        digest.update(np.ascontiguousarray(rows, "<f4").data)
        return digest.hexdigest()[:_HEX]


@dataclass(frozen=True)
class Removed:
    """A file of the ids that a shard holds and that are no more: int64, rising, little-endian."""

    file: str
    count: int
    sha256: str

    @classmethod
    def of(cls, ids: npt.NDArray[np.int64]) -> tuple[Removed, bytes]:
        """The entry, and the content of the file."""
        content = np.sort(ids).astype("<i8").tobytes()
        digest = hashlib.sha256(content).hexdigest()
        return cls(f"{digest[:_HEX]}.removed", len(ids), digest), content


@dataclass(frozen=True)
class Centroids:
    """A file of the centroids of a shard's rows: float32, little-endian, one after the other."""

    file: str
    count: int
    sha256: str

    @classmethod
    def of(cls, centroids: npt.NDArray[np.float32]) -> tuple[Centroids, bytes]:
        """The entry, and the content of the file."""
        content = centroids.astype("<f4").tobytes()
        digest = hashlib.sha256(content).hexdigest()
        return cls(f"{digest[:_HEX]}.centroids", len(centroids), digest), content


@dataclass(frozen=True)
class Shard:
    """One shard, as the manifest has it.

    Attributes:
        file: its name: a checksum of its rows and parameters, and one of its content
        count: vectors in the file
        first_id: the smallest of their ids
        last_id: the largest of them
        bytes: the size of the file
        sha256: of its content
        removed: which of the ids are removed, or have moved to a later shard
        centroids: of its rows, those that are removed included; None unless the manifest says `cluster`
    """

    file: str
    count: int
    first_id: int
    last_id: int
    bytes: int
    sha256: str
    removed: Removed | None = None
    centroids: Centroids | None = None

    @property
    def live(self) -> int:
        """Vectors that are not removed."""
        return self.count - (self.removed.count if self.removed else 0)

    @staticmethod
    def name_of(key: str, sha256: str) -> str:
        """The name of the file."""
        return f"{key}-{sha256[:_HEX]}.ev"


def live(shards: tuple[Shard, ...]) -> int:
    return sum(shard.live for shard in shards)


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest.

    Attributes:
        settings: of all shards
        rows_per_shard: vectors of a shard, at most
        next_id: that of the next vector that is added without one
        shards: in the order in which they were made
        generation: how often the manifest was written
        cluster: rows that are near lie in one shard, and shards have centroids
    """

    settings: Settings
    rows_per_shard: int
    next_id: int = 0
    shards: tuple[Shard, ...] = ()
    generation: int = 1
    cluster: bool = False

    def files(self) -> set[str]:
        """The files that it refers to."""
        beside = (each for shard in self.shards for each in (shard.removed, shard.centroids))
        return {shard.file for shard in self.shards} | {each.file for each in beside if each is not None}

    def following(self, shards: tuple[Shard, ...], next_id: int) -> Manifest:
        """The one that comes after it."""
        return replace(self, shards=shards, next_id=next_id, generation=self.generation + 1)

    def to_json(self) -> bytes:
        """What the file holds."""
        shards = [asdict(shard) for shard in self.shards]
        # Versions that know no centroids read and write the others.
        more = {"cluster": True} if self.cluster else {}
        for shard in () if self.cluster else shards:
            del shard["centroids"]
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "generation": self.generation,
            "dim": self.settings.dim,
            "metric": self.settings.metric,
            "parameters": self.settings.parameters(),
            "rows_per_shard": self.rows_per_shard,
            "next_id": self.next_id,
            **more,
            "shards": shards,
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes, where: str) -> Manifest:
        """The manifest in a file.

        Raises:
            CorruptIndexError: it is none, or a damaged one; the message names the place
            FormatVersionError: it was written by a newer version of edgevec
        """
        return parsed(content, where, _FORMAT, _VERSION, cls._checked)

    @classmethod
    def _checked(cls, read: Mapping[str, Any]) -> Manifest:
        parameters = dict(read["parameters"])
        settings = Settings(
            dim=as_int(read["dim"], "dim", 1, 65535),
            metric=one_of(read["metric"], "metric", get_args(Metric)),
            quantization=one_of(parameters.pop("quantization"), "quantization", get_args(Quantization)),
            M=as_int(parameters.pop("M"), "M", 2, 256),
            ef_construction=as_int(parameters.pop("ef_construction"), "ef_construction", 1, 65535),
            seed=as_int(parameters.pop("seed"), "seed", 0, 2**64 - 1),
            keep_vectors=one_of(parameters.pop("keep_vectors"), "keep_vectors", (True, False, "float32")),
        )
        if parameters:
            raise ParameterError(f"unknown parameters {', '.join(sorted(map(str, parameters)))}")
        shards = tuple(_shard(each, f"shard {at}") for at, each in enumerate(read["shards"]))
        if len({shard.file for shard in shards}) < len(shards):
            raise ParameterError("the same file twice")
        cluster = one_of(read.get("cluster", False), "cluster", (True, False))
        for at, shard in enumerate(shards):
            if (shard.centroids is not None) != cluster:
                raise ParameterError(f"shard {at}: {'no' if cluster else 'unexpected'} centroids")
        return cls(
            settings,
            as_int(read["rows_per_shard"], "rows_per_shard", 1, _MOST_ID),
            as_int(read["next_id"], "next_id", 0, 2**63),
            shards,
            as_int(read["generation"], "generation", 1, _MOST_ID),
            cluster,
        )


def parsed(
    content: bytes, where: str, format: str, version: int, checked: Callable[[Mapping[str, Any]], Parsed]
) -> Parsed:
    """The manifest in a file. See Manifest.parse().

    Args:
        format: of the kind that is wanted
        version: the newest of it that is known
        checked: makes it of what was read; ParameterError, KeyError and TypeError say what is wrong
    """
    read, found = _read(content)
    if found != format:
        other = f": it is {_KINDS[found]}" if isinstance(found, str) and found in _KINDS else ""
        wanted = "" if not other else " of an index" if format == _FORMAT else " of a collection"
        raise CorruptIndexError(f"{where}: not a manifest of shards{wanted}{other}")
    try:
        if as_int(read.get("version"), "version", 1, 2**31) > version:
            raise FormatVersionError(
                f"{where}: version {read['version']}, written by a newer edgevec; this one reads version {version}"
            )
        return checked(read)
    except (ParameterError, KeyError, TypeError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CorruptIndexError(f"{where}: damaged: {problem}") from None


def _read(content: bytes) -> tuple[dict[str, Any], object]:
    """The object in a file, and its format: None where it has none, or where that is no object."""
    try:
        read = json.loads(content)
    except (ValueError, RecursionError):
        read = None
    return (read, read.get("format")) if isinstance(read, dict) else ({}, None)


def kind_of_manifest(content: bytes, where: str) -> Literal["index", "collection"]:
    """Of what it lists shards; CorruptIndexError where it is no manifest."""
    _, found = _read(content)
    if not isinstance(found, str) or found not in _KINDS:
        raise CorruptIndexError(f"{where}: not a manifest of shards")
    return "index" if found == _FORMAT else "collection"


def one_of(value: Any, what: str, allowed: tuple[Any, ...]) -> Any:
    if not isinstance(value, (str, bool)) or value not in allowed:
        raise ParameterError(f"{what} is {value!r:.40}")
    return value


def _shard(read: Mapping[str, Any], what: str) -> Shard:
    count = as_int(read["count"], f"{what}: count", 1, _MOST_ID)
    first = as_int(read["first_id"], f"{what}: first_id", _LEAST_ID, _MOST_ID)
    last = as_int(read["last_id"], f"{what}: last_id", first, _MOST_ID)
    if last - first < count - 1:
        raise ParameterError(f"{what}: {count} ids from {first} to {last}")
    size = as_int(read["bytes"], f"{what}: bytes", 1, _MOST_ID)
    file, sha256 = named(read, what, _SHARD)
    removed = read["removed"]
    if removed is not None:
        few = as_int(removed["count"], f"{what}: removed: count", 1, count)
        name, digest = named(removed, f"{what}: removed", _REMOVED)
        removed = Removed(name, few, digest)
    centroids = read.get("centroids")
    if centroids is not None:
        several = as_int(centroids["count"], f"{what}: centroids: count", 1, count)
        name, digest = named(centroids, f"{what}: centroids", _CENTROIDS)
        centroids = Centroids(name, several, digest)
    return Shard(file, count, first, last, size, sha256, removed, centroids)


def named(read: Mapping[str, Any], what: str, form: re.Pattern[str]) -> tuple[str, str]:
    """The name of a file and its checksum, the first digits of which are in the name. It leads to no other folder."""
    file, sha256 = read["file"], read["sha256"]
    found = form.fullmatch(file) if isinstance(file, str) else None
    if found is None:
        raise ParameterError(f"{what}: file is {file!r:.100}")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256) or sha256[:_HEX] != found[1]:
        raise ParameterError(f"{what}: sha256 is not that of {file}")
    return file, sha256
