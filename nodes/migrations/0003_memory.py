from typing import Any

from django.db import migrations, models


def remember(apps: Any, schema_editor: Any) -> None:
    apps.get_model("nodes", "Memory").objects.get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("nodes", "0002_rows")]

    operations = [
        migrations.CreateModel(
            name="Memory",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ],
        ),
        # Django knows no unlogged tables.
        migrations.RunSQL("ALTER TABLE nodes_memory SET UNLOGGED", "ALTER TABLE nodes_memory SET LOGGED"),
        migrations.RunPython(remember, migrations.RunPython.noop),
    ]
