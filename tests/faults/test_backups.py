"""A database that is restored to an earlier point, by the commands of the documentation: what node agents run then."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from clusteragent.lib import postgres
from tests.faults.cluster import PATIENCE, Cluster
from tests.faults.database import Server
from tests.replicas import MANAGE, Store, wait_for

pytestmark = pytest.mark.processes

PAGE = (MANAGE.parent / "docs/backup.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
DUMP, READ, ARCHIVE, BASE, RESTORE = BLOCKS
_MAP = (
    "SELECT n.name || ' ' || c.digest FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id"
    " JOIN checks_config AS c ON c.id = a.config_id ORDER BY 1"
)


def follow(block: str, server: Server, folder: Path, *, url: str = "", moment: str = "") -> None:
    """Run a block of the page as the server's user, with the page's folders within `folder`, and with this moment in it.

    url: of our own user. What a block does without a URL is done by the superuser, and what is BACKUP_URL's by its own role.
    """
    words = {"/backup": f"{folder}/backup", "/var/lib/postgresql": str(folder), "2026-11-27 18:00:00+00": moment}
    for shown, meant in words.items():
        block = block.replace(shown, meant)
    superuser = conninfo_to_dict(server.url)
    environment = {
        "PATH": f"{postgres.programs()}:/usr/bin:/bin",
        "DATABASE_URL": url,
        "BACKUP_URL": make_conninfo(server.url, user="clusteragent_backup"),
        "PGHOST": str(superuser["host"]),
        "PGUSER": str(superuser["user"]),
    }
    subprocess.run(["sh", "-euc", block], env=environment, user=server.user(), cwd="/", check=True, capture_output=True)


def make_folders(server: Server, folder: Path) -> None:
    for made in (folder / "backup", folder / "backup/wal"):
        made.mkdir()
        shutil.chown(made, server.user() or made.owner())


@pytest.fixture
def cluster(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster whose database is archived. Every check runs."""
    cluster = make_cluster()
    make_folders(cluster.server, cluster.folder)
    cluster.folder.chmod(0o777)
    cluster.server.start()
    follow(ARCHIVE, cluster.server, cluster.folder)
    cluster.server.stop()
    cluster.start()
    return cluster


def run(cluster: Cluster, *words: str) -> None:
    subprocess.run([sys.executable, str(MANAGE), *words], env=cluster.environment(), check=True, capture_output=True)


def restore(cluster: Cluster, moment: str) -> None:
    """Put the database of that moment in the place of the cluster's, and start it."""
    server = cluster.server
    server.stop()
    follow(RESTORE, server, cluster.folder, moment=moment)
    shutil.rmtree(server.pgdata)
    (cluster.folder / "restored").rename(server.pgdata)
    # The socket is in the data folder, so its lock file was copied too.
    for lock in server.pgdata.glob(".s.PGSQL.*"):
        lock.unlink()
    server.start()
    wait_for("it takes writes", lambda: server.ask("SELECT NOT pg_is_in_recovery()") == [True])


def running(cluster: Cluster) -> set[tuple[str, str]]:
    """Return (check, node that runs it) of all checks and nodes."""
    runs = Counter[tuple[str, str]]()
    for change in list(cluster.account.changes):
        runs[change.check, change.node] += change.step
    return {place for place, number in runs.items() if number}


def wait_until_run(cluster: Cluster, *checks: str) -> None:
    wait_for(
        "they run", lambda: {f"http_check:{check}" for check in checks} <= {check for check, _ in running(cluster)}
    )


def change_much(cluster: Cluster) -> None:
    """Change who runs what, until node agents do so: a node comes and gets work, a check is paused, a file is added."""
    cluster.nodes.join("rowan")
    wait_for("it is known", lambda: cluster.server.ask("SELECT true FROM nodes_node WHERE name = 'rowan'"))
    moved, elsewhere, paused = cluster.server.ask("SELECT digest FROM checks_config ORDER BY id LIMIT 3")
    run(cluster, "reassign", moved, "--to", "rowan")
    run(cluster, "reassign", elsewhere, "--to", cluster.busiest())
    run(cluster, "pause", paused)
    cluster.write_check("since-the-point")
    wait_until_run(cluster, "since-the-point")
    wait_for("the new node runs something", lambda: "rowan" in {node for _, node in running(cluster)})
    wait_for("a check pauses", lambda: 0 in cluster.account.running().values())


@pytest.mark.long
@pytest.mark.parametrize("are_stopped", [True, False], ids=["replicas stopped", "replicas running"])
def test_node_agents_run_what_the_restored_database_says(cluster: Cluster, are_stopped: bool) -> None:
    follow(BASE, cluster.server, cluster.folder)
    # This is in the log alone.
    cluster.write_check("since-the-base")
    wait_until_run(cluster, "since-the-base")
    meant, map_then = running(cluster), cluster.server.ask(_MAP)
    [point] = cluster.server.ask("SELECT clock_timestamp()::text")
    change_much(cluster)
    assert not running(cluster) >= meant

    if are_stopped:
        cluster.stop()
    restore(cluster, point)
    assert cluster.server.ask(_MAP) == map_then
    if are_stopped:
        run(cluster, "syncconfigs")
        cluster.start_replicas()
    wait_for("the file is dispatched", lambda: len(cluster.server.ask(_MAP)) == len(map_then) + 1, PATIENCE)
    cluster.wait_until_heard()
    cluster.wait_until_whole()
    assert running(cluster) > meant
    assert {check for check, _ in running(cluster) - meant} == {"http_check:since-the-point"}


def test_the_superuser_makes_a_role_that_copies_the_data_and_reads_no_table(own_server: Server) -> None:
    folder = own_server.pgdata.parent / "base"
    folder.mkdir()
    shutil.chown(folder, own_server.user() or folder.owner())
    make_folders(own_server, folder)
    follow(ARCHIVE, own_server, folder)
    follow(BASE, own_server, folder)
    assert (folder / "backup/base/PG_VERSION").exists()
    store = Store(make_conninfo(own_server.url, user="clusteragent_backup"))
    with closing(store), pytest.raises(psycopg.errors.InsufficientPrivilege):
        store.term()


def test_a_dump_is_read_into_an_empty_database_by_its_owner(own_server: Server) -> None:
    folder = own_server.pgdata.parent
    make_folders(own_server, folder)
    own_server.ask("CREATE ROLE clusteragent LOGIN")
    owned = {name: make_conninfo(own_server.url, dbname=name, user="clusteragent") for name in ("checks", "restored")}
    for name in owned:
        own_server.ask(f"CREATE DATABASE {name} OWNER clusteragent")
    environment = {**os.environ, "CLUSTERAGENT_VAR": str(folder)}
    migrating = [sys.executable, str(MANAGE), "migrate", "--verbosity", "0"]
    subprocess.run(migrating, env=environment | {"DATABASE_URL": owned["checks"]}, check=True)
    with closing(Store(owned["checks"])) as store, closing(Store(owned["restored"])) as restored:
        store.furnish()
        follow(DUMP, own_server, folder, url=owned["checks"])
        follow(READ, own_server, folder, url=owned["restored"])
        assert restored.assignments() == store.assignments() != []
    asking = [sys.executable, str(MANAGE), "doctor"]
    done = subprocess.run(asking, env=environment | {"DATABASE_URL": owned["restored"]}, capture_output=True, text=True)
    assert "The database has this version's schema." in done.stdout
