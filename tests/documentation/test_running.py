"""The commands that the documentation shows, page by page, on a live cluster."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clusteragent.lib import postgres
from tests.documentation.pages import ELSEWHERE_AS_A_WHOLE, PAGES, ROOT, commands, elsewhere
from tests.replicas import wait_for
from tests.test_first_run import UP, Run, free_ports, plain_environment

pytestmark = pytest.mark.processes

# Everything shares two busy cores.
PATIENCE = 120.0
RUN = {
    name: [one for one in commands(page) if not elsewhere(one)]
    for name, page in PAGES.items() if name not in ELSEWHERE_AS_A_WHOLE
}  # fmt: skip
# What a page takes for granted.
BEFORE = {"docs/troubleshooting.md": ["clusteragent isolate CHECK_ID", "clusteragent freeze"]}
# As installed.
COMMAND = """#!/bin/sh
exec "{python}" -m clusteragent "$@"
"""
# Ends a script at its first error. That `status` or `doctor` finds something is none.
STRICT = """set -uxo pipefail
trap 'code=$?; [[ $code -le 2 && $BASH_COMMAND =~ (status|doctor)$ ]] || exit $code' ERR
"""
# Notes the number of what was made, which is in the address of the page's next line.
CURL = """#!/bin/sh
answer=$("{curl}" "$@"); code=$?
printf '%s\\n' "$answer"
printf '%s' "$answer" | sed -nE 's/^\\[?\\{{"id":([0-9]+).*/\\1/p' > "{folder}/answered"
[ ! -s "{folder}/answered" ] || cp "{folder}/answered" "{folder}/number"
exit $code
"""


class Terminal:
    """A shell in a clone of the repository, where a cluster runs. Call `end` in any case."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder, self.ports = folder, free_ports()
        for name in ("manage.py", "deploy", "docs"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        shutil.copytree(ROOT / "conf.d", folder / "conf.d")
        self.program("clusteragent", COMMAND.format(python=sys.executable))
        self.program("curl", CURL.format(curl=shutil.which("curl"), folder=folder))
        options = {"CLUSTERAGENT_CONFD": str(folder / "conf.d"), "CLUSTERAGENT_DEMO_NODES": str(nodes)}
        # Nobody waits a minute for the next moves.
        options["CLUSTERAGENT_REBALANCE_BUDGET"] = "1"
        self.cluster = Run(folder / "var", self.ports, **options)
        self._environment = {
            **plain_environment(),
            **options,
            "CLUSTERAGENT_VAR": str(folder / "var"),
            "DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(self.ports[2]),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }

    def program(self, name: str, text: str) -> None:
        """Write a program that scripts find by its name before all others."""
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def run(self, script: str) -> str:
        """Run a script up to its first error; return its output."""
        shell = ["bash", "-c", f"{STRICT}{script}\ntrue"]
        done = subprocess.run(shell, cwd=self.folder, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr[-4000:]}\n{done.stdout[-2000:]}"
        return done.stdout

    def ask(self, statement: str) -> list[Any]:
        """Return the first column of a statement's rows."""
        with psycopg.connect(postgres.url(self.folder / "var/pgdata")) as session:
            return [row[0] for row in session.execute(statement).fetchall()]  # type: ignore[call-overload]

    def nodes(self) -> int:
        """Return how many nodes report."""
        return len(self.ask("SELECT 1 FROM nodes_heartbeat WHERE seen_at > now() - interval '15 s'"))

    def here(self, script: str) -> str:
        """Return a script with the names and numbers of this cluster in place of those that the page has."""
        shop = json.loads(self.run("clusteragent clusterchecks --check http_check --json"))["configs"][0]
        first, second = self.ask("SELECT id FROM checks_config WHERE name = 'postgres' ORDER BY id")[:2]
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        for shown, actual in {
            "CHECK_ID": shop["check_ids"][0],
            "runner-3": "birch",
            "runner-7": "cedar",
            "localhost:5006": f"localhost:{self.ports[1]}",
            "nt-00000000": "$(clusteragent nodetoken list | cut -c 1-11 | head -n 1)",
            r"\b42\b": first,
            r"\b43\b": second,
            r'(?<="until": ")[^"]*': f"{tomorrow:%Y-%m-%dT%H:%M:%SZ}",
            r'(?<="by": ")[^"]*': f"{tomorrow:%Y-%m-%dT%H:%M:%SZ}",
            r"(?<=/freezes/)\d+": f"$(cat {self.folder}/number)",
            r"(?<=/isolations/)\d+": f"$(cat {self.folder}/number)",
        }.items():
            script = re.sub(shown, str(actual), script)
        return script


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    if not shutil.which("curl"):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("curl is missing: apt-get install curl")
    # Not in pytest's folder: PostgreSQL runs as another user, who may not pass through that.
    with tempfile.TemporaryDirectory(prefix="clusteragent-clone-") as folder:
        terminal = Terminal(Path(folder))
        try:
            wait_for("the cluster is up", lambda: UP in terminal.cluster.output(), PATIENCE)
            yield terminal
        finally:
            terminal.cluster.end()


@pytest.mark.parametrize("name", [name for name, found in RUN.items() if found])
def test_the_commands_of_a_page_succeed(name: str, terminal: Terminal) -> None:
    wait_for("every node reports", lambda: terminal.nodes() == 3, PATIENCE)
    terminal.run(terminal.here("\n".join([*BEFORE.get(name, []), *RUN[name]])))
