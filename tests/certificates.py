"""Certificates as operators have them: of any time, by themselves or by an authority."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write_own(folder: Path, begins: int, ends: int, signed_by: Path | None = None) -> None:
    """Write a certificate and its key, valid from and until so many days from now. signed_by: the folder of an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own")])
    signer = key
    if signed_by:
        issuer = x509.load_pem_x509_certificate((signed_by / "ca.pem").read_bytes()).subject
        loaded = serialization.load_pem_private_key((signed_by / "ca_key.pem").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 1).not_valid_before(now + timedelta(begins))
    names = x509.SubjectAlternativeName([x509.DNSName("old.example.com"), x509.DNSName("localhost")])
    made = builder.not_valid_after(now + timedelta(ends)).add_extension(names, critical=False)
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    (folder / "cert.pem").write_bytes(made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
