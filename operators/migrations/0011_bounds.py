"""Bounds of roles and tokens. Admins make groups, which have them."""

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from operators.roles import grant


def grant_them(apps: Any, editor: Any) -> None:
    grant(apps, {"admin": ("auth.add_group", "auth.change_group", "auth.delete_group")})


def _of(model: str) -> Any:
    return models.OneToOneField(
        blank=True,
        db_constraint=False,
        null=True,
        on_delete=django.db.models.deletion.CASCADE,
        related_name="bound",
        to=model,
    )


class Migration(migrations.Migration):
    dependencies = [
        ("operators", "0010_purposes"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.KNOX_TOKEN_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Bound",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sources", models.JSONField(default=list)),
                ("checks", models.JSONField(default=list)),
                ("group", _of("auth.group")),
                ("token", _of(settings.KNOX_TOKEN_MODEL)),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("group", None), ("token", None), _connector="XOR"), name="bound_of_one"
                    )
                ],
            },
        ),
        migrations.RunPython(grant_them, migrations.RunPython.noop),
    ]
