"""What the check of a container's health asks: the servers that its role is, becomes or starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusteragent import health
from clusteragent.lib import conf, credentials, processes
from tests.table import table
from tests.webserver import free_port

COMMAND = "/opt/clusteragent/bin/python", "/opt/clusteragent/bin/clusteragent"


@pytest.fixture(autouse=True)
def binds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "BIND", ("0.0.0.0", 15005))
    monkeypatch.setattr(conf, "ADMIN_BIND", ("0.0.0.0", 15006))


@table(
    ("command", "ports"),
    [
        ([*COMMAND, "all"], [15005, 15006]),
        ([*COMMAND, "agents"], [15005]),
        ([*COMMAND, "operators", "--verbosity", "0"], [15006]),
        (["python", "-P", "-m", "clusteragent", "agents"], [15005]),
        (["python", "manage.py", "serve", "operators"], [15006]),
        (["python", "-P", "-m", "clusteragent.listener", "agents", "0.0.0.0", "8443"], [8443]),
        ([*COMMAND, "runagent"], []),
        ([*COMMAND, "migrate"], []),
    ],
)
def test_the_role_s_servers_are_asked_from_its_start_on(command: list[str], ports: list[int]) -> None:
    assert health.asked(command) == {f"https://127.0.0.1:{port}" for port in ports}


@table(
    "command",
    [
        ["/sbin/docker-init", "--", "/opt/clusteragent/bin/clusteragent", "agents"],
        ["tini", "--", "clusteragent", "agents"],
    ],
)
def test_what_starts_a_role_is_taken_for_it(command: list[str]) -> None:
    assert health.asked(command) == {"https://127.0.0.1:15005"}


@table(
    "command",
    [["/pause"], [""], ["sh", "-c", "clusteragent agents"], [*COMMAND, "status"], ["python", "manage.py", "serve", "--help"],
        [*COMMAND], ["vi", "agents"],
     [*COMMAND, "createtoken", "agents"]],
)  # fmt: skip
def test_other_processes_are_no_role(command: list[str]) -> None:
    assert health.asked(command) is None


def first_process(script: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a shell as process 1 of a namespace, with this script. All that it starts ends with it."""
    namespace = ["unshare", "--map-root-user", "--fork", "--pid", "--mount-proc", "--kill-child"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace can be made here")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | options
    command = [*namespace, "bash", "-c", f"{script}; exit $?"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.processes
@pytest.mark.parametrize("role", ["runagent", "operators"])
def test_a_role_is_found_whatever_the_first_process_is(role: str, tmp_path: Path) -> None:
    credentials.make_missing(tmp_path)
    answer = first_process(
        f"python {processes.ROOT}/manage.py {role} & until python -P -m clusteragent.health; do :; done",
        PYTHONPATH=str(processes.ROOT),
        CLUSTERAGENT_ADMIN_BIND=f"127.0.0.1:{free_port()}",
        CLUSTERAGENT_VAR=str(tmp_path),
        DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none",
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.processes
def test_a_container_without_a_role_is_not_healthy() -> None:
    answer = first_process("python -P -m clusteragent.health", PYTHONPATH=str(processes.ROOT))
    assert (answer.returncode, answer.stderr) == (1, "no process here is a role of clusteragent\n")


def test_a_server_that_does_not_answer_is_named() -> None:
    assert health.failure("https://127.0.0.1:1").startswith("https://127.0.0.1:1/healthz: ")
