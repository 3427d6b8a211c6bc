from typing import Any

from django.db import migrations


def make_rows(apps: Any, schema_editor: Any) -> None:
    apps.get_model("checks", "ClusterStore").objects.get_or_create(pk=1)
    # The warm-up waits until every source was read, so the source that always exists must be known from the start.
    apps.get_model("checks", "Source").objects.get_or_create(name="file")


class Migration(migrations.Migration):
    dependencies = [("checks", "0001_initial")]
    operations = [migrations.RunPython(make_rows, migrations.RunPython.noop)]
