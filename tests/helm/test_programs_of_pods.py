"""What pods run, with real programs: their environment, and the chart's own test."""

import base64
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusteragent.lib import conf
from tests.helm.chart import CHART, VALUES, named, pods, render
from tests.replicas import Replica, wait_for
from tests.webserver import WebServer, database_url, free_port, serving

ROOT = Path(__file__).parents[2]
LEAST = next(file for file in VALUES if file.stem == "least")
OPTIONS = (
    "clusterName=shop", "logLevel=debug", "trustedProxies={10.1.0.0/16,10.2.0.0/16}", "bindAddress=[::]",
    "kubernetes.secrets[0].namespace=shop,kubernetes.secrets[0].names={db}", "database.directExistingSecretKey=direct",
)  # fmt: skip
GIVEN = {"uri": "postgresql://app@db/app", "direct": "postgresql://app@db/app"}

pytestmark = pytest.mark.processes


def environment(role: str) -> dict[str, str]:
    """The environment of a role's container, with values for what is in Secrets."""
    container = dict(pods(render(LEAST, *(f"--set={option}" for option in OPTIONS))))[f"ca-clusteragent-{role}"][
        "containers"
    ][0]

    def value(entry: dict[str, dict[str, dict[str, str]]]) -> str:
        key = entry["valueFrom"]["secretKeyRef"]["key"]
        return GIVEN.get(key, f"{key}-{'0' * 64}")

    return {entry["name"]: entry["value"] if "value" in entry else value(entry) for entry in container["env"]}


@pytest.mark.parametrize("role", ["agents", "operators", "runagent", "migrate"])
def test_the_environment_is_understood(role: str, tmp_path: Path) -> None:
    clean = {
        name: text for name, text in os.environ.items() if not name.startswith(("DD_", "CLUSTERAGENT_", "DATABASE_"))
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=clean | environment(role) | {"CLUSTERAGENT_VAR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    honoured = {name for name in environment(role) if name.startswith("DD_")}
    told = next(line for line in done.stdout.splitlines() if line.startswith("Honoured"))
    assert all(name in told for name in honoured)


@pytest.fixture(scope="module")
def servers(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WebServer, WebServer]]:
    """A web server of node agents, and one of operators."""
    folders = [tmp_path_factory.mktemp(name) for name in ("agents", "operators")]
    with (
        serving(database_url(), folders[0]) as agents,
        serving(database_url(), folders[1], whom="operators") as operators,
    ):
        yield agents, operators


def told(servers: tuple[WebServer, WebServer], token: str, *, away: bool = False) -> tuple[int, str]:
    """Run the chart's own test; return its status and what it said. away: it looks for node agents where nobody is."""
    agents, operators = (f"https://127.0.0.1:{server.port}" for server in servers)
    given = {"AGENTS": "https://127.0.0.1:1" if away else agents, "OPERATORS": operators, "TOKEN": token}
    command = [sys.executable, "-c", (CHART / "files/test.py").read_text()]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.django_db(transaction=True)
def test_the_test_of_the_chart_tells_what_is_wrong(servers: tuple[WebServer, WebServer]) -> None:
    assert told(servers, conf.AUTH_TOKEN) == (0, "")
    assert told(servers, "") == (0, "")
    status, said = told(servers, "of-another-release")
    assert status == 1
    assert "/version: 403" in said
    assert "invalid session token" in said
    status, said = told(servers, conf.AUTH_TOKEN, away=True)
    assert status == 1
    assert said.count("Connection refused") == 3


@pytest.mark.django_db(transaction=True)
def test_the_tokens_of_the_runners_secret_open_their_names_alone(
    servers: tuple[WebServer, WebServer], tmp_path: Path
) -> None:
    token, file = f"nt-{'5' * 64}", tmp_path / "tokens"
    file.write_text(token)
    values = next(one for one in VALUES if one.stem == "node_tokens")
    [container] = dict(pods(render(values)))["ca-clusteragent-migrate"]["containers"]
    words = [word.replace("/etc/clusteragent/nodetokens/tokens", str(file)) for word in container["args"]]
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("DD_", "CLUSTERAGENT_"))}
    given = clean | {"DATABASE_URL": database_url(), "CLUSTERAGENT_VAR": str(tmp_path)}
    for said in ("1 node token stored.", "0 node tokens stored."):
        done = subprocess.run(
            [sys.executable, "-m", "clusteragent", *words],
            cwd=ROOT,
            env=given,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout.startswith(said)) == (0, True), done.stdout + done.stderr
    statuses = [
        servers[0]
        .call("POST", f"/api/v1/clusterchecks/status/{name}", '{"last_change":0}', token=f"Bearer {token}")
        .status
        for name in ("ca-clusteragent-runners-7f9c-x2", "ca-clusteragent-agents-1")
    ]
    assert statuses == [200, 403]


def mount(spec: dict[str, Any], secrets: dict[str, dict[str, str]], folder: Path) -> None:
    """Write what a pod mounts into its state folder, as the kubelet does, into this folder."""
    volumes = {volume["name"]: volume.get("secret") for volume in spec["volumes"]}
    for one in spec["containers"][0]["volumeMounts"]:
        place, secret = Path(one["mountPath"]), volumes[one["name"]]
        if place.parent == Path("/var/lib/clusteragent") and secret:
            [key] = [item["key"] for item in secret["items"] if item["path"] == one["subPath"]]
            (folder / place.name).write_bytes(base64.b64decode(secrets[secret["secretName"]][key]))


def is_trusted(port: int, authority: Path, name: str) -> bool:
    """Whether a client that knows this authority alone trusts who listens there by this name."""
    trusting = ssl.create_default_context(cafile=str(authority))
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        try:
            trusting.wrap_socket(plain, server_hostname=name).close()
        except ssl.SSLCertVerificationError:
            return False
    return True


def is_open(port: int) -> bool:
    with socket.socket() as plain:
        return plain.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("role", ["agents", "operators"])
def test_two_pods_of_a_role_are_trusted_by_one_authority(role: str, tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("database: {url: postgresql://db/clusteragent}")
    rendered = render(tmp_path / "values.yaml")
    spec = dict(pods(rendered))[f"ca-clusteragent-{role}"]
    told = {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}
    secrets = {"ca-clusteragent": named(rendered, "Secret", "ca-clusteragent")["data"]}
    given = os.environ | {
        "CLUSTERAGENT_CERTIFICATE_NAMES": told["CLUSTERAGENT_CERTIFICATE_NAMES"],
        "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none",
    }
    started: list[tuple[int, Path, Replica]] = []
    try:
        for pod in ("first", "second"):
            folder, port = tmp_path / pod, free_port()
            folder.mkdir()
            mount(spec, secrets, folder)
            bind = "CLUSTERAGENT_BIND" if role == "agents" else "CLUSTERAGENT_ADMIN_BIND"
            own = {"CLUSTERAGENT_VAR": str(folder), bind: f"127.0.0.1:{port}"}
            started.append((port, folder, Replica(role, given | own, tmp_path / f"{pod}.log")))
        for port, _, replica in started:
            wait_for(f"{replica.log} listens", lambda port=port: is_open(port))  # type: ignore[misc]
        service = "ca-clusteragent" if role == "agents" else "ca-clusteragent-operators"
        for _, folder, _ in started:
            authority = folder / "ca.pem"
            assert [is_trusted(port, authority, f"{service}.monitoring.svc") for port, _, _ in started] == [True, True]
        assert not is_trusted(started[0][0], started[0][1] / "ca.pem", "elsewhere.example.com")
    finally:
        for *_, replica in started:
            replica.end()
