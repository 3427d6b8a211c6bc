"""Which options don't go together, and that the defaults do."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import checks

from clusteragent.lib import conf


def found() -> set[str]:
    return {str(message.id) for message in checks.run_checks() if str(message.id).startswith("clusteragent.")}


@pytest.fixture(autouse=True)
def _defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "DATABASE_URL", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, set()),
        ({"ADMIN_BIND": ("127.0.0.1", 5005)}, {"clusteragent.E001"}),
        ({"ADMIN_BIND": ("0.0.0.0", 5006)}, {"clusteragent.W001"}),
        ({"ADMIN_BIND": ("0.0.0.0", 5006), "ADMIN_HOSTS": ("admin.example.com",)}, set()),
        ({"LOCAL_TOKEN": "t" * 32, "AUTH_TOKEN": "t" * 32}, {"clusteragent.E002"}),
        ({"AUTH_TOKEN": "", "LOCAL_TOKEN": "", "SECRET_KEY": ""}, set()),
        ({"NODE_EXPIRATION_TIMEOUT": timedelta(seconds=10)}, {"clusteragent.W002"}),
        ({"DEMO_NODES": 3, "DATABASE_URL": "postgresql://db"}, {"clusteragent.W003"}),
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
