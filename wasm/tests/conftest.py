from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# The scripts beside this folder import one another by name.
sys.path.insert(0, str(HERE.parent))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a loopback server with the test page, Pyodide and the built wheel."""
    from loopback import served
    from website import build_site

    folder = build_site(tmp_path_factory.mktemp("site") / "site")
    shutil.copytree(HERE / "pages", folder, dirs_exist_ok=True)
    with served(folder) as address:
        yield address
