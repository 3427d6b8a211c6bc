"""A web server as a real process: granian with TLS on a free port, for agents or operators."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import NamedTuple

from django.db import connection
from psycopg.conninfo import make_conninfo

from clusteragent.lib import certificates, conf, credentials

AGENT = f"Bearer {conf.AUTH_TOKEN}"
LOCAL = f"Bearer {conf.LOCAL_TOKEN}"
TLS = ssl._create_unverified_context()
# Seconds after a commit from which on every heartbeat's answer takes it into account.
TOLD_AFTER = 0.2


class Answer(NamedTuple):
    """The answer to a call."""

    status: int
    headers: Mapping[str, str]
    body: str


class WebServer:
    """A server that listens on `port` of 127.0.0.1, and its log."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.port, self.process, self._log = port, process, log
        self._connections: list[HTTPSConnection] = []

    def connect(self, timeout: float = 30) -> HTTPSConnection:
        """Open a connection. It is closed with the server at the latest, also when a test fails."""
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=TLS)
        self._connections.append(connection)
        return connection

    def disconnect(self) -> None:
        """Close all connections that `connect` opened."""
        for opened in self._connections:
            opened.close()

    def call(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        *,
        token: str | None = AGENT,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a call over a new connection, with a node agent's headers."""
        connection = self.connect()
        try:
            return exchange(connection, method, path, body, token=token, headers=headers)
        finally:
            connection.close()

    def log(self) -> str:
        """Return all that the server has logged."""
        return self._log.read_text()


def exchange(
    connection: HTTPSConnection,
    method: str,
    path: str,
    body: bytes | str | None = None,
    *,
    token: str | None = AGENT,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Make a call over a connection, which stays open."""
    authorization = {} if token is None else {"Authorization": token}
    connection.request(method, path, body, {"X-Real-Ip": "", **authorization, **(headers or {})})
    response: HTTPResponse = connection.getresponse()
    return Answer(response.status, response.headers, response.read().decode())


def database_url() -> str:
    """Return the URL of the tests' database."""
    return make_conninfo(conf.DATABASE_URL, dbname=str(connection.settings_dict["NAME"]))


@contextmanager
def serving(
    database_url: str, folder: Path, *, threads: int = 4, whom: str = "agents", **options: str
) -> Iterator[WebServer]:
    """Run a server on this database during the block; it answers at its beginning. whom: `agents` or `operators`."""
    certificate, key = make_certificate(folder)
    port, log = free_port(), folder / "granian.log"
    words_of_granian = {
        "host": "127.0.0.1",
        "port": port,
        "interface": "asginl",
        "http": "1",
        "workers": 1,
        "loop": "asyncio",
        "ssl-certificate": certificate,
        "ssl-keyfile": key,
        "ssl-protocol-min": "tls1.2",
    }
    words = [str(word) for name, value in words_of_granian.items() for word in (f"--{name}", value)]
    environment = os.environ | {
        "DATABASE_URL": database_url, "CLUSTERAGENT_PORT": whom, "CLUSTERAGENT_WEB_THREADS": str(threads), **options
    }  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "granian", *words, "clusteragent.asgi:application"],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=Path(__file__).parent.parent,
        )
    server = WebServer(port, process, log)
    try:
        _wait_until_it_answers(server)
        yield server
    finally:
        server.disconnect()
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_it_answers(server: WebServer) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            assert server.call("GET", "/healthz").status == 200
        except (OSError, HTTPException):
            assert server.process.poll() is None, server.log()
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.05)
        else:
            return


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate and its key in the folder, as a first start makes them, and return their paths."""
    credentials.make_missing(folder, given=credentials.SHARED)
    return folder / certificates.CERTIFICATE, folder / certificates.KEY
