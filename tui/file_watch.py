"""Notifies the user when an open file is changed or removed by another program."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .app_base import AppBase
from .file_stamp import Stamp, stamp
from .models import Data

__all__ = ["POLL_SECONDS", "FileWatch"]

POLL_SECONDS = 2.0


class FileWatch:
    """Compares the files of the session with their stamps every POLL_SECONDS."""

    def __init__(self, app: AppBase) -> None:
        self._app = app

    def start(self) -> None:
        self._app.set_interval(POLL_SECONDS, self.check)

    def check(self) -> None:
        """Compare on a thread, since a network disk may be slow."""
        session = self._app.session
        if session.changed is None and session.stamps and session.data is not None:
            look = partial(self._compare, session.data, dict(session.stamps))
            self._app.run_worker(look, group="files", exclusive=True, thread=True, exit_on_error=False)

    def _compare(self, data: Data, stamps: dict[Path, Stamp]) -> None:
        """Report the first file that changed; of a collection, which others may write, only one that was replaced."""
        for path, before in stamps.items():
            now = stamp(path)
            if not (before.same_file(now) if data.collection else before == now):
                self._app.call_from_thread(self._changed, data, path, before, now is None)
                return

    def _changed(self, data: Data, path: Path, before: Stamp, gone: bool) -> None:
        session = self._app.session
        if session.data is not data or session.stamps.get(path) != before:  # reopened, or saved from here
            return
        session.changed = path
        self._app.publish_session()
        what = "is gone from the disk" if gone else "was changed on the disk"
        self._app.notify(
            f"{path.name} {what} since it was opened. F6 reads it again.", severity="warning", timeout=10, markup=False
        )
