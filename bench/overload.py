"""How are a few known nodes answered during and after an overload, with far more calls than the machine can answer?"""

import http.client
import threading
import time
from collections import Counter
from contextlib import closing
from urllib.parse import urlsplit

from bench import servers, stage, wrk
from bench.report import Report, quantile
from clusteragent.lib import conf
from nodes.models import Node

# Connections that send heartbeats, and that fetch configs; each calls again as soon as it is answered. If all of them were
# served, each would wait more than a second.
REPORTING, FETCHING = 3000, 3000
SECONDS = 10
PROBES = 4


def run(report: Report) -> None:
    """Measure heartbeats of known nodes during the overload, and the rate of heartbeats before and after it."""
    stage.fresh(wrk.NODES)
    Node.objects.update(config_version=7)
    stage.analyse()
    with servers.web() as url:
        before = wrk.load(url, wrk.HEARTBEAT, 16)
        waits, statuses = _during(url)
        time.sleep(1)
        after = wrk.load(url, wrk.HEARTBEAT, 16)
    answered = statuses[http.HTTPStatus.OK]
    report.add("overload: heartbeats of known nodes beside it that are answered", answered / statuses.total(), "of all")
    report.add("  p50", quantile(waits, 0.5), "s")
    report.add("  p99", quantile(waits, 0.99), "s", most=1)
    report.add("  neither 200 nor 503", statuses.total() - answered - statuses[503], "answers", most=0)
    report.add("  heartbeats after it, 16 connections", after.rate, "1/s", floor=before.rate, least=0.8)


def _during(url: str) -> tuple[list[float], "Counter[int]"]:
    """Return the seconds that answered heartbeats took, and {status: number of answers}."""
    waits: list[float] = []
    statuses: Counter[int] = Counter()
    end = time.monotonic() + SECONDS
    loads = [(wrk.HEARTBEAT, REPORTING), (wrk.CONFIGS, FETCHING)]
    threads = [threading.Thread(target=wrk.load, args=(url, *load), kwargs={"seconds": SECONDS}) for load in loads]
    threads += [threading.Thread(target=_probe, args=(url, number, end, waits, statuses)) for number in range(PROBES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits, statuses


def _probe(url: str, number: int, end: float, waits: list[float], statuses: "Counter[int]") -> None:
    path, headers = f"/api/v1/clusterchecks/status/node-{number:05}", {"Authorization": f"Bearer {conf.AUTH_TOKEN}"}
    place = urlsplit(url)
    with closing(
        http.client.HTTPSConnection(str(place.hostname), place.port, timeout=10, context=servers.TLS)
    ) as caller:
        while time.monotonic() < end:
            began = time.monotonic()
            caller.request("POST", path, '{"last_change":7}', headers)
            answer = caller.getresponse()
            answer.read()
            statuses[answer.status] += 1
            if answer.status == http.HTTPStatus.OK:
                waits.append(time.monotonic() - began)
            time.sleep(0.05)
