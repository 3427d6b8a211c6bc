"""A running web server takes up another certificate when its files change, and keeps its own when they can't be used."""

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from clusteragent.lib import credentials
from clusteragent.lib.certificates import names
from tests.replicas import Replica, descendants, wait_for
from tests.webserver import TLS, free_port

pytestmark = pytest.mark.processes


class Served:
    """A web server of agents, whose certificate is in the folder `tls`, as Kubernetes mounts a Secret."""

    def __init__(self, folder: Path, **options: str) -> None:
        self.port, self.mount = free_port(), folder / "tls"
        self.mount.mkdir()
        for name in ("tls.crt", "tls.key"):
            (self.mount / name).symlink_to(Path("..data") / name)
        self.rotate("first")
        given = {
            "CLUSTERAGENT_VAR": str(folder / "var"),
            "CLUSTERAGENT_BIND": f"127.0.0.1:{self.port}",
            "CLUSTERAGENT_CERTIFICATE": str(self.mount / "tls.crt"),
            "CLUSTERAGENT_CERTIFICATE_KEY": str(self.mount / "tls.key"),
            "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none",
        }
        self.replica = Replica("agents", {**os.environ, **given, **options}, folder / "server.log")

    def rotate(self, name: str) -> None:
        """Let the links lead to a certificate of this name, all at once, and remove the former one, as the kubelet does."""
        before = self.mount / "..data"
        old = before.resolve() if before.exists() else None
        new = make(self.mount / f"..{name}", name)
        (self.mount / "..data_tmp").symlink_to(new.name)
        (self.mount / "..data_tmp").replace(before)
        if old:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()

    def shown(self) -> str:
        """Return the name on the certificate that a new connection gets; empty while there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as plain, TLS.wrap_socket(plain) as opened:
                certificate = opened.getpeercert(binary_form=True)
        except OSError:
            return ""
        assert certificate
        return next(iter(names(x509.load_der_x509_certificate(certificate)) & {"first", "second", "third"}))

    def workers(self) -> set[int]:
        return set(descendants(self.replica.process.pid))

    def logged(self, event: str) -> bool:
        return event in self.replica.log.read_text()


def make(folder: Path, name: str) -> Path:
    """Make a certificate for this name in the folder, as tls.crt and tls.key. Returns the folder."""
    credentials.make_missing(folder, given=credentials.SHARED, names=[name])
    (folder / "cert.pem").replace(folder / "tls.crt")
    (folder / "key.pem").replace(folder / "tls.key")
    return folder


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    try:
        wait_for("it serves", lambda: server.shown() == "first")
        yield server
    finally:
        server.replica.end()


def test_a_mounted_secret_that_is_replaced_is_taken_up_and_no_call_fails(served: Served) -> None:
    opened = HTTPSConnection("127.0.0.1", served.port, timeout=10, context=TLS)
    served.rotate("second")
    calls = reconnects = 0
    while not (served.logged("certificate_taken_up") and [served.shown() for _ in range(8)] == ["second"] * 8):
        calls += 1
        try:
            opened.request("GET", "/healthz")
            assert opened.getresponse().read()
        except (RemoteDisconnected, BrokenPipeError, ConnectionResetError, ssl.SSLError):
            # Its worker has closed it between two calls, as an agent notices, too. Another one listens already.
            reconnects += 1
            opened.close()
            opened.request("GET", "/healthz")
            assert opened.getresponse().read()
        assert calls < 5000
    opened.close()
    assert calls > reconnects
    assert reconnects <= 2


def test_half_a_pair_is_refused_and_the_whole_one_taken_up(served: Served, tmp_path: Path) -> None:
    other = make(tmp_path / "other", "third")
    data = served.mount / "..data"
    (data / "tls.crt").write_bytes((other / "tls.crt").read_bytes())
    wait_for("it is refused", lambda: served.logged("certificate_refused"))
    line = next(line for line in served.replica.log.read_text().splitlines() if "certificate_refused" in line)
    assert str(served.mount / "tls.crt") in line
    assert "the key is not that of the certificate" in line
    assert served.shown() == "first"
    (data / "tls.key").write_bytes((other / "tls.key").read_bytes())
    wait_for("the pair is shown", lambda: served.shown() == "third", 30)


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB", b"\x00\xff"])
def test_a_worker_that_is_started_anew_shows_the_old_certificate_while_the_files_are_broken(
    served: Served, damage: bytes
) -> None:
    for name in ("tls.crt", "tls.key"):
        (served.mount / "..data" / name).write_bytes(damage)
    wait_for("it is refused", lambda: served.logged("certificate_refused"))
    before = served.workers()
    for pid in before:
        os.kill(pid, 9)
    wait_for("others serve", lambda: not before & served.workers() and served.shown() == "first", 30)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-384", "Ed25519"],
)
def test_every_kind_of_key_that_is_accepted_is_served(served: Served, key: Any) -> None:
    folder = served.mount / "..data"
    form = serialization.PrivateFormat.TraditionalOpenSSL
    if isinstance(key, ed25519.Ed25519PrivateKey):
        form = serialization.PrivateFormat.PKCS8
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer, issuer, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("second")]), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    (folder / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    wait_for("it is taken up", lambda: served.shown() == "second")
