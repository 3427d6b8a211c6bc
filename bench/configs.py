"""How often can a node's configs be fetched, 20 of 600 bytes, against heartbeats?"""

from django.db import connection

from bench import servers, stage, wrk
from bench.report import Report
from checks import dispatcher
from checks.models import Config

NODES = 100
CONFIGS_A_NODE = 20
BYTES = 600


def run(report: Report) -> None:
    """Measure fetches of configs and heartbeats with 16 connections."""
    stage.fresh(NODES)
    dispatcher.schedule([stage.sent(number, _filling()) for number in range(NODES * CONFIGS_A_NODE)])
    stage.analyse()
    report.add("bytes of a config as served", _bytes_of_a_config(), "bytes")
    with servers.web() as url:
        heartbeats = wrk.load(url, wrk.HEARTBEAT, 16, nodes=NODES)
        fetches = wrk.load(url, wrk.CONFIGS, 16, nodes=NODES)
    report.add(
        "GET configs, 20 of 600 bytes, against heartbeats", fetches.rate, "1/s", floor=heartbeats.rate, least=0.9
    )
    report.add("  p99", fetches.p99, "s")
    report.add("  errors", fetches.errors, "answers", most=0)


def _filling() -> str:
    """Return text that makes a served config BYTES long; its instances are sent in Base64."""
    served = len(dispatcher.admit(stage.original(1000)).wire)
    return f"x: {'y' * ((BYTES - served) * 3 // 4)}\n"


def _bytes_of_a_config() -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT avg(length(wire)) FROM {Config._meta.db_table}")
        return float(cursor.fetchone()[0])
