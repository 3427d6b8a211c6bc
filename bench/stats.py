"""How long does it take to collect the stats of all runners, some of which hang, and to compute costs from them?"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from ipaddress import ip_network
from unittest import mock

from django.db import connection

from bench import fleet, servers, stage
from bench.report import Report, timed
from checks import dispatcher
from checks.dispatcher import costs
from checks.explain import headroom
from checks.models import Cost
from checks.models.troubles import Trouble
from clusteragent.lib import conf
from nodes import slowness
from nodes.models import Runner, RunnerStats, Slowness
from nodes.models.runners import Answer, CheckStats

NODES, CONFIGS, HANGING = 300, 5000, 30
# Seconds after the start: every check has run, and then some nodes are cut off, but are not yet silent for long.
RAN, CUT = 60, 75


def run(report: Report) -> None:
    """Measure a round of stats with and without runners that hang, and the computation of costs and loads."""
    port = servers.free_port()
    loopback = (ip_network("127.0.0.0/8"),)
    with mock.patch.multiple(conf, CLC_RUNNERS_PORT=port, RUNNER_NETWORKS=loopback):
        _ask(report, port)
    _work_out(report)


def _ask(report: Report, port: int) -> None:
    stage.fresh(0)
    words = (f"--nodes={NODES}", f"--stats-port={port}", f"--pause={CUT}:{HANGING}:60")
    with servers.web() as url, servers.simulation(f"--url={url}", *words):
        began = time.monotonic()
        fleet.schedule(NODES, CONFIGS)
        time.sleep(began + RAN - time.monotonic())
        healthy = costs.measure()
        report.add(f"stats of {NODES} runners", healthy.round.seconds, "s")
        report.add("  runners that failed", healthy.round.failed, "nodes", most=0)
        report.add(f"  configs measured, of {CONFIGS}", healthy.configs, "configs", least=CONFIGS)
        time.sleep(began + CUT + 5 - time.monotonic())
        hanging = costs.measure().round
    report.add(f"stats of {NODES} runners, {HANGING} of which hang", hanging.seconds, "s", most=4)
    report.add("  runners that failed", hanging.failed, "nodes", least=HANGING, most=HANGING)


def _work_out(report: Report) -> None:
    stage.fresh(10_000)
    dispatcher.schedule([stage.sent(number) for number in range(100_000)])
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO nodes_runner (node_id) SELECT id FROM nodes_node")
        cursor.execute(
            "INSERT INTO nodes_runnerstats"
            " (node_id, check_id, execution_ms, total_runs, total_errors, failed, last_error)"
            " SELECT a.node_id, i.check_id, 5000 * random(), 1, 0, false, ''"
            " FROM checks_assignment AS a JOIN checks_instance AS i USING (config_id) WHERE random() < 0.9"
        )
    stage.analyse()
    size = "10 000 nodes, 100 000 configs"
    report.add(f"costs out of stats, {size}, all for the first time", timed(Cost.objects.measure), "s")
    stage.analyse()
    report.add(f"costs out of stats, {size}, none changed", timed(Cost.objects.measure), "s")
    report.add(f"own loads out of stats, {size}", timed(Cost.objects.measure_own_load), "s")
    report.add(f"expected load of each node, {size}", _median(Cost.objects.by_node), "s", most=0.3)
    report.add(f"capacity of each node, {size}", _median(Runner.objects.capacity), "s", most=0.3)
    report.add(f"expected cost of each config, {size}", _median(Cost.objects.expected), "s")
    _slowness(report)


def _slowness(report: Report) -> None:
    """What the look for slow nodes adds to a round's work in the database, in turns with the rest: 12 checks, 200 slow nodes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checks_instance SET check_id = 'check_' || config_id::bigint * 7919 % 10007 % 12 || substr(check_id, 11)"
        )
        cursor.execute("UPDATE nodes_runner SET stats_at = now(), failures = 0")
        cursor.execute("DELETE FROM nodes_runnerstats")
        cursor.execute(
            "INSERT INTO nodes_runnerstats"
            " (node_id, check_id, execution_ms, total_runs, total_errors, failed, last_error)"
            " SELECT a.node_id, i.check_id, floor(900 * random() * CASE a.node_id % 50 WHEN 0 THEN 8 ELSE 1 END), 1, 0, false, ''"
            " FROM checks_assignment AS a JOIN checks_instance AS i USING (config_id)"
        )
    stage.analyse()
    # Two rounds, so that slow nodes are given less, and the lengths of their checks are known.
    for _ in range(2):
        _rest()
        slowness.note_round()
    stage.analyse()
    answers = _answers()
    rounds = [(timed(lambda: Runner.objects.note(answers)), timed(_rest), timed(slowness.note_round)) for _ in range(9)]
    store, rest, step = (statistics.median(column) for column in zip(*rounds, strict=True))
    size = "10 000 nodes, 100 000 stats"
    report.add(f"a round's stats stored, {size}", store, "s")
    report.add("  what else it does in the database", rest, "s")
    slow = Slowness.objects.slow().count()
    report.add(f"  the look for slow nodes, of which there are {slow}", step, "s", floor=store + rest, most=0.2)
    compare = _median(lambda: slowness.compare(RunnerStats.objects.run_times(conf.SLOW_NOTICE)))
    report.add("    of it comparing", compare, "s")


def _answers() -> dict[int, Answer]:
    """The stats of all nodes, as runners told them."""
    told: dict[int, list[CheckStats]] = defaultdict(list)
    for node, check_id, milliseconds in RunnerStats.objects.values_list("node", "check_id", "execution_ms"):
        told[node].append(CheckStats(check_id, milliseconds, total_runs=1, total_errors=0))
    return {node: Answer(stats, 4, began=time.monotonic()) for node, stats in told.items()}


def _rest() -> None:
    Cost.objects.measure()
    Cost.objects.measure_own_load()
    Trouble.objects.note()
    costs.note_overloaded()
    headroom.note()


def _median(work: Callable[[], object]) -> float:
    return statistics.median(timed(work) for _ in range(9))
