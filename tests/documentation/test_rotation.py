"""The how-to that rotates secrets, followed while simulated node agents report: none is refused, and each old secret ends."""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.documentation.pages import ROOT, commands, sections
from tests.documentation.test_running import Terminal
from tests.replicas import MANAGE, wait_for
from tests.test_first_run import UP, plain_environment

pytestmark = pytest.mark.processes

PATIENCE = 120.0
PAGE = sections(ROOT / "docs/howto/rotate-secrets.md")
# The processes of this cluster in place of systemd's units.
SYSTEMCTL = """#!/bin/sh
case "$2" in
    clusteragent@agents) programs=web:web-agents ;;
    clusteragent@operators) programs=web:web-operators ;;
    clusteragent@runagent) programs='clusteragent:*' ;;
esac
exec "{python}" -m supervisor.supervisorctl -c "{folder}/var/supervisord.conf" "$1" "$programs"
"""
TOKEN = "cluster_agent.auth_token"


class Agents:
    """Three node agents with one token, which they read when they start."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self._terminal, self._name = terminal, name
        self._process: subprocess.Popen[bytes] | None = None
        self._reports = 0
        self.reasons: set[str] = set()

    def start(self, token: Path) -> None:
        self._reports += 1
        [self._began] = self._terminal.ask("SELECT now()")
        self._report = self._terminal.folder / f"{self._name}-{self._reports}.json"
        line = [
            sys.executable, str(MANAGE), "simulatenodes", "--url", f"https://127.0.0.1:{self._terminal.ports[0]}",
            "--nodes", "3", "--prefix", f"{self._name}-", "--interval", "1", "--goodbye", "leaving", "--stats-port", "0",
            "--token-file", str(token), "--report", str(self._report),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            line, env=plain_environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def end(self) -> None:
        """Let them say goodbye, and note why calls of theirs failed."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process = None
        self.reasons |= set(reasons(json.loads(self._report.read_text())))

    def running(self, seconds: int = 3) -> int:
        """How many of them reported in the last seconds, since they started. What says nothing new is written a little later."""
        since = f"seen_at > greatest(now() - interval '{seconds} s', '{self._began}')"
        return len(
            self._terminal.ask(
                "SELECT 1 FROM nodes_heartbeat h JOIN nodes_node n ON n.id = h.node_id"
                f" WHERE {since} AND name LIKE '{self._name}-%' AND lost_at IS NULL"
            )
        )


def reasons(report: object) -> Iterator[str]:
    """The reasons of failures that are anywhere in a report."""
    if isinstance(report, dict):
        yield from report.get("reasons", {})
        for part in report.values():
            yield from reasons(part)
    elif isinstance(report, list):
        for part in report:
            yield from reasons(part)


@contextmanager
def reporting(terminal: Terminal) -> Iterator[tuple[Agents, Agents]]:
    pools = Agents(terminal, "blue"), Agents(terminal, "green")
    try:
        yield pools
    finally:
        for pool in pools:
            pool.end()


def give(pools: tuple[Agents, Agents], token: Path) -> None:
    """Start all agents anew with this token, one pool after the other."""
    for pool in pools:
        pool.end()
        pool.start(token)
        wait_for("they report", lambda pool=pool: pool.running() == 3, PATIENCE)  # type: ignore[misc]


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    # Not in pytest's folder: PostgreSQL runs as another user, who may not pass through that.
    with tempfile.TemporaryDirectory(prefix="clusteragent-clone-") as folder:
        terminal = Terminal(Path(folder), nodes=0)
        terminal.program("systemctl", SYSTEMCTL.format(python=sys.executable, folder=folder))
        try:
            wait_for("the cluster is up", lambda: UP in terminal.cluster.output(), PATIENCE)
            yield terminal
        finally:
            terminal.cluster.end()


def follow(terminal: Terminal, heading: str, beginning: str, **names: str) -> str:
    """Run the commands of a section that begin so, with other names in place of those of the page; return the output."""
    chosen = [command for command in PAGE[heading] if command.startswith(beginning)]
    assert chosen, f"{heading} has no command {beginning}"
    script = "\n".join(chosen)
    for shown, actual in names.items():
        assert shown.replace("_", "-") in script
        script = script.replace(shown.replace("_", "-"), actual)
    return terminal.run(f"STATE={terminal.folder}/var\n{script}")


def operators(terminal: Terminal) -> requests.Session:
    """A session in the admin, logged in by the password in its file."""
    session = requests.Session()
    session.verify, session.trust_env = False, False
    url = f"https://127.0.0.1:{terminal.ports[1]}/admin/login/?next=/admin/"
    form = hidden(session.get(url).text) | {
        "username": "admin",
        "password": (terminal.folder / "var/admin_password").read_text().strip(),
    }
    assert session.post(url, form, headers={"Referer": url}).url.endswith("/admin/")
    return session


def hidden(page: str) -> dict[str, str]:
    """The fields of a page's form that nobody fills in."""
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))


def is_logged_in(terminal: Terminal, session: requests.Session) -> bool:
    return "/login/" not in session.get(f"https://127.0.0.1:{terminal.ports[1]}/admin/").url


def answers(terminal: Terminal, token: str, path: str, port: int = 0) -> int:
    """The status that a call with this token gets; 0 if nothing answers."""
    url = f"https://127.0.0.1:{terminal.ports[port]}{path}"
    try:
        return requests.get(url, headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=10).status_code
    except requests.ConnectionError:
        return 0


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_each_secret_is_rotated_while_agents_report_and_none_is_refused(terminal: Terminal) -> None:
    var = terminal.folder / "var"
    shared, given = var / TOKEN, terminal.folder / "given"
    with reporting(terminal) as pools:
        shutil.copy(shared, given)
        give(pools, given)
        wait_for(
            "every check runs",
            lambda: not terminal.ask("SELECT 1 FROM checks_config WHERE dangling_since > 'epoch'"),
            PATIENCE,
        )

        # The node agents' token, by a node token, which is itself replaced by another on the way.
        first = follow(terminal, "The node agents' token", "clusteragent nodetoken add").strip()
        given.write_text(first)
        give(pools, given)
        [anew] = [
            one for one in commands(ROOT / "docs/howto/rotate-node-tokens.md") if 'add --note "runners 2027' in one
        ]
        second = terminal.run(anew.replace("runner-*", "*")).strip()
        given.write_text(second)
        give(pools, given)
        follow(terminal, "The node agents' token", "clusteragent nodetoken revoke", nt_00000000=first[:11])
        old = shared.read_text().strip()
        follow(terminal, "The node agents' token", "openssl")
        follow(terminal, "The node agents' token", "systemctl")
        assert shared.read_text().strip() != old
        wait_for("all report again", lambda: all(pool.running() == 3 for pool in pools), PATIENCE)
        shutil.copy(shared, given)
        give(pools, given)
        follow(terminal, "The node agents' token", "clusteragent nodetoken revoke", nt_00000000=second[:11])
        wait_for("the second opens nothing", lambda: answers(terminal, second, "/version") in (401, 403), PATIENCE)
        assert {answers(terminal, one, "/version") for one in (old, first)} <= {401, 403}
        assert answers(terminal, shared.read_text().strip(), "/version") == 200

        # The local token.
        local = (var / "auth_token").read_text().strip()
        assert answers(terminal, local, "/api/v1/clusterchecks") == 200
        follow(terminal, "The local token", "")
        wait_for(
            "it is new",
            lambda: answers(terminal, (var / "auth_token").read_text().strip(), "/api/v1/clusterchecks") == 200,
            PATIENCE,
        )
        assert answers(terminal, local, "/api/v1/clusterchecks") in (401, 403)

        # An operator's token, and the secret key: sessions end, tokens stay.
        session = operators(terminal)
        made = [follow(terminal, "An operator's token", "clusteragent createtoken").split()[-1] for _ in range(2)]
        assert {answers(terminal, one, "/api/operator/v1/status", 1) for one in made} == {200}
        page = f"https://127.0.0.1:{terminal.ports[1]}/admin/knox/authtoken/"
        [digest] = terminal.ask(f"SELECT digest FROM knox_authtoken WHERE token_key = '{made[0][:15]}'")
        delete_in_admin(session, f"{page}{digest}/delete/")
        assert [answers(terminal, one, "/api/operator/v1/status", 1) for one in made] == [401, 200]
        assert is_logged_in(terminal, session)
        follow(terminal, "The secret key", "")
        wait_for(
            "operators are answered", lambda: answers(terminal, made[1], "/api/operator/v1/status", 1) == 200, PATIENCE
        )
        assert not is_logged_in(terminal, session)
        assert is_logged_in(terminal, operators(terminal))

        # The first operator's password.
        follow(terminal, "The first operator's password", "")
        assert not (var / "admin_password").exists()
        wait_for("all report again", lambda: all(pool.running() == 3 for pool in pools), PATIENCE)
    assert {*pools[0].reasons, *pools[1].reasons} & {"401", "403"} == set()
    assert terminal.ask("SELECT count(*) FROM checks_move WHERE reason = 'expired'") == [0]


def test_it_is_noticed_when_agents_are_refused(terminal: Terminal) -> None:
    token = terminal.run("clusteragent nodetoken add --note ends --nodes '*'").strip()
    given = terminal.folder / "given"
    given.write_text(token)
    with reporting(terminal) as (pool, _):
        pool.start(given)
        wait_for("they report", lambda: pool.running() == 3, PATIENCE)
        terminal.run(f"clusteragent nodetoken revoke {token[:11]}")
        wait_for("they are no longer heard", lambda: pool.running(15) == 0, PATIENCE)
        pool.end()
        assert "403" in pool.reasons


def delete_in_admin(session: requests.Session, url: str) -> None:
    """Delete what this page is about, as it asks."""
    asked = session.get(url)
    answer = session.post(url, hidden(asked.text) | {"post": "yes"}, headers={"Referer": url})
    assert answer.status_code == 200, answer.text[-2000:]
