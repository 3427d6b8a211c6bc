from django.contrib.postgres.indexes import GinIndex
from django.db import migrations

from clusteragent.lib.database.online import AddIndexOnline


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0047_searched_tags")]
    operations = [AddIndexOnline("searchedtext", GinIndex(fields=["tags"], name="searchedtext_by_tag"))]
