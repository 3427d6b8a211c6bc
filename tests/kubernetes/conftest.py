"""Fixtures for tests of Kubernetes: one API server for all of them, and a namespace for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes import programs
from tests.kubernetes.cluster import Cluster, Namespace

DEFINITION = Path(__file__).parents[2] / "deploy/kubernetes/clusterchecks.yaml"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API server. Tests that break it put it in order again."""
    if not programs.are_there():
        told = f"there is no kube-apiserver for tests: `{programs.COMMAND}` builds one, with Go"
        # Where nobody reads the list of skipped tests, none must be skipped.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    cluster = Cluster(programs.folder(), tmp_path_factory.mktemp("kubernetes"))
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
