"""The indexes of columns that came after the tables, and what is in these columns, without anybody waiting for it."""

from typing import Any

from django.db import migrations, models

from clusteragent.lib.database import online
from clusteragent.lib.database.online import AddIndexOnline
from nodes.names import likeness

# Nodes that are written in one statement.
BATCH = 1000
INDEXES = (
    models.Index(fields=["likeness"], name="node_likeness"),
    models.Index(fields=["first_seen"], name="node_first_seen"),
    models.Index(
        condition=models.Q(("leaving", True), ("kept_until__isnull", False), _connector="OR"),
        fields=["id"],
        name="node_goodbye",
    ),
)


def find_lookalikes(apps: Any, editor: Any) -> None:
    nodes = apps.get_model("nodes", "Node").objects
    # In the order of the key, as every change of the map locks them.
    names = list(nodes.filter(likeness=None).order_by("pk").values_list("pk", "name"))
    for start in range(0, len(names), BATCH):
        batch = [nodes.model(pk=pk, likeness=likeness(name)) for pk, name in names[start : start + BATCH]]
        nodes.bulk_update(batch, ["likeness"])


def shorten_declarations(apps: Any, editor: Any) -> None:
    """What nodes declared was noted at any length."""
    with editor.connection.cursor() as cursor:
        is_long = "kind = 'declared' AND length(cause) > 1000"
        online.update(cursor, "nodes_nodeevent", "cause = left(cause, 1000)", is_long)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("nodes", "0010_all_stats")]
    operations = [
        *(AddIndexOnline("node", index) for index in INDEXES),
        migrations.RunPython(find_lookalikes, migrations.RunPython.noop),
        migrations.RunPython(shorten_declarations, migrations.RunPython.noop),
    ]
