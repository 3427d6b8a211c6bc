"""A Kubernetes API server of tests: kube-apiserver and etcd, on loopback. No controller runs: tests write all objects."""

import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from checks.sources.kubernetes.events import REASON
from tests.kubernetes.certificates import Authority, private
from tests.replicas import wait_for
from tests.webserver import free_port

ADMIN = "token-of-the-admin-of-tests"
# A busy machine takes its time.
PATIENCE = 120.0
# Kinds that can be stored without the API: their version, and their folder in etcd.
_STORED = {"Service": ("v1", "services/specs"), "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices")}

Object = dict[str, Any]


class Refused(Exception):
    """The API server refused a call of the tests."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Cluster:
    """A kube-apiserver, its etcd, and calls of them as an admin. RBAC is on."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder, self.programs = folder, programs
        self._etcd_port, self._etcd_peer, self._port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self._port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.clients = Authority("clients of tests")
        (folder / "clients.pem").write_bytes(self.clients.certificate)
        (folder / "accounts.key").write_bytes(private(ec.generate_private_key(ec.SECP256R1())))
        (folder / "tokens.csv").write_text(f'{ADMIN},admin,admin,"system:masters"\n')
        self.renew_certificate()

    def renew_certificate(self) -> None:
        """Give the server a certificate of a new authority, from its next start on."""
        authority = Authority("servers of tests")
        self.ca = authority.certificate
        signed = authority.sign("kube-apiserver", hosts=("kubernetes.default.svc",), addresses=("127.0.0.1",))
        (self.folder / "server.pem").write_bytes(signed.certificate)
        (self.folder / "server.key").write_bytes(signed.key)
        (self.folder / "ca.pem").write_bytes(self.ca)

    # Processes

    def start(self) -> None:
        """Start what does not run; return when it is ready."""
        if not self._runs("etcd"):
            self._spawn("etcd", self._etcd_words())
        if not self._runs("kube-apiserver"):
            self._spawn("kube-apiserver", self._apiserver_words())
        wait_for("the API server is ready", self._is_ready, PATIENCE)

    def stop(self) -> None:
        """End both processes, frozen ones too."""
        self.stop_apiserver()
        self._end("etcd")

    def stop_apiserver(self, number: int = signal.SIGKILL) -> None:
        """End the API server by a signal; etcd goes on."""
        self._end("kube-apiserver", number)

    def restart(self) -> None:
        """Restart the API server on the same port."""
        self.stop_apiserver()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the API server stand still during the block: connections stay open, and nothing is answered."""
        process = self._processes["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)
        wait_for("the API server is ready again", self._is_ready, PATIENCE)

    def forget(self) -> None:
        """Compact etcd, and restart the API server with an empty cache: versions of before are gone (410)."""
        self.stop_apiserver()
        revision = self._etcd("maintenance/status", {})["header"]["revision"]
        self._etcd("kv/compaction", {"revision": revision, "physical": True})
        self.start()

    def backup(self) -> None:
        """Copy etcd's data, for `restore`."""
        self.stop()
        shutil.copytree(self.folder / "etcd", self.folder / "etcd.copy")
        self.start()

    def restore(self) -> None:
        """Put the copy in the place of etcd's data: versions go on from an older one."""
        self.stop()
        shutil.rmtree(self.folder / "etcd")
        (self.folder / "etcd.copy").rename(self.folder / "etcd")
        self.start()

    def log(self, name: str = "kube-apiserver") -> str:
        """Return what a program has logged."""
        return (self.folder / f"{name}.log").read_text()

    def _spawn(self, name: str, words: Sequence[str]) -> None:
        # The kernel ends it with the thread that starts it, however that ends.
        assert threading.current_thread() is threading.main_thread()
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(self.programs / name), *words]
        with (self.folder / f"{name}.log").open("ab") as output:
            self._processes[name] = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.folder)

    def _runs(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def _end(self, name: str, number: int = signal.SIGKILL) -> None:
        if process := self._processes.pop(name, None):
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait(PATIENCE)

    def _is_ready(self) -> bool:
        assert self._runs("etcd"), self.log("etcd")[-3000:]
        assert self._runs("kube-apiserver"), self.log()[-3000:]
        try:
            with self._http() as http:
                return http.get("/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def _etcd_words(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ]

    def _apiserver_words(self) -> list[str]:
        file = self.folder.joinpath
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            # It compacts only when a test says so.
            "--etcd-compaction-interval=0",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={file('certificates')}",
            f"--tls-cert-file={file('server.pem')}",
            f"--tls-private-key-file={file('server.key')}",
            f"--client-ca-file={file('clients.pem')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={file('accounts.key')}",
            f"--service-account-key-file={file('accounts.key')}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={file('tokens.csv')}",
            # Nobody makes the ServiceAccounts that it asks for of pods.
            "--disable-admission-plugins=ServiceAccount",
            # When it ends in an orderly way, watches end too; otherwise it waits a minute for them.
            "--shutdown-watch-termination-grace-period=1s",
        ]

    # Calls

    def call(
        self, method: str, path: str, body: object = None, *, token: str = ADMIN, patch: str = "merge-patch"
    ) -> Object:
        """Make a call, and return its answer. Raises Refused."""
        kind = f"application/{patch}+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body).encode()
        with self._http(token) as http:
            send = partial(http.request, method, path, content=content, headers={"Content-Type": kind})
            # A resource that was defined a moment ago has no storage yet.
            answer = wait_for("the API server takes it", lambda: _unless_busy(send()))
        if not answer.is_success:
            raise Refused(answer.status_code, answer.text[:500])
        return dict(answer.json())

    def store(self, kind: str, objects: Sequence[Object]) -> None:
        """Write objects of a kind of _STORED right into etcd: as they are, and a hundred times as fast as by the API."""
        for start in range(0, len(objects), 100):
            puts = [self._put(kind, one) for one in objects[start : start + 100]]
            self._etcd("kv/txn", {"success": [{"requestPut": put} for put in puts]})

    def erase(self, kind: str, namespace: str, name: str) -> None:
        """Delete an object in etcd."""
        self._etcd("kv/deleterange", {"key": _key(kind, namespace, name)})

    def _put(self, kind: str, fields: Object) -> Object:
        made = {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
        metadata = made | fields["metadata"]
        stored = {"kind": kind, "apiVersion": _STORED[kind][0]} | fields | {"metadata": metadata}
        return {
            "key": _key(kind, metadata["namespace"], metadata["name"]),
            "value": base64.b64encode(json.dumps(stored).encode()).decode(),
        }

    def _etcd(self, path: str, body: Object) -> Object:
        answer = httpx.post(f"http://127.0.0.1:{self._etcd_port}/v3/{path}", json=body, trust_env=False, timeout=60)
        answer.raise_for_status()
        return dict(answer.json())

    def flood(self, paths: Sequence[str], rounds: int) -> None:
        """Set the annotation `text` of each object to 1, 2, … as fast as it goes."""

        def change(own: Sequence[str]) -> None:
            with self._http() as http:
                for number in range(1, rounds + 1):
                    for path in own:
                        body = {"metadata": {"annotations": {"text": str(number)}}}
                        headers = {"Content-Type": "application/merge-patch+json"}
                        http.patch(path, content=json.dumps(body), headers=headers).raise_for_status()

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(change, [paths[number::4] for number in range(4)]))

    def _http(self, token: str = ADMIN) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, verify=self._trust(), timeout=30, trust_env=False)

    def _trust(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.ca.decode())
        return context

    def kubeconfig(self, path: Path, token: str = ADMIN, **user: str) -> Path:
        """Write a kubeconfig to a file. user: other fields of its user, in place of the token."""
        config = {
            "current-context": "tests",
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tester"}}],
            "clusters": [
                {"name": "tests", "cluster": {"server": self.url, "certificate-authority": str(self.folder / "ca.pem")}}
            ],
            "users": [{"name": "tester", "user": user or {"token": token}}],
        }
        path.write_text(json.dumps(config))
        return path

    def kubectl(self, *words: str) -> str:
        """Run kubectl as the admin; return what it printed. Raises CalledProcessError, with `stderr`."""
        config = self.kubeconfig(self.folder / "admin.kubeconfig")
        command = [str(self.programs / "kubectl"), f"--kubeconfig={config}", f"--cache-dir={self.folder / 'cache'}"]
        done = subprocess.run(
            [*command, *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "KUBERC": "off"},
        )
        return done.stdout

    # Users

    def account(self, namespace: str, name: str, *rules: Mapping[str, Sequence[str]]) -> str:
        """Make a ServiceAccount that may do what the rules allow in all namespaces; return a token of it."""
        self.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        self.allow(namespace, name, *rules)
        return self.token(namespace, name)

    def allow(self, namespace: str, name: str, *rules: Mapping[str, Sequence[str]]) -> None:
        """Let a ServiceAccount do what the rules allow, and nothing else."""
        role = f"{namespace}-{name}"
        metadata, rbac = {"metadata": {"name": role}}, "/apis/rbac.authorization.k8s.io/v1"
        try:
            self.call("PATCH", f"{rbac}/clusterroles/{role}", {"rules": rules})
        except Refused:
            self.call("POST", f"{rbac}/clusterroles", metadata | {"rules": rules})
            subjects = [{"kind": "ServiceAccount", "namespace": namespace, "name": name}]
            ref = {"kind": "ClusterRole", "name": role, "apiGroup": "rbac.authorization.k8s.io"}
            self.call("POST", f"{rbac}/clusterrolebindings", metadata | {"roleRef": ref, "subjects": subjects})

    def token(self, namespace: str, name: str) -> str:
        """Return a new token of a ServiceAccount."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.call("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"])

    # Objects

    def namespace(self) -> "Namespace":
        """Make a namespace of its own for a test."""
        name = f"test-{uuid.uuid4().hex[:10]}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return Namespace(self, name)


class Namespace:
    """A namespace, and the objects that tests write there."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def path(self, plural: str, name: str = "", group: str = "v1") -> str:
        """Return the path of objects. group: with its version, such as `discovery.k8s.io/v1`."""
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self.name}/{plural}" + (f"/{name}" if name else "")

    def problems(self) -> list[Any]:
        """Return the events that tell problems of objects. The API server has others of its own."""
        found = self.cluster.call("GET", self.path("events"))["items"]
        return [event for event in found if event["reason"] == REASON]

    def service(
        self, name: str, annotations: Mapping[str, str] | None = None, *, ports: Sequence[int] = (80,), **fields: Any
    ) -> Object:
        """Make a Service. fields: of its spec, such as clusterIP="None"."""
        spec = {"ports": [{"name": f"p{port}", "port": port} for port in ports], **fields}
        metadata = {"name": name, "annotations": annotations or {}}
        return self.cluster.call("POST", self.path("services"), {"metadata": metadata, "spec": spec})

    def annotate(self, name: str, annotations: Mapping[str, str | None]) -> Object:
        """Change annotations of a Service. None removes one."""
        return self.cluster.call("PATCH", self.path("services", name), {"metadata": {"annotations": annotations}})

    def delete(self, plural: str, name: str, group: str = "v1") -> Object:
        """Delete an object."""
        return self.cluster.call("DELETE", self.path(plural, name, group))

    def slice(
        self,
        service: str,
        endpoints: Sequence[Mapping[str, Any]],
        *,
        name: str = "",
        ports: Sequence[int] = (80,),
        **fields: Any,
    ) -> Object:
        """Make an EndpointSlice of a Service. endpoints: as of the API, such as {"addresses": ["10.0.0.1"]}."""
        body = {
            "addressType": "IPv4",
            "metadata": {
                "name": name or f"{service}-{uuid.uuid4().hex[:5]}",
                "labels": {"kubernetes.io/service-name": service},
            },
            "endpoints": endpoints,
            "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports],
            **fields,
        }
        return self.cluster.call("POST", self.path("endpointslices", group="discovery.k8s.io/v1"), body)

    def pod(self, name: str, node: str = "", **fields: Any) -> Object:
        """Make a pod. node: where it runs, without anybody running it."""
        spec = {"containers": [{"name": "main", "image": "none"}], **({"nodeName": node} if node else {}), **fields}
        return self.cluster.call("POST", self.path("pods"), {"metadata": {"name": name}, "spec": spec})


def _unless_busy(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.status_code == httpx.codes.TOO_MANY_REQUESTS else answer


def _key(kind: str, namespace: str, name: str) -> str:
    """An object's key in etcd, as etcd's JSON has it."""
    return base64.b64encode(f"/registry/{_STORED[kind][1]}/{namespace}/{name}".encode()).decode()
