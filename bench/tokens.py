"""What does a heartbeat with a node token cost the web server, against one with the shared token?"""

import json
import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPSConnection
from itertools import chain

from bench import servers, stage
from bench.report import Report
from clusteragent.lib import conf
from nodes import tokens
from nodes.models import Node, NodeToken
from tests.replicas import descendants

NODES, CONNECTIONS, PAIRS = 1_000, 8, 7
# Tokens beside the one that is shown.
OTHERS = 99
STATUS = json.dumps({"last_change": 7})


def run(report: Report) -> None:
    """Measure processor time, not rates: in turns with the shared token, on one server, whatever else the machine does."""
    stage.fresh(NODES)
    Node.objects.update(config_version=7)
    stage.analyse()
    for number in range(OTHERS):
        tokens.make(NodeToken(note=f"pool {number}", pattern=f"pool-{number}-*"))
    shown = {
        "a node token": tokens.make(NodeToken(note="nodes", pattern="node-*")),
        "a node token with networks": tokens.make(NodeToken(note="nodes", pattern="node-*", networks="127.0.0.0/8")),
    }
    with servers.web() as url:
        port = int(url.rpartition(":")[2])
        # The first heartbeats of a process are of another kind.
        _cost(port, conf.AUTH_TOKEN)
        costs = [[_cost(port, token) for token in (conf.AUTH_TOKEN, *shown.values())] for _ in range(PAIRS)]
    report.add("a heartbeat with the shared token, processor time", statistics.median(pair[0] for pair in costs), "s")
    for place, name in enumerate(shown, 1):
        ratios = [pair[place] / pair[0] for pair in costs]
        report.add(f"  with {name}, of {OTHERS + len(shown)}: median ratio", statistics.median(ratios), "", most=1.1)
        report.add("    least", min(ratios), "")
        report.add("    most", max(ratios), "")


def _cost(port: int, token: str) -> float:
    """The processor seconds of our servers for a heartbeat: of each node two."""
    before = _worked()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        shares = [range(first, NODES, CONNECTIONS) for first in range(CONNECTIONS)]
        sent = sum(pool.map(lambda share: _send(port, token, share), shares))
    return (_worked() - before) / sent


def _send(port: int, token: str, numbers: range) -> int:
    headers = {"Authorization": f"Bearer {token}", "X-Real-Ip": ""}
    with closing(HTTPSConnection("127.0.0.1", port, context=servers.TLS)) as connection:
        for number in chain(numbers, numbers):
            connection.request("POST", f"/api/v1/clusterchecks/status/node-{number:05}", STATUS, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != HTTPStatus.OK:
                raise RuntimeError(f"a heartbeat was answered {answer.status}")
    return 2 * len(numbers)


def _worked() -> float:
    return sum(stage.worked(pid) for pid in descendants(os.getpid()))
