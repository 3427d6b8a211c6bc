"""PgBouncer with the settings of `deploy/pgbouncer/pgbouncer.ini`, in front of a test's server."""

import configparser
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from clusteragent.lib import postgres
from tests.faults.database import Server
from tests.replicas import wait_for
from tests.webserver import free_port

SAMPLE = Path(__file__).parents[2] / "deploy" / "pgbouncer" / "pgbouncer.ini"
NAME = "clusteragent"
PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


def sample() -> configparser.ConfigParser:
    """Read the sample configuration of the repository."""
    found = configparser.ConfigParser(interpolation=None)
    assert found.read(SAMPLE)
    return found


class Pooler:
    """A running PgBouncer, until `stop` is called. Its database is the server's."""

    def __init__(self, server: Server) -> None:
        self._port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self._port}/{NAME}"
        folder = server.pgdata.parent
        file = folder / "pgbouncer.ini"
        with file.open("w") as stream:
            self._settings(server).write(stream)
        (folder / "userlist.txt").write_text('"postgres" ""\n')
        assert PROGRAM
        with (folder / "pgbouncer.log").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, str(file)], user=postgres.system_user(), cwd="/", stdout=output, stderr=output
            )
        wait_for("the pooler answers", self._answers)

    def _settings(self, server: Server) -> configparser.ConfigParser:
        settings = sample()
        _, query = settings["databases"][NAME].split(" connect_query=")
        settings["databases"][NAME] = f"host={server.socket.parent} dbname=postgres connect_query={query}"
        settings["pgbouncer"].update({
            "listen_addr": "127.0.0.1", "listen_port": str(self._port), "unix_socket_dir": "",
            "auth_type": "trust", "admin_users": "postgres", "auth_file": str(server.pgdata.parent / "userlist.txt"),
        })  # fmt: skip
        return settings

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.Error:
            return False
        return True

    def clients(self) -> set[str]:
        """Return the application names of all connected clients."""
        with psycopg.connect(self.url.replace(NAME, "pgbouncer"), autocommit=True, row_factory=dict_row) as console:
            return {row["application_name"] for row in console.execute("SHOW CLIENTS") if row["database"] == NAME}

    def signal(self, number: int) -> None:
        """Send a signal to PgBouncer."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill PgBouncer."""
        self._process.kill()
        self._process.wait()
