"""Upgrades by one version: the older version works on what our migrations make of its database, and beside us."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from tests import older
from tests.faults.database import Server, make_template
from tests.replicas import MANAGE, Cluster
from tests.test_migrations import CREATED, OURS

# Migrations that an older replica would not survive by the look of them: {(app, name): why it does}. A contraction belongs
# here with the version whose replicas are the first that use nothing of what goes; it must be released before.
SURVIVED: dict[tuple[str, str], str] = {}

# What an older replica, which knows nothing of it, may fail by: what it uses is gone, what it writes is refused.
REFUSED = re.compile(
    r"ALTER TABLE (?P<gone>\S+) (?:DROP COLUMN|RENAME|ALTER COLUMN \S+ (?:TYPE|SET NOT NULL|DROP DEFAULT))"
    r"|ALTER TABLE (?P<without>\S+) ADD COLUMN (?!.*DEFAULT).*NOT NULL"
    r"|ALTER TABLE (?P<checked>\S+) ADD CONSTRAINT"
    r"|CREATE UNIQUE INDEX (?:CONCURRENTLY )?\S+ ON (?P<unique>\S+)"
    # Rows of a new table that refer to an older one's keep an older replica from deleting that.
    r"|REFERENCES (?P<kept>\S+) (?!.*ON DELETE)"
    r"|DROP (?:TABLE|VIEW|FUNCTION|TRIGGER) (?:IF EXISTS )?(?P<dropped>\S+)"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `manage.py` of the older version."""
    return older.write(tmp_path_factory.mktemp("older"))


@pytest.fixture
def server(program: Path) -> Iterator[Server]:
    """A PostgreSQL server with a database that the older version made."""
    # Not pytest's folder: PostgreSQL may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="clusteragent-older-"))
    folder.chmod(0o755)
    server = Server(make_template(folder, program))
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)


@pytest.fixture
def cluster(server: Server, tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(server.url, tmp_path)
    try:
        cluster.store.furnish()
        yield cluster
    finally:
        cluster.end()


@pytest.mark.processes
def test_versions_lead_one_after_the_other_and_nothing_moves(cluster: Cluster, program: Path) -> None:
    before = cluster.store.assignments()
    cluster.manage = program
    [first] = cluster.start()
    cluster.led()
    subprocess.run([sys.executable, str(MANAGE), "migrate", "-v0"], env=cluster.environment(), check=True)
    cluster.store.next_pass()
    for manage in (MANAGE, program):
        cluster.manage = manage
        [second] = cluster.start()
        # Both are there, and the other version leads.
        assert cluster.led() is first
        first.end()
        assert cluster.led() is second
        first = second
    # Where the older version's start migrates, that changes nothing.
    cluster.store.run("INSERT INTO django_migrations (app, name, applied) VALUES ('checks', '9999_later', now())")
    subprocess.run([sys.executable, str(program), "migrate", "-v0"], env=cluster.environment(), check=True)
    assert cluster.store.assignments() == before
    assert not [one.log.read_text() for one in cluster.replicas if one.logged("pass_failed") + one.logged("Traceback")]


def refused(statements: Iterable[str]) -> list[str]:
    """Return what older replicas may not survive, of the statements of one migration or of several in a row."""
    created = set[str]()
    found = []
    for statement in statements:
        created.update(CREATED.findall(statement))
        names = {
            name.strip('";') for match in REFUSED.finditer(statement) for name in match.groupdict().values() if name
        }
        if names - {name.strip('"') for name in created}:
            found.append(statement)
    return found


@pytest.mark.django_db
def test_every_migration_since_the_older_version_leaves_what_that_needs(program: Path) -> None:
    loader = MigrationLoader(connection, replace_migrations=True)
    state = loader.project_state((), at_end=False)
    statements: dict[tuple[str, str], list[str]] = {}
    for key in loader.graph._generate_plan(loader.graph.leaf_nodes(), at_end=True):
        migration = loader.graph.nodes[key]
        is_new = key[0] in OURS and not (program.parent / key[0] / "migrations" / f"{key[1]}.py").exists()
        if not is_new:
            state = migration.mutate_state(state, preserve=False)
            continue
        with connection.schema_editor(collect_sql=True, atomic=migration.atomic) as editor:
            state = migration.apply(state, editor, collect_sql=True)
        statements[key] = editor.collected_sql
    assert SURVIVED.keys() <= statements.keys(), "older versions have it already"
    assert not {key: found for key, one in statements.items() if (found := refused(one)) and key not in SURVIVED}


@pytest.mark.parametrize(
    "statement",
    [
        'ALTER TABLE "checks_move" DROP COLUMN "name" CASCADE;',
        'ALTER TABLE "checks_move" RENAME COLUMN "name" TO "label";',
        'ALTER TABLE "checks_move" RENAME TO "checks_step";',
        'ALTER TABLE "checks_move" ALTER COLUMN "name" TYPE integer;',
        'ALTER TABLE "checks_move" ALTER COLUMN "name" SET NOT NULL;',
        'ALTER TABLE "checks_move" ADD COLUMN "new" text NOT NULL;',
        # As Django adds a field whose default is Python's.
        'ALTER TABLE "checks_move" ALTER COLUMN "new" DROP DEFAULT;',
        'ALTER TABLE "checks_move" ADD CONSTRAINT "a" CHECK ("id" > 0) NOT VALID;',
        'CREATE UNIQUE INDEX CONCURRENTLY "a" ON "checks_move" ("name");',
        'DROP TABLE "checks_move" CASCADE;',
        "DROP TRIGGER count_move ON checks_move",
        'ALTER TABLE "checks_new" ADD COLUMN "move_id" bigint NULL REFERENCES "checks_move" ("id") DEFERRABLE',
    ],
)
def test_what_an_older_replica_does_not_survive_is_told_apart(statement: str) -> None:
    assert refused([statement]) == [statement]


@pytest.mark.parametrize(
    "statement",
    [
        'ALTER TABLE "checks_move" ADD COLUMN "new" text NULL;',
        'ALTER TABLE "checks_move" ADD COLUMN "new" text DEFAULT \'\' NOT NULL;',
        'ALTER TABLE "checks_move" ALTER COLUMN "new" DROP NOT NULL;',
        'CREATE INDEX CONCURRENTLY "a" ON "checks_move" ("name");',
        'CREATE TABLE "checks_new" ("id" bigint NOT NULL PRIMARY KEY, "name" text NOT NULL);',
    ],
)
def test_what_it_survives_is_let_through(statement: str) -> None:
    assert not refused([statement])


def test_what_a_migration_makes_it_may_change() -> None:
    assert not refused(
        [
            'CREATE TABLE "checks_new" ("id" bigint NOT NULL PRIMARY KEY);',
            'ALTER TABLE "checks_new" ADD CONSTRAINT "a" UNIQUE ("id");',
            'CREATE UNIQUE INDEX "b" ON "checks_new" ("id");',
        ]
    )
