"""HAProxy and nginx as real processes, with a configuration of `deploy/` or one of a test."""

import importlib
import os
import shutil
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.replicas import wait_for, wait_or_kill

SAMPLES = Path(__file__).parents[2] / "deploy"
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def program(name: str, package: str = "") -> str:
    """Return the program's path. Without it the test is skipped, or fails with CI=true. package: Debian's."""
    return shutil.which(name, path=PATH) or _skip(f"{name} is missing: apt-get install {package or name}")


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
    listening = [str(value) for name, value in environment.items() if name in ("PROXY_AGENTS", "PROXY_OPERATORS")]
    ports = [int(address.rpartition(":")[2]) for address in listening]
    with _running([program("haproxy"), "-db", "-f", str(config)], folder / "haproxy.log", ports, **environment):
        yield


@contextmanager
def nginx(config: Path, folder: Path, *ports: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run nginx during the block. It listens on the ports at its beginning."""
    command = [program("nginx", "nginx-light"), "-c", str(config), "-e", "stderr"]
    if not STREAM_MODULE.exists():
        _skip("nginx's stream module is missing: apt-get install libnginx-mod-stream")
    more = ["-g", f"daemon off; pid {folder / 'nginx.pid'};"]
    with _running([*command, *more], folder / "nginx.log", ports) as process:
        yield process


def placed(sample: Path, folder: Path, places: Mapping[str, object]) -> Path:
    """Write a sample into the folder, with addresses and files of the test in place of its own, and return the new file."""
    text = sample.read_text()
    for written, used in places.items():
        assert written in text
        text = text.replace(written, str(used))
    file = folder / sample.name
    file.write_text(text)
    return file


@contextmanager
def _running(
    command: list[str], log: Path, ports: Collection[int], **environment: object
) -> Iterator["subprocess.Popen[bytes]"]:
    given = os.environ | {name: str(value) for name, value in environment.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=given, stdout=output, stderr=output)
    try:
        wait_for(f"{command[0]} listens", lambda: all(map(listens, ports)) or _require_running(process, log))
        yield process
    finally:
        process.terminate()
        wait_or_kill(process, 5)


def _require_running(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return False


def listens(port: int) -> bool:
    """Whether connections to the port are accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
