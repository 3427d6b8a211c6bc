"""Acts: operators and admins see them."""

from typing import Any

from django.db import migrations

from operators.roles import grant


def grant_them(apps: Any, editor: Any) -> None:
    grant(apps, dict.fromkeys(("operator", "admin"), ("acts.view_act",)))


class Migration(migrations.Migration):
    dependencies = [("operators", "0005_freezes"), ("acts", "0001_acts")]

    operations = [migrations.RunPython(grant_them, migrations.RunPython.noop)]
