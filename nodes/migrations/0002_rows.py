from typing import Any

from django.db import migrations


def make_rows(apps: Any, schema_editor: Any) -> None:
    apps.get_model("nodes", "Hearing").objects.get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("nodes", "0001_initial")]
    operations = [
        # Half of each page stays free, so that an update of a heartbeat finds room on its own page and is HOT.
        migrations.RunSQL(
            "ALTER TABLE nodes_heartbeat SET (fillfactor = 50)", "ALTER TABLE nodes_heartbeat RESET (fillfactor)"
        ),
        migrations.RunPython(make_rows, migrations.RunPython.noop),
    ]
