"""edgevec.open(): find or create the file, check its parameters, bring the graph up to date."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from typing import Any, Literal

from .._types import Metric, Progress, Quantization, Storage
from .._validation import as_int
from ..encoders import Encoder, TextEncoder, as_encoder
from ..errors import CollectionNotFoundError, CorruptCollectionError, EdgevecError, ParameterError, about_file
from ..index import Index
from . import ahead, on_disk, saved_fields, schema
from .collection import Collection
from .database import Database, Durability, resolve
from .graph import Graph
from .memory_limit import MemoryLimit
from .snapshot import Snapshot
from .sqlite_errors import translated
from .store import Store
from .threads import cancelling

__all__ = ["agree_on_encoder", "checked", "open"]

log = logging.getLogger("edgevec")

_SQLITE = (3, 38)
"""The first with JSON functions in every build."""
_DEFAULTS: dict[str, Any] = {
    "metric": "cosine",
    "quantization": "sq8",
    "M": 16,
    "ef_construction": 200,
    "dtype": "float32",
}


def open(
    path: str | os.PathLike[str],
    dim: int | None = None,
    metric: Metric | None = None,
    *,
    mode: Literal["a", "r"] = "a",
    encoder: str | Encoder | None = None,
    quantization: Quantization | None = None,
    M: int | None = None,
    ef_construction: int | None = None,
    dtype: schema.Dtype | None = None,
    durability: Durability = "full",
    secure_delete: bool = False,
    mmap: bool = False,
    condition_memory: int | None = None,
    memory_limit: int | None = None,
    storage: Storage = "memory",
    progress: Progress | None = None,
) -> Collection:
    """Open a collection, or create one.

    With mode "r" the folder need not be one that can be written to. The files that edgevec creates beside the file have
    its owner and permissions.

    Args:
        path: the file; ":memory:" for a collection that ends with the program. A symbolic link is followed. A file that
            is neither a collection nor empty is left as it is.
        dim: of the vectors, 1..65535; without it, a new collection takes that of the first ones. This and the five
            other parameters of an existing collection may be left out, and must agree when given.
        metric: "cosine" (the default), "ip" or "l2", as in edgevec.Index
        mode: "a" to read and write, creating the file if need be; "r" to read, while another process may write
        encoder: makes vectors of texts, so that upsert() and search() take texts alone. A function from a list of n
            texts to vectors [n, dim]; an edgevec.encoders.TextEncoder; or the name of a model, such as
            "model2vec:minishlab/potion-base-8M" (see edgevec.encoders), which is loaded now. A new collection keeps its
            name, an older one without a name when the first vectors that it makes are stored; from then on any other
            encoder is an error. A function has no name, and nothing is kept of it.
        quantization: "sq8" (the default), "none" or "binary", as in edgevec.Index
        M: links per node, 16 by default, as in edgevec.Index
        ef_construction: candidates looked at when a node is linked, 200 by default, as in edgevec.Index
        dtype: of the stored vectors: "float32", or "float16" for half the file and 11 instead of 24 bits a number
        durability: "full": what was committed survives a crash of the program and loss of power. "fast" does not
            flush the disk at each commit: loss of power may take the last commits, whole ones, and nothing else.
        secure_delete: overwrite what is deleted and replaced. Without it the bytes of removed vectors, metadata and
            texts stay in the files until they are used again or compact() writes them anew. With it SQLite overwrites
            them with zeros (its PRAGMA secure_delete), and checkpoint() and close() empty its log and write the
            full-text index and the snapshot of the graph anew, which makes them slower. Until then the bytes are there.
            It holds for what is deleted while the collection is open in this way, and not for copies elsewhere, such as
            those of the file system.
        mmap: map the graph's file (path + "-graph") instead of reading it: opening is quicker, and processes share the
            memory. Use it only where nothing but edgevec touches that file: if something truncates or overwrites it
            meanwhile, the process dies of a signal. On Windows and in a browser the file is always read.
        condition_memory: bytes that metadata fields may take in memory, 128 MB by default, and no more than an eighth
            of memory_limit. A field that a condition asks for is read once, 1 to 9 bytes a record, and answers any
            condition from then on; it follows what is written. What does not fit, and most of what is asked of fields
            with more than 65,536 different texts, is looked up in the file each time, as with 0 all is. With 5,000
            records or more, what fits is written into the file too, so that it need not be read once by every process;
            not with secure_delete.
        memory_limit: bytes that the collection may take in memory, or None. They are divided: condition_memory for
            metadata fields, the rest for the graph, as memory_limit of edgevec.Index. What would take more raises
            MemoryLimitError, a MemoryError, and stores nothing; where the graph does not fit, opening does. See
            Collection.memory_limit for what is counted.
        storage: where the vectors of the graph lie while the collection is open. "disk": links and codes are in memory,
            and searches read the vectors that they rank from the graph's file, and those that were written since it was
            from a scratch file without a name in the same folder or, where that is not permitted, in the one that
            TMPDIR names, or /var/tmp. Answers are the same, and so are the files: each process chooses for itself. See
            Index.load(). Not for quantization="none", ":memory:", mmap=True or secure_delete=True, and not on Windows.
        progress: progress(done, total) while the documents of a collection of an earlier version are indexed again,
            and while the graph is built from the records, where that is necessary. Returning False stops; texts that
            are all indexed by then stay so.

    Returns:
        The collection. Close it, or use it in a `with` statement.

    Raises:
        ParameterError: when a parameter is out of its range, or differs from the collection's; when the encoder is not
            known, or cannot be loaded
        MissingExtraError: when the encoder's library is not installed
        CollectionNotFoundError: with mode "r", when the file does not exist or is empty
        LockedError: when something else has it open for writing, or has it open under another name (a hard link)
        CorruptCollectionError: when the file is damaged, or is not a collection
        FormatVersionError: when a newer edgevec has written it
        MemoryLimitError: when the graph takes more than memory_limit leaves it; the message has both figures
        StorageError: when the system refuses to open, create or read it; with storage="disk", by every method that
            needs vectors which cannot be read or written
        CancelledError: when progress returned False
        EdgevecError: when SQLite is older than 3.38

    Example:
        >>> import edgevec
        >>> with edgevec.open("notes.edgevec", dim=2) as notes:
        ...     notes.upsert(["a", "b"], [[1, 0], [0, 1]], [{"year": 1999}, {"year": 2020}])
        2
        >>> with edgevec.open("notes.edgevec", mode="r") as notes:
        ...     notes.count("year >= 2000")
        1
    """
    if mode not in ("a", "r"):
        raise ParameterError(f"mode must be 'a' or 'r', not {mode!r}")
    if durability not in ("full", "fast"):
        raise ParameterError(f"durability must be 'full' or 'fast', not {durability!r}")
    if sqlite3.sqlite_version_info < _SQLITE:
        raise EdgevecError(f"collections need SQLite 3.38 or newer; this Python has {sqlite3.sqlite_version}")
    memory = MemoryLimit.divided(memory_limit, condition_memory)
    given = {
        "dim": dim,
        "metric": metric,
        "quantization": quantization,
        "M": M,
        "ef_construction": ef_construction,
        "dtype": dtype,
    }
    given = checked({name: value for name, value in given.items() if value is not None})
    file = None if os.fspath(path) == ":memory:" else resolve(path)
    if file is None and mode == "r":
        raise ParameterError("a collection in memory cannot be opened to read")
    on_disk.check_open(storage, file, mmap=mmap, secure_delete=secure_delete)
    on_disk.check_quantization(storage, quantization, os.fspath(path))
    model = None if encoder is None else as_encoder(encoder)
    progress = cancelling(progress)
    database = Database(file, writable=mode == "a")
    try:
        with translated(database.name):
            _agree(database, given, model, writable=mode == "a")
            if file is not None and mode == "a":
                database.set_journal(durability)
                schema.add_tables(database.main)
            _index_texts(database, progress, writable=mode == "a")
            on_disk.check_quantization(storage, schema.read_settings(database.main)["quantization"], database.name)
        if mode == "a" and secure_delete:
            with translated(database.name):
                database.main.execute("PRAGMA secure_delete = ON")
                saved_fields.drop(database.main)  # they may hold what was deleted, or is about to be
        if mode == "a":
            with translated(database.name):
                ahead.remove(database.main)  # what a process that was killed has left
        snapshot = None if file is None else Snapshot(file, mmap=mmap, storage=storage)
        if snapshot is not None and mode == "a":
            snapshot.clear()  # a killed process may have left one unfinished
        graph = Graph(database.name, snapshot, memory.of_graph, storage)
        store = Store(
            database,
            graph,
            writable=mode == "a",
            secure_delete=secure_delete,
            memory=memory,
            progress=progress,
        )
        return Collection(store, model)
    except BaseException:
        database.close()
        raise


def _index_texts(database: Database, progress: Progress | None, *, writable: bool) -> None:
    """Bring the full-text index of a collection of an earlier version up to date."""
    if not schema.is_old(database.main):
        return
    if writable:
        log.info("%s: its documents are indexed again, once, as this version of edgevec does", database.name)
        schema.upgrade(database.main, progress)
    else:
        log.warning(
            "%s: an earlier edgevec indexed its documents: what is written without spaces is found as whole sentences "
            "only, until the collection is opened for writing",
            database.name,
        )


def checked(given: dict[str, Any]) -> dict[str, Any]:
    """ParameterError for parameters that no index takes, before a file is created."""
    if "dtype" in given and given["dtype"] not in ("float32", "float16"):
        raise ParameterError(f"dtype must be 'float32' or 'float16', not {given['dtype']!r}")
    if "dim" in given:
        given["dim"] = as_int(given["dim"], "dim", 1, 65535)
    Index(**{"dim": 1, **{name: value for name, value in given.items() if name != "dtype"}})
    return given


def _agree(database: Database, given: dict[str, Any], encoder: TextEncoder | None, *, writable: bool) -> None:
    """Create the tables of a new collection; check that an existing one has the given parameters."""
    if not schema.verify(database.main, database.name):
        if not writable:
            raise about_file(CollectionNotFoundError(f"{database.name} is empty"), database.name, errno.ENOENT)
        known = {} if encoder is None or encoder.name is None else {schema.ENCODER: encoder.name}
        schema.create(database.main, {**_DEFAULTS, **given, **known})
        return
    schema.check_tables(database.main, database.name)
    stored = schema.read_settings(database.main)
    try:
        checked({name: stored[name] for name in (*_DEFAULTS, *(("dim",) if stored.get("dim") is not None else ()))})
        if not isinstance(stored.get(schema.ENCODER, ""), str):
            raise TypeError("the name of the encoder is no text")
    except (KeyError, TypeError, ParameterError) as error:
        raise CorruptCollectionError(f"{database.name}: its settings are damaged: {error}") from error
    last = ahead.last_row(database.main)
    if stored.get("dim") is None and database.main.execute("SELECT 1 FROM vectors WHERE row <= ?", (last,)).fetchone():
        raise CorruptCollectionError(f"{database.name}: its settings are damaged: dim is missing")
    for name, value in given.items():
        if name == "dim" and stored.get("dim") is None:
            if writable:
                schema.write_setting(database.main, "dim", value)
        elif stored[name] != value:
            raise ParameterError(f"{database.name} has {name} {stored[name]!r}, not {value!r}")
    if encoder is not None:
        agree_on_encoder(database.name, encoder, stored.get(schema.ENCODER))


def agree_on_encoder(name: str, encoder: TextEncoder, stored: Any) -> None:
    """ParameterError where a collection of this name has another encoder.

    Vectors of two encoders in one collection would find nothing of each other, and nobody would notice.
    """
    if stored is None or stored == encoder.name:
        return
    advice = ""
    if encoder.name is None:
        advice = f"; edgevec.encoders.TextEncoder({stored!r}, function) says that it is the same"
    raise ParameterError(f"{name} has the encoder {stored!r}, not {encoder.label}{advice}")
