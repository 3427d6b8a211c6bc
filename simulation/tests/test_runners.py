"""The stats API of simulated runners: who is asked, who may ask, and what the checks cost."""

import asyncio
import math
import random
import ssl
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any

import httpx
import pytest

from simulation.account import Account
from simulation.agents import Observer, SimulatedNode
from simulation.client import Config, Server, SimulationError, Timing, read_configs
from simulation.fleet import Cut, Fleet, Plan, Rollout
from simulation.runners import (
    WORKERS,
    SimulatedRunners,
    named_address,
    number_at,
    numbered_address,
    stats,
    workers,
    works,
)
from simulation.tests.scripted_server import TOKEN, ScriptedServer, configs, scenario, until

AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
ANYWHERE = "0.0.0.0"


@asynccontextmanager
async def runners(server: ScriptedServer, **plan: Any) -> AsyncIterator[tuple[Fleet, int]]:
    """One runner unless the plan says otherwise, which runs something, and the port of their stats."""
    wanted = Plan(**{"nodes": 1} | plan)
    async with Fleet(Server.at(server.url, TOKEN), Timing(poll=0.1), wanted, Account(), with_addresses=True) as fleet:
        serving = SimulatedRunners(fleet.find, TOKEN)
        with closing(await serving.listen(ANYWHERE, 0)) as free:
            port = free.sockets[0].getsockname()[1]
        fleet.serve = partial(serving.listen, port=port)
        play = asyncio.create_task(fleet.play())
        try:
            await until(lambda: sum(bool(node.running) for node in fleet.nodes.values()) == wanted.nodes)
            yield fleet, port
        finally:
            play.cancel()


@pytest.fixture(scope="module")
def trusting() -> ssl.SSLContext:
    """As the peer's client: certificates are not verified, nothing below TLS 1.3 is spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def asking(trusting: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=trusting, headers=AUTHORIZED)


def node_running(*names: str) -> SimulatedNode:
    node = SimulatedNode("ash", Server.at("127.0.0.1:1", TOKEN), Timing(), Observer())
    _, wanted = read_configs(configs(*names).encode())
    node._apply(wanted)
    return node


@scenario
async def test_each_node_answers_at_its_own_address_which_it_also_reports(trusting: ssl.SSLContext) -> None:
    async with ScriptedServer() as server:
        server.answer(configs=[configs("ntp:a"), configs("ntp:b")])
        async with runners(server, nodes=2) as (fleet, port), asking(trusting) as client:
            for node in fleet.nodes.values():
                assert ("X-Real-Ip", node.real_ip) in next(
                    request.headers for request in server.asked("status") if request.target.endswith(node.name)
                )
                answer = await client.get(f"https://{node.real_ip}:{port}/api/v1/clcrunner/workers")
                assert answer.json() == workers(node, 0)
            assert len({node.real_ip for node in fleet.nodes.values()}) == 2
            assert '"node_type":1' in server.asked("status")[0].body
            version = await client.get(f"https://{node.real_ip}:{port}/api/v1/clcrunner/version")
            assert version.json()["Major"] == 7


@pytest.mark.parametrize(
    ("authorization", "status", "body"),
    [
        (None, 401, "no session token provided"),
        ("", 401, "no session token provided"),
        (f"bearer {TOKEN}", 401, "unsupported authorization scheme: bearer"),
        ("Bearer", 403, "invalid session token"),
        (f"Bearer {TOKEN}x", 403, "invalid session token"),
        (f"Bearer {TOKEN} x", 403, "invalid session token"),
    ],
)
@scenario
async def test_without_the_token_nothing_is_told(
    trusting: ssl.SSLContext, authorization: str | None, status: int, body: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with runners(server) as (_, port), httpx.AsyncClient(verify=trusting) as client:
            answer = await client.get(f"https://127.1.0.1:{port}/api/v1/clcrunner/stats", headers=headers)
    assert (answer.status_code, answer.text.strip()) == (status, body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/clcrunner/nothing", 404), ("GET", "/", 404), ("POST", "/api/v1/clcrunner/stats", 405)],
)
@scenario
async def test_there_is_nothing_else(trusting: ssl.SSLContext, method: str, path: str, status: int) -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with runners(server) as (_, port), asking(trusting) as client:
            answer = await client.request(method, f"https://127.1.0.1:{port}{path}", content=b"{}")
    assert answer.status_code == status


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.0.9"])
@scenario
async def test_an_address_of_no_living_node_is_not_answered(trusting: ssl.SSLContext, address: str) -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with runners(server) as (_, port), asking(trusting) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"https://{address}:{port}/api/v1/clcrunner/version")


@scenario
async def test_a_node_that_vanished_answers_no_more_even_on_a_connection_that_is_there(
    trusting: ssl.SSLContext,
) -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with runners(server) as (fleet, port), asking(trusting) as client:
            url = f"https://127.1.0.1:{port}/api/v1/clcrunner/version"
            assert (await client.get(url)).status_code == (await client.get(url)).status_code == 200
            fleet.vanish("node-1")
            with pytest.raises(httpx.TransportError):
                await client.get(url)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.1.0.1", port)


@scenario
async def test_a_node_that_is_cut_off_takes_the_question_and_does_not_answer(trusting: ssl.SSLContext) -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with runners(server, cuts=(Cut(0.3, 1, 60),)) as (fleet, port):
            await until(lambda: fleet.nodes["node-1"].link.is_cut)
            async with httpx.AsyncClient(verify=trusting, headers=AUTHORIZED, timeout=0.4) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(f"https://127.1.0.1:{port}/api/v1/clcrunner/version")


@scenario
async def test_a_port_that_is_taken_is_named() -> None:
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken:
        with pytest.raises(SimulationError, match=f"127.0.0.1:{port}"):
            await SimulatedRunners(lambda _: None, TOKEN).listen("127.0.0.1", port)


def test_a_check_appears_after_its_first_run_and_counts_its_runs() -> None:
    node = node_running("ntp:a")
    [running] = node.running.values()
    [work] = works(running.config, 0)
    assert work.execution < work.first <= work.interval + work.execution
    assert stats(node, 0, running.since + work.first - 0.01) == {}
    for runs in (1, 2, 3):
        [(check_id, shown)] = stats(node, 0, running.since + work.first + (runs - 0.5) * work.interval).items()
        assert (check_id, shown["TotalRuns"]) == (work.check_id, runs)


def test_a_check_whose_id_begins_so_fails_in_each_run() -> None:
    node = node_running("ntp:a", "ntp:b")
    told = stats(node, 0, time.monotonic() + 600, {"ntp:a": "refused"})
    shown = {check_id.rpartition(":")[0]: one for check_id, one in told.items()}
    failing, well = shown["ntp:a"], shown["ntp:b"]
    assert (failing["LastExecFailed"], failing["LastError"], failing["LastSuccessDate"]) == (True, "refused", 0)
    assert failing["TotalErrors"] == failing["TotalRuns"] > 0
    assert (well["LastExecFailed"], well["LastError"], well["TotalErrors"]) == (False, "", 0)
    assert well["LastSuccessDate"]


def test_the_checks_of_a_slow_node_take_so_many_times_as_long() -> None:
    usual, slow = node_running("ntp:a"), node_running("ntp:a")
    slow.slowdown = 3
    late = time.monotonic() + 600
    [[was], [is_now]] = [stats(node, 0, late).values() for node in (usual, slow)]
    assert is_now["AverageExecutionTime"] == pytest.approx(3 * was["AverageExecutionTime"], abs=3)
    [was, is_now] = [workers(node, 0)["Instances"]["worker_1"]["Utilization"] for node in (usual, slow)]
    assert is_now == pytest.approx(min(1 / WORKERS, 3 * was), abs=3e-4)


@scenario
async def test_a_slow_node_of_a_plan_stays_slow_when_it_starts_again() -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        reboot = Rollout("reboot", 1, 0, (0, 0))
        async with runners(server, nodes=2, slowdowns=(("node-2", 3.0),), rollout=reboot) as (fleet, _):
            first = fleet.nodes["node-2"]
            assert {node.name: node.slowdown for node in fleet.nodes.values()} == {"node-1": 1, "node-2": 3}
            await until(lambda: "node-2" in fleet.nodes and fleet.nodes["node-2"] is not first)
            assert fleet.nodes["node-2"].slowdown == 3


def test_stats_have_the_peers_keys_and_whole_numbers() -> None:
    node = node_running("ntp:a")
    [shown] = stats(node, 0, time.monotonic() + 60).values()
    assert {key: type(value) for key, value in shown.items()} == {
        "AverageExecutionTime": int,
        "MetricSamples": int,
        "HistogramBuckets": int,
        "Events": int,
        "ServiceChecks": int,
        "LastExecFailed": bool,
        "LastError": str,
        "TotalRuns": int,
        "TotalErrors": int,
        "TotalMetricSamples": int,
        "TotalEvents": int,
        "TotalServiceChecks": int,
        "LastSuccessDate": int,
        "LastExecutionDate": int,
    }
    assert abs(shown["LastExecutionDate"] / 1000 - shown["LastSuccessDate"]) <= 1


def test_execution_times_are_lognormal_and_depend_on_check_and_seed_alone() -> None:
    _, many = read_configs(configs(*(f"ntp:{number}" for number in range(2000))).encode())
    times = [work.execution for one in many for work in works(one, 0)]
    logs = [math.log(seconds) for seconds in times]
    assert math.exp(statistics.mean(logs)) == pytest.approx(0.4, rel=0.1)
    assert statistics.pstdev(logs) == pytest.approx(1.3, rel=0.1)
    assert max(times) <= 20
    works.cache_clear()
    again = random.sample(range(2000), 20)
    assert [works(many[number], 0)[0].execution for number in again] == [times[number] for number in again]
    assert works(many[0], 1)[0].execution != times[0]


def test_workers_are_four_and_share_what_the_checks_need() -> None:
    node = node_running("ntp:a", "ntp:b", "ntp:c")
    needed = sum(min(1, work.execution / 15) for run in node.running.values() for work in works(run.config, 0))
    told = workers(node, 0)
    assert told["Count"] == len(told["Instances"]) == 4
    assert all(worker == {"Utilization": pytest.approx(needed / 4, abs=1e-4)} for worker in told["Instances"].values())


@pytest.mark.parametrize(
    ("instance", "interval"),
    [("min_collection_interval: 60", 60), ("min_collection_interval: 0", 15), ("min_collection_interval: x", 15)],
)
def test_the_interval_is_what_the_instance_asks_for(instance: str, interval: float) -> None:
    [work] = works(Config(1, "ntp", (instance.encode(),)), 0)
    assert work.interval == interval


def test_a_go_check_of_one_instance_reports_under_its_bare_name() -> None:
    assert works(Config(1, "load", (b"{}",)), 0)[0].check_id == "load"
    assert [work.check_id.partition(":")[0] for work in works(Config(1, "load", (b"a: 1", b"a: 2")), 0)] == ["load"] * 2
    assert ":" in works(Config(1, "load", (b"a: 1", b"a: 2")), 0)[0].check_id


def test_addresses_are_loopback_and_one_nodes_own() -> None:
    assert [numbered_address(number) for number in (1, 255, 256)] == ["127.1.0.1", "127.1.0.255", "127.1.1.0"]
    assert [number_at(numbered_address(number)) for number in (1, 99_999)] == [1, 99_999]
    named = {named_address(name) for name in ("ash", "birch", "cedar")}
    assert len(named) == 3
    assert all(int(address.split(".")[1]) >= 128 for address in named)
