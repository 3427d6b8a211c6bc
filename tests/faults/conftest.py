"""The cluster that tests share, replaced after a test that left it broken, and clusters of a test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import SCALE, Cluster


@pytest.fixture(scope="package")
def shared() -> Iterator[list[Cluster]]:
    """The shared cluster, if there is one now. It ends with these tests: its nodes live in a thread of this process."""
    clusters: list[Cluster] = []
    try:
        yield clusters
    finally:
        for cluster in clusters:
            cluster.end()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, shared: list[Cluster], template: Path) -> Cluster:
    """A cluster in which every check runs: the last test's if it is not broken. The parameter is the scale of its times."""
    scale = getattr(request, "param", SCALE)
    if shared and not (shared[0].scale == scale and shared[0].is_sound()):
        shared.pop().end()
    if not shared:
        shared.append(Cluster(template, scale=scale))
        shared[0].start()
    shared[0].wait_until_silence_counts()
    return shared[0]


@pytest.fixture
def make_cluster(shared: list[Cluster], template: Path) -> Iterator[Callable[..., Cluster]]:
    """A function that makes a cluster for this test alone, not started yet. The shared cluster ends before."""
    while shared:
        shared.pop().end()
    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        made.append(Cluster(**{"template": template} | options))
        return made[-1]

    try:
        yield make
    finally:
        for cluster in made:
            cluster.end()
