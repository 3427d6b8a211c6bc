"""The cluster that a module's tests share, made anew after one that failed."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.database import make_template


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """The data folder of a migrated database."""
    folder = Path(tempfile.mkdtemp(prefix="clusteragent-faults-"))
    folder.chmod(0o755)
    try:
        yield make_template(folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shared() -> Iterator[list[Cluster]]:
    """At most one cluster."""
    clusters: list[Cluster] = []
    try:
        yield clusters
    finally:
        for cluster in clusters:
            cluster.end()


@pytest.fixture
def cluster(shared: list[Cluster], template: Path) -> Iterator[Cluster]:
    """A cluster in which every check runs: the last test's, if that left it so."""
    if not shared:
        shared.append(Cluster(template))
        shared[0].start()
    yield shared[0]
    if not shared[0].is_sound():
        shared.pop().end()
