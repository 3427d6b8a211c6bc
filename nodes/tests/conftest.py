"""Runners that tests make up, each at an address of its own."""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from clusteragent.lib import conf
from nodes.tests.fake_runners import FakeRunners, serving
from simulation.tests.scripted_server import TOKEN


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRunners]:
    """The runners, which the leader may ask, with the token that all have."""
    fakes = FakeRunners()
    with serving(fakes.listen, fakes.close):
        monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", fakes.port)
        monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("127.0.0.0/8"),))
        monkeypatch.setattr(conf, "AUTH_TOKEN", TOKEN)
        yield fakes
