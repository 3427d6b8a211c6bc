"""System checks: which options contradict each other. The defaults don't."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import checks

from clusteragent.lib import conf

MANAGE = Path(__file__).parents[2] / "manage.py"


def found() -> set[str]:
    return {str(message.id) for message in checks.run_checks() if str(message.id).startswith("clusteragent.")}


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "DATABASE_URL", "")
    monkeypatch.setattr(conf, "DEMO_NODES", 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"ADMIN_BIND": ("127.0.0.1", 5005)}, {"clusteragent.E001"}),
        ({"ADMIN_BIND": ("0.0.0.0", 5006)}, {"clusteragent.W001"}),
        ({"ADMIN_BIND": ("0.0.0.0", 5006), "ADMIN_HOSTS": ("admin.example.com",)}, set()),
        ({"ADMIN_BIND": ("0.0.0.0", 5006), "ADMIN_URL": "https://ca.example.com"}, set()),
        ({"CERTIFICATE": Path("tls.crt")}, {"clusteragent.E011"}),
        ({"CERTIFICATE_KEY": Path("tls.key")}, {"clusteragent.E011"}),
        ({"CERTIFICATE": Path("tls.crt"), "CERTIFICATE_KEY": Path("tls.key")}, set()),
        ({"LOCAL_TOKEN": "t" * 32, "AUTH_TOKEN": "t" * 32}, {"clusteragent.E002"}),
        ({"AUTH_TOKEN": "", "LOCAL_TOKEN": "", "SECRET_KEY": ""}, set()),
        ({"NODE_EXPIRATION_TIMEOUT": timedelta(seconds=10)}, {"clusteragent.W002"}),
        ({"DEMO_NODES": 3, "DATABASE_URL": "postgresql://db"}, {"clusteragent.W003"}),
        ({"DEMO_NODES": 3, "SHARED_TOKEN_OPENS": False}, {"clusteragent.W008"}),
        ({"OIDC_ISSUER": "https://id", "OIDC_CLIENT_SECRET": "s"}, {"clusteragent.E009"}),
        ({"OIDC_ISSUER": "https://id", "GROUP_ROLES": {"admin": ("a",)}}, {"clusteragent.E010"}),
        ({"OIDC_ISSUER": "https://id", "OIDC_CLIENT_SECRET": "s", "GROUP_ROLES": {"admin": ("a",)}}, set()),
        ({"LOCAL_LOGIN": False}, {"clusteragent.W009"}),
        ({"DATABASE_URL": "postgresql://a,b/name"}, {"clusteragent.E003"}),
        ({"DATABASE_URL": "postgresql://a,b/name?target_session_attrs=any"}, {"clusteragent.E003"}),
        ({"DATABASE_URL": "hostaddr=10.0.0.1,10.0.0.2 dbname=name"}, {"clusteragent.E003"}),
        ({"DATABASE_URL": "postgresql://a,b/name?target_session_attrs=read-write"}, set()),
        ({"DATABASE_URL": "postgresql://a,b/name?target_session_attrs=primary"}, set()),
        ({"DATABASE_URL": "host=/run/a", "DIRECT_DATABASE_URL": "host=/run/a,/run/b"}, {"clusteragent.E003"}),
        ({"DIRECT_DATABASE_URL": "host=/run/a"}, {"clusteragent.E004"}),
        ({"DATABASE_URL": "host=pooler", "DIRECT_DATABASE_URL": "host=/run/a"}, set()),
        ({"KUBERNETES": "on"}, {"clusteragent.E006"}),
        ({"KUBERNETES": "on", "KUBECONFIG": Path("config")}, set()),
        ({"KUBERNETES": "off", "KUBECONFIG": Path("config")}, {"clusteragent.W005"}),
        ({"PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS": True}, {"clusteragent.W006"}),
        ({"PROMETHEUS_SCRAPE_ENABLED": True, "PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS": True}, set()),
        ({"PROMETHEUS_SCRAPE_ENABLED": True, "PROMETHEUS_SCRAPE_CHECKS": "{"}, {"clusteragent.E007"}),
        ({"CONTAINER_EXCLUDE": ("namespace:dev",)}, {"clusteragent.E007"}),
        ({"CONTAINER_EXCLUDE_METRICS": ("kube_namespace:(",)}, {"clusteragent.E007"}),
        ({"CONTAINER_EXCLUDE": ("kube_namespace:^dev$", "image:nginx")}, set()),
    ],
)
def test_wrong_combinations_are_found(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: set[str]
) -> None:
    for name, value in options.items():
        monkeypatch.setattr(conf, name, value)
    assert found() == expected


def test_every_finding_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "ADMIN_BIND", conf.BIND)
    (message,) = [message for message in checks.run_checks() if message.id == "clusteragent.E001"]
    assert "CLUSTERAGENT_ADMIN_BIND" in message.msg
    assert message.hint


def test_what_a_url_of_several_hosts_leaves_open_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "DATABASE_URL", "dbname=clusteragent")
    assert not found()
    monkeypatch.setenv("PGHOST", "a,b")
    assert found() == {"clusteragent.E003"}
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
    assert not found()


@pytest.mark.processes
@pytest.mark.parametrize("command", ["start", "serve agents", "serve operators", "runagent", "migrate"])
def test_nothing_starts_that_may_write_to_a_standby(tmp_path: Path, command: str) -> None:
    url = "postgresql://app:secret-word@a,b/clusteragent"
    environment = {"DATABASE_URL": url, "CLUSTERAGENT_VAR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, MANAGE, *command.split()], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "DATABASE_URL names several hosts" in done.stderr
    assert "target_session_attrs=read-write" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stderr


def test_passwords_beside_a_provider_are_a_weak_default_of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    def weak() -> set[str]:
        return {str(one.id) for one in checks.run_checks(include_deployment_checks=True)} - found()

    monkeypatch.setattr(conf, "OIDC_ISSUER", "https://id")
    assert "clusteragent.W010" in weak()
    monkeypatch.setattr(conf, "LOCAL_LOGIN", False)
    assert "clusteragent.W010" not in weak()
