"""A small cluster of real processes: web servers behind a load balancer, replicas of `runagent`, node agents, PostgreSQL.

Times that options set are a third of those in production (SCALE): nodes report each 3.3 s and expire after 10 s, so a fault
that takes 90 s there takes 30 s here. Other times are as in production: a pass a second, the leader's lease of 6 s, the
worker's 10 s without progress, the minute in which few surviving nodes don't get all configs of many lost ones. A cluster of
scale 1 has production's times throughout.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from clusteragent.lib import credentials
from clusteragent.lib.locks import NAMESPACE, Lock
from simulation.client import Timing
from tests.faults.account import Account
from tests.faults.database import Server
from tests.faults.group import Group
from tests.faults.record import Record
from tests.faults.wire import Loop, Proxy
from tests.replicas import MANAGE, PROCESSES, Replica, descendants, wait_for
from tests.webserver import TLS, exchange, free_port

SCALE = 3
# Seconds until node agents run what the map says: processes must return first, and everything shares two busy cores.
PATIENCE = 60.0
# Seconds that two busy cores may add to a promised time. The benchmarks measure the times themselves.
MARGIN = 5.0
# Seconds that the configs of many lost nodes may wait for room.
PILE_UP = 60.0
CHECKS = 20
NODES = ("ash", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine")

_OWNERS = "SELECT n.name FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id"
_BEHIND = (
    "SELECT n.name FROM nodes_node AS n JOIN nodes_heartbeat AS h ON h.node_id = n.id"
    " WHERE h.acknowledged <> n.config_version ORDER BY n.name"
)
_LEADER = (
    "SELECT leader FROM checks_clusterstore WHERE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND classid = %s AND objid = %s)"
)


class Cluster:
    """The whole cluster. `end()` ends all that a test started, and removes all that it broke."""

    def __init__(self, template: Path, *, scale: int = SCALE, **environment: str) -> None:
        self.scale = scale
        self.timeout, self.poll = 30 / scale, 10 / scale
        # Not pytest's folder: its parents are private to us, and PostgreSQL may run as another user.
        self.folder = Path(tempfile.mkdtemp(prefix="clusteragent-faults-"))
        self.folder.chmod(0o755)
        self.confd = self.folder / "conf.d"
        self.account = Account()
        self.server = Server.copy(template, self.folder)
        # False for a database of several hosts: libpq must choose the host itself, so there are no proxies before it.
        self.has_cables = True
        # The URL of the database for the web servers of node agents, if they use a pooler.
        self.pooled_url = ""
        # What runs in processes that start from now on: another version has another one.
        self.manage = MANAGE
        self.at_end = contextlib.ExitStack()
        self.loop = Loop()
        self.agents: list[Replica] = []
        self.webs: dict[int, Replica] = {}
        self.ports = [free_port(), free_port()]
        self.cables: dict[int, Proxy] = {}
        self._groups: list[Group] = []
        self._environment = {**os.environ, **self._options(), **environment}

    def _options(self) -> dict[str, str]:
        return {
            "CLUSTERAGENT_VAR": str(self.folder / "var"),
            "CLUSTERAGENT_CONFD": str(self.confd),
            "CLUSTERAGENT_SCAN_PERIOD": "2s",
            "CLUSTERAGENT_WEB_WORKERS": "1",
            "CLUSTERAGENT_WEB_THREADS": "4",
            "DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT": f"{self.timeout:g}s",
            "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1s",
            # Configs must move only because of the fault.
            "DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "1h",
            "DD_CLUSTER_CHECKS_UNSCHEDULED_CHECK_THRESHOLD": f"{60 // self.scale}s",
        }

    def start(self) -> None:
        """Start everything, and return when every check runs."""
        self.start_servers()
        self.nodes = self.make_group()
        self.nodes.join(*NODES)
        self.wait_until_whole()
        # A node first seen after another's last report counts as its successor, so all must have reported again.
        self.wait_until_heard()

    def start_servers(self, *, agents: int = 2) -> None:
        """Start everything but nodes. agents: replicas of `runagent`."""
        credentials.make_missing(self.folder / "var", given=("cluster_agent.auth_token", "auth_token", "secret_key"))
        for number in range(CHECKS):
            self.write_check(f"check-{number:02}")
        if self.server.has_ended():
            self.server.start()
        self.start_replicas(agents)

    def start_replicas(self, agents: int = 2) -> None:
        """Start the web servers of node agents, and so many replicas of `runagent`."""
        for port in self.ports:
            self.start_web(port)
        for _ in range(agents):
            self.start_agent()

    def stop(self) -> None:
        """End all our processes. The database runs on."""
        for replica in self._living():
            replica.terminate()
        for replica in self._living():
            replica.end()

    def write_check(self, name: str, folder: Path | None = None, *, check: str = "http_check") -> None:
        """Write the config file of a check, into the cluster's conf.d by default."""
        file = (folder or self.confd) / f"{check}.d" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"cluster_check: true\ninit_config:\ninstances:\n  - name: {name}\n    url: http://{name}\n")

    def start_web(self, port: int, **environment: str) -> None:
        """Start a web server of node agents at this port. It replaces an earlier one, which must have ended."""
        place = {"CLUSTERAGENT_BIND": f"127.0.0.1:{port}", **self._database()}
        self.webs[port] = self._start("serve agents", place | environment)

    def replace_web(self, port: int) -> None:
        """Replace the web server at this port, as a load balancer lets it be done: it sends no calls there meanwhile."""
        self.nodes.way.backends = [other for other in self.ports if other != port]
        self.stop_web(port)
        self.start_web(port)
        wait_for("it answers", lambda: self.answers(port))
        self.nodes.way.backends = self.ports

    def replace_agents(self) -> None:
        """Replace all replicas of `runagent`, one after the other; the last one leads then, or follows."""
        for agent in [agent for agent in self.agents if agent.process.poll() is None]:
            agent.signal(signal.SIGTERM)
            assert agent.ended() == 0
            fresh = self.start_agent()
            wait_for("it takes part", lambda fresh=fresh: fresh.logged("following") or fresh.logged("leader_elected"))

    def start_operators(self, **environment: str) -> int:
        """Start a web server of operators; return its port when it answers."""
        port = free_port()
        self.webs[port] = self._start(
            "serve operators", {"CLUSTERAGENT_ADMIN_BIND": f"127.0.0.1:{port}", **self._database(), **environment}
        )
        wait_for("it answers", lambda: self.answers(port))
        return port

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the cluster's processes."""
        return self._environment | self._database()

    def logged(self, *words: str) -> list[str]:
        """Return the log lines of all processes that contain one of these words."""
        lines = (line for file in self.folder.glob("*.log") for line in file.read_text(errors="replace").splitlines())
        return [line for line in lines if any(word in line for word in words)]

    def _database(self) -> dict[str, str]:
        if not self.pooled_url:
            return {"DATABASE_URL": self.server.url}
        return {"DATABASE_URL": self.pooled_url, "CLUSTERAGENT_DIRECT_DATABASE_URL": self.server.url}

    def stop_web(self, port: int) -> None:
        """End the web server at this port."""
        self.webs[port].end()

    def answers(self, port: int) -> bool:
        """Return whether the web server at this port is ready."""
        connection = HTTPSConnection("127.0.0.1", port, timeout=5, context=TLS)
        try:
            return exchange(connection, "GET", "/readyz").status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def start_agent(self, **environment: str) -> Replica:
        """Start a replica of `runagent`, with a proxy of its own (its cable) to the database."""
        cable = Proxy(self.loop, [self.server.socket])
        through_cable = f"postgresql://postgres@127.0.0.1:{cable.port}/postgres"
        place = {
            **self._database(),
            **({"DATABASE_URL": through_cable} if self.has_cables else {}),
            "CLUSTERAGENT_REPLICA": f"replica-{len(self.agents)}",
        }
        replica = self._start("runagent", place | environment)
        self.agents.append(replica)
        self.cables[replica.pid] = cable
        return replica

    def _start(self, command: str, environment: dict[str, str]) -> Replica:
        log = self.folder / f"{command.split()[0]}-{time.monotonic_ns()}.log"
        return Replica(command, self._environment | environment, log, self.manage)

    def make_group(self, *, stats_port: int = 0) -> Group:
        """Make a group without nodes, with a load balancer of its own. stats_port: see Group."""
        timing = Timing(poll=self.poll, extra_heartbeat=25 / self.scale, longest_retry=self.poll)
        group = Group(self.loop, self.ports, self.account, timing, stats_port=stats_port)
        # Kept here, as the event loop keeps no strong reference to a task.
        self._groups.append(group)
        return group

    def leader(self) -> Replica:
        """Wait for a replica that holds the leader's lock and began the term; return it."""

        def look() -> Replica | None:
            names = self.server.ask(_LEADER, (NAMESPACE, int(Lock.LEADER)))
            pid = int(names[0].rpartition(":")[2]) if names and names[0] else 0
            return next((agent for agent in self.agents if agent.pid == pid and agent.process.poll() is None), None)

        return wait_for("a leader", look)

    def worker_of(self, leader: Replica) -> list[int]:
        """Wait for all processes of a leader's qcluster; return their process IDs, the main one first."""
        return wait_for("a worker", lambda: found if len(found := descendants(leader.pid)) >= PROCESSES else None)

    def record(self) -> Record:
        """Return a record of what happens from now on. Every check must run when it begins."""
        return Record(self.server, self.account)

    def now(self) -> float:
        """Return the database's time in seconds since 1970."""
        return float(self.server.ask("SELECT extract(epoch FROM clock_timestamp())")[0])

    def known_nodes(self) -> int:
        """Return the number of nodes that are not lost."""
        return int(self.server.ask("SELECT count(*) FROM nodes_heartbeat")[0])

    def term(self) -> int:
        """Return the current term."""
        return int(self.server.ask("SELECT term FROM checks_clusterstore")[0])

    def succession(self, term: int) -> float:
        """Wait for a pass of a later term; return the seconds that it took."""
        began = time.monotonic()
        wait_for("a new term", lambda: self.term() != term)
        self.wait_for_pass()
        return time.monotonic() - began

    def wait_for_pass(self, number: int = 1) -> None:
        """Wait until `number` passes have ended that began after this call."""
        for _ in range(number + 1):
            last = self.server.ask("SELECT last_pass FROM nodes_hearing")
            wait_for("a pass", lambda last=last: self.server.ask("SELECT last_pass FROM nodes_hearing") != last)

    def wait_for_scan(self) -> None:
        """Wait for the next scan of the sources."""
        last = self.server.ask("SELECT scanned_at FROM checks_source")
        wait_for("a scan", lambda: self.server.ask("SELECT scanned_at FROM checks_source") != last)

    def wait_until_heard(self) -> None:
        """Wait until every node has reported again, and silence counts."""
        began = self.server.ask("SELECT clock_timestamp()")[0]
        late = "SELECT node_id FROM nodes_heartbeat WHERE seen_at < %s OR seen_at > clock_timestamp()"
        self._wait(
            "every node is heard", lambda: not self.server.ask(late, [began]), self.contact, PATIENCE + self.timeout
        )
        self.wait_until_silence_counts()

    def wait_until_silence_counts(self) -> None:
        """Wait until the brake is off and no deafness is so recent that silence does not count."""
        patience = PATIENCE + 2 * self.timeout
        self._wait("silence counts", lambda: not any(self.hearing().values()), self.contact, patience)

    def wait_until_whole(self, patience: float = PATIENCE) -> None:
        """Wait until every check runs on exactly one node, the one of the map."""
        self._wait("every check runs where it should", self.is_whole, self.differences, patience)

    def wait_until_acknowledged(self, but: int = 0) -> None:
        """Wait until all nodes but so many have acknowledged what they have: none of it goes back to a lost node then."""
        self._wait(
            "they acknowledged", lambda: len(self._behind()) == but, lambda: f"behind {self._behind()}", PATIENCE
        )

    def _behind(self) -> list[str]:
        return self.server.ask(_BEHIND)

    def _wait(self, what: str, look: Callable[[], bool], explain: Callable[[], str], patience: float) -> None:
        try:
            wait_for(what, look, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}: {explain()}") from error

    def is_sound(self) -> bool:
        """Return whether another test can use the cluster: all processes and nodes live, and every check runs."""
        return (
            len(self._living()) == 4
            and sorted(self.nodes.simulation.nodes) == sorted(NODES)
            and self.is_whole()
            and self.known_nodes() == len(NODES)
            and not self.silent()
        )

    def _living(self) -> list[Replica]:
        return [one for one in self._processes() if one.process.poll() is None]

    def _processes(self) -> list[Replica]:
        return [*self.webs.values(), *self.agents]

    def is_whole(self) -> bool:
        """Return whether every check runs on exactly one node, the one of the map."""
        return not self.differences()

    def busiest(self, among: Sequence[str] = NODES) -> str:
        """Return the node that runs the most checks. Raises AssertionError when none runs any."""
        loads = self.account.loads()
        busiest = max(among, key=lambda node: loads.get(node, 0))
        assert loads.get(busiest), f"none of {', '.join(among)} runs anything"
        return busiest

    def differences(self) -> str:
        """Describe how the checks that node agents run differ from the map; empty if they don't."""
        if not self.server.answers():
            return "the database is away"
        dangling = self.server.ask("SELECT name FROM checks_config WHERE dangling_since IS NOT NULL")
        meant = Counter(self.server.ask(_OWNERS))
        runs = Counter({node: number for node, number in self.account.loads().items() if number})
        twice = [check for check, number in self.account.running().items() if number > 1]
        if dangling or twice or meant != runs or sum(meant.values()) < CHECKS:
            return f"{len(dangling)} dangle, {len(twice)} run twice, meant {dict(meant)}, run {dict(runs)}"
        return ""

    def hearing(self) -> dict[str, bool]:
        """Return {"braked": whether the brake is on, "deaf": whether silence counts only since less than the timeout ago}."""
        [row] = self.server.ask(
            "SELECT braked_since IS NOT NULL, coalesce(hearing_since > now() - %s * interval '1 s', false) FROM nodes_hearing",
            [self.timeout],
        )
        return dict(zip(("braked", "deaf"), row, strict=True))

    def silent(self) -> list[str]:
        """Return the names of the silent nodes."""
        statement = (
            "SELECT n.name FROM nodes_heartbeat AS h JOIN nodes_node AS n ON n.id = h.node_id"
            " WHERE h.seen_at < now() - %s * interval '1 s' ORDER BY n.name"
        )
        return self.server.ask(statement, [self.timeout / 2])

    def contact(self) -> str:
        """Describe which nodes and processes are in contact, for messages of failed tests."""
        if not self.server.answers():
            return "the database is away"
        failures = {name: node.failure for name, node in self.nodes.simulation.nodes.items() if node.failure}
        return (
            f"{self.hearing()}, {self.known_nodes()} nodes known, silent {self.silent()}, failing {failures},"
            f" {len(self._living())} of {len(self._processes())} processes live"
        )

    def end(self) -> None:
        """End all processes and the database, and delete the files."""
        for replica in self._processes():
            replica.terminate()
        for replica in self._processes():
            replica.end()
        self.loop.stop()
        self.server.stop("immediate")
        self.at_end.close()
        shutil.rmtree(self.folder, ignore_errors=True)
