"""Real `runagent` processes on one database, and queries about them to the database and the system."""

import itertools
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from clusteragent.lib.locks import NAMESPACE, Lock

T = TypeVar("T")

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
PATIENCE = 30.0
# A qcluster's main process, its sentinel, pusher and monitor, and two workers.
PROCESSES = 6


def wait_for(what: str, look: Callable[[], T | None], patience: float = PATIENCE) -> T:
    """Call `look` until its result is true, and return that. Raises AssertionError, which names `what`, after `patience` s."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {patience:g} s")


def wait_or_kill(process: "subprocess.Popen[Any]", patience: float) -> None:
    """Wait until a process that was told to end has ended; after `patience` s kill it."""
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def measured(figure: str) -> None:
    """Print a figure: visible with `pytest -s`, and when the test fails."""
    print(figure)  # noqa: T201


def descendants(pid: int) -> list[int]:
    """Return the process IDs of all descendants of a process, parents before children."""
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


class Store:
    """Queries to the database, in a session of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        """Close the session."""
        self._session.close()

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement."""
        self._session.execute(statement, values)

    def one(self, statement: str, *values: Any) -> Any:
        """Return the first row of a query, or its value if there is one column."""
        row = self._session.execute(statement, values).fetchone()
        assert row is not None
        return row[0] if len(row) == 1 else row

    def rows(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        return self._session.execute(query).fetchall()

    def now(self) -> datetime:
        """Return the database's time."""
        return self.one("SELECT clock_timestamp()")  # type: ignore[no-any-return]

    def term(self) -> int:
        """Return the current term."""
        return int(self.one("SELECT term FROM checks_clusterstore"))

    def leader(self) -> int:
        """Return the process ID of the replica that began the term; 0 before the first term."""
        return int(self.one("SELECT leader FROM checks_clusterstore").rpartition(":")[2] or 0)

    def last_pass(self) -> datetime | None:
        """Return when the last pass ended."""
        return self.one("SELECT last_pass FROM nodes_hearing")  # type: ignore[no-any-return]

    def holders(self, granted: bool = True) -> int:
        """Return the number of sessions that hold the leader's lock, or with granted=False wait for it."""
        return int(
            self.one(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted = %s"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
                NAMESPACE,
                int(Lock.LEADER),
                granted,
            )
        )

    def next_pass(self, after: datetime | None = None, patience: float = PATIENCE) -> datetime:
        """Wait for the next pass, or for one that ended after the given time; return when it ended."""
        before = after or self.last_pass()

        def look() -> datetime | None:
            last = self.last_pass()
            return last if last and (before is None or last > before) else None

        return wait_for("a pass", look, patience)

    def assignments(self) -> list[Any]:
        """Return all assignments with their nodes' versions, which a change of leader must not change."""
        return self._session.execute(
            "SELECT a.*, n.config_version FROM checks_assignment a JOIN nodes_node n ON n.id = a.node_id ORDER BY a.config_id"
        ).fetchall()

    def furnish(self) -> None:
        """Make the nodes ash, birch and cedar, alive, with thirty configs; the warm-up is over."""
        self.run("UPDATE nodes_hearing SET warmup = false")
        self.run(
            "INSERT INTO nodes_node (name, labels, config_version) SELECT unnest(%s::text[]), '{}', 7",
            ["ash", "birch", "cedar"],
        )
        self.run("INSERT INTO nodes_heartbeat (node_id) SELECT id FROM nodes_node")
        self.run(
            "INSERT INTO checks_config (digest, name, original, wire, scrubbed, text)"
            " SELECT to_hex(n), 'http_check', '{}', '{}', '{}', '' FROM generate_series(1, 30) AS n"
        )
        self.run(
            "INSERT INTO checks_assignment (config_id, node_id, reason)"
            " SELECT c.id, (SELECT id FROM nodes_node ORDER BY id OFFSET c.id %% 3 LIMIT 1), 'scheduled'"
            " FROM checks_config AS c"
        )


class Replica:
    """A process of `manage.py`: `runagent`, or another command that runs until it is ended. manage: whose it is."""

    def __init__(self, command: str, environment: dict[str, str], log: Path, manage: Path = MANAGE) -> None:
        self.log = log
        with log.open("wb") as output:
            # There: an older version's web server imports from the folder that it is called in.
            self.process = subprocess.Popen(
                [sys.executable, str(manage), *command.split()],
                cwd=manage.parent,
                env=environment,
                stdout=output,
                stderr=output,
            )
        self.pid = self.process.pid
        self._forgotten = 0

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait until the process has ended; return its exit status. Raises TimeoutExpired after `patience` seconds."""
        return self.process.wait(patience)

    def logged(self, event: str) -> int:
        """Return how often the event is in the log, since `forget` if that was called."""
        return self.log.read_text()[self._forgotten :].count(event)

    def forget(self) -> None:
        """Count only what is logged from now on."""
        self._forgotten = len(self.log.read_text())

    def terminate(self) -> None:
        """Send SIGTERM if the process runs, also if it is stopped."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)

    def end(self) -> None:
        """End the process by SIGTERM, after 5 s by SIGKILL."""
        self.terminate()
        wait_or_kill(self.process, 5)


class Cluster:
    """Replicas that share a database and a folder of configs. A mark in the environment identifies all their processes."""

    def __init__(self, url: str, folder: Path) -> None:
        self.store = Store(url)
        self.confd = folder / "conf.d"
        self._folder = folder
        self._mark = f"replica-{uuid.uuid4().hex}"
        # What runs in replicas that start from now on: another version has another one.
        self.manage = MANAGE
        self.replicas: list[Replica] = []
        self._number = itertools.count()

    def running(self, number: int) -> Replica:
        """Start or end replicas until `number` run, one of them as the leader; return it. Forget what they logged before."""
        alive = [one for one in self.replicas if one.process.poll() is None]
        alive.sort(key=lambda one: one.pid != self.store.leader())
        self.replicas = alive[:number]
        for surplus in alive[number:]:
            surplus.end()
        self.start(number - len(self.replicas))
        leader = self.led()
        for one in self.replicas:
            one.forget()
        return leader

    def start(self, number: int = 1, command: str = "runagent", **options: str) -> list[Replica]:
        """Start `number` more replicas with these options, and return them."""
        logs = [self._folder / f"{next(self._number)}.log" for _ in range(number)]
        fresh = [Replica(command, self.environment(**options), log, self.manage) for log in logs]
        self.replicas += fresh
        return fresh

    def environment(self, **options: str) -> dict[str, str]:
        """Return the environment variables of the cluster's processes, with these options."""
        return os.environ | {
            "DATABASE_URL": self.store.url,
            "CLUSTERAGENT_CONFD": str(self.confd),
            "CLUSTERAGENT_VAR": str(self._folder),
            "CLUSTERAGENT_REPLICA": self._mark,
            "CLUSTERAGENT_SCAN_PERIOD": "60",
            **options,
        }

    def led(self) -> Replica:
        """Wait until a leader's worker runs passes and all other replicas wait for the lock; return the leader."""
        alive = [one for one in self.replicas if one.process.poll() is None]
        waiting = len(alive) - 1
        wait_for("a leader", self.store.holders)
        wait_for("the others wait", lambda: self.store.holders(granted=False) >= waiting)
        leader = wait_for(
            "a term", lambda: next((one for one in self.replicas if one.pid == self.store.leader()), None)
        )
        wait_for("a worker", lambda: len(descendants(leader.pid)) >= PROCESSES)
        self.store.next_pass()
        return leader

    def succession(self, before: int) -> float:
        """Wait for a pass of a later term; return the seconds until it ended, by the database's clock."""
        start = self.store.now()
        wait_for("a new term", lambda: self.store.term() != before)
        begun = self.store.one("SELECT to_timestamp(term / 1e9) FROM checks_clusterstore")
        return (self.store.next_pass(after=max(begun, start)) - start).total_seconds()

    def marked(self) -> list[int]:
        """Return the process IDs of all processes of this cluster that exist."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self._mark.encode() in entry.read_bytes():
                    found.append(int(entry.parent.name))
            except OSError:  # it ended meanwhile, or is another user's
                continue
        return found

    def clear(self) -> None:
        """End all replicas."""
        for replica in self.replicas:
            replica.terminate()
        for replica in self.replicas:
            replica.end()
        self.replicas = []

    def end(self) -> None:
        """End all replicas, and the session. Raises AssertionError if a process remains."""
        self.clear()
        self.store.close()
        try:
            wait_for("nothing is left behind", lambda: not self.marked(), 5)
        finally:
            for pid in self.marked():
                os.kill(pid, signal.SIGKILL)
