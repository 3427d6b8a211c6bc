"""What the check of a container's health asks: the servers that its first process is, becomes or starts."""

import pytest

from clusteragent import health
from clusteragent.lib import conf

COMMAND = "/opt/clusteragent/bin/python", "/opt/clusteragent/bin/clusteragent"


@pytest.fixture(autouse=True)
def binds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "BIND", ("0.0.0.0", 15005))
    monkeypatch.setattr(conf, "ADMIN_BIND", ("0.0.0.0", 15006))


@pytest.mark.parametrize(
    ("command", "ports"),
    [
        ([*COMMAND, "all"], [15005, 15006]),
        ([*COMMAND, "agents"], [15005]),
        ([*COMMAND, "operators"], [15006]),
        (["python", "-m", "granian", "--port", "15005"], [15005]),
        (["python", "-m", "granian", "--port", "15006"], [15006]),
        ([*COMMAND, "runagent"], []),
        ([*COMMAND, "migrate"], []),
    ],
)
def test_the_role_s_servers_are_asked_from_its_start_on(command: list[str], ports: list[int]) -> None:
    assert health.asked(command) == [f"https://127.0.0.1:{port}" for port in ports]


def test_a_server_that_does_not_answer_is_named() -> None:
    assert health.failure("https://127.0.0.1:1").startswith("https://127.0.0.1:1/healthz: ")
