"""How long do the dispatcher's verbs take, how do they grow, and how long do they hold the store's lock?"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter

from django.db import connection, transaction
from django.db.models.functions import Now

from bench import stage
from bench.report import Report, timed
from checks import dispatcher
from checks.models import Assignment, ClusterStore, Config, Instance, Move, Origin
from nodes.models import Heartbeat, Node


def run(report: Report) -> None:
    """Measure the verbs at the peer's size, and their growth."""
    peers_size(report)
    growth(report)


def peers_size(report: Report) -> None:
    """Measure 5 000 configs on 300 nodes, patching included: the size of the Datadog Cluster Agent's own figures."""
    stage.fresh(300)
    numbers = range(5000)
    with longest_wait() as waits:
        took = both(numbers)
        report.add("schedule 5 000 configs on 300 nodes", took, "s", most=1.3)
        report.add("  against COPY of the same rows", took, "s", floor=copy_floor())
        loads = sorted(Assignment.objects.counts().values())
        report.add("  spread: most - least configs a node", loads[-1] - loads[0], "configs", most=1)
        report.add("schedule the same again", both(numbers), "s")
        report.add("change 5 000 configs", both(numbers, "min_collection_interval: 20\n"), "s", most=1.3)
        report.add("expire 30 of 300 nodes and re-dispatch their configs", lose(30), "s", most=0.25)
        stage.heard()
        report.add("unschedule 5 000 configs", timed(lambda: dispatcher.unschedule(stage.keys(numbers))), "s", most=1)
    report.add("longest wait for the store's lock meanwhile", max(waits), "s", most=1)


def growth(report: Report) -> None:
    """Measure three sizes: the time for each config must grow no faster than log n."""
    sizes = ((1000, 100), (10_000, 1000), (100_000, 10_000))
    took = []
    for configs, nodes in sizes:
        stage.fresh(nodes)
        took.append(both(range(configs)))
        goal = 30 if configs == 100_000 else None
        report.add(f"schedule {configs:,} configs on {nodes:,} nodes".replace(",", " "), took[-1], "s", most=goal)
    n_log_n = (sizes[2][0] * math.log(sizes[2][0])) / (sizes[1][0] * math.log(sizes[1][0]))
    report.add("  growth from 10 000 to 100 000, against n log n", took[2] / took[1], "times", floor=n_log_n, most=1.2)


def both(numbers: range, extra: str = "") -> float:
    """Return the seconds that patching and scheduling the configs takes."""
    return timed(lambda: dispatcher.schedule([stage.sent(number, extra) for number in numbers]))


def lose(number: int) -> float:
    """Make `number` nodes silent for too long; return the seconds of the pass that moves their configs."""
    dead = Node.objects.order_by("pk").values_list("pk", flat=True)[:number]
    Heartbeat.objects.filter(node_id__in=list(dead)).update(seen_at=Now() - timedelta(minutes=1))
    return timed(lambda: dispatcher.run_pass(ClusterStore.objects.get().term))


def copy_floor() -> float:
    """Return the seconds of COPY of all rows into empty tables with the same columns and indexes."""
    total = 0.0
    with transaction.atomic(), connection.cursor() as cursor:
        for model in (Config, Instance, Origin, Assignment, Move):
            table = model._meta.db_table
            with cursor.copy(f"COPY {table} TO STDOUT") as stream:
                rows = b"".join(stream)
            cursor.execute(f"CREATE TEMPORARY TABLE floor_of_{table} (LIKE {table} INCLUDING INDEXES) ON COMMIT DROP")
            began = perf_counter()
            with cursor.copy(f"COPY floor_of_{table} FROM STDIN") as stream:
                stream.write(rows)
            total += perf_counter() - began
    return total


@contextmanager
def longest_wait() -> Iterator[list[float]]:
    """Collect the seconds that a second session waits for the store's lock, again and again while the block runs."""
    waits = [0.0]
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.002):
            with transaction.atomic():
                waits.append(timed(ClusterStore.objects.lock))
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits
    finally:
        done.set()
        asking.join()
