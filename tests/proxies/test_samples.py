"""The samples of `deploy/haproxy` and `deploy/nginx`, run by real proxies before real web servers."""

import os
import signal
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.proxies import fronts
from tests.proxies.fronts import Proxy, addresses, replicas
from tests.proxies.programs import SAMPLES, haproxy, listens, needed_module, pem
from tests.replicas import wait_for
from tests.webserver import WebServer, free_port, make_certificate

pytestmark = pytest.mark.django_db(transaction=True)

STATUS = "/api/v1/clusterchecks/status/ash"
REPORT = '{"last_change": 0}'
URL = "https://ca.example.com"


@pytest.fixture(params=fronts.ALL, ids=lambda kind: kind.__name__)
def front(request: pytest.FixtureRequest, tmp_path: Path) -> fronts.Front:
    return request.param(tmp_path)  # type: ignore[no-any-return]


def callers(front: fronts.Front) -> list[Callable[[], int]]:
    """Return a call of each port, which returns the status."""
    calls = {
        "AGENTS": lambda: front.proxies["AGENTS"].call("POST", STATUS, REPORT).status,
        "OPERATORS": lambda: (
            front.proxies["OPERATORS"].call("GET", "/admin/login/", headers={"Host": "localhost"}).status
        ),
    }
    return [calls[port] for port in front.ports]


def test_a_drained_replica_ends_without_a_lost_call(front: fronts.Front) -> None:
    with front.before_replicas(CLUSTERAGENT_ADMIN_URL=URL) as servers, futures.ThreadPoolExecutor(2) as pool:
        answers: list[int] = []
        is_over = threading.Event()

        def call() -> None:
            while not is_over.is_set():
                answers.extend(one() for one in callers(front))

        def more() -> None:
            goal = len(answers) + 20
            wait_for("calls are answered", lambda: len(answers) >= goal)

        calling = [pool.submit(call) for _ in range(2)]
        try:
            more()
            front.drain()
            wait_for("the replica is drained", front.is_drained)
            for name in (name for name in servers if name.endswith("_1")):
                servers[name].process.terminate()
                servers[name].process.wait(20)
            more()
        finally:
            is_over.set()
        for caller in calling:
            caller.result()
        assert set(answers) == {200}


def test_calls_go_on_when_a_replica_died(front: fronts.Front) -> None:
    with front.before_replicas(CLUSTERAGENT_ADMIN_URL=URL) as servers:
        for name in (name for name in servers if name.endswith("_2")):
            os.killpg(servers[name].process.pid, signal.SIGKILL)
            servers[name].process.wait()
            wait_for("connections are refused", lambda name=name: not listens(servers[name].port))
        assert {call() for call in callers(front) for _ in range(6)} == {200}


def test_a_long_body_is_judged_by_the_replica(front: fronts.Front) -> None:
    with front.before_replicas(1, CLUSTERAGENT_ADMIN_URL=URL):
        for proxy in front.proxies.values():
            # Longer than nginx allows by itself.
            answer = proxy.call("PUT", "/api/v1/sources/shop", b" " * 2_000_000, token="Bearer made-up")
            assert answer.status in (401, 403, 404)
            assert "nginx" not in answer.body


class Caught(BaseHTTPRequestHandler):
    """Keeps the path of every call, and answers with it."""

    protocol_version = "HTTP/1.1"
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200)
        body = f"not ours: {self.path}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@contextmanager
def stranger(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Run a server with a certificate of its own; return its port, and the paths of the calls that it gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates(folder))
    context.set_alpn_protocols(["http/1.1"])
    paths: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Caught,), {"paths": paths})) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1], paths
        finally:
            server.shutdown()


def test_who_took_the_address_of_a_replica_gets_no_call(front: fronts.Front, tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    call = callers(front)[front.ports.index(front.verifies)]
    names = [f"{port}_2" for port in front.ports]
    with (
        stranger(tmp_path / "stranger") as (port, paths),
        replicas(tmp_path, *names, CLUSTERAGENT_ADMIN_URL=URL) as servers,
    ):
        both = {f"{name[:-1]}{which}": server for name, server in servers.items() for which in (1, 2)}
        with front.running(both | {f"{front.verifies}_1": Proxy(port)}):
            # Who asks the replicas for their health finds out first.
            wait_for("it is called", lambda: call() == 200)
            assert {call() for _ in range(6)} == {200}
        assert paths == []


@contextmanager
def beside(folder: Path, datadog: int, **others: WebServer) -> Iterator[Proxy]:
    """Run HAProxy before two replicas of ours, and the Cluster Agent at this port. others: stand in the place of a replica."""
    proxy = Proxy(free_port())
    with replicas(folder, "AGENTS_1", "AGENTS_2") as servers:
        environment = {
            "PROXY_AGENTS": f"127.0.0.1:{proxy.port}",
            "PROXY_PEM": pem(folder / "AGENTS_1"),
            "REPLICAS_PEM": fronts.trusted(folder),
            "DATADOG": f"127.0.0.1:{datadog}",
            **addresses(servers | others),
        }
        with haproxy(SAMPLES / "haproxy" / "beside.cfg", folder, **environment):
            yield proxy
            for server in servers.values():
                server.process.terminate()
                server.process.wait(20)
            # Without any of ours: an error, on which node agents keep their checks. Never the other's empty list.
            assert proxy.call("POST", STATUS, REPORT).status == 503


def certificates(folder: Path) -> Path:
    """Make a certificate and return its file, with the key."""
    make_certificate(folder)
    return pem(folder)


def test_checks_come_from_us_and_all_else_from_the_cluster_agent(tmp_path: Path) -> None:
    with stranger(tmp_path) as (datadog, told), beside(tmp_path, datadog) as proxy:
        others = ["/version", "/api/v1/tags/pod/ash", "/api/v1/cluster/id", "/api/v1/clusterchecksother"]
        # Names that others gave.
        others += ["/api/v1/annotations/node/clusterchecks", "/api/v1/tags/pod/a%20b/..c/clusterchecks%2Fx"]
        for path in others:
            assert proxy.call("GET", path).body == f"not ours: {path}"
        for path in (STATUS, f"/{STATUS}"):
            assert "isuptodate" in proxy.call("POST", path, REPORT).body
        # A new database places nothing before its warm-up.
        assert "warming up" in proxy.call("GET", "/api/v1/endpointschecks/configs/ash").body
        proxy.call("POST", "/api/v1/clusterchecks/goodbye/ash", '{"kind": "leaving"}')
        assert told == others


@pytest.mark.parametrize(
    "path",
    [
        "/api//v1/clusterchecks/status/ash",
        "/api/v1//clusterchecks/status/ash",
        "/api/v1/%63lusterchecks/status/ash",
        "/api%2Fv1%2fclusterchecks%2Fstatus/ash",
        "/%61pi/v1/endpointschecks/configs/ash",
        "/api/v1/../v1/clusterchecks/status/ash",
        "/api/v1/tags/%2e%2e/clusterchecks/status/ash",
        "/api/v1/./clusterchecks/status/ash",
        "/api/v1/clusterchecks/.",
        "/version/..%2fapi/v1/clusterchecks/status/ash",
        "https://localhost/api/v1/clusterchecks/status/ash",
    ],
)
def test_no_spelling_of_a_path_of_checks_gets_to_the_cluster_agent(
    path: str, spelling: tuple[Proxy, list[str]]
) -> None:
    proxy, told = spelling
    assert not proxy.call("POST", path, REPORT).body.startswith("not ours")
    assert told == []


@pytest.fixture(scope="module")
def spelling(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, list[str]]]:
    """HAProxy before both servers, and the paths of the calls that the Cluster Agent gets."""
    folder = tmp_path_factory.mktemp("beside")
    with stranger(folder) as (datadog, told), beside(folder, datadog) as proxy:
        yield proxy, told


def test_who_took_the_address_of_a_replica_beside_gets_no_call(tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    with (
        stranger(tmp_path) as (datadog, _),
        stranger(tmp_path / "stranger") as (port, paths),
        beside(tmp_path, datadog, AGENTS_1=Proxy(port)) as proxy,
    ):
        wait_for("it is called", lambda: proxy.call("POST", STATUS, REPORT).status == 200)
        assert {proxy.call("POST", STATUS, REPORT).status for _ in range(6)} == {200}
        assert paths == []


def test_a_stream_of_the_tagger_reaches_the_cluster_agent(tmp_path: Path) -> None:
    grpc = needed_module("grpc", "grpcio")
    held = threading.Event()

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield b"first of " + request
        held.wait(30)
        yield b"second"

    method = grpc.unary_stream_rpc_method_handler(stream)
    service = grpc.method_handlers_generic_handler("datadog.api.v1.AgentSecure", {"TaggerStreamEntities": method})
    certificates(tmp_path)
    key, certificate = (tmp_path / "key.pem").read_bytes(), (tmp_path / "cert.pem").read_bytes()
    with futures.ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((service,))
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        server.start()
        try:
            with beside(tmp_path, port) as proxy:
                trusted = (tmp_path / "AGENTS_1" / "cert.pem").read_bytes()
                options = [("grpc.ssl_target_name_override", "localhost")]
                credentials = grpc.ssl_channel_credentials(trusted)
                with grpc.secure_channel(f"127.0.0.1:{proxy.port}", credentials, options) as channel:
                    call = channel.unary_stream("/datadog.api.v1.AgentSecure/TaggerStreamEntities")
                    answers = call(b"ash", timeout=30)
                    assert next(answers) == b"first of ash"
                    # Meanwhile node agents' calls of the same URL come to us.
                    assert "isuptodate" in proxy.call("POST", STATUS, REPORT).body
                    held.set()
                    assert list(answers) == [b"second"]
        finally:
            held.set()
            server.stop(0).wait()
