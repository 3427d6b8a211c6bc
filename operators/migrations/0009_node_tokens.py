"""Node tokens: admins see, make and revoke them."""

from typing import Any

from django.db import migrations

from operators.roles import grant


def grant_them(apps: Any, editor: Any) -> None:
    grant(apps, {"admin": ("nodes.view_nodetoken", "nodes.add_nodetoken", "nodes.delete_nodetoken")})


class Migration(migrations.Migration):
    dependencies = [("operators", "0008_identities"), ("nodes", "0021_tokens")]

    operations = [migrations.RunPython(grant_them, migrations.RunPython.noop)]
