"""The units of `deploy/systemd`: judged by systemd's own tools, and run as they are written."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.installed.units import Unit
from tests.proxies.programs import program
from tests.replicas import Store, wait_for
from tests.test_requirements import ROOT
from tests.webserver import free_port

pytestmark = pytest.mark.processes

ROLES = ("agents", "operators", "runagent")
PAGE = ROOT / "docs" / "install-systemd.md"
SAMPLES = ROOT / "deploy" / "systemd"
# As systemd-analyze counts: ten times what it shows. A service without any option has 96.
EXPOSURE = 20


@pytest.fixture
def root(bin_folder: Path, tmp_path: Path) -> Path:
    """A folder in place of `/`, with the units and with files of which they speak."""
    shutil.copytree(SAMPLES, tmp_path / "units")
    for file in (tmp_path / "units").rglob("*.service"):
        text = file.read_text().replace("/opt/clusteragent", str(bin_folder.parent))
        file.write_text(text.replace("/etc/clusteragent", str(tmp_path / "etc")))
    return tmp_path


@pytest.fixture
def ports(root: Path, database: str) -> dict[str, int]:
    """The ports of the roles. Secrets and options are made as the page says, but for what is this test's own."""
    program("openssl")
    ports = {"agents": free_port(), "operators": free_port()}
    own = {
        "/etc/clusteragent": root / "etc",
        "postgresql://clusteragent:PASSWORD@127.0.0.1/clusteragent": database,
        "0.0.0.0:5005": f"127.0.0.1:{ports['agents']}",
        "0.0.0.0:5006": f"127.0.0.1:{ports['operators']}",
    }
    subprocess.run(["sh", "-eu", "-c", replaced(block("openssl"), own)], check=True)
    (root / "etc/conf.d/db.yaml").write_text("cluster_check: true\ninstances: [{host: db}]\n")
    with (root / "etc/environment").open("a") as options:
        options.write(f"CLUSTERAGENT_CONFD={root / 'etc/conf.d'}\nDD_CLUSTER_CHECKS_WARMUP_DURATION=1\n")
    return ports


def block(word: str) -> str:
    """Return the one block of commands of the page that has this word."""
    [found] = [text for text in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL) if word in text]
    return str(found)


def replaced(text: str, own: Mapping[str, object]) -> str:
    """Return the text with the test's own in place of what stands there."""
    for written, used in own.items():
        assert written in text
        text = text.replace(written, str(used))
    return text


@pytest.fixture
def units(root: Path, bin_folder: Path) -> Iterator[dict[str, Unit]]:
    # pytest's folders are for their owner alone, and units run as somebody else.
    for above in (root, *root.parents, *bin_folder.parents):
        above.chmod(above.stat().st_mode | 0o011)
    units = {role: Unit(role, root) for role in ("migrate", *ROLES)}
    yield units
    for unit in units.values():
        unit.end()


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"https://127.0.0.1:{port}/readyz", verify=False, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def spoken(port: int) -> str | None:
    """Return the protocol that the server chooses for a client that speaks HTTP/2, too."""
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as stream:
        return stream.selected_alpn_protocol()


def analyze(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze with the units of the folder before the system's."""
    command = [program("systemd-analyze", "systemd"), *words]
    path = os.environ | {"SYSTEMD_UNIT_PATH": f"{root / 'units'}:"}
    return subprocess.run(command, env=path, capture_output=True, text=True)


@pytest.mark.parametrize(
    "name", ["clusteragent.target", *(f"clusteragent@{role}.service" for role in ("migrate", *ROLES))]
)
def test_systemd_finds_nothing_odd(name: str, root: Path) -> None:
    done = analyze(root, "verify", name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_unit_is_exposed_to_little(root: Path) -> None:
    words = ("security", "--offline=yes", f"--threshold={EXPOSURE}")
    done = analyze(root, *words, str(root / "units/clusteragent@.service"))
    assert done.returncode == 0, done.stdout


def test_the_units_serve_dispatch_and_stop_in_time(
    root: Path, units: dict[str, Unit], ports: dict[str, int], store: Store
) -> None:
    units["migrate"].start()
    assert units["migrate"].wait() == 0, units["migrate"].log()
    assert units["migrate"].option("Type") == "oneshot"
    # The first operator's.
    assert (root / "var/lib/clusteragent/admin_password").read_text().strip()
    for role in ROLES:
        units[role].start()
    wait_for("both servers are ready", lambda: all(map(is_ready, ports.values())))
    assert [spoken(port) for port in ports.values()] == ["http/1.1", "http/1.1"]
    words = ("--url", f"https://127.0.0.1:{ports['agents']}", "--nodes", "1", "--interval", "1")
    token = {"DD_CLUSTER_AGENT_AUTH_TOKEN": (root / "etc/secrets/token").read_text().strip()}
    agent = subprocess.Popen([sys.executable, "-m", "simulation", *words], env=os.environ | token)
    try:
        wait_for("the check is dispatched", lambda: store.one("SELECT count(*) FROM checks_assignment") == 1)
        assert "1 config on 1 node" in told_by_the_command(root, units["agents"])
    finally:
        agent.kill()
        agent.wait()
    assert {role: units[role].stop() for role in ROLES} == dict.fromkeys(ROLES, (0, []))


def told_by_the_command(root: Path, unit: Unit) -> str:
    """Return what `clusteragent status` says, by the script of the page."""
    own = {
        "/usr/local/bin": root,
        "/etc/clusteragent": root / "etc",
        "/var/lib/clusteragent": root / "var/lib/clusteragent",
        "/opt/clusteragent/bin/clusteragent": unit.option("ExecStart").split()[0],
        "clusteragent status": f"{root}/clusteragent status",
    }
    commands = ["sh", "-u", "-c", replaced(block("chmod 0755"), own)]
    return subprocess.run(commands, capture_output=True, text=True).stdout


def test_a_secret_that_is_too_short_is_named(root: Path, units: dict[str, Unit], ports: dict[str, int]) -> None:
    (root / "etc/secrets/token").write_text("short\n")
    units["agents"].start()
    assert units["agents"].wait() == 1
    assert "DD_CLUSTER_AGENT_AUTH_TOKEN has 5 characters" in units["agents"].log()
