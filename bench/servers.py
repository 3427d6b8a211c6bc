"""Processes of the program, on free ports of the loopback address. Each ends with its block, and with this process."""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from bench.report import ROOT
from clusteragent.lib import conf, credentials, processes
from tests.replicas import wait_or_kill

TLS = ssl._create_unverified_context()


@contextmanager
def options(**values: str) -> Iterator[None]:
    """Let the processes that start meanwhile have these options."""
    os.environ |= values
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


@contextmanager
def running(*words: str, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process during the block; then end it by SIGTERM, after 10 s by SIGKILL."""
    us = os.getpid()
    process = subprocess.Popen(words, cwd=ROOT, env=os.environ | environment, preexec_fn=lambda: processes.end_with(us))
    try:
        yield process
    finally:
        process.terminate()
        wait_or_kill(process, 10)


@contextmanager
def web(port: str = "agents", **environment: str) -> Iterator[str]:
    """Run one of the two web servers, as `manage.py serve` starts it. Yields its URL when it answers."""
    credentials.make_missing(conf.VAR, given=credentials.SHARED)
    number = free_port()
    option = {"agents": "CLUSTERAGENT_BIND", "operators": "CLUSTERAGENT_ADMIN_BIND"}[port]
    environment |= {option: f"127.0.0.1:{number}"}
    with manage("serve", port, **environment) as process:
        _wait(process, number)
        yield f"https://127.0.0.1:{number}"


def manage(*words: str, **environment: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """Run a management command as a process."""
    return running(sys.executable, "manage.py", *words, **environment)


def simulation(*words: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """Run simulated node agents as a process."""
    return module("simulation", *words)


def module(name: str, *words: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """Run a module as a process."""
    return running(sys.executable, "-m", name, *words)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 30
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the web server does not answer")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=TLS)) as connection:
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
