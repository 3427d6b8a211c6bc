"""Tokens, keys and a certificate: made at the first start, in files that only their owner can read.

A file that exists is never changed, so operators may replace each by their own. Two starts at the same time use the same
secrets: a file appears complete, and the first writer wins.
"""

import ipaddress
import os
import secrets
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NODE_AGENTS_TOKEN = "cluster_agent.auth_token"  # noqa: S105
LOCAL_TOKEN = "auth_token"  # noqa: S105
SECRET_KEY = "secret_key"  # noqa: S105
ADMIN_PASSWORD = "admin_password"  # noqa: S105
CERTIFICATE = "cert.pem"
KEY = "key.pem"
# What all replicas must have in common.
SHARED = NODE_AGENTS_TOKEN, LOCAL_TOKEN, SECRET_KEY
_SECRETS = *SHARED, ADMIN_PASSWORD


class CredentialsError(Exception):
    """A file can't be made or used."""


def make_missing(folder: Path, *, given: Collection[str] = ()) -> None:
    """Make the folder, the two tokens, the secret key and a self-signed certificate where they are missing.

    given: names of secrets that have a value already (in an option); no file is made for them. Raises CredentialsError when
    something can't be written, or when a certificate exists without its key.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # An earlier version or another tool may have made them with wider permissions. PostgreSQL, which may run as another
        # user, must be able to pass through the folder.
        restrict_access(folder, allowed=0o711)
        restrict_access(*(folder / name for name in (*_SECRETS, KEY)))
        for name in set(SHARED).difference(given):
            _make(folder / name, lambda: secrets.token_hex(32))
        # A certificate without a key is the operator's mistake: a new key would only hide it.
        if not (folder / CERTIFICATE).exists():
            key = _make(folder / KEY, _private_key)
            _make(folder / CERTIFICATE, lambda: _certificate(key))
    except OSError as error:
        raise CredentialsError(f"{error.filename or folder} can't be made: {error.strerror}") from error
    check_certificate(folder)


def make_admin_password(folder: Path) -> str:
    """Return the password of the first operator from its file in the folder; make both if missing. Raises CredentialsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _make(folder / ADMIN_PASSWORD, lambda: secrets.token_urlsafe(18)).strip()
    except OSError as error:
        raise CredentialsError(f"{error.filename or folder} can't be made or read: {error.strerror}") from error


def check_certificate(folder: Path) -> None:
    """Raise CredentialsError unless the folder has a certificate and its key."""
    certificate, key = folder / CERTIFICATE, folder / KEY
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # of which ssl.SSLError is one
        reason = error.strerror if not isinstance(error, ssl.SSLError) else error.reason or error
        raise CredentialsError(f"{certificate} and {key} can't be used: {reason}") from error


def is_self_signed(certificate: Path) -> bool:
    """Whether the certificate in this file was signed by nobody else, so that clients must be given it to trust it."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return False
    return found.issuer == found.subject


def restrict_access(*paths: Path, allowed: int = 0o700) -> None:
    """Remove all permissions but `allowed` from our own files and folders. Missing paths, links and others' files stay."""
    for path in paths:
        with suppress(FileNotFoundError):
            status = path.lstat()
            ours = status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode)
            if ours and stat.S_IMODE(status.st_mode) & ~allowed:
                path.chmod(stat.S_IMODE(status.st_mode) & allowed)


def _private_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _certificate(pem: str) -> str:
    """Make a self-signed certificate for ten years, for this machine's name and its loopback addresses."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster agent")])
    now = datetime.now(UTC)
    names = [x509.DNSName(host) for host in sorted({"localhost", socket.gethostname()})]
    addresses = [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        # All replicas' certificates have the same subject: a proxy that trusts several tells them apart by their keys.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def _make(path: Path, content: Callable[[], str]) -> str:
    """Return the file's content; if there is no file, make it with what `content` returns.

    The new file is written beside it and then linked. The link fails when another start was faster. So no reader sees half
    a file, not even after a power cut.
    """
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.") as draft:  # of mode 0600
            draft.write(f"{content().rstrip()}\n")
            draft.flush()
            os.fsync(draft.fileno())
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text()
