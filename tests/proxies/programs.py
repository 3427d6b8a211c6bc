"""HAProxy as a real process, with a configuration of `deploy/haproxy` or one of a test."""

import importlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.replicas import wait_for

SAMPLES = Path(__file__).parents[2] / "deploy"
PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def program(name: str) -> str:
    """Return the program's path. Without it the test is skipped, or fails with CI=true."""
    return shutil.which(name, path=PATH) or _skip(f"{name} is missing: apt-get install {name}")


def needed_module(name: str, package: str) -> Any:
    """Import a Python module. Without it the test is skipped, or fails with CI=true."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _skip(f"{package} is missing: pip install {package}")


def _skip(missing: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def pem(folder: Path) -> Path:
    """Return one file with the certificate and the key that `tests.webserver` made in the folder."""
    file = folder / "proxy.pem"
    file.write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return file


@contextmanager
def haproxy(config: Path, folder: Path, **environment: object) -> Iterator[None]:
    """Run HAProxy during the block. It listens at its beginning."""
    command = [program("haproxy"), "-db", "-f", str(config)]
    log = folder / "haproxy.log"
    listening = [str(value) for name, value in environment.items() if name in ("PROXY_AGENTS", "PROXY_OPERATORS")]
    ports = [int(address.rpartition(":")[2]) for address in listening]
    given = os.environ | {name: str(value) for name, value in environment.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=given, stdout=output, stderr=output)
    try:
        wait_for("HAProxy listens", lambda: all(map(_listens, ports)) or _require_running(process, log))
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _require_running(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
