"""The index that finds configs by their titles and sorts them, built while others write."""

from django.db import migrations, models

from clusteragent.lib.database.online import AddIndexOnline


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0029_titles")]
    operations = [AddIndexOnline("config", models.Index(fields=["title"], name="config_by_title"))]
