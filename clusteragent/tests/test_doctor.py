"""`clusteragent doctor`: each topic finds what was broken, says what to do, and finds nothing where nothing is."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from knox.models import AuthToken

from checks.tests.cast import report
from clusteragent import doctor, weaknesses
from clusteragent.doctor import Finding, Level
from clusteragent.lib import certificates, clock, conf, credentials
from clusteragent.upgrade import ADMIN
from nodes import tokens
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeToken, Runner
from operators import provider
from tests.test_requirements import ROOT
from tests.webserver import free_port


def levels(found: Iterable[Finding]) -> list[Level]:
    return [finding.level for finding in found]


def run(**environment: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command, and return its exit code and findings."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)} | environment
    line = [sys.executable, "-m", "clusteragent", "doctor", "--json"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["findings"]


@pytest.fixture
def entered() -> Iterator[Path]:
    """A folder that all users may enter, as /var/lib/clusteragent often is: pytest's own ones are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        made.chmod(0o755)
        if any(not one.stat().st_mode & stat.S_IXOTH for one in made.parents):
            pytest.skip(f"a folder above {made} is closed to others: set TMPDIR to an open one")
        yield made


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, entered: Path) -> Path:
    """The state folder of a first start."""
    credentials.make_missing(entered)
    monkeypatch.setattr(conf, "VAR", entered)
    return entered


def test_a_misspelt_option_and_a_database_that_is_away_are_found(tmp_path: Path) -> None:
    code, found = run(
        DATABASE_URL="postgresql://app:secret-word@127.0.0.1:1/x", CLUSTERAGENT_VAR=str(tmp_path), CLUSTERAGENT_BNID="1"
    )
    assert code == 2
    by_topic = {finding["topic"]: finding for finding in found}
    assert by_topic["options"]["level"] == "warn"
    assert by_topic["options"]["remedy"] == "Is CLUSTERAGENT_BIND meant?"
    assert by_topic["database"]["level"] == "fail"
    assert "DATABASE_URL can't be reached" in by_topic["database"]["text"]
    assert "secret-word" not in str(found)
    assert "schema" not in by_topic


def test_options_that_contradict_each_other_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Level.FAIL not in levels(doctor.options_and_settings())
    monkeypatch.setattr(conf, "LOCAL_TOKEN", conf.AUTH_TOKEN)
    [failing] = [finding for finding in doctor.options_and_settings() if finding.level == Level.FAIL]
    assert "are the same" in failing.text


def test_tokens_that_are_missing_or_open_to_others_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(doctor.tokens()) == [Level.OK] * 3
    monkeypatch.delenv("DD_CLUSTER_AGENT_AUTH_TOKEN")
    (folder / credentials.NODE_AGENTS_TOKEN).chmod(0o644)
    monkeypatch.setattr(conf, "LOCAL_TOKEN", "")
    opened, missing, _ = doctor.tokens()
    assert (opened.level, opened.remedy) == (Level.WARN, f"chmod 600 {folder / credentials.NODE_AGENTS_TOKEN}")
    assert missing.level == Level.FAIL
    assert "CLUSTERAGENT_LOCAL_TOKEN is not set" in missing.text


def may_read(file: Path, user: int, group: int) -> bool:
    read = ["cat", str(file)]
    done = subprocess.run(read, user=user, group=group, extra_groups=[], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may try what other users can read")
@pytest.mark.parametrize("folder_mode", [0o700, 0o710, 0o701, 0o755])
@pytest.mark.parametrize("file_mode", [0o600, 0o640, 0o604, 0o644])
@pytest.mark.parametrize("is_above", [False, True])
def test_open_is_what_another_user_can_read(entered: Path, folder_mode: int, file_mode: int, *, is_above: bool) -> None:
    closed = entered / "closed"
    file = closed / "within" / "secret" if is_above else closed / "secret"
    file.parent.mkdir(parents=True)
    file.write_text("hunter22")
    file.chmod(file_mode)
    closed.chmod(folder_mode)
    # In the group of both, and in no group of them.
    assert doctor._is_open(file) == any(may_read(file, 12345, group) for group in (file.stat().st_gid, 12345))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_the_owner_of_a_folder_above_may_enter_it(entered: Path) -> None:
    folder, file = entered / "theirs", entered / "theirs" / "secret"
    folder.mkdir(mode=0o700)
    file.write_text("hunter22")
    file.chmod(0o604)
    assert not doctor._is_open(file)
    os.chown(folder, 12345, 12345)
    assert may_read(file, 12345, 12345)
    assert doctor._is_open(file)


def test_a_link_is_as_open_as_what_it_leads_to(entered: Path, tmp_path: Path) -> None:
    file, link = entered / "secret", tmp_path / "link"
    file.write_text("hunter22")
    link.symlink_to(file)
    file.chmod(0o644)
    assert doctor._is_open(link)
    entered.chmod(0o700)
    assert not doctor._is_open(link)


def test_what_is_mounted_read_only_is_not_ours_to_close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DD_CLUSTER_AGENT_AUTH_TOKEN")
    (folder / credentials.NODE_AGENTS_TOKEN).chmod(0o644)
    assert Level.WARN in levels(doctor.tokens())
    real = os.statvfs(folder)
    mounted = os.statvfs_result((*real[:8], real.f_flag | os.ST_RDONLY, *real[9:]))
    monkeypatch.setattr(os, "statvfs", lambda path: mounted)
    assert levels(doctor.tokens()) == [Level.OK] * 3


def write_certificate(folder: Path, begins: timedelta, ends: timedelta, *, is_authority: bool = False) -> None:
    """Replace the certificate and its key by new ones, as earlier versions made them, or openssl, which makes authorities.

    They are valid from now plus `begins` to now plus `ends`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster agent")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    made = builder.not_valid_before(now + begins).not_valid_after(now + ends).sign(key, hashes.SHA256())
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / certificates.KEY).write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    (folder / certificates.CERTIFICATE).write_bytes(made.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize(
    ("begins", "ends", "level", "text"),
    [
        (-9, -1, Level.FAIL, "has ended"),
        (1, 9, Level.FAIL, "only from"),
        (-300, 13, Level.WARN, "ends in 12 d"),
        (-300, 15, Level.OK, "valid until"),
        # One of two days is renewed more often.
        (-1, 1, Level.OK, "valid until"),
    ],
)
def test_a_certificate_is_for_its_time(folder: Path, begins: int, ends: int, level: Level, text: str) -> None:
    write_certificate(folder, timedelta(days=begins), timedelta(days=ends))
    found = next(iter(doctor.certificate()))
    assert found.level == level
    assert text in found.text


def test_a_certificate_that_lacks_its_key_or_a_name_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(doctor.certificate()) == [Level.OK]
    monkeypatch.setattr(conf, "ADMIN_HOSTS", ("localhost", "ca.example.com"))
    (folder / certificates.KEY).chmod(0o640)
    _, unnamed, opened = doctor.certificate()
    assert (unnamed.level, opened.level) == (Level.WARN, Level.WARN)
    assert "ca.example.com" in unnamed.text
    (folder / certificates.KEY).unlink()
    assert levels(doctor.certificate()) == [Level.FAIL]


def test_a_certificate_that_signed_itself_has_no_authority_and_can_be_replaced_by_one_that_has(folder: Path) -> None:
    write_certificate(folder, timedelta(days=-300), timedelta(days=3000))
    for name in (certificates.AUTHORITY, certificates.AUTHORITY_KEY):
        (folder / name).unlink()
    [finding] = [one for one in doctor.certificate() if one.level == Level.WEAK]
    assert "without a ca.pem" in finding.text
    assert finding.remedy.startswith(f"Remove {folder / certificates.CERTIFICATE} and restart the web servers")
    key = (folder / certificates.KEY).read_bytes()
    (folder / certificates.CERTIFICATE).unlink()
    certificates.make_missing(folder)
    assert (folder / certificates.KEY).read_bytes() == key
    assert certificates.is_ours(folder)
    assert Level.WEAK not in levels(doctor.certificate())


def test_one_that_openssl_signed_by_itself_is_its_operators(folder: Path) -> None:
    write_certificate(folder, timedelta(days=-1), timedelta(days=3000), is_authority=True)
    assert levels(doctor.certificate()) == [Level.OK]


def test_a_certificate_is_not_all_right_where_it_can_not_be_seen(folder: Path) -> None:
    for name in (certificates.CERTIFICATE, certificates.KEY):
        (folder / name).unlink()
    [finding] = doctor.certificate()
    assert finding.level == Level.SKIP
    assert str(folder) in finding.text
    assert "a container of agents" in finding.remedy
    assert doctor.worst([finding]) == 0


@pytest.mark.django_db
def test_the_tests_database_is_all_right() -> None:
    assert levels([*doctor.database(), *doctor.clocks(), *doctor.schema()]) == [Level.OK] * 3


@pytest.mark.django_db
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_differs_is_found(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    theirs = clock.now() + timedelta(hours=hours)
    monkeypatch.setattr(clock, "now", lambda: theirs)
    [finding] = doctor.clocks()
    assert finding.level == Level.WARN


@pytest.mark.django_db
def test_a_schema_that_is_older_or_newer_is_found() -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_applied("checks", "9999_future")
    [newer] = doctor.schema()
    assert newer.level == Level.WARN
    assert "checks.9999_future" in newer.text
    recorder.migration_qs.filter(app__in=["checks", "knox"]).delete()
    [older] = doctor.schema()
    assert older.level == Level.FAIL
    assert older.remedy == "Run `clusteragent migrate`."


def test_a_database_without_tables_fails(tmp_path: Path) -> None:
    code, found = run(DATABASE_URL=os.environ["DATABASE_URL"], CLUSTERAGENT_VAR=str(tmp_path))
    assert code == 2
    assert [one["level"] for one in found if one["topic"] in ("database", "schema")] == ["ok", "fail"]
    assert not [one for one in found if one["topic"] == "runners"]


@pytest.mark.django_db
def test_a_runner_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(doctor.runners()) == [Level.OK]
    monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", free_port())
    monkeypatch.setattr(conf, "NODE_EXPIRATION_TIMEOUT", timedelta(hours=1))
    note_heartbeat("ash", last_change=-1, client_ip="127.0.0.1")
    [finding] = doctor.runners()
    assert finding.level == Level.WARN
    assert "ash (127.0.0.1: " in finding.text


def test_nothing_is_asked_of_kubernetes_where_no_cluster_is_watched() -> None:
    assert not list(doctor.kubernetes())


def test_each_call_that_our_role_allows_is_asked_for() -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    [role] = [one for one in documents if one["kind"] == "ClusterRole"]
    allowed = {
        f"{verb} {rule['apiGroups'][0]} {resource}"
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked = [call for calls in doctor.features().values() for call in calls]
    assert {f"{call.verb} {call.resource.group} {call.names}" for call in asked} == allowed


@pytest.mark.parametrize(
    ("found", "code"), [([], 0), ([Level.OK], 0), ([Level.WARN, Level.OK], 1), ([Level.FAIL, Level.WARN], 2)]
)
def test_the_exit_code_is_the_worst_finding_s(found: list[Level], code: int) -> None:
    assert doctor.worst([Finding("topic", level, "text") for level in found]) == code


def test_the_documentation_has_a_row_for_each_weak_default() -> None:
    page = (ROOT / "docs/security.md").read_text().partition("## Weak defaults")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")]
    assert rows == ["default", *(one.name for one in weaknesses.WEAKNESSES)]


@pytest.mark.django_db
def test_a_misspelt_group_of_the_providers_people_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor.groups()) == []
    Group.objects.create(name="payments")
    monkeypatch.setattr(conf, "GROUP_ROLES", {"admin": ("platform",), "payments": ("shop",)})
    assert levels(doctor.groups()) == [Level.OK]
    monkeypatch.setattr(conf, "GROUP_ROLES", {"admin": ("platform",), "opperator": ("sre",)})
    [finding] = doctor.groups()
    assert finding.level == Level.WARN
    assert finding.text == "Of CLUSTERAGENT_GROUP_ROLES opperator is no group of the admin, and gives nobody a role."


@pytest.mark.django_db
def test_a_single_token_for_all_is_named_once() -> None:
    found = [*doctor.shared_token(), *doctor.weak_defaults(with_database=True)]
    assert [finding.topic for finding in found if "One token" in finding.text] == ["weak default, shared token"]


@pytest.mark.django_db
def test_a_shared_token_that_is_off_without_node_tokens_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "SHARED_TOKEN_OPENS", False)
    [finding] = doctor.shared_token()
    assert (finding.level, "no node agent is let in" in finding.text) == (Level.FAIL, True)


@pytest.mark.django_db
def test_weak_defaults_are_named_and_no_longer_once_they_are_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = User.objects.create_user("otto")
    user.groups.add(Group.objects.get(name="operator"))
    AuthToken.objects.create(user, expiry=None)
    for pattern in ("*", "runner-*", "*-a"):
        tokens.make(NodeToken(note="pool", pattern=pattern))
    User.objects.create_superuser(ADMIN, password="made at first")
    report("ash")
    Runner.objects.create(node=Node.objects.get())
    credentials.make_admin_password(folder)
    (folder / certificates.AUTHORITY_KEY).write_text("")
    monkeypatch.setattr(conf, "WEBHOOK", "http://127.0.0.1/alerts")
    monkeypatch.setattr(conf, "HTTP_SD_URL", "http://127.0.0.1/targets")
    monkeypatch.setattr(conf, "HTTP_SD_CHECK_TEMPLATE", '{"name": "openmetrics", "instances": [{}]}')
    monkeypatch.setattr(conf, "AGENT_PROXIES", (ip_network("0.0.0.0/0"),))
    monkeypatch.setattr(conf, "METRICS_PUBLIC", True)
    monkeypatch.setattr(conf, "DATABASE_URL", "")
    named = {one.name for one in weaknesses.found(with_database=True)}
    # One holds without node tokens, one where one is for no runner, one of a database elsewhere.
    assert named == {one.name for one in weaknesses.WEAKNESSES} - {"shared token", "runners' token", "database's name"}
    monkeypatch.setattr(conf, "DATABASE_URL", "postgresql://x@db.example.com/x?sslmode=require")
    assert "database's name" in {one.name for one in weaknesses.found(with_database=False)}
    monkeypatch.setattr(conf, "DATABASE_URL", "")
    of_database = {one.name for one in weaknesses.WEAKNESSES if one.needs_database}
    assert {one.name for one in weaknesses.found(with_database=False)} == named - of_database
    assert doctor.worst(list(doctor.weak_defaults(with_database=True))) == 0

    AuthToken.objects.all().delete()
    User.objects.get(username=ADMIN).delete()
    NodeToken.objects.all().delete()
    assert {"shared token", "runners' token"} <= {one.name for one in weaknesses.found(with_database=True)}
    (folder / credentials.ADMIN_PASSWORD).unlink()
    (folder / certificates.AUTHORITY_KEY).unlink()
    for option, value in {
        "SHARED_TOKEN_OPENS": False, "ONE_ADDRESS": "refuse", "METRICS_PUBLIC": False, "ACCESS_LOG": True,
        "RUNNER_CERTIFICATES_PINNED": True, "RUNNER_NETWORKS": (ip_network("10.1.0.0/16"),), "WEBHOOK": "",
        "HTTP_SD_URL": "https://sd.example.com",
        "AGENT_PROXIES": (), "OIDC_ISSUER": "https://id.example.com", "METRICS_CONFIGS_INFO": False,
        "AD_ALLOWED_ENV_VARS": frozenset({"home"}), "DATABASE_URL": "postgresql://x/x?sslmode=verify-full",
        "CERTIFICATE": folder / "own.pem", "CERTIFICATE_KEY": folder / "own.pem",
    }.items():  # fmt: skip
        monkeypatch.setattr(conf, option, value)
    assert levels(doctor.weak_defaults(with_database=True)) == [Level.OK]


@pytest.mark.django_db
def test_the_first_password_is_named_until_it_is_changed_wherever_its_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_named() -> bool:
        return "unchanged password" in {one.name for one in weaknesses.found(with_database=True)}

    first = "made at first, for the first"
    user = User.objects.create_superuser(ADMIN, password=first)
    assert is_named()
    monkeypatch.setattr(conf, "LOCAL_LOGIN", False)
    assert not is_named()
    monkeypatch.setattr(conf, "LOCAL_LOGIN", True)
    # What was on record then may be gone.
    User.objects.update(date_joined=clock.now() - conf.ACT_RETENTION - timedelta(days=1))
    assert not is_named()
    User.objects.update(date_joined=clock.now())
    client = Client()
    client.force_login(user)
    fields = {
        "old_password": first,
        "new_password1": "one of my own, at last",
        "new_password2": "one of my own, at last",
    }
    assert client.post("/admin/password_change/", fields).status_code == 302
    assert not is_named()


def test_config_files_that_may_read_no_environment_are_no_weak_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "environment" in {one.name for one in weaknesses.found(with_database=False)}
    monkeypatch.setattr(conf, "AD_DISABLE_ENV_VAR_RESOLUTION", True)
    assert "environment" not in {one.name for one in weaknesses.found(with_database=False)}


def test_a_provider_of_logins_that_does_not_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not list(doctor.single_sign_on())
    monkeypatch.setattr(conf, "OIDC_ISSUER", "http://127.0.0.1:9")
    provider.provider.cache_clear()
    [found] = doctor.single_sign_on()
    provider.provider.cache_clear()
    monkeypatch.setattr(provider._away, "until", 0.0)
    assert found.level == Level.FAIL
    assert "http://127.0.0.1:9 does not answer as its provider: ConnectionError" in found.text
    assert "clusteragent breakglass" in found.remedy
