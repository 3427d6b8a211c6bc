"""PostgreSQL servers that tests may damage: each is a copy of a migrated one."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from clusteragent.lib import postgres
from tests.replicas import MANAGE, descendants, wait_for

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
        self._kept: psycopg.Connection[Any] | None = None

    @classmethod
    def copy(
        cls, template: Path, folder: Path, *settings: str, environment: Mapping[str, str] | None = None
    ) -> "Server":
        """Make a server whose data are a copy of the template's, in this folder."""
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(folder / "pgdata")], check=True)
        return cls(folder / "pgdata", *settings, environment=environment)

    def start(self) -> None:
        """Start the server, and return when it answers."""
        with self.pgdata.with_name(f"{self.pgdata.name}.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), user=self.user(), env=self._environment, cwd="/", stdout=output, stderr=output
            )
        wait_for("PostgreSQL answers", self.answers)

    def command(self) -> list[str]:
        """Return the command line of the server."""
        return postgres.command(self.pgdata, *self._settings)

    def user(self) -> str | None:
        """Return the user that the server runs as; None for the current user."""
        return postgres.system_user()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server if it runs, and return when it has ended. mode: `fast` or `immediate`."""
        self.hang_up()
        if self._process:
            self._process.send_signal(_SIGNALS[mode])
            self._process.wait(60)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend all its processes during the block: it still listens, but answers nothing."""
        main = int((self.pgdata / "postmaster.pid").read_text().split()[0])
        pids = [main, *descendants(main)]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def has_ended(self) -> bool:
        """Return whether the server does not run."""
        return self._process is None or self._process.poll() is not None

    def answers(self) -> bool:
        """Return whether the server answers a query."""
        try:
            return bool(self.ask("SELECT true"))
        except psycopg.Error:
            return False

    def ask(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run a statement; return its rows, or the values if there is one column. Raises psycopg.Error when it fails."""
        try:
            cursor = self._session().execute(statement, values)
        except psycopg.OperationalError:
            # Perhaps only the open session is broken.
            cursor = self._session(fresh=True).execute(statement, values)
        rows = cursor.fetchall() if cursor.description else []
        return [row[0] if len(row) == 1 else row for row in rows]

    def _session(self, *, fresh: bool = False) -> "psycopg.Connection[Any]":
        if fresh or self._kept is None or self._kept.closed:
            self.hang_up()
            self._kept = psycopg.connect(self.url, autocommit=True, connect_timeout=5)
        return self._kept

    def hang_up(self) -> None:
        """Close the session that `ask` keeps open."""
        if self._kept:
            self._kept.close()
        self._kept = None

    def program(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs, as the server's user."""
        words = [str(postgres.programs() / name), *arguments]
        subprocess.run(words, user=self.user(), cwd="/", check=True, capture_output=True)

    def standby(self, pgdata: Path) -> "Server":
        """Make a standby of this server, not started yet."""
        pgdata.mkdir(mode=0o700)
        if user := self.user():
            shutil.chown(pgdata, user)
        self.program("pg_basebackup", "-D", str(pgdata), "-R", "-c", "fast", "-h", str(self.pgdata), "-U", "postgres")
        # The socket is in the data folder, so its lock file was copied too.
        for lock in pgdata.glob(".s.PGSQL.*"):
            lock.unlink()
        return Server(pgdata)

    def promote(self) -> None:
        """Promote this standby; return when it takes writes."""
        self.program("pg_ctl", "promote", "-w", "-D", str(self.pgdata))


# In a user namespace of its own any user may mount, as root of that namespace. PostgreSQL refuses to run as root, so it gets
# another namespace inside.
_BECOME_SERVER = {
    True: ["setpriv", f"--reuid={postgres.SYSTEM_USER}", f"--regid={postgres.SYSTEM_USER}", "--clear-groups", "--"],
    False: ["unshare", "-U", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}", "--"],
}
_MOUNT = (
    'mount -t tmpfs -o size=160m,mode=755 tmpfs "$0" && cp -a "$1" "$0/pgdata" && echo mounted && exec sleep infinity'
)


class SmallDisk(Server):
    """A server whose data are on a small file system, which only its processes see."""

    def __init__(self, template: Path, folder: Path) -> None:
        self._is_root = os.geteuid() == 0
        disk, sockets = folder / "disk", folder / "sockets"
        for made in (disk, sockets):
            made.mkdir()
            shutil.chown(made, postgres.system_user() or os.geteuid())
        super().__init__(disk / "pgdata", f"unix_socket_directories={sockets}")
        self.url = postgres.url(sockets)
        self.socket = sockets / ".s.PGSQL.5432"
        words = ["unshare", "-m" if self._is_root else "-Urm", "sh", "-c", _MOUNT, str(disk), str(template)]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"mounted\n"
        # A file on that file system, by a path that this process can use.
        self._ballast = Path(f"/proc/{self._holder.pid}/root{disk}/ballast")

    def command(self) -> list[str]:
        """Return the command line of the server, within the namespace of its file system."""
        enter = [
            "nsenter",
            "-t",
            str(self._holder.pid),
            "-m",
            *([] if self._is_root else ["-U", "--preserve-credentials"]),
        ]
        return [*enter, "--", *_BECOME_SERVER[self._is_root], *super().command()]

    def user(self) -> str | None:
        """Return None: the command line itself changes the user."""
        return None

    def fill(self) -> None:
        """Fill the file system."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Undo `fill`."""
        self._ballast.unlink()

    def unmount(self) -> None:
        """End the process that keeps the file system."""
        self._holder.kill()
        self._holder.communicate()


def make_template(folder: Path, manage: Path = MANAGE) -> Path:
    """Make and migrate a database in the folder, stop its server, and return its data folder. manage: whose migrations."""
    server = Server(folder / "pgdata")
    postgres.initialise(server.pgdata)
    server.start()
    try:
        environment = os.environ | {"DATABASE_URL": server.url}
        subprocess.run([sys.executable, str(manage), "migrate", "-v0"], env=environment, check=True)
    finally:
        server.stop()
    return server.pgdata
