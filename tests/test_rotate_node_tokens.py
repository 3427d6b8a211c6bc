"""docs/howto/rotate-node-tokens.md, followed with simulated node agents that report all the while: no call is refused."""

import asyncio
import io
import shlex
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.management import call_command

from nodes.models import NodeToken
from simulation.agents import RESTARTING, Observer, SimulatedNode
from simulation.client import CallError, Server, Timing
from tests.documentation.pages import PAGES, commands
from tests.map import compact, register, store
from tests.replicas import wait_for
from tests.webserver import AGENT, WebServer, database_url, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

PAGE: Path = PAGES["docs/howto/rotate-node-tokens.md"]
NAMES = ("runner-1", "runner-2", "runner-3")
NT = "nt-00000000"


class Refusals(Observer):
    """Notes each call that had no usable answer."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def called(self, node: SimulatedNode, route: str, seconds: float, error: CallError | None) -> None:
        """Note the error."""
        if error:
            self.found.append(f"{node.name} {route}: {error}")


class Pool:
    """Runners that poll ten times a second, each with a token that it reads when it starts."""

    def __init__(self, web: WebServer) -> None:
        self._url = f"https://127.0.0.1:{web.port}"
        self.refusals = Refusals()
        self.nodes: dict[str, SimulatedNode] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)  # type: ignore[arg-type]

    def start(self, name: str, token: str) -> None:
        """Start the node agent and wait until it reports."""
        self._do(self._start(name, token))
        node = self.nodes[name]
        wait_for(f"{name} reports", lambda: node.counters.heartbeats > 1 and node.counters.fetches)

    async def _start(self, name: str, token: str) -> None:
        node = SimulatedNode(name, Server.at(self._url, token), Timing(poll=0.1), self.refusals)
        self.nodes[name], self._tasks[name] = node, asyncio.create_task(node.run())

    def restart(self, name: str, token: str) -> None:
        """Say goodbye with the token that it has, stop, and start with this one."""
        self._do(self.nodes[name].say_goodbye(RESTARTING))
        self._do(self._stop(name))
        self.start(name, token)

    async def _stop(self, name: str) -> None:
        self._tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[name]

    def end(self) -> None:
        """Stop all of them."""
        for name in self._tasks:
            self._do(self._stop(name))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def pool(web: WebServer, warm: None) -> Iterator[Pool]:
    pool = Pool(web)
    try:
        yield pool
    finally:
        pool.end()


def run(command: str) -> str:
    out = io.StringIO()
    words = shlex.split(command)
    assert words[:2] == ["clusteragent", "nodetoken"]
    call_command(*words[1:], stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def test_a_rotation_as_the_page_has_it_refuses_no_call(pool: Pool) -> None:
    add, see, see_shared, doctor, add_second, see_again, revoke, *_ = commands(PAGE)
    for name in NAMES:
        wire = compact({"check_name": name, "instances": ["e30="], "init_config": None})
        store(wire, owner=register(name, 7))
        pool.start(name, AGENT.removeprefix("Bearer "))

    first = run(add)
    for name in NAMES:
        pool.restart(name, first)
    assert "last used 20" in run(see)
    assert "The shared token opens all names." in run(see_shared)
    assert doctor == "clusteragent doctor"

    second = run(add_second)
    for name in NAMES:
        pool.restart(name, second)
    assert [line.count("last used 20") for line in run(see_again).splitlines()][:2] == [1, 1]
    key = NodeToken.objects.get(note="runners 2026").key
    run(revoke.replace(NT, key))

    counted = {name: node.counters.heartbeats for name, node in pool.nodes.items()}
    # The first one opens nothing any more, two seconds later.
    for name, node in pool.nodes.items():
        wait_for("it still reports", lambda node=node, name=name: node.counters.heartbeats > counted[name] + 25)  # type: ignore[misc]
        assert len(node.running) == 1
    assert pool.refusals.found == []


@pytest.mark.usefixtures("warm")
def test_the_shared_token_switched_off_opens_nothing_and_node_tokens_do(tmp_path: Path) -> None:
    token = run(commands(PAGE)[0])
    status = "/api/v1/clusterchecks/status/runner-1", '{"last_change":0}'
    with serving(database_url(), tmp_path, CLUSTERAGENT_SHARED_TOKEN="off") as web:
        assert web.call("POST", *status, token=f"Bearer {token}").status == 200
        refused = web.call("POST", *status, token=AGENT)
        assert (refused.status, refused.body) == (403, "invalid session token\n")
        assert web.call("GET", "/version", token=AGENT).status == 403
