"""Indexes of nodes between two others in a hand-over, and of titles in natural order, built while others write."""

from django.db import migrations, models

from clusteragent.lib.database.natural import Natural
from clusteragent.lib.database.online import AddIndexOnline


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0033_nodes_between")]
    operations = [
        AddIndexOnline(
            "handover",
            models.Index(fields=["between"], name="handover_by_between", condition=models.Q(between__isnull=False)),
        ),
        AddIndexOnline("config", models.Index(Natural("title"), name="config_in_natural_order")),
    ]
