"""Views of lists that people save: operators and admins share theirs, admins delete those of others."""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from operators.roles import grant


def grant_them(apps: Any, editor: Any) -> None:
    grant(apps, {"operator": ["operators.share_savedview"]})
    grant(apps, {"admin": ["operators.share_savedview", "operators.delete_savedview"]})


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("operators", "0006_acts"),
    ]

    operations = [
        migrations.CreateModel(
            name="SavedView",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("of", models.CharField(max_length=100)),
                ("name", models.CharField(max_length=100)),
                ("query", models.JSONField()),
                ("is_shared", models.BooleanField(default=False)),
                (
                    "owner",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["name", "pk"],
                "permissions": [("share_savedview", "Can share saved views")],
                "default_permissions": ("delete",),
                "constraints": [models.UniqueConstraint(fields=("owner", "of", "name"), name="view_of_one_name")],
            },
        ),
        migrations.RunPython(grant_them, migrations.RunPython.noop),
    ]
