"""PostgreSQL servers to be ill-treated: each a copy of one that was migrated once."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from clusteragent.lib import postgres
from tests.replicas import MANAGE, wait_for

SETTINGS = ("fsync=off", "max_connections=100", "shared_buffers=32MB", "max_wal_size=64MB", "min_wal_size=32MB")
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server:
    """A data folder, and its server while it runs."""

    def __init__(self, pgdata: Path, *settings: str, environment: Mapping[str, str] | None = None) -> None:
        self.pgdata = pgdata
        self.socket = pgdata / ".s.PGSQL.5432"
        self.url = postgres.url(pgdata)
        self._settings = [*SETTINGS, *settings]
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def copy(
        cls, template: Path, folder: Path, *settings: str, environment: Mapping[str, str] | None = None
    ) -> "Server":
        """One of its own that begins as the template."""
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(folder / "pgdata")], check=True)
        return cls(folder / "pgdata", *settings, environment=environment)

    def start(self) -> None:
        """Serve, and return when it answers."""
        with self.pgdata.with_name(f"{self.pgdata.name}.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), user=self.user(), env=self._environment, cwd="/", stdout=output, stderr=output
            )
        wait_for("PostgreSQL answers", self.answers)

    def command(self) -> list[str]:
        return postgres.command(self.pgdata, *self._settings)

    def user(self) -> str | None:
        return postgres.system_user()

    def stop(self, mode: str = "fast") -> None:
        """Stop it, if it still runs, and return when it is gone."""
        if self._process:
            self._process.send_signal(_SIGNALS[mode])
            self._process.wait(60)

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def answers(self) -> bool:
        try:
            return bool(self.ask("SELECT true"))
        except psycopg.Error:
            return False

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows, of one column as they are. Over a session of its own: sessions do not outlive most faults."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as session:
            cursor = session.execute(statement, values)
            rows = cursor.fetchall() if cursor.description else []
        return [row[0] if len(row) == 1 else row for row in rows]

    def program(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs, as the server's user."""
        words = [str(postgres.BIN / name), *arguments]
        subprocess.run(words, user=self.user(), cwd="/", check=True, capture_output=True)

    def standby(self, pgdata: Path) -> "Server":
        """A server that follows this one, to be started."""
        pgdata.mkdir(mode=0o700)
        if user := self.user():
            shutil.chown(pgdata, user)
        self.program("pg_basebackup", "-D", str(pgdata), "-R", "-c", "fast", "-h", str(self.pgdata), "-U", "postgres")
        return Server(pgdata)

    def promote(self) -> None:
        self.program("pg_ctl", "promote", "-w", "-D", str(self.pgdata))


def make_template(folder: Path) -> Path:
    """The data folder of a migrated server that does not run."""
    server = Server(folder / "pgdata")
    postgres.initialise(server.pgdata)
    server.start()
    try:
        environment = os.environ | {"DATABASE_URL": server.url}
        subprocess.run([sys.executable, str(MANAGE), "migrate", "-v0"], env=environment, check=True)
    finally:
        server.stop()
    return server.pgdata
