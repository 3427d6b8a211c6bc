"""How long after a killed runner's last report do its checks run elsewhere, with proof of death and without it?"""

import os
import statistics
from ipaddress import ip_network
from unittest import mock

from django.db import connection

from bench import fleet, servers, stage
from bench.report import Report, timed
from checks import dispatcher
from checks.models import ClusterStore
from clusteragent.lib import conf
from nodes import proofs

NODES, CONFIGS, DYING = 100, 1500, 10
POLL, PASS = 10.0, 1.0
# Until a second round of stats, each minute, has found all of them; until the last check of the dead runs elsewhere.
AFTER, TAKEN = 95, 50
# A report is overdue after a poll and two seconds; then the port is asked twice, two seconds apart.
PROVEN = POLL + 2 + 2
MANY, OVERDUE = 10_000, 3_000


def run(report: Report) -> None:
    """Kill runners with proof of death off and on, and measure what very many overdue nodes cost a pass."""
    for wanted, most in (("off", None), ("on", PROVEN + PASS + POLL)):
        _kill(report, wanted, most)
    _probe(report)


def _kill(report: Report, wanted: str, most: float | None) -> None:
    port = str(servers.free_port())
    options = {"DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": port, "CLUSTERAGENT_RUNNER_NETWORKS": "127.0.0.0/8"}
    with mock.patch.dict(os.environ, options, CLUSTERAGENT_PROOF_OF_DEATH={"on": "port"}.get(wanted, wanted)):
        plan = (f"--stats-port={port}", f"--kill-after={AFTER}:{DYING}")
        account = fleet.simulate(NODES, CONFIGS, AFTER + TAKEN, *plan).account
    taken, what = account["takeovers"], f"{DYING} of {NODES} runners killed, proof of death {wanted}"
    report.add(f"{what}: checks that run elsewhere", taken["number"], "checks", least=CONFIGS / NODES * DYING)
    report.add("  last report to its checks elsewhere: median", taken["p50"], "s", most=most and 20)
    report.add("  last report to its checks elsewhere: worst", taken["longest"], "s", most=most)
    report.add("  checks with two runners at once", account["two_runners"]["number"], "checks", most=0)


def _probe(report: Report) -> None:
    stage.fresh(MANY)
    dispatcher.schedule([stage.sent(number) for number in range(MANY)])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE nodes_heartbeat AS h SET client_ip = '127.64.0.0'::inet + r.number"
            " FROM (SELECT node_id, row_number() OVER () AS number FROM nodes_heartbeat) AS r WHERE r.node_id = h.node_id"
        )
        cursor.execute(
            "INSERT INTO nodes_runner (node_id, address, failures, stats_at)"
            " SELECT node_id, client_ip, 0, now() FROM nodes_heartbeat"
        )
    stage.analyse()
    patched = {"RUNNER_NETWORKS": (ip_network("127.0.0.0/8"),), "CLC_RUNNERS_PORT": servers.free_port()}
    size = f"{MANY:,} nodes, {OVERDUE:,} of them overdue".replace(",", " ")
    with mock.patch.multiple(conf, **patched):
        off, on = (_passes(wanted) for wanted in ("off", "port"))
        report.add(f"a pass, {size}, proof of death off (median)", off, "s")
        report.add(f"a pass, {size}, proof of death on (median)", on, "s", floor=off, most=1.5)
        _fall_overdue()
        report.add(f"asking the ports of {OVERDUE} nodes", timed(_ask), "s", most=5)


def _passes(wanted: str) -> float:
    """The median of passes while ports are to be asked, which is not the pass's work."""
    term = ClusterStore.objects.get().term
    with mock.patch.object(conf, "PROOF_OF_DEATH", wanted):
        _fall_overdue()
        assert proofs.wanted() == (wanted == "port")
        return statistics.median(timed(lambda: dispatcher.run_pass(term)) for _ in range(20))


def _fall_overdue() -> None:
    stage.heard()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE nodes_heartbeat SET seen_at = now() - interval '12.5 s'"
            " WHERE node_id IN (SELECT node_id FROM nodes_heartbeat ORDER BY node_id LIMIT %s)",
            [OVERDUE],
        )


def _ask() -> None:
    asked = proofs.ask_ports()
    assert asked == (OVERDUE, OVERDUE, 0), asked
