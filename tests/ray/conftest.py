"""A cluster of two nodes, which are processes of this machine, and an object store that is one, too."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from object_store import ObjectStore
    from ray_cluster import LocalCluster

# Ray and the object store start processes and warn of things of their own, so tox has an environment for them.
collect_ignore_glob = [] if os.environ.get("EDGEVEC_RAY") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    from ray_cluster import LocalCluster

    made = LocalCluster(nodes=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    from object_store import ObjectStore

    made = ObjectStore()
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    """Of a folder in the store that is not there yet."""
    return uuid.uuid4().hex
