"""What simulated runners report becomes the cost of their configs, by the peer's formula."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.db.models.functions import Now

from checks import dispatcher, plans
from checks.dispatcher import costs
from checks.models import Assignment, Config, Cost
from checks.tests.cast import sent
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent, Runner
from nodes.tests.fake_runners import serving
from simulation.agents import Observer, SimulatedNode
from simulation.client import Server, Timing, read_configs
from simulation.runners import SimulatedRunners, numbered_address, works

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
TOKEN = "t" * 32
NODES, CONFIGS = 30, 300


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, SimulatedNode]]:
    """Runners by their addresses, which run nothing yet."""
    fleet = {
        numbered_address(number): SimulatedNode(f"node-{number}", Server.at("127.0.0.1:1", TOKEN), Timing(), Observer())
        for number in range(1, NODES + 1)
    }
    servers: list[asyncio.Server] = []

    async def listen() -> None:
        servers.append(await SimulatedRunners(fleet.get, TOKEN).listen("0.0.0.0", 0))

    async def close() -> None:
        servers[0].close()

    with serving(listen, close):
        monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", servers[0].sockets[0].getsockname()[1])
        monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("127.0.0.0/8"),))
        monkeypatch.setattr(conf, "AUTH_TOKEN", TOKEN)
        for address, node in fleet.items():
            node.is_up = True
            note_heartbeat(node.name, last_change=0, client_ip=address)
        yield fleet


def fetch(node: SimulatedNode, age: float) -> None:
    """Let the node fetch its configs and have run them for that many seconds."""
    share = Config.objects.shares_of([node.name])[0]
    assert share is not None
    _, wanted = read_configs(f'{{"last_change":{share.version},"configs":[{share.configs}]}}'.encode())
    node._apply(wanted)
    node.running = {key: replace(running, since=running.since - age) for key, running in node.running.items()}


def kind(number: int) -> dict[str, object]:
    """Configs of one instance, of several instances, and with another kind of name."""
    several = (f"name: a{number}\nmin_collection_interval: 60", f"name: b{number}", f"a: {number}")
    named = (f"namespace: lab{number}\nmin_collection_interval: 5",)
    return [{}, {"instances": several}, {"name": "snmp", "instances": named, "init_config": None}][number % 3]


def test_all_configs_are_measured_wherever_they_run(fleet: dict[str, SimulatedNode]) -> None:
    configs = [sent(str(number), **kind(number)) for number in range(CONFIGS)]
    dispatcher.schedule([*configs, sent("bare", name="load")])
    for node in fleet.values():
        fetch(node, age=120)
    round_ = costs.measure().round
    assert (round_.asked, round_.failed) == (NODES, 0)
    needed = Counter[str]()
    for node in fleet.values():
        for running in node.running.values():
            needed[f"{running.config.name} {running.config.digest}"] += sum(
                one.workers for one in works(running.config, 0)
            )
    measured = sorted(Cost.objects.values_list("workers_needed", flat=True))
    assert measured == pytest.approx(sorted(needed.values()), rel=0.02, abs=1e-3)
    assert len(measured) == Assignment.objects.count() == Config.objects.count()
    assert set(Runner.objects.capacity().values()) == {4}
    assert not Runner.objects.exclude(own_load=0).exists()


def test_checks_of_old_runners_weigh_little_and_move(
    fleet: dict[str, SimulatedNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Releases before 2026 count no runs, and report a run time below a millisecond as 0."""
    old = {"AverageExecutionTime": 0, "MetricSamples": 3, "HistogramBuckets": 0, "Events": 0, "LastExecFailed": False}
    monkeypatch.setattr("simulation.runners._stats", lambda *_: dict(old))
    dispatcher.schedule([sent(str(number)) for number in range(NODES)])
    owner = Node.objects.get(name="node-1")
    Assignment.objects.update(node=owner, since=Now() - timedelta(minutes=5))
    NodeEvent.objects.all().delete()
    Node.objects.bump_versions(Node.objects.values_list("pk", flat=True))
    for node in fleet.values():
        fetch(node, age=120)
        version = Node.objects.get(name=node.name).config_version
        note_heartbeat(node.name, last_change=version, client_ip=Heartbeat.objects.get(node__name=node.name).client_ip)
    costs.measure()
    assert list(Cost.objects.expected().values()) == pytest.approx([0.0005 / 15] * NODES)
    assert Cost.objects.means().usual == pytest.approx(0.0005 / 15)
    plan = plans.draft(unlimited=True)
    assert len(plan.moves) > NODES / 2
    assert {move["from_node"] for move in plan.moves} == {"node-1"}
