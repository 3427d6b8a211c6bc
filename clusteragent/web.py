"""The two web servers: their addresses, and the command line of each."""

import errno
import os
import resource
import socket
import sys
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urlsplit

from clusteragent.lib import certificates, conf, credentials, processes
from clusteragent.lib.options import is_host

# What the web server's process runs: a module that needs no Django.
LISTENER = "clusteragent.listener"


class Unavailable(Exception):
    """A web server can't listen where it should."""


class Server(NamedTuple):
    """A web server. port: `agents` or `operators`; option: the option that says where it listens; workers: its processes."""

    port: str
    option: str
    bind: tuple[str, int]
    workers: int

    @property
    def url(self) -> str:
        """The URL by which it is reached from this machine."""
        return url(*self.bind)


class Secret(NamedTuple):
    """A secret of the program. option: gives it, else `file` in VAR does; value: empty where neither does."""

    option: str
    value: str
    file: str


def url(host: str, port: int) -> str:
    """Return the URL by which what listens there is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def servers() -> dict[str, Server]:
    """Return both web servers as {name of the port: server}."""
    both = (
        Server("agents", "CLUSTERAGENT_BIND", conf.BIND, conf.WEB_WORKERS),
        Server("operators", "CLUSTERAGENT_ADMIN_BIND", conf.ADMIN_BIND, 1),
    )
    return {server.port: server for server in both}


def listening(server: Server) -> str:
    """Return where the server listens, as its option has it."""
    host, port = server.bind
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def address(server: Server) -> tuple[str, int]:
    """Return (address, port) for the server to listen on. Raises Unavailable unless the port is free.

    Checked before the server starts: the server itself would share its port with another program of the same user, and each
    of them would get some of the calls.
    """
    return free_address(server.option, *server.bind)


def free_address(option: str, host: str, port: int) -> tuple[str, int]:
    """Return (address of the host, port). Raises Unavailable, which names the option, if one can't listen there."""
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(found)
            listener.listen()
    except OSError as error:
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"can't be listened on: {error.strerror}"
        raise Unavailable(f"{option}: {host} port {port} {reason}") from error
    return str(found[0]), port


def shared_secrets() -> list[Secret]:
    """Return what all replicas must have in common."""
    return [
        Secret("DD_CLUSTER_AGENT_AUTH_TOKEN", conf.AUTH_TOKEN, credentials.NODE_AGENTS_TOKEN),
        Secret("CLUSTERAGENT_LOCAL_TOKEN", conf.LOCAL_TOKEN, credentials.LOCAL_TOKEN),
        Secret("CLUSTERAGENT_SECRET_KEY", conf.SECRET_KEY, credentials.SECRET_KEY),
    ]


def names() -> set[str]:
    """Return the names and addresses that the options say for both ports, for the certificate that is made here."""
    # A leading dot allows all names below.
    hosts = [host.strip("[]").lower() for host in conf.ADMIN_HOSTS]
    found = {f"*{host}" if host.startswith(".") else host for host in hosts} | {host.lstrip(".") for host in hosts}
    found |= {conf.BIND[0], conf.ADMIN_BIND[0]} - {"0.0.0.0", "::"}  # noqa: S104
    found |= {urlsplit(conf.ADMIN_URL).hostname or ""}
    return {name for name in found if is_host(name)} | {*conf.CERTIFICATE_NAMES}


def make_missing(given: Collection[str]) -> None:
    """Make the secrets that are missing, but for those of `given`, and the certificate. Raises CredentialsError."""
    credentials.make_missing(conf.VAR, given=given, names=names(), own=certificates.own())


def serve(server: Server) -> None:
    """Replace this process by the web server. Raises Unavailable and CredentialsError."""
    if missing := [secret.option for secret in shared_secrets() if not secret.value]:
        raise credentials.CredentialsError(
            f"{', '.join(missing)}: no value, and no file of it in {conf.VAR}; `make run` makes them"
        )
    # All replicas must have the same secrets, but each may have a certificate of its own.
    make_missing(credentials.SHARED)
    host, port = address(server)
    # Nothing is imported from the folder that this is called in, by -P.
    command = [sys.executable, "-P", "-m", LISTENER, server.port, host, str(port)]
    # Node agents keep their connections open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    environment = {
        # Threads share two memory arenas, so the memory of a large set of configs is given back to the system.
        "MALLOC_ARENA_MAX": "2",
        "CLUSTERAGENT_PORT": server.port,
        # exec keeps the process ID, so the web server's is ours.
        "CLUSTERAGENT_WEB_PARENT": str(os.getpid()),
        "PYTHONPATH": processes.python_path(),
    }
    os.execve(sys.executable, command, os.environ | environment)  # noqa: S606
