"""The manifest: which shards a collection has, and what they were built with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from .._types import Metric, Quantization
from .._validation import as_int
from ..collection.parts import key_of
from ..collection.schema import Dtype
from ..collection.validation import Id
from ..errors import (
    CollectionNotFoundError,
    CorruptCollectionError,
    CorruptIndexError,
    IndexNotFoundError,
    ParameterError,
    about_file,
)
from ..sharded.folders import Folder
from ..sharded.manifest import BESIDE, COLLECTION, FORMAT_OF_COLLECTION, MANIFEST, named, one_of, parsed
from ..sharded.writing import read_any_manifest

__all__ = ["CollectionManifest", "CollectionSettings", "CollectionShard", "read_manifest"]

_VERSION = 1
_HEX = 32
_MOST = 2**63 - 1


@dataclass(frozen=True)
class CollectionSettings:
    """What all shards of a collection are built with; see `edgevec.open()`."""

    dim: int
    metric: Metric = "cosine"
    quantization: Quantization = "sq8"
    M: int = 16
    ef_construction: int = 200
    dtype: Dtype = "float32"
    encoder: str | None = None

    def parameters(self) -> dict[str, Any]:
        """Those of a new collection by keyword, but for the encoder."""
        return {name: value for name, value in asdict(self).items() if name != "encoder"}


@dataclass(frozen=True)
class CollectionShard:
    """One shard, as the manifest has it.

    Attributes:
        file: its name: a checksum of its records and parameters, and one of the content of its two files
        count: records
        first_id: the least of their ids; numbers come before texts
        last_id: the greatest of them
        bytes: the size of the file
        sha256: of its content
        graph_bytes: the size of the file with its graph, whose name is that of the other and "-graph"
        graph_sha256: of the content of that
    """

    file: str
    count: int
    first_id: Id
    last_id: Id
    bytes: int
    sha256: str
    graph_bytes: int
    graph_sha256: str

    @staticmethod
    def name_of(key: str | None, sha256: str, graph_sha256: str) -> str:
        """The name of the file.

        Args:
            key: the checksum of the records that it was written of; None where it was changed since
        """
        content = _of_both(sha256, graph_sha256)
        return f"{key or _of_changed(content)}-{content[:_HEX]}.edgevec"

    @property
    def is_changed(self) -> bool:
        """Whether records of it were deleted or replaced, so that it has room to give back."""
        return self.file == self.name_of(None, self.sha256, self.graph_sha256)

    def files(self) -> set[str]:
        """All that may lie beside the manifest of it."""
        return {self.file + end for end in BESIDE}


def _of_changed(content: str) -> str:
    """In the place of a key, and none: no build takes the file for that of its records."""
    return hashlib.sha256(f"changed {content}".encode()).hexdigest()[:_HEX]


def _of_both(sha256: str, graph_sha256: str) -> str:
    return hashlib.sha256(f"{sha256} {graph_sha256}".encode()).hexdigest()


@dataclass(frozen=True)
class CollectionManifest:
    """The content of a manifest.

    Attributes:
        settings: of all shards
        rows_per_shard: records of a shard, at most
        shards: in the order in which they were made
        generation: how often the manifest was written
    """

    settings: CollectionSettings
    rows_per_shard: int
    shards: tuple[CollectionShard, ...] = ()
    generation: int = 1

    def files(self) -> set[str]:
        """The files that it refers to, and those that others may have made beside them."""
        return {name for shard in self.shards for name in shard.files()}

    def following(self, shards: tuple[CollectionShard, ...]) -> CollectionManifest:
        """The one that comes after it."""
        return replace(self, shards=shards, generation=self.generation + 1)

    def to_json(self) -> bytes:
        """What the file holds."""
        content = {
            "format": FORMAT_OF_COLLECTION,
            "version": _VERSION,
            "generation": self.generation,
            "parameters": asdict(self.settings),
            "rows_per_shard": self.rows_per_shard,
            "shards": [asdict(shard) for shard in self.shards],
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes, where: str) -> CollectionManifest:
        """The manifest in a file.

        Raises:
            CorruptCollectionError: it is none, or a damaged one; the message names the place
            FormatVersionError: it was written by a newer version of edgevec
        """
        try:
            return parsed(content, where, FORMAT_OF_COLLECTION, _VERSION, cls._checked)
        except CorruptIndexError as error:
            raise CorruptCollectionError(str(error)) from None

    @classmethod
    def _checked(cls, read: Mapping[str, Any]) -> CollectionManifest:
        parameters = dict(read["parameters"])
        encoder = parameters.pop("encoder")
        if encoder is not None and not isinstance(encoder, str):
            raise ParameterError(f"encoder is {encoder!r:.40}")
        settings = CollectionSettings(
            dim=as_int(parameters.pop("dim"), "dim", 1, 65535),
            metric=one_of(parameters.pop("metric"), "metric", get_args(Metric)),
            quantization=one_of(parameters.pop("quantization"), "quantization", get_args(Quantization)),
            M=as_int(parameters.pop("M"), "M", 2, 256),
            ef_construction=as_int(parameters.pop("ef_construction"), "ef_construction", 1, 65535),
            dtype=one_of(parameters.pop("dtype"), "dtype", get_args(Dtype)),
            encoder=encoder,
        )
        if parameters:
            raise ParameterError(f"unknown parameters {', '.join(sorted(map(str, parameters)))}")
        shards = tuple(_shard(each, f"shard {at}") for at, each in enumerate(read["shards"]))
        if len({shard.file for shard in shards}) < len(shards):
            raise ParameterError("the same file twice")
        return cls(
            settings,
            as_int(read["rows_per_shard"], "rows_per_shard", 1, _MOST),
            shards,
            as_int(read["generation"], "generation", 1, _MOST),
        )


def _shard(read: Mapping[str, Any], what: str) -> CollectionShard:
    names = ("count", "bytes", "graph_bytes")
    count, size, of_graph = (as_int(read[name], f"{what}: {name}", 1, _MOST) for name in names)
    first, last = (_id(read[name], f"{what}: {name}") for name in ("first_id", "last_id"))
    if key_of(last) < key_of(first):
        raise ParameterError(f"{what}: ids from {first!r} to {last!r}")
    sha256, graph_sha256 = read["sha256"], read["graph_sha256"]
    file, _ = named({"file": read["file"], "sha256": _of_both(str(sha256), str(graph_sha256))}, what, COLLECTION)
    return CollectionShard(file, count, first, last, size, sha256, of_graph, graph_sha256)


def _id(value: Any, what: str) -> Id:
    if isinstance(value, str):
        return value
    return as_int(value, what, -(2**63), 2**63 - 1)


def read_manifest(folder: Folder) -> CollectionManifest:
    """That of a folder; CollectionNotFoundError where there is none."""
    try:
        return read_any_manifest(folder, CollectionManifest.parse)
    except IndexNotFoundError as error:
        where = folder.where(MANIFEST)
        raise about_file(CollectionNotFoundError(str(error)), where, error.errno) from None
