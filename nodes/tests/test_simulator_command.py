"""`manage.py simulatenodes`: its arguments, what it prints and how it ends."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from clusteragent.lib import conf
from nodes import simulation_run
from nodes.agent_client import Server, SimulationError, Timing, read_configs
from nodes.simulation_run import Terminal
from nodes.simulator import Observer, SimulatedNode, Simulation
from nodes.tests.scripted_server import FALSE, TOKEN, Answer, ScriptedServer, configs, scenario, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes each simulation that was started would have had; none is run."""
    counts: list[int] = []

    monkeypatch.setattr(simulation_run, "run", lambda _simulate, connections, *_tell: counts.append(connections))
    monkeypatch.setattr(conf, "AUTH_TOKEN", TOKEN)
    return counts


@pytest.mark.parametrize(("arguments", "count"), [(["--nodes", "7"], 7), (["--name", "ash"], 1)])
def test_it_runs_as_many_nodes_as_it_was_told(started: list[int], arguments: list[str], count: int) -> None:
    call_command("simulatenodes", *arguments)
    assert started == [count]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--nodes --name"),
        (["--nodes", "0"], "--nodes.*'0'"),
        (["--nodes", "x"], "--nodes.*'x'"),
        (["--name", ""], "--name.*''"),
        (["--nodes", "3", "--name", "ash"], "--name.*--nodes"),
        (["--name", "ash", "--interval", "0"], "--interval.*'0'"),
        (["--name", "ash", "--interval", "nan"], "--interval.*'nan'"),
        (["--name", "ash", "--url", "http://127.0.0.1:5005"], "'http://127.0.0.1:5005'"),
        (["--name", "ash", "--token-file", "/nowhere/token"], "--token-file /nowhere/token"),
    ],
)
def test_a_wrong_argument_is_named(started: list[int], arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message) as error:
        call_command("simulatenodes", *arguments)
    assert started == []
    assert error.value.returncode in (1, 2)


def test_without_a_token_it_says_where_one_may_come_from(
    started: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conf, "AUTH_TOKEN", "")
    monkeypatch.setattr(conf, "VAR", tmp_path)
    with pytest.raises(CommandError, match=re.escape(f"{tmp_path}/cluster_agent.auth_token does not exist")) as error:
        call_command("simulatenodes", "--name", "ash")
    assert error.value.returncode == 2
    assert started == []


def test_the_token_file_wins(started: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conf, "AUTH_TOKEN", "")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    call_command("simulatenodes", "--name", "ash", "--token-file", str(file))
    assert started == [1]


def test_more_nodes_than_the_machine_allows_are_refused_with_the_limit() -> None:
    with pytest.raises(SimulationError, match=r"999999999 nodes need .* open files"):
        simulation_run.run(pytest.fail, 999_999_999)


@scenario
async def test_a_line_is_printed_when_the_checks_of_a_node_change_and_only_then() -> None:
    out = io.StringIO()
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=[configs("ntp:a", "ntp:b", "load:"), configs("ntp:b", "cpu:")])
        async with Simulation(Server.at(server.url, TOKEN), Timing(poll=0.02), Terminal(out)) as simulation:
            node = simulation.start("ash")
            await until(lambda: node.counters.fetches > 5)
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in out.getvalue().splitlines()]
    assert lines == [
        "ash runs 3 (load, ntp x2) started: load, ntp:a, ntp:b stopped: -",
        "ash runs 2 (cpu, ntp) started: cpu stopped: load, ntp:a",
    ]


@scenario
async def test_a_line_is_printed_when_contact_is_lost_and_regained() -> None:
    out = io.StringIO()
    async with ScriptedServer() as server:
        server.answer(version=[Answer("invalid session token", 403), Answer("{}")])
        timing = Timing(first_retry=0.02)
        async with Simulation(Server.at(server.url, TOKEN), timing, Terminal(out)) as simulation:
            simulation.start("ash")
            await until(lambda: server.asked("configs"))
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in out.getvalue().splitlines()]
    assert lines == ["ash GET /version: 403 invalid session token", "ash reaches the server"]


def test_a_long_list_of_changes_is_cut() -> None:
    out = io.StringIO()
    node = SimulatedNode("ash", Server.at("127.0.0.1:1", TOKEN), Timing(), Observer())
    _, many = read_configs(configs(*(f"ntp:{number}" for number in range(20))).encode())
    Terminal(out).checks_changed(node, many, [])
    assert "ntp:7, and 12 more stopped: -" in out.getvalue()


@contextmanager
def simulatenodes(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A real process of the command, for a server that refuses connections."""
    command = [sys.executable, "manage.py", "simulatenodes", "--url", "https://127.0.0.1:1", *arguments]
    environment = os.environ | {"DD_CLUSTER_AGENT_AUTH_TOKEN": TOKEN}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.processes
@pytest.mark.parametrize("argument", ["--nodes=none", "--url=http://127.0.0.1"])
def test_on_the_command_line_a_wrong_argument_is_one_clear_line_and_exit_code_2(argument: str) -> None:
    with simulatenodes("--name=ash", argument) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert argument.partition("=")[2] in error.splitlines()[-1]
    assert "Traceback" not in error


def catches(process: subprocess.Popen[str], number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) & 1 << number - 1)


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("nodes", ["--name=ash", "--nodes=50"])
def test_a_signal_ends_it_at_once_with_exit_code_0(nodes: str, number: int) -> None:
    with simulatenodes(nodes) as process:
        deadline = time.monotonic() + 20
        while not (catches(process, signal.SIGTERM) and catches(process, signal.SIGINT)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        sent = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - sent < 0.5
