"""Pins, pauses, isolations, rules and plans: each role sees them, operators give them."""

from typing import Any

from django.db import migrations

from operators.roles import grant

ORDERS = (
    "checks.{}_pin",
    "checks.{}_pause",
    "checks.{}_isolation",
    "checks.{}_rule",
    "checks.{}_plan",
    "nodes.{}_noderule",
)
SEES = tuple(order.format("view") for order in ORDERS)
STEERS = tuple(order.format(deed) for order in ORDERS for deed in ("add", "change", "delete"))


def make_roles(apps: Any, editor: Any) -> None:
    grant(apps, dict.fromkeys(("viewer", "operator", "author", "admin"), SEES))
    grant(apps, {"operator": STEERS})


class Migration(migrations.Migration):
    dependencies = [("operators", "0001_roles"), ("nodes", "0005_steering"), ("checks", "0006_orders")]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
