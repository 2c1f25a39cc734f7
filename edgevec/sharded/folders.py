"""Where shards lie: a folder of this machine, or an address that fsspec knows."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from .._types import PathLike
from ..errors import (
    CorruptIndexError,
    DataNotFoundError,
    EdgevecError,
    LockedError,
    MissingExtraError,
    StorageError,
    about_file,
)
from ..files import not_found, refused, replacing
from ..workspace import Workspace
from .manifest import MANIFEST, OURS

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["COPIES", "Folder", "open_folder", "sha256_of"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LOCK, _SCRATCH = "manifest.json-lock", ".building-"
COPIES = "edgevec-copies-"
"""How the names of folders for files of an object store begin, among the temporary files of this machine."""
_PIECE = 1 << 20
_Returned = TypeVar("_Returned")


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


class Folder(Protocol):
    """The files of one index, by name. Each comes into being whole, and is not changed but for the manifest."""

    address: str
    is_local: bool

    def where(self, name: str) -> str:
        """What a message calls the file."""

    def read(self, name: str) -> bytes:
        """The content; DataNotFoundError where there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, in the place of one that is there, whole or not at all."""

    def adopt(self, path: Path, name: str) -> None:
        """Put a file there that is in a folder of scratch()."""

    def fetch(self, name: str, folder: Path) -> Path:
        """The file as one of this machine; `folder` is for a copy. DataNotFoundError where there is no such file."""

    def names(self) -> list[str]:
        """Of all files."""

    def stamp(self) -> object:
        """What changes with the manifest; None where asking takes as long as reading it."""

    def scratch(self) -> AbstractContextManager[str | Path]:
        """A folder for new files."""

    def writing(self) -> Any:
        """A block in which no other process writes: LockedError where one does. In an object store: nothing."""

    def remove(self, name: str) -> None:
        """Remove a file that no manifest refers to any more."""

    def remove_all_but(self, kept: set[str]) -> None:
        """Remove the other files that a manifest may refer to, and what killed processes have left."""


class LocalFolder:
    """A folder of this machine; messages call it as the caller did, who may change the working directory since."""

    is_local = True

    def __init__(self, given: Path) -> None:
        self.given = given
        self.path = given.absolute()
        self.address = str(self.path)
        self._manifest = str(self.path / MANIFEST)

    def where(self, name: str) -> str:
        return str(self.given / name)

    def read(self, name: str) -> bytes:
        return self._checked((self.path / name).read_bytes, name)

    def write(self, name: str, content: bytes) -> None:
        with replacing(self.path / name) as new, new.open("r+b") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        self._sync()

    def adopt(self, path: Path, name: str) -> None:
        self._checked(lambda: os.replace(path, self.path / name), name)
        self._sync()

    def fetch(self, name: str, folder: Path) -> Path:
        path = self.path / name
        if not path.exists():
            raise not_found(self.where(name))
        return path

    def names(self) -> list[str]:
        return self._checked(lambda: os.listdir(self.path), "")

    def stamp(self) -> object:
        info = self._checked(lambda: os.stat(self._manifest), MANIFEST)
        return info.st_ino, info.st_mtime_ns, info.st_size

    def scratch(self) -> tempfile.TemporaryDirectory[str]:
        # What cannot be removed the next writer removes: all that counts is elsewhere by then.
        how: Any = {"prefix": _SCRATCH, "dir": self.path, "ignore_cleanup_errors": True}
        return self._checked(lambda: tempfile.TemporaryDirectory(**how), "")

    @contextmanager
    def writing(self) -> Iterator[None]:
        opened = self._checked(lambda: os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666), _LOCK)
        try:
            if not _lock(opened):
                message = f"{self.given}: is written to already, here or in another process"
                raise about_file(LockedError(message), self.given, errno.EAGAIN)
            try:
                yield
            finally:
                _unlock(opened)
        finally:
            os.close(opened)

    def remove(self, name: str) -> None:
        with suppress(OSError):  # Windows, where somebody has it open
            (self.path / name).unlink()

    def remove_all_but(self, kept: set[str]) -> None:
        for name in sorted(self.names()):  # of a collection first the records: no one makes its graph anew of them
            if OURS.fullmatch(name) and name not in kept:
                self.remove(name)
            elif name.startswith(_SCRATCH):
                shutil.rmtree(self.path / name, ignore_errors=True)

    def _checked(self, call: Callable[[], _Returned], name: str) -> _Returned:
        try:
            return call()
        except FileNotFoundError as error:
            raise not_found(self.where(name)) from error
        except OSError as error:
            raise refused(error, self.where(name)) from error

    def _sync(self) -> None:
        """The names of files become durable, too."""
        with suppress(OSError):  # Windows, which opens no folders
            opened = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def _unlock(opened: int) -> None:
    """Give the lock back, also where a process that was forked meanwhile has the descriptor still."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_UN)


def _lock(opened: int) -> bool:
    """Take the lock of a file; it goes with the descriptor, and so with the process."""
    try:
        if fcntl is not None:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt = importlib.import_module("msvcrt")
            msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # others: a file system without locks
    return True


class RemoteFolder:
    """An address that fsspec knows: an object store, whose files come into being as a whole."""

    is_local = False

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self.address = address.rstrip("/")
        try:
            core = importlib.import_module("fsspec.core")  # in a worker of Ray the package was seen without it
        except ImportError as error:
            raise MissingExtraError(
                f"{address}: needs fsspec; install it with: pip install 'edgevec[remote]'"
            ) from error
        # No cache of listings: other processes write, too.
        known = {"skip_instance_cache": True, "use_listings_cache": False, **options}
        self._system, self._path = self._checked(lambda: core.url_to_fs(self.address, **known), "")

    def where(self, name: str) -> str:
        return f"{self.address}/{name}"

    def read(self, name: str) -> bytes:
        return self._checked(lambda: bytes(self._system.cat_file(f"{self._path}/{name}")), name)

    def write(self, name: str, content: bytes) -> None:
        self._put(lambda: self._system.pipe_file(f"{self._path}/{name}", content), name)

    def adopt(self, path: Path, name: str) -> None:
        self._put(lambda: self._system.put_file(str(path), f"{self._path}/{name}"), name)

    def _put(self, put: Callable[[], Any], name: str) -> None:
        """Where there are folders, in one that is made. What lies above it is not: that could be a bucket."""

        def put_in_new_folder() -> None:
            self._system.mkdir(self._path, create_parents=False)
            put()

        try:
            try:
                self._checked(put, name)
            except DataNotFoundError:
                self._checked(put_in_new_folder, name)
        except DataNotFoundError as error:
            where = self.where(name)
            raise about_file(StorageError(f"{where}: there is no such bucket or folder"), where, error.errno) from error

    def fetch(self, name: str, folder: Path) -> Path:
        path, new = folder / name, folder / f"new-{os.urandom(8).hex()}"
        try:
            self._checked(lambda: self._system.get_file(f"{self._path}/{name}", str(new)), name)
            new.replace(path)  # one that is there may be mapped
        finally:
            new.unlink(missing_ok=True)
        return path

    def names(self) -> list[str]:
        def listed() -> list[str]:
            self._system.invalidate_cache()
            found = self._system.ls(self._path, detail=False)
            return [str(each).rstrip("/").rpartition("/")[2] for each in found]

        try:
            return self._checked(listed, "")
        except FileNotFoundError:  # nothing is there yet
            return []

    def stamp(self) -> object:
        return None

    def scratch(self) -> Workspace:
        return Workspace(COPIES)

    @contextmanager
    def writing(self) -> Iterator[None]:
        yield

    def remove(self, name: str) -> None:
        self._checked(lambda: self._system.rm_file(f"{self._path}/{name}"), name)

    def remove_all_but(self, kept: set[str]) -> None:
        for name in self.names():
            if OURS.fullmatch(name) and name not in kept:
                self.remove(name)

    def _checked(self, call: Callable[[], _Returned], name: str) -> _Returned:
        where = self.where(name) if name else self.address
        try:
            return call()
        except EdgevecError:
            raise
        except FileNotFoundError as error:
            raise not_found(where) from error
        except Exception as error:  # each service has errors of its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise about_file(StorageError(f"{where}: {reason}"), where, getattr(error, "errno", None)) from error


def open_folder(address: PathLike, options: Mapping[str, Any] | None = None, *, create: bool = False) -> Folder:
    """The folder at an address, which may also be that of the manifest in it.

    Args:
        options: those that fsspec hands to the file system of the address
        create: make a folder that is not there
    """
    given = os.fspath(address)
    scheme = _SCHEME.match(given)
    if scheme and scheme.group() not in ("file://", "local://"):
        return RemoteFolder(given.removesuffix("/" + MANIFEST), options or {})
    path = Path(given[scheme.end() :] if scheme else given)
    folder = LocalFolder(path.parent if path.name == MANIFEST else path)
    if folder.path.is_file():
        raise CorruptIndexError(f"{path}: not a folder of shards")
    if create:
        folder._checked(lambda: folder.path.mkdir(parents=True, exist_ok=True), "")
    return folder
