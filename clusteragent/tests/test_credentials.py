"""What the first start makes in its folder, and what it leaves unchanged."""

import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from clusteragent.lib import credentials
from clusteragent.lib.credentials import CredentialsError

FILES = {"cluster_agent.auth_token", "auth_token", "secret_key", "cert.pem", "key.pem"}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "var"
    credentials.make_missing(folder)
    return folder


def test_only_their_owner_reads_folder_and_files(folder: Path) -> None:
    credentials.make_admin_password(folder)
    assert set(contents(folder)) == FILES | {"admin_password"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_what_others_might_read_is_closed_by_the_next_start(folder: Path, tmp_path: Path) -> None:
    password = tmp_path / "elsewhere"
    password.write_text("x")
    password.chmod(0o644)
    (folder / "admin_password").symlink_to(password)
    folder.chmod(0o777)
    for name in FILES:
        (folder / name).chmod(0o664)
    credentials.make_missing(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in (*FILES, "admin_password")}
    # A certificate is public, and where a link leads is not ours.
    assert modes == dict.fromkeys(FILES, 0o600) | {"cert.pem": 0o664, "admin_password": 0o644}


def test_tokens_are_long_and_differ(folder: Path) -> None:
    tokens = [contents(folder)[name].strip() for name in ("cluster_agent.auth_token", "auth_token", "secret_key")]
    assert len(set(tokens)) == 3
    assert all(len(token) >= 32 and token.isalnum() for token in tokens)


def test_the_certificate_is_for_this_machine_alone(folder: Path) -> None:
    names = certificate(folder).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert {"127.0.0.1", "::1"} <= {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    key = certificate(folder).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_later_start_keeps_everything(folder: Path) -> None:
    password = credentials.make_admin_password(folder)
    before = contents(folder)
    credentials.make_missing(folder)
    assert credentials.make_admin_password(folder) == password
    assert contents(folder) == before


def test_starts_at_once_agree(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    with ThreadPoolExecutor(8) as starts:
        list(starts.map(credentials.make_missing, [folder] * 8))
        passwords = set(starts.map(credentials.make_admin_password, [folder] * 8))
    assert len(passwords) == 1
    assert set(contents(folder)) == FILES | {"admin_password"}
    credentials.check_certificate(folder)


def test_ones_own_token_is_kept(tmp_path: Path) -> None:
    (tmp_path / "auth_token").write_text("mine, of whatever length and form it is")
    credentials.make_missing(tmp_path)
    assert (tmp_path / "auth_token").read_text() == "mine, of whatever length and form it is"


def test_certificates_of_several_replicas_are_trusted_side_by_side(folder: Path, tmp_path: Path) -> None:
    folders = [folder, tmp_path / "other"]
    credentials.make_missing(folders[1])
    trusted = ssl.create_default_context(cadata="".join((one / "cert.pem").read_text() for one in folders))
    for one in folders:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(one / "cert.pem", one / "key.pem")
        handshake(trusted, server, "localhost")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Let a client and a server shake hands in memory. Raises SSLError if the client does not trust the server."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    for end in (*ends, *ends):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert ends[0].version()
    assert ends[0].getpeercert()


def test_a_certificate_without_its_key_is_refused(folder: Path) -> None:
    (folder / "key.pem").unlink()
    with pytest.raises(CredentialsError, match=r"cert\.pem and .*key\.pem can't be used: No such file"):
        credentials.make_missing(folder)


def test_a_key_of_another_certificate_is_refused(folder: Path, tmp_path: Path) -> None:
    credentials.make_missing(tmp_path / "other")
    (tmp_path / "other" / "key.pem").replace(folder / "key.pem")
    with pytest.raises(CredentialsError, match="MISMATCH"):
        credentials.make_missing(folder)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(CredentialsError, match=r"var can't be made: (File exists|Not a directory)"):
        credentials.make_missing(tmp_path / "var")
