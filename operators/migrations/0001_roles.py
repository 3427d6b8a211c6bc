"""The roles, as groups: viewer sees, operator steers, author writes configs, admin has users and tokens."""

from typing import Any

from django.db import migrations

from operators.roles import grant

SEES = (
    "nodes.view_node", "nodes.view_nodeevent", "checks.view_config", "checks.view_assignment", "checks.view_move",
    "checks.view_source", "checks.view_clusterstore",
)  # fmt: skip
GRANTED = {
    "viewer": SEES,
    "operator": (*SEES, "nodes.change_node", "checks.change_assignment", "checks.change_source"),
    "author": (*SEES, "checks.add_config", "checks.change_config", "checks.delete_config", "checks.change_source"),
    "admin": (
        *SEES, "auth.view_user", "auth.add_user", "auth.change_user", "auth.delete_user", "auth.view_group",
        "knox.view_authtoken", "knox.add_authtoken", "knox.delete_authtoken",
    ),
}  # fmt: skip


def make_roles(apps: Any, editor: Any) -> None:
    grant(apps, GRANTED)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("knox", "0009_extend_authtoken_field"),
        ("nodes", "0002_rows"),
        ("checks", "0002_rows"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
