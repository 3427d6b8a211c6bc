"""The certificate of both ports: an operator's own, or one that an authority in VAR signs, which is made at the first start.

A certificate that this authority did not sign is an operator's, and never changed. Ours is made anew before it ends, for the same
key, so that a single file is replaced.
"""

import ipaddress
import socket
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clusteragent.lib import conf, files
from clusteragent.lib.files import CredentialsError

CERTIFICATE, KEY = "cert.pem", "key.pem"
AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca_key.pem"
# How long the authority holds, and what it signs.
_AUTHORITY_AGE, _AGE = timedelta(days=3650), timedelta(days=365)
# The names by which a machine reaches itself.
LOCAL = "localhost", "127.0.0.1", "::1"
# A certificate ends soon when less than this part of its time is left, and less than so long.
_PART, _SOON = 6, timedelta(days=14)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Pair(NamedTuple):
    """The files of a certificate, with those that lead to its authority, and of its key."""

    certificate: Path
    key: Path


class Usable(NamedTuple):
    """A certificate that fits its key. pem: both and the chain, the key as PKCS#8."""

    certificate: x509.Certificate
    pem: bytes


def own() -> Pair | None:
    """Return the files that options name; None without them."""
    file, key = conf.CERTIFICATE, conf.CERTIFICATE_KEY
    return Pair(file, key) if file and key else None


def served() -> Pair | None:
    """Return the files of the certificate that the web servers of this machine show; None where they have made none yet."""
    here = Pair(conf.VAR / CERTIFICATE, conf.VAR / KEY)
    return own() or (here if here.certificate.exists() or here.key.exists() else None)


def read(pair: Pair) -> Usable:
    """Return the certificate and key of these files. Raises CredentialsError, which names them, when they can't be used."""
    try:
        chain, text = x509.load_pem_x509_certificates(files.read(pair.certificate)), files.read(pair.key)
    except (OSError, ValueError) as error:
        raise _unusable(pair, _reason(error)) from error
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(pair, f"the key: {_reason(error)}") from error
    if not _is_served(key):
        raise _unusable(pair, "the key is neither RSA of 2048 bits or more, P-256, P-384 nor Ed25519")
    if _public(key) != _public(chain[0]):
        raise _unusable(pair, "the key is not that of the certificate, which must be the first in its file")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Usable(chain[0], b"".join(one.public_bytes(form[0]) for one in chain) + key.private_bytes(*form))


def _unusable(pair: Pair, reason: str) -> CredentialsError:
    return CredentialsError(f"{pair.certificate} and {pair.key} can't be used: {reason}")


def _reason(error: Exception) -> str:
    match error:
        case OSError():
            return f"{error.filename}: {error.strerror}"
        case TypeError():
            return "it is encrypted"
    # The library's messages say more than one sentence, and quote nothing of a key.
    return str(error).split(". ")[0]


def _is_served(key: object) -> TypeGuard[Key]:
    """Whether the web server can use a key of this kind."""
    match key:
        case rsa.RSAPrivateKey():
            return key.key_size >= 2048
        case ec.EllipticCurvePrivateKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, ed25519.Ed25519PrivateKey)


def _public(holder: Key | x509.Certificate) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return holder.public_key().public_bytes(*form)


def names(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


def ends_soon(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether somebody should look after a certificate: one that is renewed in time never comes to this."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return ends - now < min(_SOON, (ends - begins) / _PART)


def trusted_by(certificate: Path) -> Path | None:
    """Return the file that clients need to trust what this file has; None where it is a known authority's."""
    try:
        first = _first(certificate)
    except (OSError, ValueError):
        return None
    if first.issuer == first.subject:
        return certificate
    return certificate.with_name(AUTHORITY) if _is_ours(first, certificate.parent) else None


def signed_itself_here(certificate: x509.Certificate) -> bool:
    """Whether an earlier version made this certificate. What openssl makes says of itself that it is an authority."""
    try:
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return certificate.subject == certificate.issuer == _named("cluster agent") and not limits.ca


def is_ours(folder: Path) -> bool:
    """Whether the folder's certificate was signed by the folder's authority, so that it is renewed here."""
    try:
        return _is_ours(_first(folder / CERTIFICATE), folder)
    except (OSError, ValueError):
        return False


def _is_ours(certificate: x509.Certificate, folder: Path) -> bool:
    # Without its key it is an operator's, put there for whoever shall trust it.
    if not (folder / AUTHORITY_KEY).exists():
        return False
    try:
        certificate.verify_directly_issued_by(_first(folder / AUTHORITY))
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    return True


def make_missing(folder: Path, wanted: Collection[str] = ()) -> None:
    """Make the folder's certificate if there is none, and anew if it is ours and ends, or has other names than these.

    Raises OSError, and CredentialsError when the authority can't sign.
    """
    # A machine's name may have letters that no certificate can.
    certificate = folder / CERTIFICATE
    wanted = {_spelled(name) for name in (*wanted, *LOCAL, socket.gethostname()) if name.isascii()}
    # A certificate without a key is the operator's mistake: a new key would only hide it.
    if not certificate.exists():
        files.make(certificate, lambda: _signed(folder, wanted))
    elif is_ours(folder) and names(_first(certificate)) != wanted:
        files.replace(certificate, _signed(folder, wanted))
    else:
        renew(folder)


def renew(folder: Path) -> bool:
    """Make the folder's certificate anew if it is ours and less than a third of its time is left. Returns whether it did.

    Raises OSError, and CredentialsError when the authority can't sign.
    """
    if not is_ours(folder):
        return False
    now, present = datetime.now(UTC), _first(folder / CERTIFICATE)
    ends = present.not_valid_after_utc
    is_due = ends - now < (ends - present.not_valid_before_utc) / 3
    # What the authority signs ends with it.
    longest = min(now + _AGE, _first(folder / AUTHORITY).not_valid_after_utc)
    if not is_due or longest - ends < timedelta(days=1):
        return False
    files.replace(folder / CERTIFICATE, _signed(folder, names(present)))
    return True


def _first(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.read(path))


def _private_key() -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(*form).decode()


def _load(path: Path, pem: str) -> Key:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialsError(f"{path} can't be used: {_reason(error)}") from error
    if not _is_served(key):
        raise CredentialsError(f"{path} can't be used: it is of another kind than RSA, P-256, P-384 and Ed25519")
    return key


def _signed(folder: Path, wanted: Collection[str]) -> str:
    """Return a certificate for the folder's key and these names, followed by the authority's, for who trusts the whole file."""
    if (folder / AUTHORITY).exists() and not (folder / AUTHORITY_KEY).exists():
        raise CredentialsError(f"{folder / AUTHORITY_KEY} is missing, the key of {folder / AUTHORITY}")
    authority_key = _load(folder / AUTHORITY_KEY, files.make(folder / AUTHORITY_KEY, _private_key))
    text = files.make(folder / AUTHORITY, lambda: _authority(authority_key))
    try:
        authority = x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise CredentialsError(f"{folder / AUTHORITY} can't be used: {_reason(error)}") from error
    if _public(authority) != _public(authority_key):
        raise CredentialsError(f"{folder / AUTHORITY_KEY} is not the key of {folder / AUTHORITY}")
    key = _load(folder / KEY, files.make(folder / KEY, _private_key))
    return _sign(key, wanted, authority, authority_key) + authority.public_bytes(serialization.Encoding.PEM).decode()


def _builder(name: str, key: Key, age: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + age)
        # All replicas' authorities have the same subject: who trusts several tells them apart by their keys.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _authority(key: Key) -> str:
    name = "cluster agent authority"
    return (
        _builder(name, key, _AUTHORITY_AGE)
        .issuer_name(_named(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, _digest(key))
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def _identifier(authority: x509.Certificate, authority_key: Key) -> x509.AuthorityKeyIdentifier:
    """What names the authority's key in what it signs, as its own certificate does: tools work it out in several ways."""
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _sign(key: Key, wanted: Collection[str], authority: x509.Certificate, authority_key: Key) -> str:
    age = min(_AGE, authority.not_valid_after_utc - datetime.now(UTC))
    if age <= timedelta(0):
        raise CredentialsError(f"the authority of {AUTHORITY} has ended: remove {AUTHORITY} and {AUTHORITY_KEY}")
    return (
        _builder("cluster agent", key, age)
        .issuer_name(authority.subject)
        .add_extension(x509.SubjectAlternativeName(list(map(_general, sorted(wanted)))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_identifier(authority, authority_key), critical=False)
        .sign(authority_key, _digest(authority_key))
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def _digest(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _spelled(name: str) -> str:
    """A name as `names` reads it: an address has many spellings, and one of a link also the link."""
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return name


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
