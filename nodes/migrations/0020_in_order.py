"""An index of nodes' names in natural order, built while others write."""

from django.db import migrations, models

from clusteragent.lib.database.natural import Natural
from clusteragent.lib.database.online import AddIndexOnline


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("nodes", "0019_run_lengths")]
    operations = [AddIndexOnline("node", models.Index(Natural("name"), name="node_in_natural_order"))]
