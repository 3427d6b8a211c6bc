"""A goodbye and a changed declaration, with real servers and a real leader: other nodes get the configs before the next poll."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection
from psycopg.conninfo import make_conninfo

from checks.models import Assignment, Move
from checks.tests.cast import hand_over
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Node
from tests.replicas import Cluster, measured, wait_for
from tests.webserver import Answer, WebServer

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def cluster(transactional_db: None, tmp_path: Path) -> Iterator[Cluster]:
    """A leader, and ash, birch and cedar with thirty configs."""
    cluster = Cluster(make_conninfo(conf.DATABASE_URL, dbname=connection.settings_dict["NAME"]), tmp_path)
    try:
        cluster.store.furnish()
        cluster.start()
        cluster.led()
        for name in ("ash", "birch", "cedar"):
            note_heartbeat(name, last_change=-1)
        yield cluster
    finally:
        cluster.end()


def counts() -> dict[str, int]:
    names = dict(Node.objects.values_list("pk", "name"))
    return {names[pk]: number for pk, number in Assignment.objects.counts().items()}


def empties(name: str, what: str, say: Callable[[], Answer]) -> None:
    """Make a call, and wait until the node has no configs because of it."""
    began = time.monotonic()
    assert say().status == 200
    wait_for(f"{name} has nothing", lambda: name not in counts())
    measured(f"{what} to its configs on others: {time.monotonic() - began:.3f} s")


def number_of_configs(web: WebServer, name: str) -> int:
    return len(json.loads(web.call("GET", f"/api/v1/clusterchecks/configs/{name}").body)["configs"])


def test_who_leaves_or_no_longer_admits_its_work_is_empty_before_it_asks_again(
    cluster: Cluster, web: WebServer
) -> None:
    goodbye = '{"kind": "leaving"}'
    empties("ash", "goodbye", lambda: web.call("POST", "/v1/api/clusterchecks/goodbye/ash", goodbye))
    assert counts() == {"birch": 15, "cedar": 15}
    refusal = json.dumps({"last_change": 7, "check_compatibility": {"exclude": ["http_check"]}})
    empties("birch", "declaration", lambda: web.call("POST", "/api/v1/clusterchecks/status/birch", refusal))
    assert counts() == {"cedar": 30}
    # Both run what they had until cedar does.
    assert [number_of_configs(web, name) for name in ("ash", "birch", "cedar")] == [10, 10, 30]
    hand_over()
    assert [number_of_configs(web, name) for name in ("ash", "birch", "cedar")] == [0, 0, 30]
    for name in ("ash", "birch"):
        status = web.call("POST", f"/api/v1/clusterchecks/status/{name}", '{"last_change": 7}')
        assert json.loads(status.body) == {"isuptodate": False}
    assert set(Move.objects.values_list("source_node", "reason")) == {("ash", "left"), ("birch", "ineligible")}
