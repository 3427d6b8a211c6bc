"""docs/howto/rotate-node-tokens.md, followed with simulated node agents that report all the while: no call is refused."""

import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from nodes.models import NodeToken
from tests.documentation.pages import PAGES, commands
from tests.map import compact, register, store
from tests.pools import Pool
from tests.replicas import wait_for
from tests.webserver import AGENT, WebServer, database_url, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

PAGE: Path = PAGES["docs/howto/rotate-node-tokens.md"]
NAMES = ("runner-1", "runner-2", "runner-3")
NT = "nt-00000000"


@pytest.fixture
def pool(web: WebServer, warm: None) -> Iterator[Pool]:
    pool = Pool(f"https://127.0.0.1:{web.port}")
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
    assert pool.failures.found == []


@pytest.mark.usefixtures("warm")
def test_the_shared_token_switched_off_opens_nothing_and_node_tokens_do(tmp_path: Path) -> None:
    token = run(commands(PAGE)[0])
    status = "/api/v1/clusterchecks/status/runner-1", '{"last_change":0}'
    with serving(database_url(), tmp_path, CLUSTERAGENT_SHARED_TOKEN="off") as web:
        assert web.call("POST", *status, token=f"Bearer {token}").status == 200
        refused = web.call("POST", *status, token=AGENT)
        assert (refused.status, refused.body) == (403, "invalid session token\n")
        assert web.call("GET", "/version", token=AGENT).status == 403
