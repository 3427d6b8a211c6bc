"""`python -m simulation --nodes`: what happens to the nodes by option, and when it reports."""

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from simulation.account import Account
from simulation.client import Server, Timing
from simulation.command import main
from simulation.fleet import Cut, Fleet, Kill, Plan, Rollout
from simulation.process import tell
from simulation.runners import named_address, numbered_address
from simulation.tests.scripted_server import TOKEN
from simulation.tests.test_command import catches, free_port, simulating


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans of the simulations that were started; none is run."""
    fleets: list[Plan] = []

    def keep(fleet: Fleet, *_others: Any) -> None:
        fleets.append(fleet.plan)

    monkeypatch.setattr("simulation.process.run", lambda simulate, *_others: simulate())
    monkeypatch.setattr("simulation.process.simulate_fleet", keep)
    monkeypatch.setenv("DD_CLUSTER_AGENT_AUTH_TOKEN", TOKEN)
    return fleets


@pytest.mark.parametrize(
    ("arguments", "plan"),
    [
        ([], Plan(nodes=7)),
        (["--prefix", "pod-", "--seed", "3", "--for", "90"], Plan(nodes=7, prefix="pod-", seed=3, seconds=90)),
        (["--for", "40m"], Plan(nodes=7, seconds=2400)),
        (["--for", "1.5 hours", "--kill-after", "1m:2"], Plan(nodes=7, seconds=5400, kills=(Kill(60, 2),))),
        (["--kill-after", "60:2", "--kill-after=90.5:1"], Plan(nodes=7, kills=(Kill(60, 2), Kill(90.5, 1)))),
        (["--pause", "60:4:40"], Plan(nodes=7, cuts=(Cut(60, 4, 40),))),
        (["--drop-heartbeats", "0.1", "--slow", "2"], Plan(nodes=7, loss=0.1, slow=2)),
        (["--miss-polls=node-2=0.2", "--miss-polls=node-3=1"], Plan(nodes=7, losses=(("node-2", 0.2), ("node-3", 1)))),
        (["--run-slower", "node-2=4", "--stats-port=5015"], Plan(nodes=7, slowdowns=(("node-2", 4),))),
        (["--fail", "postgres:db=a=b", "--stats-port=5015"], Plan(nodes=7, errors=(("postgres:db", "a=b"),))),
        (["--rollout", "surge"], Plan(nodes=7, rollout=Rollout("surge", 60, 0, (0, 0)))),
        (
            ["--rollout=rolling", "--rollout-after=5", "--over=300", "--start-delay=15..40"],
            Plan(nodes=7, rollout=Rollout("rolling", 5, 300, (15, 40))),
        ),
    ],
)
def test_the_options_are_the_plan(plans: list[Plan], arguments: list[str], plan: Plan) -> None:
    main(["--nodes", "7", *arguments])
    assert plans == [plan]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kill-after", "60"], "--kill-after.*'60' has not 2 parts"),
        (["--kill-after", "60:0"], "--kill-after.*'0'"),
        (["--kill-after=-1:3"], "--kill-after.*'-1'"),
        (["--pause", "60:4"], "--pause.*'60:4' has not 3 parts"),
        (["--rollout", "sideways"], "--rollout.*'sideways'"),
        (["--start-delay", "40..15"], "--start-delay.*'40..15' ends before it begins"),
        (["--start-delay", "x..15"], "--start-delay.*'x'"),
        (["--drop-heartbeats", "1.1"], "--drop-heartbeats.*'1.1'"),
        (["--miss-polls", "node-2=2"], "--miss-polls.*'2'"),
        (["--miss-polls", "ash=0.2"], "--miss-polls: ash is no node of this simulation: node-1 is the first"),
        (["--run-slower", "node-2"], "--run-slower.*'node-2' has not 2 parts"),
        (["--run-slower", "node-2=0", "--stats-port=5015"], "--run-slower.*'0'"),
        (["--run-slower", "node-02=4", "--stats-port=5015"], "--run-slower: node-02 is no node"),
        (["--run-slower", "node-2=4"], "--run-slower needs --stats-port"),
        (["--fail", "postgres:db=refused"], "--fail needs --stats-port"),
        (["--fail", "=refused", "--stats-port=5015"], "--fail.*'=refused' is no beginning of a check ID and an error"),
        (["--fail", "postgres:db", "--stats-port=5015"], "--fail.*'postgres:db' is no beginning"),
        (["--stats-port", "70000"], "--stats-port.*'70000'"),
        (["--for", "0"], "--for.*'0'"),
        (["--for", "40x"], r"--for.*'40x' is no span, as 90s, 40m or 2h, from 0.1 to 1e\+06 seconds"),
        (["--for", "20d"], "--for.*'20d' is no span"),
        (["--report", "/nowhere/report.json"], "--report /nowhere/report.json can't be written"),
    ],
)
def test_a_wrong_option_is_named(
    plans: list[Plan], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--nodes", "7", *arguments])
    assert re.search(message, capsys.readouterr().err)
    assert plans == []


@pytest.mark.parametrize(
    "option", ["--kill-after=1:1", "--for=9", "--report=x.json", "--rollout=surge", "--slow=1", "--run-slower=ash=3"]
)
def test_a_single_node_has_no_plan(plans: list[Plan], capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--name", "ash", option])
    assert f"{option.partition('=')[0]} needs --nodes" in capsys.readouterr().err
    assert plans == []


def wait_until_it_heeds(process: subprocess.Popen[str], number: int) -> None:
    deadline = time.monotonic() + 20
    while not catches(process, number):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.processes
def test_it_reports_on_sigusr1_and_goes_on_and_again_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with simulating("--nodes=20", f"--report={file}", "--seed=5", "--interval=0.2") as process:
        wait_until_it_heeds(process, signal.SIGUSR1)
        reports = []
        for number in (signal.SIGUSR1, signal.SIGTERM):
            before = file.stat().st_mtime_ns if file.exists() else 0
            process.send_signal(number)
            deadline = time.monotonic() + 10
            while file.stat().st_mtime_ns == before or not file.stat().st_size:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            reports.append(json.loads(file.read_text()))
        _, error = process.communicate(timeout=5)
    assert process.returncode == 0
    assert len(re.findall(r"^after \d+ s: \d+ of \d+ nodes live, 0 cut off$", error, re.MULTILINE)) == 2
    assert [report["seed"] for report in reports] == [5, 5]
    assert reports[0]["seconds"] < reports[1]["seconds"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_report_that_cant_be_written_is_said_and_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fleet = Fleet(Server.at("127.0.0.1:1", TOKEN), Timing(), Plan(nodes=1), Account())
    tell(fleet.report(), tmp_path / "gone" / "report.json")
    assert f"{tmp_path}/gone/report.json can't be written: No such file" in capfd.readouterr().err


@pytest.mark.processes
def test_it_ends_by_itself_after_its_time_and_says_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    plan = ["--nodes=6", "--for=1.5", "--kill-after=0.5:2", "--pause=0.2:1:0.2", "--interval=0.2"]
    with simulating(*plan, f"--report={file}") as process:
        _, error = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in error) == (0, False)
    report = json.loads(file.read_text())
    assert report["nodes"] == {"started": 6, "living": 4, "cut_off": 0}
    assert [event["what"] for event in report["events"]] == [
        "1 nodes cut off",
        "1 nodes reach the server again",
        "2 nodes vanished",
    ]
    assert 1.5 <= report["seconds"] < 5


def asked_until_it_answers(url: str) -> int:
    deadline = time.monotonic() + 20
    while True:
        try:
            return httpx.get(url, verify=False, headers={"Authorization": f"Bearer {TOKEN}"}).status_code
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.processes
def test_single_nodes_serve_their_stats_on_one_port_each_at_its_own_address() -> None:
    port = free_port()
    with simulating("--name=ash", f"--stats-port={port}"), simulating("--name=birch", f"--stats-port={port}"):
        for name in ("ash", "birch"):
            assert asked_until_it_answers(f"https://{named_address(name)}:{port}/api/v1/clcrunner/workers") == 200


@pytest.mark.processes
def test_the_nodes_of_a_fleet_listen_at_addresses_of_their_own_alone_beside_other_nodes_on_the_port() -> None:
    port = free_port()
    with simulating("--name=ash", f"--stats-port={port}"):
        assert asked_until_it_answers(f"https://{named_address('ash')}:{port}/api/v1/clcrunner/workers") == 200
        with simulating("--nodes=2", "--interval=0.1", f"--stats-port={port}"):
            for number in (1, 2):
                url = f"https://{numbered_address(number)}:{port}/api/v1/clcrunner/workers"
                assert asked_until_it_answers(url) == 200
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.processes
def test_a_port_of_a_fleet_that_is_taken_is_said_before_a_node_starts() -> None:
    with socket.create_server((numbered_address(1), 0)) as taken:
        port = taken.getsockname()[1]
        with simulating("--nodes=2", f"--stats-port={port}") as process:
            _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert f"the stats API can't listen on 127.1.0.1:{port}: Address already in use" in error
