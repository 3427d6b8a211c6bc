"""A database with as many nodes and configs as a question needs, made quickly."""

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
    """Nothing but that many living nodes, the warm-up over."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE nodes_node, nodes_nodeevent, checks_config, checks_move CASCADE")
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


def analyse() -> None:
    """What autovacuum does within a minute of so many changes."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def worked(pid: int) -> float:
    """Seconds that a process has worked until now, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def heard() -> None:
    """All nodes were heard just now, and will be for the next ten minutes of a question."""
    Heartbeat.objects.update(seen_at=Now() + timedelta(minutes=10))
    Hearing.objects.update(last_pass=Now(), hearing_since=None, braked_since=None)


def original(number: int, extra: str = "") -> IntegrationConfig:
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
    config = original(number, extra)
    return Sent("file", f"http_check.d/{number}.yaml", config, dispatcher.admit(config))


def keys(numbers: range) -> list[tuple[str, str]]:
    return [("file", f"http_check.d/{number}.yaml") for number in numbers]
