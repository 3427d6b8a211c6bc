"""The samples of `deploy/haproxy`, run by a real HAProxy before real web servers."""

import csv
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.proxies.programs import SAMPLES, haproxy, needed_module, pem
from tests.replicas import wait_for
from tests.webserver import WebServer, database_url, free_port, make_certificate, serving

pytestmark = pytest.mark.django_db(transaction=True)

STATUS = "/api/v1/clusterchecks/status/ash"
REPORT = '{"last_change": 0}'


class Proxy(WebServer):
    """HAProxy, called as a web server is."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connections = []


@contextmanager
def replicas(folder: Path, *ports: str) -> Iterator[dict[str, WebServer]]:
    """Run web servers, named as in the samples: AGENTS_1, OPERATORS_2."""
    with ExitStack() as stack:
        servers = {}
        for name in ports:
            (folder / name).mkdir()
            whom = name.partition("_")[0].lower()
            servers[name] = stack.enter_context(serving(database_url(), folder / name, whom=whom))
        yield servers


def addresses(servers: dict[str, WebServer]) -> dict[str, str]:
    return {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}


def control(path: Path, command: str) -> str:
    """Send HAProxy's control socket a command, and return the answer."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path))
        stream.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: stream.recv(65536), b"")).decode()


def is_drained(path: Path) -> bool:
    """Whether no session of either backend is at the first replica."""
    rows = csv.DictReader(control(path, "show stat").removeprefix("# ").splitlines())
    return all(row["scur"] == "0" for row in rows if row["svname"] == "replica-1")


def test_a_drained_replica_ends_without_a_lost_call(tmp_path: Path) -> None:
    agents, operators = Proxy(free_port()), Proxy(free_port())
    with replicas(tmp_path, "AGENTS_1", "AGENTS_2", "OPERATORS_1", "OPERATORS_2") as servers:
        listen = {"PROXY_AGENTS": f"127.0.0.1:{agents.port}", "PROXY_OPERATORS": f"127.0.0.1:{operators.port}"}
        path = tmp_path / "control"
        certificate = {"PROXY_PEM": pem(tmp_path / "AGENTS_1"), "PROXY_SOCKET": path}
        with haproxy(SAMPLES / "haproxy" / "haproxy.cfg", tmp_path, **listen, **certificate, **addresses(servers)):
            answers: list[int] = []
            is_over = threading.Event()

            def call() -> None:
                while not is_over.is_set():
                    answers.append(agents.call("POST", STATUS, REPORT).status)
                    answers.append(operators.call("GET", "/admin/login/", headers={"Host": "localhost"}).status)

            def more() -> None:
                goal = len(answers) + 20
                wait_for("calls are answered", lambda: len(answers) >= goal)

            with futures.ThreadPoolExecutor(2) as pool:
                callers = [pool.submit(call) for _ in range(2)]
                try:
                    more()
                    for backend in ("agents", "operators"):
                        assert not control(path, f"set server {backend}/replica-1 state drain").strip()
                    wait_for("the replica is drained", lambda: is_drained(path))
                    for name in ("AGENTS_1", "OPERATORS_1"):
                        servers[name].process.terminate()
                        servers[name].process.wait(20)
                    more()
                finally:
                    is_over.set()
                for caller in callers:
                    caller.result()
            assert set(answers) == {200}


@contextmanager
def beside(folder: Path, datadog: int) -> Iterator[Proxy]:
    """Run HAProxy before two replicas of ours, and the Cluster Agent at this port."""
    proxy = Proxy(free_port())
    with replicas(folder, "AGENTS_1", "AGENTS_2") as servers:
        listen = {"PROXY_AGENTS": f"127.0.0.1:{proxy.port}", "PROXY_PEM": pem(folder / "AGENTS_1")}
        others = {"DATADOG": f"127.0.0.1:{datadog}"}
        with haproxy(SAMPLES / "haproxy" / "beside.cfg", folder, **listen, **others, **addresses(servers)):
            yield proxy
            for server in servers.values():
                server.process.terminate()
                server.process.wait(20)
            # Without any of ours: an error, on which node agents keep their checks. Never the other's empty list.
            assert proxy.call("POST", STATUS, REPORT).status == 503


class ClusterAgent(BaseHTTPRequestHandler):
    """Answers every call with its own path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        body = f"datadog {self.path}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


def certificates(folder: Path) -> Path:
    """Make a certificate and return its file, with the key."""
    make_certificate(folder)
    return pem(folder)


def test_checks_come_from_us_and_all_else_from_the_cluster_agent(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates(tmp_path))
    context.set_alpn_protocols(["http/1.1"])
    with ThreadingHTTPServer(("127.0.0.1", 0), ClusterAgent) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with beside(tmp_path, server.server_address[1]) as proxy:
                for path in ("/version", "/api/v1/tags/pod/ash", "/api/v1/cluster/id", "/api/v1/clusterchecksother"):
                    assert proxy.call("GET", path).body == f"datadog {path}"
                for path in (STATUS, f"/{STATUS}"):
                    assert "isuptodate" in proxy.call("POST", path, REPORT).body
                # A new database places nothing before its warm-up.
                assert "warming up" in proxy.call("GET", "/api/v1/endpointschecks/configs/ash").body
                goodbye = proxy.call("POST", "/api/v1/clusterchecks/goodbye/ash", '{"kind": "leaving"}')
                assert not goodbye.body.startswith("datadog")
        finally:
            server.shutdown()


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
