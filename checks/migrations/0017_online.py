"""The indexes of columns that came after the tables, built while others write."""

from django.db import migrations, models

from clusteragent.lib.database.online import AddIndexOnline

INDEXES = {
    "config": (
        models.Index(
            condition=models.Q(("former_node__isnull", False)), fields=["former_node"], name="config_of_former_node"
        ),
        models.Index(fields=["patched_with", "id"], name="config_by_patching"),
        models.Index(fields=["short_id"], name="config_by_short_id"),
        models.Index(fields=["fast_digest"], name="config_by_fast_digest"),
        models.Index(fields=["contents"], name="config_by_contents"),
    ),
    "instance": (models.Index(fields=["short_id"], name="instance_by_short_id"),),
}


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0016_what_authors_wrote")]
    operations = [AddIndexOnline(model, index) for model, indexes in INDEXES.items() for index in indexes]
