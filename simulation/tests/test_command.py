"""`python -m simulation`, and `manage.py simulatenodes`: arguments, what they print and how they end."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from simulation.agents import Observer, SimulatedNode, Simulation
from simulation.client import Server, SimulationError, Timing, read_configs
from simulation.command import main
from simulation.process import Terminal, run
from simulation.tests.scripted_server import FALSE, TOKEN, Answer, ScriptedServer, configs, scenario, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes each simulation that was started would have had; none is run."""
    counts: list[int] = []

    monkeypatch.setattr("simulation.process.run", lambda _simulate, connections, *_tell: counts.append(connections))
    monkeypatch.setenv("DD_CLUSTER_AGENT_AUTH_TOKEN", TOKEN)
    return counts


@pytest.fixture
def refused(started: list[int], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What is said of arguments that are refused with exit code 2; nothing is started then."""

    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert (ended.value.code, started) == (2, [])
        return capsys.readouterr().err

    return refused


@pytest.mark.parametrize("door", [main, lambda arguments: call_command("simulatenodes", *arguments)])
@pytest.mark.parametrize(("arguments", "count"), [(["--nodes", "7"], 7), (["--name", "ash"], 1)])
def test_it_runs_as_many_nodes_as_it_was_told(
    started: list[int], door: Callable[[list[str]], None], arguments: list[str], count: int
) -> None:
    door(arguments)
    assert started == [count]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--nodes --name"),
        (["--nodes", "0"], "--nodes.*'0'"),
        (["--nodes", "x"], "--nodes.*'x'"),
        (["--name", ""], "--name.*''"),
        (["--name", "a/b"], "--name.*'a/b'"),
        (["--nodes", "3", "--prefix", " a"], "--prefix.*' a'"),
        (["--nodes", "3", "--name", "ash"], "--name.*--nodes"),
        (["--name", "ash", "--interval", "0"], "--interval.*'0'"),
        (["--name", "ash", "--interval", "nan"], "--interval.*'nan'"),
        (["--name", "ash", "--url", "http://127.0.0.1:5005"], "'http://127.0.0.1:5005'"),
        (["--name", "ash", "--token-file", "/nowhere/token"], "--token-file /nowhere/token"),
    ],
)
def test_a_wrong_argument_is_named(refused: Callable[..., str], arguments: list[str], message: str) -> None:
    assert re.search(message, refused(*arguments))


def test_the_management_command_names_a_wrong_argument_too(started: list[int]) -> None:
    with pytest.raises(CommandError, match="--token-file /nowhere/token") as error:
        call_command("simulatenodes", "--name", "ash", "--token-file", "/nowhere/token")
    assert (error.value.returncode, started) == (2, [])


def test_without_a_token_it_says_where_one_may_come_from(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DD_CLUSTER_AGENT_AUTH_TOKEN")
    monkeypatch.setenv("CLUSTERAGENT_VAR", str(tmp_path))
    assert f"{tmp_path}/cluster_agent.auth_token does not exist" in refused("--name", "ash")


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of the simulations that were started; none is run."""
    seen: list[str] = []
    monkeypatch.setattr("simulation.process.run", lambda one, _connections: seen.append(one.args[0].token))
    return seen


def test_the_token_is_the_arguments_or_the_environments_or_the_one_in_var(
    tokens: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sources = ["argument", "file of the option", "option", "cluster_agent.auth_token"]
    argument, option_file, _, _ = files = [tmp_path / name for name in sources]
    for file, letter in zip(files, "abcd", strict=True):
        file.write_text(f"{32 * letter}\n")
    monkeypatch.setenv("CLUSTERAGENT_VAR", str(tmp_path))
    monkeypatch.delenv("DD_CLUSTER_AGENT_AUTH_TOKEN", raising=False)
    main(["--name", "ash"])
    monkeypatch.setenv("DD_CLUSTER_AGENT_AUTH_TOKEN", 32 * "c")
    main(["--name", "ash"])
    monkeypatch.setenv("DD_CLUSTER_AGENT_AUTH_TOKEN_FILE", str(option_file))
    main(["--name", "ash"])
    main(["--name", "ash", "--token-file", str(argument)])
    assert tokens == [32 * letter for letter in "dcba"]


@pytest.mark.parametrize("option", ["DD_CLUSTER_AGENT_AUTH_TOKEN_FILE", "CLUSTERAGENT_VAR_FILE"])
def test_an_option_whose_file_cant_be_read_is_named(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.delenv("DD_CLUSTER_AGENT_AUTH_TOKEN")
    monkeypatch.setenv(option, "/nowhere/file")
    assert f"{option} /nowhere/file can't be read" in refused("--name", "ash")


def test_more_nodes_than_the_machine_allows_are_refused_with_the_limit() -> None:
    with pytest.raises(SimulationError, match=r"999999999 nodes need .* open files"):
        run(pytest.fail, 999_999_999)


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


LIGHT, DJANGO = ("-m", "simulation"), ("manage.py", "simulatenodes")


@contextmanager
def simulating(
    *arguments: str, door: Sequence[str] = LIGHT, stdout: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A real process of the command, for a server that refuses connections."""
    command = [sys.executable, *door, "--url", "https://127.0.0.1:1", *arguments]
    environment = os.environ | {"DD_CLUSTER_AGENT_AUTH_TOKEN": TOKEN}
    streams = {"stdout": stdout, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.processes
@pytest.mark.parametrize("door", [LIGHT, DJANGO])
@pytest.mark.parametrize("argument", ["--nodes=none", "--url=http://127.0.0.1"])
def test_on_the_command_line_a_wrong_argument_is_one_clear_line_and_exit_code_2(
    door: Sequence[str], argument: str
) -> None:
    with simulating("--name=ash", argument, door=door) as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert argument.partition("=")[2] in error.splitlines()[-1]
    assert "Traceback" not in error


@pytest.mark.processes
@pytest.mark.parametrize("who", ["--name=ash", "--nodes=2"])
def test_a_taken_port_of_the_stats_is_one_clear_line_and_exit_code_2(who: str) -> None:
    with socket.create_server(("", 0)) as taken, simulating(who, f"--stats-port={taken.getsockname()[1]}") as process:
        _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert re.fullmatch(r"python -m simulation: the stats API can't listen on [\d.:]+: Address already in use\n", error)


@pytest.mark.processes
def test_a_node_whose_reader_went_away_ends_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with simulating("--name=ash", stdout=writing) as process:
        os.close(writing)
        _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (1, "")


@pytest.mark.processes
def test_it_loads_neither_django_nor_the_server() -> None:
    """A whole life, with runners, in a process that writes down each import."""
    arguments = ("--nodes=2", "--for=0.2", "--slow=1", f"--stats-port={free_port()}")
    with simulating(*arguments, door=("-X", "importtime", *LIGHT)) as process:
        _, error = process.communicate(timeout=20)
    loaded = {line.rpartition("|")[2].strip() for line in error.splitlines() if line.startswith("import time:")}
    assert process.returncode == 0
    assert {"simulation.command", "simulation.fleet", "simulation.runners"} <= loaded
    assert not {name.partition(".")[0] for name in loaded} & {"django", "clusteragent", "operators", "checks", "nodes"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def catches(process: subprocess.Popen[str], number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) & 1 << number - 1)


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("door", "nodes"), [(LIGHT, "--name=ash"), (LIGHT, "--nodes=50"), (DJANGO, "--name=ash")])
def test_a_signal_ends_it_at_once_with_exit_code_0(door: Sequence[str], nodes: str, number: int) -> None:
    with simulating(nodes, door=door) as process:
        deadline = time.monotonic() + 20
        while not (catches(process, signal.SIGTERM) and catches(process, signal.SIGINT)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        sent = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - sent < 0.5
