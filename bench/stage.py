"""Preparation of the database: any number of nodes and configs, made quickly."""

import os
from datetime import timedelta
from pathlib import Path

from django.db import connection
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher import Sent
from checks.models import ClusterStore, Source
from checks.wire.patching import IntegrationConfig
from nodes.models import Hearing, Heartbeat


def fresh(nodes: int) -> None:
    """Empty the database and make that many living nodes; the warm-up is over."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE nodes_node, nodes_nodeevent, checks_config, checks_cost, checks_move CASCADE")
        cursor.execute(
            "INSERT INTO nodes_node (name, labels) SELECT 'node-' || lpad(i::text, 5, '0'), '{}'"
            " FROM generate_series(0, %s) AS i",
            (nodes - 1,),
        )
        cursor.execute("INSERT INTO nodes_heartbeat (node_id) SELECT id FROM nodes_node")
    analyse()
    Hearing.objects.update(warmup=False, hearing_since=None, braked_since=None)
    Source.objects.update(read_at=Now())
    ClusterStore.objects.update(term=1)
    heard()


def measured() -> None:
    """Give each config a cost, as a round of stats does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO checks_cost (config_id, workers_needed, seconds, measured_at)"
            " SELECT id, id % 100 / 5000.0, id % 100 / 100.0, now() FROM checks_config"
        )


def analyse() -> None:
    """Vacuum and analyse, as autovacuum does within a minute after many changes."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def worked(pid: int) -> float:
    """Return the processor seconds of a process until now, exact to 0.01 s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def heard() -> None:
    """Make all nodes alive for the next ten minutes, with no brake and no deafness."""
    Heartbeat.objects.update(seen_at=Now() + timedelta(minutes=10))
    Hearing.objects.update(last_pass=Now(), hearing_since=None, braked_since=None)


def original(number: int, extra: str = "") -> IntegrationConfig:
    """Return an http_check config of this number, as a file would give it. extra: further YAML lines of its instance."""
    instance = (
        f"url: https://service-{number}.example.com/health\nname: service-{number}\ntimeout: 5\n{extra}"
        "tags:\n- env:prod\n- team:web\n"
    )
    return IntegrationConfig(
        name="http_check",
        instances=(instance,),
        init_config="{}",
        cluster_check=True,
        provider="file",
        source=f"file:/conf.d/http_check.d/{number}.yaml",
    )


def sent(number: int, extra: str = "") -> Sent:
    """Return the config as its source sends it to the dispatcher, patched."""
    config = original(number, extra)
    return Sent("file", f"http_check.d/{number}.yaml", config, dispatcher.admit(config))


def keys(numbers: range) -> list[tuple[str, str]]:
    """Return the origins, (source, key), of these configs."""
    return [("file", f"http_check.d/{number}.yaml") for number in numbers]
