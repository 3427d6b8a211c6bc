"""What each role logs when it starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusteragent.lib import credentials
from clusteragent.lib.version import VERSION
from tests.replicas import MANAGE, Replica, wait_for
from tests.table import table
from tests.webserver import free_port

pytestmark = pytest.mark.processes
HIDDEN = "hush7Hush"


@table(
    ("role", "told"),
    [
        ("agents", {"listens": "127.0.0.1:{agents}", "database": "host=pooler.invalid port=6432 dbname=checks"}),
        ("operators", {"listens": "[::1]:{operators}", "database": "host=db.invalid dbname=checks"}),
        ("runagent", {"database": "host=db.invalid dbname=checks"}),
        ("migrate", {"database": "host=db.invalid dbname=checks"}),
    ],
)
def test_each_role_says_what_it_is_in_one_line(tmp_path: Path, role: str, told: dict[str, str]) -> None:
    ports = {"agents": free_port(), "operators": free_port()}
    credentials.make_missing(tmp_path)
    options = {
        "CLUSTERAGENT_VAR": str(tmp_path),
        "CLUSTERAGENT_BIND": f"127.0.0.1:{ports['agents']}",
        "CLUSTERAGENT_ADMIN_BIND": f"[::1]:{ports['operators']}",
        "CLUSTERAGENT_REPLICA": "east",
        "CLUSTERAGENT_LOG_FORMAT": "json",
        "DATABASE_URL": f"postgresql://someone:{HIDDEN}@pooler.invalid:6432/checks",
        "CLUSTERAGENT_DIRECT_DATABASE_URL": f"host=db.invalid dbname=checks user=someone password={HIDDEN}",
    }
    replica = Replica(role, {**os.environ, **options}, tmp_path / "role.log")
    try:
        wait_for("a line", lambda: replica.logged("role_starts"))
    finally:
        replica.end()
    lines: list[dict[str, Any]] = [json.loads(line) for line in replica.log.read_text().splitlines() if line[0] == "{"]
    [line] = [line for line in lines if line["event"] == "role_starts"]
    expected = {name: text.format(**ports) for name, text in told.items()}
    assert line.items() >= ({"role": role, "version": VERSION, "replica": "east"} | expected).items()
    assert HIDDEN not in replica.log.read_text()


def test_the_embedded_database_is_told_as_such(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    answer = subprocess.run(
        [sys.executable, str(MANAGE), "migrate"],
        env=environment | {"CLUSTERAGENT_VAR": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert answer.stderr.count("role_starts") == answer.stderr.count("database=embedded") == 1
