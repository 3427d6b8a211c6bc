"""Certificate authorities of tests, and what they sign."""

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Signed(NamedTuple):
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority. Its own certificate lacks what strict checks ask for, as those of many clusters do."""

    def __init__(self, name: str = "authority of tests") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self._name, self._key).issuer_name(self._name)
        certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = _pem(certificate.sign(self._key, hashes.SHA256()))

    def sign(
        self, name: str, organisation: str = "", hosts: tuple[str, ...] = (), addresses: tuple[str, ...] = ()
    ) -> Signed:
        """Return a certificate of that name, for servers with these hosts and addresses or for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name, organisation), key).issuer_name(self._name)
        names = [x509.DNSName(host) for host in hosts] + [
            x509.IPAddress(ipaddress.ip_address(one)) for one in addresses
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Signed(_pem(builder.sign(self._key, hashes.SHA256())), private(key))


def private(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key in PEM, in a form in which Kubernetes finds the public one too."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _name(common: str, organisation: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name(parts)


def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
