"""The pods that the chart renders, run by the image with all that their specs say: from command and mounts to probes and hooks.

They share a network of their own, which has no way out; PostgreSQL is reached by its socket.
"""

import base64
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.helm.chart import Object, objects, pods, render
from tests.helm.programs import HELM
from tests.image.conftest import IMAGE, Database
from tests.image.containers import Container, Engine, EngineError
from tests.kubernetes.conftest import require
from tests.replicas import wait_for
from tests.webserver import make_certificate

pytestmark = pytest.mark.processes

PATIENCE = 120
ROLES = ("agents", "operators", "runagent")


class Node:
    """Runs pods as a kubelet does. secrets: those that the chart does not make."""

    def __init__(
        self, engine: Engine, folder: Path, values: Object, secrets: Mapping[str, Mapping[str, bytes]]
    ) -> None:
        self._engine, self._folder = engine, folder
        (folder / "values.yaml").write_text(yaml.safe_dump(values))
        rendered = render(folder / "values.yaml")
        self._pods = {name.removeprefix("ca-clusteragent-"): spec for name, spec in pods(rendered)}
        made = {
            one["metadata"]["name"]: {key: base64.b64decode(text) for key, text in one["data"].items()}
            for one in objects(rendered)
            if one["kind"] == "Secret" and "data" in one
        }
        self._secrets = {**made, **secrets}
        self._network = "none"
        # What the cluster's DNS says of both Services.
        (folder / "hosts").write_text("127.0.0.1 localhost ca-clusteragent ca-clusteragent-operators\n")

    def spec(self, name: str) -> tuple[Object, Object]:
        """Return the spec of a pod, and of its only container."""
        [container] = self._pods[name]["containers"]
        return self._pods[name], container

    def start(self, name: str) -> Container:
        """Start a pod's container. All after the first are in its network."""
        pod, spec = self.spec(name)
        words = ["--network", self._network, *restrictions(spec["securityContext"]), "--image-volume=ignore"]
        words += ["--volume", f"{self._folder / 'hosts'}:/etc/hosts:ro"]
        for mount in spec.get("volumeMounts", ()):
            [volume] = [one for one in pod["volumes"] if one["name"] == mount["name"]]
            source = self._source(name, volume) / mount.get("subPath", "")
            words += ["--volume", f"{source}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"]
        if "command" in spec:
            words += ["--entrypoint", json.dumps(spec["command"])]
        env = {entry["name"]: self._value(entry) for entry in spec["env"]}
        return self._engine.start(*words, IMAGE, *spec.get("args", ()), env=env)

    def share_network_of(self, container: Container) -> None:
        """Let pods that start from now on have the network of this one."""
        self._network = f"container:{container.id}"

    def passes(self, name: str, container: Container, probe: str) -> bool:
        """Run a probe of the pod once. Its certificate is verified, as no kubelet does: it must be the one that was given."""
        _, spec = self.spec(name)
        asked = spec[probe]["httpGet"]
        [port] = [one["containerPort"] for one in spec["ports"] if one["name"] == asked["port"]]
        url = f"{asked['scheme'].lower()}://localhost:{port}{asked['path']}"
        certificate = self._folder / "tls.crt"
        certificate.write_bytes(self._secrets["tls"]["tls.crt"])
        curl = ("curl", "--silent", "--fail", "--noproxy", "*", "--max-time", "5", "--cacert", str(certificate), url)
        words = ("nsenter", "--target", str(container.pid), "--net", "--", *curl)
        return subprocess.run(words, capture_output=True).returncode == 0

    def stop(self, name: str, container: Container) -> int:
        """End a pod: its hook, then SIGTERM, within its time. Return the container's status: 137 if it had to be killed."""
        pod, spec = self.spec(name)
        ends = time.monotonic() + pod["terminationGracePeriodSeconds"]
        if hook := spec.get("lifecycle", {}).get("preStop"):
            container.call(*hook["exec"]["command"])
        return container.stop(int(ends - time.monotonic()))

    def _value(self, entry: Object) -> str:
        if "value" in entry:
            return str(entry["value"])
        wanted = entry["valueFrom"]["secretKeyRef"]
        return self._secrets[wanted["name"]][wanted["key"]].decode()

    def _source(self, pod: str, volume: Object) -> Path:
        """Return the folder that is a volume."""
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        folder = self._folder / f"{pod}-{volume['name']}"
        folder.mkdir(exist_ok=True)
        if "emptyDir" in volume:
            folder.chmod(0o777)
            return folder
        content = self._secrets[volume["secret"]["secretName"]]
        items = volume["secret"].get("items") or [{"key": key, "path": key} for key in content]
        for item in items:
            (folder / item["path"]).parent.mkdir(exist_ok=True)
            (folder / item["path"]).write_bytes(content[item["key"]])
        return folder


def restrictions(context: Object) -> Iterator[str]:
    """What a container may not do, in podman's words."""
    assert context["capabilities"] == {"drop": ["ALL"]}
    yield from ("--cap-drop", "all")
    if context["readOnlyRootFilesystem"]:
        yield from ("--read-only", "--read-only-tmpfs=false")
    if not context["allowPrivilegeEscalation"]:
        yield from ("--security-opt", "no-new-privileges")


@pytest.fixture
def node(engine: Engine, database_server: Database, tmp_path: Path) -> Iterator[Node]:
    require(HELM)
    with psycopg.connect(database_server.url, autocommit=True) as session:
        session.execute("DROP DATABASE IF EXISTS chart WITH (FORCE)")
        session.execute("CREATE DATABASE chart")
        port = session.info.port
    certificate, key = make_certificate(tmp_path)
    values = {
        "database": {"url": f"postgresql://postgres@/chart?host=/postgresql&port={port}"},
        "tls": {"existingSecret": "tls"},
        "confd": {"http_check.yaml": "cluster_check: true\ninstances: [{name: shop, url: https://shop.example.com}]\n"},
        "advancedConfd": {"postgres.d": {"db.yaml": "cluster_check: true\ninstances: [{host: db}]\n"}},
        "volumes": [{"name": "postgresql", "hostPath": {"path": str(database_server.socket)}}],
        "volumeMounts": [{"name": "postgresql", "mountPath": "/postgresql"}],
    }
    yield Node(engine, tmp_path, values, {"tls": {"tls.crt": certificate.read_bytes(), "tls.key": key.read_bytes()}})
    engine.end()


def test_each_pod_starts_is_healthy_and_ends_in_time(node: Node, engine: Engine) -> None:
    assert engine.inspect(IMAGE)["Config"]["User"] not in ("", "0", "root")
    migrate = node.start("migrate")
    assert migrate.wait() == 0, migrate.log()
    running = {"agents": node.start("agents")}
    node.share_network_of(running["agents"])
    running |= {role: node.start(role) for role in ("operators", "runagent")}
    for role in ("agents", "operators"):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            passes = partial(node.passes, role, running[role], probe)
            wait_for(f"{role} passes its {probe}", passes, PATIENCE)
    test = node.start("test")
    assert test.wait() == 0, test.log()

    def exported() -> Any:
        """Return the state, by the only way out of a container that has no `cat`."""
        return json.loads(running["operators"].call("clusteragent", "exportstate", "-"))

    wait_for("files of checks are read", lambda: len(exported()["configs"]) == 2, PATIENCE)
    with pytest.raises(EngineError):
        running["operators"].call("cat", "/etc/passwd")
    assert {role: node.stop(role, running[role]) for role in reversed(ROLES)} == dict.fromkeys(ROLES, 0)
