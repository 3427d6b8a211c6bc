"""Digests and check IDs: authors and admins see those of node agents, the other roles short IDs."""

from typing import Any

from django.db import migrations

from operators.roles import grant

SEES = {"author": ("checks.view_digests",), "admin": ("checks.view_digests",)}


def grant_them(apps: Any, editor: Any) -> None:
    grant(apps, SEES)


class Migration(migrations.Migration):
    dependencies = [("operators", "0003_failed_logins"), ("checks", "0011_display_copies")]

    operations = [migrations.RunPython(grant_them, migrations.RunPython.noop)]
