"""How far the database's migrations are: behind those of this version, or ahead of them."""

from typing import NamedTuple

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


class NotMigrated(Exception):
    """The database lacks migrations of this version."""


class Difference(NamedTuple):
    """Migrations by name: those that the database lacks, in their order, and those that it has and this version does not."""

    missing: list[str]
    newer: list[str]


def compare() -> Difference:
    """Compare the database's migrations with those of the installed apps of this version."""
    executor = MigrationExecutor(connection)
    loader = executor.loader
    plan = executor.migration_plan(loader.graph.leaf_nodes())
    known = set(loader.disk_migrations).union(*(migration.replaces for migration in loader.disk_migrations.values()))
    newer = {(app, name) for app, name in set(loader.applied_migrations) - known if app in loader.migrated_apps}
    return Difference([_name(one.app_label, one.name) for one, _ in plan], [_name(*key) for key in sorted(newer)])


def _name(app: str, name: str) -> str:
    return f"{app}.{name}"
