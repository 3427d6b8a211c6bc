"""The folder in which a command is called decides nothing: whoever may write there must not run as who calls it."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from clusteragent.lib.processes import ROOT
from tests.replicas import wait_for
from tests.webserver import free_port

pytestmark = pytest.mark.processes
STRANGER = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\nraise SystemExit\n"


def is_up(url: str) -> bool:
    try:
        return httpx.get(url, verify=False, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("role", ["agents", "operators"])
def test_nothing_is_imported_from_it(role: str, tmp_path: Path) -> None:
    for name in ("granian", "supervisor", "django"):
        (tmp_path / f"{name}.py").write_text(STRANGER)
    ports = {"CLUSTERAGENT_BIND": free_port(), "CLUSTERAGENT_ADMIN_BIND": free_port()}
    binds = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    environment = {**os.environ, **binds, "CLUSTERAGENT_VAR": str(tmp_path / "var")}
    port = ports["CLUSTERAGENT_BIND" if role == "agents" else "CLUSTERAGENT_ADMIN_BIND"]
    process = subprocess.Popen([sys.executable, ROOT / "manage.py", role], cwd=tmp_path, env=environment)
    try:
        wait_for("it serves", lambda: process.poll() is not None or is_up(f"https://127.0.0.1:{port}/healthz"))
        assert not list(tmp_path.glob("*.ran"))
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)
