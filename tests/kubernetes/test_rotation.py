"""The access to Kubernetes is replaced as docs/howto/rotate-secrets.md has it, while the leader follows the cluster by it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.documentation.pages import ROOT, commands, sections
from tests.faults.database import Server
from tests.kubernetes.cluster import Cluster, Namespace, Refused
from tests.kubernetes.test_processes import SERVICE, http, watcher
from tests.replicas import Cluster as Replicas
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.processes]

PATIENCE = 60.0
READ = [
    {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]
*REPLACE, END = sections(ROOT / "docs/howto/rotate-secrets.md")["The access to Kubernetes"]
# How the page on Kubernetes makes the kubeconfig.
MAKE = [one for one in commands(ROOT / "docs/kubernetes.md") if "yours" in one or one.startswith("mkdir ")]


class Administrator:
    """Whoever follows the page, in a shell with kubectl, as the admin of the cluster."""

    def __init__(self, cluster: Cluster, namespace: Namespace, programs: Path, folder: Path) -> None:
        self.kubeconfig = folder / "var/kubeconfig"
        self._folder, self._namespace = folder, namespace.name
        own = cluster.kubeconfig(folder / "admin.kubeconfig")
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "KUBECONFIG": str(own), "KUBERC": "off", "STATE": "var"}

    def run(self, *script: str, **names: str) -> None:
        """Run commands in the namespace of the test, with other names in place of those that they have."""
        text = "\n".join(script).replace("-n clusteragent", f"-n {self._namespace}").replace("/tmp/yours", "yours")
        for shown, actual in names.items():
            text = text.replace(shown.replace("_", "-"), actual)
        shell = ["bash", "-euo", "pipefail", "-c", text]
        subprocess.run(shell, cwd=self._folder, env=self._environment, check=True, stdout=subprocess.DEVNULL)

    def token(self) -> str:
        """Return the token that the kubeconfig has for its user."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        [context] = [one["context"] for one in config["contexts"] if one["name"] == config["current-context"]]
        [user] = [one["user"] for one in config["users"] if one["name"] == context["user"]]
        return str(user["token"])


@pytest.fixture
def administrator(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Administrator:
    cluster.account(namespace.name, "clusteragent", *READ)
    one = Administrator(cluster, namespace, cluster.programs, tmp_path)
    one.run(*MAKE)
    one.run(*REPLACE, access_2="access-1")
    return one


@pytest.fixture
def replicas(
    administrator: Administrator, own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Replicas]:
    """A leader that follows the cluster by the kubeconfig, and nodes that live long."""
    monkeypatch.setenv("CLUSTERAGENT_KUBECONFIG", str(administrator.kubeconfig))
    monkeypatch.setenv("DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT", "1h")
    replicas = Replicas(own_server.url, tmp_path)
    try:
        replicas.store.furnish()
        yield replicas
    finally:
        replicas.end()


def opens(cluster: Cluster, namespace: Namespace, token: str) -> bool:
    """Whether the API server takes this token. What it has found good a moment ago it takes for some seconds more."""
    try:
        cluster.call("GET", namespace.path("services"), token=token)
    except Refused as refused:
        return refused.status != 401
    return True


def test_a_kubeconfig_is_replaced_while_it_is_followed(
    cluster: Cluster, namespace: Namespace, administrator: Administrator, replicas: Replicas
) -> None:
    def wait_for_text(text: str) -> None:
        found = "SELECT count(*) FROM checks_config WHERE text LIKE %s"
        wait_for(text, lambda: replicas.store.one(found, f"%{text}%"), PATIENCE)

    leader = replicas.running(1)
    namespace.service("web", {SERVICE: http("one")})
    wait_for_text("/one")
    first = administrator.token()

    administrator.run(*REPLACE)
    assert administrator.token() != first
    namespace.annotate("web", {SERVICE: http("two")})
    wait_for_text("/two")
    administrator.run(END)
    wait_for("the first one opens nothing", lambda: not opens(cluster, namespace, first), PATIENCE)
    assert opens(cluster, namespace, administrator.token())

    # It lists and watches anew, as it does in time.
    os.kill(watcher(leader.pid), signal.SIGKILL)
    namespace.annotate("web", {SERVICE: http("three")})
    wait_for_text("/three")
    assert leader.logged("kubernetes_not_synced") == leader.logged("does not accept") == 0
    assert replicas.store.one("SELECT array_agg(DISTINCT reason::text ORDER BY reason::text) FROM checks_move") == [
        "changed",
        "scheduled",
    ]
