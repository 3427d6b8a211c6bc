"""Migrations: squashed ones for a fresh database, with the same schema as the old ones; none blocks a large table."""

import importlib
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from psycopg import sql
from psycopg.conninfo import make_conninfo

from checks.models import Move, Plan
from clusteragent.lib.database import online
from nodes.models import NodeEvent
from tests.databases import django_uses
from tests.replicas import MANAGE, wait_for
from tests.webserver import database_url

pytestmark = pytest.mark.django_db(transaction=True)

OURS = ("acts", "checks", "clusteragent", "nodes", "operators")
# What the catalogue says of all that is ours.
SCHEMA = (
    "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default, is_identity"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT proname, regexp_replace(prosrc, '\\s+', ' ', 'g') FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "SELECT relname, relpersistence, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'",
    "SELECT g.name, t.app_label, p.codename, p.name FROM auth_group AS g JOIN auth_group_permissions AS gp ON gp.group_id = g.id"
    " JOIN auth_permission AS p ON p.id = gp.permission_id JOIN django_content_type AS t ON t.id = p.content_type_id",
    "SELECT 'store', id FROM checks_clusterstore UNION ALL SELECT 'hearing', id FROM nodes_hearing"
    " UNION ALL SELECT 'memory', id FROM nodes_memory UNION ALL SELECT name, 0 FROM checks_source",
)


class Database:
    """An empty database of its own, which migrations of this process use."""

    def __init__(self, url: str, connection: BaseDatabaseWrapper) -> None:
        self.url, self.connection = url, connection

    def migrate_by_old_ones(self, *targets: tuple[str, str]) -> None:
        """Migrate by the old migrations, up to these of each app, or by all."""
        executor = MigrationExecutor(self.connection)
        executor.loader = MigrationLoader(self.connection, replace_migrations=False)
        executor.migrate(list(targets) or _leaves(executor.loader))

    def migrate(self) -> None:
        done = subprocess.run(
            [sys.executable, str(MANAGE), "migrate", "-v0"],
            env=os.environ | {"DATABASE_URL": self.url}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert not done.returncode, done.stderr

    def run(self, statement: str, *values: Any) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def schema(self) -> list[list[str]]:
        return [sorted(map(str, self.run(statement))) for statement in SCHEMA]


def _leaves(loader: MigrationLoader) -> list[Any]:
    """Return the last migration of each app before the squashed ones."""
    return [key for key in loader.graph.leaf_nodes() if not loader.disk_migrations[key].replaces]


@contextmanager
def fresh() -> Iterator[Database]:
    name = f"migrations_{uuid.uuid4().hex}"
    own = database_url()
    with psycopg.connect(own, autocommit=True) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with django_uses(url := make_conninfo(own, dbname=name)) as used:
                yield Database(url, used)
        finally:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database() -> Iterator[Database]:
    with fresh() as database:
        yield database


@pytest.fixture(scope="module")
def schema(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[list[str]]]:
    """The schema of a database that was made by the squashed migrations."""
    with django_db_blocker.unblock(), fresh() as database:
        database.migrate()
        yield database.schema()


def test_a_fresh_database_takes_one_migration_of_each_app_for_all_old_ones(database: Database) -> None:
    executor = MigrationExecutor(database.connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    firsts = sorted(migration.app_label for migration, _ in plan if migration.app_label in OURS and migration.replaces)
    # acts came later.
    assert firsts == sorted({*OURS} - {"acts"})
    assert not [migration for migration, _ in plan if (migration.app_label, migration.name) in replaced()]


def test_what_the_old_ones_make_is_the_same(database: Database, schema: list[list[str]]) -> None:
    database.migrate_by_old_ones()
    database.migrate()
    assert database.schema() == schema


# How far databases of builds before the first release are.
STATES = [
    [("nodes", "0002_rows"), ("checks", "0002_rows")],
    [("nodes", "0005_steering"), ("checks", "0005_move_totals"), ("operators", "0001_roles")],
    [
        ("nodes", "0010_all_stats"), ("checks", "0016_what_authors_wrote"), ("operators", "0005_freezes"),
        ("clusteragent", "0002_no_schedule"),
    ],
]  # fmt: skip


@pytest.mark.parametrize("state", STATES, ids=lambda state: state[1][1])
def test_a_database_from_before_the_first_release_goes_on(
    database: Database, schema: list[list[str]], state: list[tuple[str, str]]
) -> None:
    database.migrate_by_old_ones(*state)
    database.run("INSERT INTO nodes_node (name, labels) VALUES ('ash', '{}')")
    database.run("INSERT INTO nodes_nodeevent (node_name, kind, cause) VALUES ('ash', 'declared', repeat('x', 2000))")
    write_moves(database, 3)
    database.migrate()
    assert database.schema() == schema
    assert totals(database) == {"expired": 3, "scheduled": 3}
    if state[0][1] < "0007":
        assert database.run("SELECT count(*) FROM nodes_node WHERE likeness IS NULL") == [(0,)]
    assert database.run("SELECT max(length(cause)) FROM nodes_nodeevent") == [(1000,)]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_the_old_ones_and_the_new_ones_end_with_our_models(is_replaced: bool) -> None:
    loader = MigrationLoader(None, replace_migrations=is_replaced)
    before = loader.project_state(None if is_replaced else _leaves(loader))
    found = MigrationAutodetector(before, ProjectState.from_apps(apps)).changes(graph=loader.graph)
    assert not found.keys() & set(OURS)


@pytest.mark.parametrize(("model", "field"), [(Move, "reason"), (Plan, "reason"), (NodeEvent, "kind")])
def test_a_new_reason_or_kind_needs_no_migration(model: Any, field: str) -> None:
    *_, written = model._meta.get_field(field).deconstruct()
    assert callable(written["choices"])  # which a migration names, and so does not list what it returns


def write_moves(database: Database, number: int) -> None:
    database.run(
        "INSERT INTO checks_move (config_id, digest, name, reason) SELECT n, 'd', 'http_check', reason"
        " FROM generate_series(1, %s) AS n, (VALUES ('scheduled'), ('expired')) AS r (reason)",
        number,
    )


def totals(database: Database) -> dict[str, int]:
    return dict(database.run("SELECT reason, number FROM checks_movetotal"))


def test_a_count_of_the_ledger_that_was_broken_off_begins_anew_and_counts_each_move_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.migrate_by_old_ones(("checks", "0004_patched_with"))
    write_moves(database, 5)
    monkeypatch.setattr(online, "BATCH", 3)
    migration = sys.modules["checks.migrations.0005_move_totals"]
    of_batch = migration.OF_BATCH
    monkeypatch.setattr(migration, "OF_BATCH", "SELECT reason, 1 / (%s - %s) FROM checks_move")
    monkeypatch.setattr(online, "BATCH", 1)
    with pytest.raises(Exception, match="division by zero"):
        database.migrate_by_old_ones(("checks", "0005_move_totals"))
    # The trigger counts already; what it counted is in the ledger, too.
    write_moves(database, 1)
    monkeypatch.setattr(migration, "OF_BATCH", of_batch)
    monkeypatch.setattr(online, "BATCH", 3)
    database.migrate_by_old_ones(("checks", "0005_move_totals"))
    write_moves(database, 1)
    assert totals(database) == {"expired": 7, "scheduled": 7}


def write_configs(database: Database, *titles: str) -> None:
    database.run(
        "INSERT INTO checks_config (digest, name, title, text, original, scrubbed, wire, provider, node_name)"
        " SELECT title, 'http_check', title, 'URL: ' || title, '{}', '{}', '', '', '' FROM unnest(%s::text[]) AS title",
        list(titles),
    )


def break_off(database: Database, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Begin a migration of configs that is broken off by its first batch."""
    migration = importlib.import_module(f"checks.migrations.{name}")
    with monkeypatch.context() as broken:
        broken.setattr(migration, "OF_BATCH", "SELECT 1 / (%s - %s)")
        broken.setattr(online, "BATCH", 1)
        with pytest.raises(Exception, match="division by zero"):
            database.migrate_by_old_ones(("checks", name))


def test_texts_that_a_search_reads_are_those_of_all_configs_whenever_they_were_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.migrate_by_old_ones(("checks", "0041_bounded_orders"))
    write_configs(database, "Shop", "Stock")
    break_off(database, monkeypatch, "0042_searched_texts")
    # As a replica of an older release goes on.
    write_configs(database, "Till")
    database.run("UPDATE checks_config SET title = 'Store' WHERE title = 'Stock'")
    database.run("DELETE FROM checks_config WHERE title = 'Till'")
    database.migrate_by_old_ones(("checks", "0042_searched_texts"))
    found = "SELECT folded FROM checks_searchedtext ORDER BY folded"
    assert database.run(found) == [("shop\nurl: shop",), ("store\nurl: stock",)]


def test_tags_that_a_filter_reads_are_those_of_all_configs_whenever_they_were_stored(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tag(title: str, *tags: str) -> None:
        items = "".join(f"  - {one}\n" for one in tags)
        text = f"check_name: x\ninstances:\n- hosts:\n  - team:host\n  tags:\n{items}  url: x\n"
        database.run("UPDATE checks_config SET text = %s, patched_with = '4.x' WHERE title = %s", text, title)

    database.migrate_by_old_ones(("checks", "0046_printable_rules"))
    write_configs(database, "Shop", "Stock", "Store")
    tag("Shop", "env:prod", "'team:it''s'", "team:shop", "env:prod")
    tag("Stock", "team:stock")
    break_off(database, monkeypatch, "0047_searched_tags")
    # As a replica of an older release goes on.
    long = "team:" + "x" * 3000
    tag("Stock", "'team:'", f"{long[:80]}\n    {long[80:]}", "zone:a")
    write_configs(database, "Till")
    database.migrate()
    found = "SELECT c.title, s.tags, s.team, s.patched_with FROM checks_searchedtext AS s"
    assert database.run(f"{found} JOIN checks_config AS c ON c.id = s.config_id ORDER BY c.title") == [
        ("Shop", ["env:prod", "'team:it''s'", "team:shop"], "'team:it''s'", "4.x"),
        # No index takes the long one, and no query has it.
        ("Stock", ["'team:'", "zone:a"], f"{long[:80]}\n    {long[80:]}", "4.x"),
        ("Store", [], "", ""),
        ("Till", [], "", ""),
    ]


def test_batches_hold_each_row_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "BATCH", 4)
    with database.connection.cursor() as cursor:
        cursor.execute("CREATE TABLE stones (id bigint PRIMARY KEY, was text, is_new bool DEFAULT false)")
        assert not list(online.batches(cursor, "stones"))
        cursor.execute("INSERT INTO stones SELECT n, n % 2 FROM generate_series(7, 18) AS n")
        assert list(online.batches(cursor, "stones")) == [(7, 10), (11, 14), (15, 18)]
        online.update(cursor, "stones", "is_new = true", "was = '1'")
        cursor.execute("SELECT count(*) FROM stones WHERE is_new AND was = '1'")
        assert cursor.fetchone() == (6,)
        cursor.execute("SELECT count(*) FROM stones WHERE is_new")
        assert cursor.fetchone() == (6,)


def test_nobody_waits_for_an_index_and_one_that_was_broken_off_is_built_anew(database: Database) -> None:
    database.migrate_by_old_ones(*STATES[-1])
    # As a build leaves one that was broken off.
    database.run("CREATE INDEX node_likeness ON nodes_node (likeness)")
    database.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'node_likeness'::regclass")
    errors: list[Exception] = []

    def migrate() -> None:
        try:
            database.migrate()
        except Exception as error:  # noqa: BLE001 - the test's
            errors.append(error)

    thread = threading.Thread(target=migrate)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'virtualxid' AND query LIKE '%INDEX CONCURRENTLY%node_%'"
    with psycopg.connect(database.url) as first, psycopg.connect(database.url, autocommit=True) as second:
        first.execute("INSERT INTO nodes_node (name, labels) VALUES ('ash', '{}')")
        thread.start()
        wait_for("it waits for who wrote before", lambda: second.execute(waits).fetchone() != (0,))
        second.execute("SET lock_timeout = '1s'")
        second.execute("INSERT INTO nodes_node (name, labels) VALUES ('birch', '{}')")
        first.commit()
        thread.join()
    assert not errors, errors
    valid = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass(%s) AND indisvalid"
    for name in ("node_likeness", "node_first_seen", "node_goodbye"):
        assert database.run(valid, name) == [(1,)], name
    assert database.run("SELECT count(*) FROM nodes_node WHERE likeness IS NULL") == [(0,)]


# What reads or rewrites a table while others wait for it.
BLOCKING = re.compile(
    r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)\S+ ON (?P<index>\S+)"
    r"|ALTER TABLE (?P<constraint>\S+) ADD CONSTRAINT (?!.*NOT VALID)"
    r"|ALTER TABLE (?P<type>\S+) ALTER COLUMN \S+ (?:TYPE(?! varchar)|SET NOT NULL)"
    r"|^(?:UPDATE|DELETE FROM) (?P<rows>\S+)"
)
CREATED = re.compile(r"CREATE TABLE (\S+)")
# One row each.
SMALL = {"django_q_schedule"}


def replaced() -> set[tuple[str, str]]:
    loader = MigrationLoader(None)
    return {key for migration in loader.disk_migrations.values() for key in migration.replaces}


def blocking(statements: list[str]) -> list[str]:
    """Return the operations that block users of a table that existed before."""
    created = {name for statement in statements for name in CREATED.findall(statement)}
    found = ((statement, BLOCKING.search(statement)) for statement in statements)
    return [
        statement for statement, match in found if match and not {name for name in match.groups() if name} & created
    ]


def test_no_migration_makes_anybody_wait_for_a_large_table() -> None:
    loader = MigrationLoader(connection, replace_migrations=False)
    plan = loader.graph._generate_plan(_leaves(loader), at_end=True)
    state = loader.project_state((), at_end=False)
    slow: dict[tuple[str, str], list[str]] = {}
    for key in plan:
        migration = loader.graph.nodes[key]
        if key[0] not in OURS:
            state = migration.mutate_state(state, preserve=False)
            continue
        with connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
            state = migration.apply(state, editor, collect_sql=True)
        found = [one for one in blocking(editor.collected_sql) if not any(name in one for name in SMALL)]
        if found:
            slow[key] = found
    assert not slow


@pytest.mark.parametrize(
    "statement",
    [
        'CREATE INDEX "a" ON "checks_move" ("name");',
        'CREATE UNIQUE INDEX "a" ON "checks_move" ("name");',
        'ALTER TABLE "checks_move" ADD CONSTRAINT "a" CHECK ("id" > 0);',
        'ALTER TABLE "checks_move" ALTER COLUMN "name" SET NOT NULL;',
        "UPDATE checks_move SET name = ''",
        "DELETE FROM checks_move",
    ],
)
def test_what_makes_others_wait_is_told_apart(statement: str) -> None:
    assert blocking([statement]) == [statement]
    assert not blocking(
        ['CREATE TABLE "checks_move" ("id" bigint);', statement.replace(" checks_move", ' "checks_move"')]
    )
    assert not blocking(['CREATE INDEX CONCURRENTLY "a" ON "checks_move" ("name");'])
