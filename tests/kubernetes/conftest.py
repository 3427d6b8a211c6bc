"""Fixtures for tests of Kubernetes: one API server for all of them, and a namespace for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.programs import KUBERNETES, Programs

DEFINITION = Path(__file__).parents[2] / "deploy/kubernetes/clusterchecks.yaml"


def require(programs: Programs) -> Path:
    """Return the folder of programs. Without them the test is skipped, or fails where nobody reads the list of skipped tests."""
    if not programs.are_there():
        told = f"there is no {', '.join(programs.packages)} for tests: `{programs.command}` builds it, with Go"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    return programs.folder()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API server. Tests that break it put it in order again."""
    cluster = Cluster(require(KUBERNETES), tmp_path_factory.mktemp("kubernetes"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def namespace(cluster: Cluster) -> Namespace:
    """A namespace of the test's own."""
    return cluster.namespace()


@pytest.fixture(scope="module")
def definition(cluster: Cluster) -> Iterator[None]:
    """The resource ClusterCheck, as we ship it."""
    cluster.kubectl("apply", "-f", str(DEFINITION))
    cluster.kubectl("wait", "--for=condition=Established", "crd/clusterchecks.clusteragent.dev")
    yield
    # With all of its objects, which others would see.
    cluster.kubectl("delete", "crd", "clusterchecks.clusteragent.dev")
