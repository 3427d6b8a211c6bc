"""The certificate that is made here: what it is for, who trusts it, and when it is made anew. An operator's own is left alone."""

import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clusteragent import web
from clusteragent.lib import certificates, conf, credentials, files
from clusteragent.lib.credentials import CredentialsError
from tests.certificates import write_own
from tests.table import table

LOCAL = {"localhost", "127.0.0.1", "::1", socket.gethostname()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "var"
    credentials.make_missing(folder)
    return folder


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())


def server(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Let a client and a server shake hands in memory. Raises SSLError if the client does not trust the server."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    for end in (*ends, *ends):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert ends[0].version()
    assert ends[0].getpeercert()


def test_openssl_verifies_it_by_the_authority_for_each_of_its_names(folder: Path) -> None:
    credentials.make_missing(folder, names=["checks", "checks.prod.svc", "checks.prod.svc.cluster.local", "10.0.0.5"])
    wanted = LOCAL | {"checks", "checks.prod.svc", "checks.prod.svc.cluster.local", "10.0.0.5"}
    assert certificates.names(certificate(folder)) == wanted
    for name in wanted:
        kind = "-verify_ip" if name.replace(".", "").isdecimal() or ":" in name else "-verify_hostname"
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            kind,
            name,
            "-CAfile",
            "ca.pem",
            "cert.pem",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_another_name_is_not_verified(folder: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    handshake(trusting, server(folder), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.example\.com"):
        handshake(trusting, server(folder), "other.example.com")


def test_certificates_of_several_replicas_are_trusted_side_by_side(folder: Path, tmp_path: Path) -> None:
    folders = [folder, tmp_path / "other"]
    credentials.make_missing(folders[1])
    for file in ("ca.pem", "cert.pem"):
        trusting = ssl.create_default_context(cadata="".join((one / file).read_text() for one in folders))
        for one in folders:
            handshake(trusting, server(one), "localhost")


def test_replicas_with_one_authority_are_trusted_by_it_alone(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("ca.pem", "ca_key.pem"):
        (other / name).write_bytes((folder / name).read_bytes())
    credentials.make_missing(other, names=["second.example.com"])
    handshake(ssl.create_default_context(cafile=str(folder / "ca.pem")), server(other), "second.example.com")


@pytest.mark.parametrize("identifier", [None, b"of another tool"])
def test_an_authority_that_another_tool_made_is_trusted_too(tmp_path: Path, identifier: bytes | None) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ours")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(now - timedelta(days=1))
    made = made.not_valid_after(now + timedelta(days=90)).add_extension(
        x509.BasicConstraints(True, None), critical=True
    )
    if identifier:
        made = made.add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "ca_key.pem").write_bytes(key.private_bytes(*form))
    (tmp_path / "ca.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    credentials.make_missing(tmp_path)
    handshake(ssl.create_default_context(cafile=str(tmp_path / "ca.pem")), server(tmp_path), "localhost")


def test_other_names_make_another_certificate_of_the_same_key_and_authority(folder: Path) -> None:
    key, authority, before = ((folder / name).read_bytes() for name in ("key.pem", "ca.pem", "cert.pem"))
    credentials.make_missing(folder)
    assert (folder / "cert.pem").read_bytes() == before
    credentials.make_missing(folder, names=["ca.example.com"])
    assert certificates.names(certificate(folder)) == LOCAL | {"ca.example.com"}
    credentials.make_missing(folder)
    assert certificates.names(certificate(folder)) == LOCAL
    assert [(folder / name).read_bytes() for name in ("key.pem", "ca.pem")] == [key, authority]


def test_another_spelling_of_an_address_is_no_other_name(folder: Path) -> None:
    credentials.make_missing(folder, names=["2001:db8::1", "fe80::1"])
    before = (folder / "cert.pem").read_bytes()
    credentials.make_missing(folder, names=["2001:DB8:0::0001", "fe80::1%eth0"])
    assert (folder / "cert.pem").read_bytes() == before


def test_a_machine_whose_name_no_certificate_can_have_has_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "bücher")
    credentials.make_missing(tmp_path)
    assert certificates.names(certificate(tmp_path)) == {"localhost", "127.0.0.1", "::1"}


@table(("begins", "ends", "is_renewed"), [(-250, 120, True), (-240, 125, False), (-400, -35, True), (-300, 20, True)])
def test_ours_is_renewed_when_less_than_a_third_of_its_time_is_left(
    folder: Path, begins: int, ends: int, is_renewed: bool
) -> None:
    write_own(folder, begins, ends, signed_by=folder)
    assert certificates.renew(folder) is is_renewed
    if is_renewed:
        assert certificate(folder).not_valid_after_utc - datetime.now(UTC) > timedelta(days=364)
        # Names are those that the options said at the start.
        assert certificates.names(certificate(folder)) == {"old.example.com", "localhost"}
        assert not certificates.renew(folder)
    handshake(ssl.create_default_context(cafile=str(folder / "ca.pem")), server(folder), "localhost")


def test_what_an_operator_put_there_is_left_alone(folder: Path) -> None:
    for begins, ends in ((-9, 900), (-900, 9), (-900, -9)):
        write_own(folder, begins, ends)
        before = (folder / "cert.pem").read_bytes()
        credentials.make_missing(folder, names=["ca.example.com"])
        assert not certificates.renew(folder)
        assert (folder / "cert.pem").read_bytes() == before


def test_an_authority_beside_it_without_a_key_is_an_operators(folder: Path) -> None:
    (folder / "ca_key.pem").unlink()
    before = (folder / "cert.pem").read_bytes()
    credentials.make_missing(folder, names=["ca.example.com"])
    assert (folder / "cert.pem").read_bytes() == before
    (folder / "cert.pem").unlink()
    with pytest.raises(CredentialsError, match=r"ca_key\.pem is missing"):
        credentials.make_missing(folder)


def pem(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


OPEN, CLOSED = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"x")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("key.pem", None, "key.pem: No such file or directory"),
        ("cert.pem", b"x", "Unable to load PEM file"),
        ("key.pem", b"", "the key: Unable to load PEM file"),
        ("key.pem", pem(ec.generate_private_key(ec.SECP256R1()), OPEN), "the key is not that of the certificate"),
        ("key.pem", pem(ec.generate_private_key(ec.SECP521R1()), OPEN), "the key is neither RSA of 2048 bits or more"),
        ("key.pem", pem(ec.generate_private_key(ec.SECP256R1()), CLOSED), "the key: it is encrypted"),
    ],
    ids=["no key", "no certificate in it", "no key in it", "another key", "P-521", "encrypted"],
)
def test_what_can_not_be_served_is_refused_at_the_start_and_named(
    folder: Path, file: str, content: bytes | None, message: str
) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(CredentialsError, match=re.escape(message)) as refused:
        credentials.make_missing(folder)
    assert f"{folder / 'cert.pem'} and {folder / 'key.pem'} can't be used: " in str(refused.value)


@pytest.mark.parametrize("file", ["cert.pem", "key.pem", "ca_key.pem"])
@pytest.mark.parametrize(
    ("put", "message"),
    [
        (os.mkfifo, "is not a file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
        (lambda path: path.write_bytes(b"x" * (files.MOST + 1)), f"has more than {files.MOST} bytes"),
    ],
    ids=["pipe", "folder", "device", "endless"],
)
def test_what_is_no_file_of_a_key_is_refused_and_waits_for_nobody(
    folder: Path, file: str, put: Callable[[Path], None], message: str
) -> None:
    (folder / "cert.pem").unlink()
    (folder / file).unlink(missing_ok=True)
    put(folder / file)
    with pytest.raises(CredentialsError, match=message) as refused:
        credentials.make_missing(folder)
    assert str(folder / file) in str(refused.value)


def test_nothing_is_made_beside_an_operators_own(tmp_path: Path, folder: Path) -> None:
    other = tmp_path / "other"
    own = certificates.Pair(folder / "cert.pem", folder / "key.pem")
    credentials.make_missing(other, own=own)
    assert {path.name for path in other.iterdir()} == {*credentials.SHARED}
    (folder / "key.pem").unlink()
    with pytest.raises(CredentialsError, match=r"key\.pem: No such file"):
        credentials.make_missing(other, own=own)


def test_the_options_say_by_which_names_the_ports_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "ADMIN_HOSTS", ("[::1]", "Admin.example.com", ".checks.example.com", "*"))
    monkeypatch.setattr(conf, "ADMIN_URL", "https://ca.example.com:8443")
    monkeypatch.setattr(conf, "BIND", ("10.0.0.5", 5005))
    monkeypatch.setattr(conf, "ADMIN_BIND", ("0.0.0.0", 5006))
    monkeypatch.setattr(conf, "CERTIFICATE_NAMES", ("checks.prod.svc",))
    names = {"::1", "admin.example.com", "*.checks.example.com", "checks.example.com"}
    assert web.names() == names | {"ca.example.com", "10.0.0.5", "checks.prod.svc"}
