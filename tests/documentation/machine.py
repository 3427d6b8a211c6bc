"""A machine as docs/install-systemd.md sets it up, in a folder: what other pages say of it can be followed there."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from clusteragent.lib import postgres
from tests.documentation.pages import ROOT, sections
from tests.faults.database import Server
from tests.installed.units import Unit
from tests.replicas import wait_for
from tests.test_first_run import plain_environment
from tests.webserver import free_port

PATIENCE = 120.0
ROLES = ("agents", "operators", "runagent")
PAGE = sections(ROOT / "docs/install-systemd.md")
# The program as it is installed.
PROGRAM = """#!/bin/sh
PYTHONPATH="{root}" exec "{python}" -m clusteragent "$@"
"""
# The command by which root is another user for a while: here, PostgreSQL's, with its programs.
SU = """#!/bin/sh
PATH="{programs}:$PATH" PGHOST="{host}" PGUSER=postgres PGDATABASE=postgres exec sh -c "$3"
"""
# Of each table, sequence, view and function of ours: its owner is the role that the page makes.
GIVE = """DO $$ DECLARE one record; BEGIN
FOR one IN SELECT format('TABLE %%s', oid::regclass) AS what FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
    UNION ALL SELECT format('ROUTINE %%s', oid::regprocedure) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
LOOP EXECUTE format('ALTER %%s OWNER TO clusteragent', one.what); END LOOP; END $$"""


class Database(Server):
    """A migrated database, to which any user of this machine may connect who shows a password."""

    def __init__(self, template: Path, folder: Path) -> None:
        self.sockets = folder / "sockets"
        self.sockets.mkdir()
        self.sockets.chmod(0o777)
        subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(folder / "pgdata")], check=True)
        super().__init__(folder / "pgdata", f"unix_socket_directories={self.sockets}")
        self.url = postgres.url(self.sockets)
        # Its superuser shows none.
        (self.pgdata / "pg_hba.conf").write_text("local all postgres trust\nlocal all all scram-sha-256\n")


class Machine:
    """The machine and what runs there. What pages write to, and where they connect, is this test's own."""

    def __init__(self, folder: Path, database: Database, options: Mapping[str, str], given: Mapping[str, str]) -> None:
        self.folder, self.database = folder, database
        self.secrets, self.state = folder / "etc/secrets", folder / "var/lib/clusteragent"
        self.ports = {"agents": free_port(), "operators": free_port()}
        self._options, self._given = options, given
        self._units: dict[str, Unit] = {}
        self._due: set[str] = set()
        self._own = {
            "/usr/local/bin": str(folder / "bin"),
            "/etc/systemd/system": str(folder / "units"),
            "/etc/clusteragent": str(folder / "etc"),
            "/var/lib/clusteragent": str(self.state),
            "/opt/clusteragent": str(folder / "opt"),
            "@127.0.0.1/clusteragent": f"@/postgres?host={quote(str(database.sockets), safe='')}",
            "0.0.0.0:5005": f"127.0.0.1:{self.ports['agents']}",
            "0.0.0.0:5006": f"127.0.0.1:{self.ports['operators']}",
        }

    def url(self, port: str, path: str = "") -> str:
        """Return the URL of a path on the port `agents` or `operators`."""
        return f"https://127.0.0.1:{self.ports[port]}{path}"

    def database_url(self, role: str, password: str) -> str:
        """Return the URL by which a role of PostgreSQL logs in."""
        return self._here(f"postgresql://{role}:{password}@127.0.0.1/clusteragent")

    def set_up(self) -> None:
        """Make the database's role, secrets, options and units, and start the roles."""
        self._program("opt/bin/clusteragent", PROGRAM.format(root=ROOT, python=sys.executable))
        self._program("bin/su", SU.format(programs=postgres.programs(), host=self.database.sockets))
        # As the page makes it: the owner of everything.
        self.database.ask("CREATE ROLE clusteragent LOGIN PASSWORD 'PASSWORD'")
        self.database.ask("ALTER DATABASE postgres OWNER TO clusteragent")
        self.database.ask(GIVE)
        # Whoever migrates first makes the first operator.
        self.database.ask("DELETE FROM auth_user")
        (self.folder / "var").mkdir()
        shutil.copytree(ROOT / "deploy/systemd", self.folder / "units")
        for file in (self.folder / "units").rglob("*.service"):
            file.write_text(self._here(file.read_text()))
        self.run("\n".join(PAGE["3. Secrets and options"]))
        self.run("\n".join(one for one in PAGE["4. The units"] if one.startswith(("cat >", "chmod "))))
        self.run("\n".join(one for one in PAGE["Other secrets"] if not one.startswith("systemctl ")))
        for name, secret in self._given.items():
            (self.secrets / name).write_text(f"{secret}\n")
        with (self.folder / "etc/environment").open("a") as environment:
            environment.writelines(f"{name}='{value}'\n" for name, value in self._options.items())
        self._start("migrate")
        assert self._units["migrate"].wait() == 0, self._units["migrate"].log()

    def _program(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def _here(self, text: str) -> str:
        for shown, actual in self._own.items():
            text = text.replace(shown, actual)
        return text

    def run(self, script: str, given: str = "") -> str:
        """Run a script up to its first error, with this on its standard input; return its output."""
        path = f"{self.folder / 'bin'}:{plain_environment()['PATH']}"
        setting = f"set -euo pipefail\nSECRETS={self.secrets}\nSTATE={self.state}\n"
        done = subprocess.run(
            ["bash", "-c", setting + self._here(script)],
            cwd=self.folder, env=plain_environment() | {"PATH": path}, input=given, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stderr[-4000:]}\n{done.stdout[-2000:]}"
        return done.stdout

    def follow(self, commands: list[str], *parts: str, given: str = "", **names: str) -> str:
        """Run the commands of a section that have one of these parts, or all, with other names in place of those of the page.

        What they restart, `restart_due` restarts once for several sections. given: their standard input. Returns the output.
        """
        chosen = [command for command in commands if not parts or any(part in command for part in parts)]
        assert all(any(part in command for command in chosen) for part in parts), f"not all of {parts} are there"
        for command in chosen:
            if command.startswith("systemctl restart "):
                self._due |= {unit.removeprefix("clusteragent@") for unit in command.split()[2:]}
        script = "\n".join(command for command in chosen if not command.startswith("systemctl "))
        for shown, actual in names.items():
            assert shown.replace("_", "-") in script
            script = script.replace(shown.replace("_", "-"), actual)
        return self.run(script, given)

    def restart_due(self) -> set[str]:
        """Restart the roles that the followed commands would have restarted; return which these are."""
        due, self._due = self._due, set()
        self.restart(*due)
        return due

    def restart(self, *roles: str) -> None:
        """Restart roles at once, and return when both web servers are ready."""
        running = [self._units[role] for role in roles if role in self._units]
        with ThreadPoolExecutor(len(ROLES)) as threads:
            list(threads.map(Unit.stop, running))
        for role in roles:
            self._start(role)
        wait_for("both web servers are ready", lambda: all(map(self._is_ready, self.ports)), PATIENCE)

    def _start(self, role: str) -> None:
        self._units[role] = Unit(role, self.folder, is_own=True)
        self._units[role].start()

    def _is_ready(self, port: str) -> bool:
        try:
            return httpx.get(self.url(port, "/readyz"), verify=False, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def log(self, role: str) -> str:
        """Return what a role said since it was started."""
        return self._units[role].log()

    def end(self) -> None:
        """End all that runs."""
        for unit in self._units.values():
            unit.end()


@contextmanager
def running(
    folder: Path, database: Database, options: Mapping[str, str], given: Mapping[str, str]
) -> Iterator[Machine]:
    """A machine whose roles run, and end with the block. options: lines of `environment`; given: secrets, by their files."""
    machine = Machine(folder, database, options, given)
    try:
        machine.set_up()
        machine.restart(*ROLES)
        yield machine
    finally:
        machine.end()
