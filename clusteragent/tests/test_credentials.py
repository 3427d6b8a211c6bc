"""What the first start makes in its folder, and what it leaves unchanged."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clusteragent.lib import certificates, credentials
from clusteragent.lib.credentials import CredentialsError

FILES = {"cluster_agent.auth_token", "auth_token", "secret_key", "ca.pem", "ca_key.pem", "cert.pem", "key.pem"}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


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
    # Certificates are public, and where a link leads is not ours.
    public = dict.fromkeys(("cert.pem", "ca.pem"), 0o664)
    assert modes == dict.fromkeys(FILES, 0o600) | public | {"admin_password": 0o644}


def test_tokens_are_long_and_differ(folder: Path) -> None:
    tokens = [contents(folder)[name].strip() for name in ("cluster_agent.auth_token", "auth_token", "secret_key")]
    assert len(set(tokens)) == 3
    assert all(len(token) >= 32 and token.isalnum() for token in tokens)


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
    certificates.read(certificates.Pair(folder / "cert.pem", folder / "key.pem"))


def test_ones_own_token_is_kept(tmp_path: Path) -> None:
    (tmp_path / "auth_token").write_text("mine, of whatever length and form it is")
    credentials.make_missing(tmp_path)
    assert (tmp_path / "auth_token").read_text() == "mine, of whatever length and form it is"


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(CredentialsError, match=r"var can't be made: (File exists|Not a directory)"):
        credentials.make_missing(tmp_path / "var")
