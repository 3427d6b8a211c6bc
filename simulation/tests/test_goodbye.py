"""Simulated node agents that say goodbye: what they send, how long they stay, and when."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.account import Account
from simulation.agents import Simulation
from simulation.client import Server, Timing
from simulation.fleet import Fleet, Plan, Rollout
from simulation.tests.scripted_server import FALSE, TOKEN, TRUE, Answer, ScriptedServer, configs, scenario, until

ROOT = Path(__file__).parents[2]
QUICK = Timing(poll=0.02)


def said(server: ScriptedServer) -> list[tuple[str, str]]:
    """Who said what: (path's last segment, kind)."""
    asked = server.asked("goodbye")
    return [(request.target.rpartition("/")[2], json.loads(request.body)["kind"]) for request in asked]


@scenario
async def test_who_leaves_stays_until_it_runs_nothing() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"))
        async with Simulation(Server.at(server.url, TOKEN), QUICK) as simulation:
            node = simulation.start("ash")
            await until(lambda: node.running)
            account = simulation.leave("ash", "leaving", patience=10)
            server.answer(configs=[configs("ntp:a"), configs("ntp:a"), configs()])
            await account
            assert not node.running
            assert simulation.nodes == {}
        assert said(server) == [("ash", "leaving")]


@scenario
async def test_it_reports_and_fetches_meanwhile_over_its_own_connection() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"))
        async with Simulation(Server.at(server.url, TOKEN), QUICK) as simulation:
            node = simulation.start("ash")
            await until(lambda: node.running)
            before = server.order()
            await simulation.leave("ash", "leaving", patience=0.2)
        after = server.requests[len(before) :]
        [goodbye] = server.asked("goodbye")
        assert len([request for request in after if request.kind == "status"]) > 2
        assert {request.connection for request in after if request.kind != "goodbye"} != {goodbye.connection}
        assert dict(goodbye.headers)["Authorization"] == f"Bearer {TOKEN}"


@scenario
async def test_it_goes_with_what_nobody_takes() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"))
        async with Simulation(Server.at(server.url, TOKEN), QUICK) as simulation:
            node = simulation.start("ash")
            await until(lambda: node.running)
            await simulation.leave("ash", "leaving", patience=0.05)
            assert node.running
            assert simulation.nodes == {}


@scenario
async def test_who_restarts_is_gone_at_once() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"))
        async with Simulation(Server.at(server.url, TOKEN), QUICK) as simulation:
            node = simulation.start("ash")
            await until(lambda: node.running)
            await simulation.leave("ash", "restarting")
            assert simulation.nodes == {}
        assert said(server) == [("ash", "restarting")]


@scenario
@pytest.mark.parametrize("answer", [Answer("404 page not found", 404), Answer("node ash is unknown", 500)])
async def test_who_is_not_heard_is_gone_at_once(answer: Answer) -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"), goodbye=answer)
        async with Simulation(Server.at(server.url, TOKEN), QUICK) as simulation:
            node = simulation.start("ash")
            await until(lambda: node.running)
            await simulation.leave("ash", "leaving")
            assert simulation.nodes == {}


@scenario
@pytest.mark.parametrize("kind", ["rolling", "surge", "recreate"])
async def test_those_that_a_rollout_replaces_say_goodbye(kind: str) -> None:
    plan = Plan(nodes=3, rollout=Rollout(kind, 0.1, 0.1, (0, 0)), goodbye="leaving", seconds=1)
    async with ScriptedServer() as server:
        server.answer(status=TRUE)
        async with Fleet(Server.at(server.url, TOKEN), QUICK, plan, Account()) as fleet:
            await fleet.play()
            await until(lambda: len(fleet.nodes) == 3)
            assert set(fleet.nodes) == {"node-4", "node-5", "node-6"}
        assert sorted(said(server)) == [(f"node-{number}", "leaving") for number in (1, 2, 3)]


@scenario
async def test_what_moves_because_of_a_goodbye_is_the_simulations_own_doing() -> None:
    account = Account()
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"))
        async with Simulation(Server.at(server.url, TOKEN), QUICK, account) as simulation:
            ash = simulation.start("ash")
            await until(lambda: ash.running)
            await ash.say_goodbye("leaving")
            simulation.start("birch")
            await until(lambda: account.report()["restarts"]["moved"])
    assert account.report()["restarts"]["moved_undisturbed"] == 0


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "goodbyes"),
    [
        (["--name=ash"], [("ash", "leaving")]),
        (["--name=ash", "--goodbye=restarting"], [("ash", "restarting")]),
        (["--name=ash", "--goodbye=none"], []),
        (["--nodes=2"], []),
        (["--nodes=2", "--goodbye=leaving"], [("node-1", "leaving"), ("node-2", "leaving")]),
    ],
)
@scenario
async def test_sigterm_lets_them_say_goodbye(words: list[str], goodbyes: list[tuple[str, str]]) -> None:
    async with ScriptedServer() as server:
        process = start(server, *words)
        try:
            await until(lambda: server.asked("configs"), 15)
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, 15)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        assert sorted(said(server)) == goodbyes


@pytest.mark.processes
@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
@scenario
async def test_ctrl_c_and_a_second_sigterm_end_it_at_once(numbers: list[int]) -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=configs("ntp:a"))
        process = start(server, "--name=ash")
        try:
            await until(lambda: server.asked("configs"), 15)
            process.send_signal(numbers[0])
            if numbers[1:]:
                await until(lambda: server.asked("goodbye"), 15)
                process.send_signal(numbers[1])
            await until(lambda: process.poll() is not None, 10)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        assert len(said(server)) == len(numbers) - 1


def start(server: ScriptedServer, *words: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "simulation", f"--url={server.url}", "--interval=0.1", *words]
    environment = os.environ | {"DD_CLUSTER_AGENT_AUTH_TOKEN": TOKEN}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)
