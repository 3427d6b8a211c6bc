"""The index that finds what one object of a source sent, built while others write."""

from django.db import migrations, models

from clusteragent.lib.database.online import AddIndexOnline

BY_BEGINNING = models.Index(
    fields=["source", "key"], name="origin_by_beginning", opclasses=["varchar_ops", "text_pattern_ops"]
)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0019_watched_sources")]
    operations = [AddIndexOnline("origin", BY_BEGINNING)]
