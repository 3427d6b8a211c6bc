"""All that was there before the first release, for a database that has none of it."""

from typing import Any

from django.db import migrations, models

from operators.roles import grant

ORDERS = (
    "checks.{}_pin",
    "checks.{}_pause",
    "checks.{}_isolation",
    "checks.{}_rule",
    "checks.{}_plan",
    "nodes.{}_noderule",
)
SEES = (
    "nodes.view_node", "nodes.view_nodeevent", "checks.view_config", "checks.view_assignment", "checks.view_move",
    "checks.view_source", "checks.view_clusterstore", "checks.view_freeze", *(order.format("view") for order in ORDERS),
)  # fmt: skip
STEERS = (
    *(order.format(deed) for order in (*ORDERS, "checks.{}_freeze") for deed in ("add", "change", "delete")),
    "nodes.change_node", "checks.change_assignment", "checks.change_source",
)  # fmt: skip
# The roles, as groups: viewer sees, operator steers, author writes configs, admin has users and tokens.
GRANTED = {
    "viewer": SEES,
    "operator": (*SEES, *STEERS),
    "author": (
        *SEES, "checks.add_config", "checks.change_config", "checks.delete_config", "checks.change_source",
        "checks.view_digests",
    ),
    "admin": (
        *SEES, "auth.view_user", "auth.add_user", "auth.change_user", "auth.delete_user", "auth.view_group",
        "knox.view_authtoken", "knox.add_authtoken", "knox.delete_authtoken", "checks.view_digests",
    ),
}  # fmt: skip


def make_roles(apps: Any, editor: Any) -> None:
    grant(apps, GRANTED)


class Migration(migrations.Migration):
    initial = True
    replaces = [
        ("operators", "0001_roles"),
        ("operators", "0002_steering"),
        ("operators", "0003_failed_logins"),
        ("operators", "0004_digests"),
        ("operators", "0005_freezes"),
    ]
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("knox", "0009_extend_authtoken_field"),
        # Not on the last of the replaced ones: a database that has all of ours may not have these yet.
        ("nodes", "0010_all_stats"),
        ("checks", "0016_what_authors_wrote"),
    ]

    operations = [
        migrations.CreateModel(
            name="FailedLogins",
            fields=[
                ("key", models.BinaryField(primary_key=True, serialize=False)),
                ("number", models.PositiveIntegerField()),
                ("since", models.DateTimeField(db_index=True)),
            ],
            options={
                "verbose_name_plural": "failed logins",
                "default_permissions": (),
            },
        ),
        migrations.RunPython(make_roles, migrations.RunPython.noop),
    ]
