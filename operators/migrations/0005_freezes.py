"""Freezes of balancing: each role sees them, operators give and end them."""

from typing import Any

from django.db import migrations

from operators.roles import grant


def grant_them(apps: Any, editor: Any) -> None:
    grant(apps, dict.fromkeys(("viewer", "operator", "author", "admin"), ("checks.view_freeze",)))
    grant(apps, {"operator": ("checks.add_freeze", "checks.change_freeze", "checks.delete_freeze")})


class Migration(migrations.Migration):
    dependencies = [("operators", "0004_digests"), ("checks", "0013_freezes")]

    operations = [migrations.RunPython(grant_them, migrations.RunPython.noop)]
