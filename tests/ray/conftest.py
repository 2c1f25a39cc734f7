"""A cluster of two nodes, which are processes of this machine, and an object store that is one, too."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import HANG

if TYPE_CHECKING:
    from object_store import ObjectStore

# Ray and the object store start processes and warn of things of their own, so tox has an environment for them.
collect_ignore_glob = [] if os.environ.get("EDGEVEC_RAY") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    # Short, as sockets lie in it. What Ray would take of the memory for objects may be more than a small machine has.
    scratch = tempfile.mkdtemp(prefix="ev-ray-")
    node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 << 20}
    made = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": scratch})
    made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    end = time.monotonic() + HANG
    while left := processes_of(scratch):
        assert time.monotonic() < end, left
        time.sleep(0.05)
    shutil.rmtree(scratch)


def processes_of(scratch: str) -> list[str]:
    """Command lines that name a folder, where the system tells them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if scratch.encode() in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    from object_store import ObjectStore

    made = ObjectStore()
    yield made
    made.close()
