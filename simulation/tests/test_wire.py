"""What a simulated node agent puts on the wire, against what was recorded with a real one."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from simulation.agents import Observer, SimulatedNode, Simulation
from simulation.client import Config, Server, SimulationError, Timing
from simulation.tests.scripted_server import FALSE, TOKEN, TRUE, Answer, ScriptedServer, scenario, until

GOLDEN = Path(__file__).parents[2] / "tests" / "data" / "golden"
QUICK = Timing(poll=0.01, first_retry=0.01, longest_retry=0.02)
NAME = "runner-1-clc"


def recorded(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@asynccontextmanager
async def runner_at(server: ScriptedServer, timing: Timing = QUICK, name: str = NAME) -> AsyncIterator[SimulatedNode]:
    async with Simulation(Server.at(server.url, TOKEN), timing) as simulation:
        yield simulation.start(name, real_ip="127.0.0.1")


def script(server: ScriptedServer, exchanges: list[dict[str, Any]]) -> None:
    """Answer as recorded, then that all is up to date."""
    answers: dict[str, list[Answer | str]] = {"version": [], "status": [], "configs": []}
    for exchange in exchanges:
        route = next(route for route in answers if f"/{route}" in exchange["request"]["path"])
        answers[route].append(Answer(exchange["response"]["body"], exchange["response"]["status"]))
    answers["status"].append(TRUE)
    server.answer(**answers)


def same_request(exchange: dict[str, Any], server: ScriptedServer) -> tuple[Any, ...]:
    """The recorded request, with this server's address and token."""
    request = exchange["request"]
    ours = {"Host": server.url.removeprefix("https://"), "Authorization": f"Bearer {TOKEN}"}
    headers = [(key, ours.get(key, value)) for key, value in request["headers"]]
    return request["method"], request["path"], headers, request["body"]


@scenario
async def test_the_requests_are_those_of_the_recorded_start() -> None:
    exchanges = recorded("agent_startup")
    async with ScriptedServer() as server:
        script(server, exchanges)
        async with runner_at(server):
            await until(lambda: len(server.requests) >= len(exchanges))
        asked = [(request.method, request.target, request.headers, request.body) for request in server.requests]
        assert asked[: len(exchanges)] == [same_request(exchange, server) for exchange in exchanges]
        assert server.tls == [(exchanges[0]["tls"]["version"], exchanges[0]["tls"]["alpn"])]


@scenario
async def test_the_recorded_start_runs_what_the_real_agent_ran() -> None:
    fetches = [exchange for exchange in recorded("agent_startup") if "/configs/" in exchange["request"]["path"]]
    running: list[list[str]] = []

    class Seen(Observer):
        def checks_changed(self, node: SimulatedNode, started: list[Config], stopped: list[Config]) -> None:
            running.append(sorted(run.config.label for run in node.running.values()))

    async with ScriptedServer() as server:
        server.answer(status=[FALSE] * len(fetches) + [TRUE], configs=[Answer(f["response"]["body"]) for f in fetches])
        async with Simulation(Server.at(server.url, TOKEN), QUICK, Seen()) as simulation:
            node = simulation.start("ash")
            await until(lambda: len(running) == len(fetches))
    # The last answer has a template and one with cluster_check true, which never run, and `logs: ""`, which does.
    assert running == [
        ["load", "ntp:alpha", "snmp:lab"],
        ["load", "ntp:alpha", "snmp:lab"],
        ["load", "ntp:alpha"],
        ["http_check:py", "load", "ntp", "ntp:alpha", "ntp:logsempty", "ntp:two-a,two b"],
    ]
    assert node.counters.restarts == 1


@scenario
async def test_the_requests_around_an_outage_are_those_recorded() -> None:
    exchanges = recorded("agent_outage_same")
    back = next(number for number, exchange in enumerate(exchanges) if exchange["connection"] == 2)
    async with ScriptedServer() as server:
        script(server, exchanges[:back])
        # After the last good report polls are due at 0.3, 0.6, 0.9 s, extra heartbeats at 0.375 and 0.75 s.
        async with runner_at(server, Timing(poll=0.3, extra_heartbeat=0.375)) as node:
            await until(lambda: len(server.requests) == back)
            since = [running.since for running in node.running.values()]
            await server.go_away()
            await until(lambda: node.counters.heartbeats_failed == 3)
            script(server, exchanges[back:])
            await server.listen()
            await until(lambda: len(server.requests) >= len(exchanges))
            assert [running.since for running in node.running.values()] == since
        asked = [(r.connection, r.method, r.target, r.headers, r.body) for r in server.requests]
        assert asked[: len(exchanges)] == [(e["connection"], *same_request(e, server)) for e in exchanges]


@scenario
async def test_an_empty_real_ip_is_sent_all_the_same() -> None:
    async with ScriptedServer() as server, Simulation(Server.at(server.url, TOKEN)) as simulation:
        simulation.start("ash")
        await until(lambda: len(server.requests) == 3)
        assert all(("X-Real-Ip", "") in request.headers for request in server.requests)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ash", "ash"),
        ("ash 1/ä", "ash%201/%C3%A4"),
        ("a%2Fb", "a%2Fb"),
        ("a:b@c?d=e", "a:b@c?d=e"),
        ("a\r\nb", "a%0D%0Ab"),
    ],
)
@scenario
async def test_the_name_is_escaped_only_where_http_must(name: str, path: str) -> None:
    async with ScriptedServer() as server:
        async with runner_at(server, name=name):
            await until(lambda: len(server.requests) == 3)
        assert server.requests[1].target == f"/api/v1/clusterchecks/status/{path}"
        assert server.requests[2].target == f"/api/v1/clusterchecks/configs/{path}"


@scenario
async def test_one_connection_serves_a_node_all_its_life() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE)
        async with runner_at(server):
            await until(lambda: len(server.requests) > 40)
        assert server.connections == 1


@scenario
async def test_a_connection_that_the_server_closed_meanwhile_costs_no_heartbeat() -> None:
    async with ScriptedServer() as server, runner_at(server, Timing(poll=0.1)) as node:
        await until(lambda: len(server.requests) == 3)
        server.cut()
        await until(lambda: len(server.requests) == 5)
        assert (server.connections, node.counters.heartbeats_failed) == (2, 0)


@scenario
async def test_a_server_that_never_ends_its_answer_is_given_up_after_the_time_for_a_call() -> None:
    async with ScriptedServer() as server:
        server.answer(status=[Answer(TRUE, missing=5), TRUE])
        async with runner_at(server, Timing(poll=0.05, call=0.4)) as node:
            await until(lambda: len(server.asked("status")) == 2)
            assert (server.connections, node.counters.heartbeats_failed) == (2, 1)


@scenario
async def test_a_server_that_accepts_but_does_not_speak_tls_is_given_up_after_the_handshake_time() -> None:
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
    url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, Simulation(Server.at(url, TOKEN), Timing(handshake=0.1, first_retry=0.02)) as simulation:
        node = simulation.start("ash")
        await until(lambda: len(accepted) == 2)
        assert "handshake" in node.failure
        # Before the end of the block, which waits for all connections.
        for writer in accepted:
            writer.transport.abort()


@pytest.mark.parametrize("url", ["{host}", "https://{host}", "https://{host}/"])
@scenario
async def test_a_url_may_lack_its_scheme_and_its_path_is_kept(url: str) -> None:
    async with ScriptedServer() as server:
        given = url.format(host=server.url.removeprefix("https://"))
        async with Simulation(Server.at(given, TOKEN)) as simulation:
            simulation.start("ash")
            await until(lambda: len(server.requests) == 3)
        assert server.requests[0].target == ("//version" if url.endswith("/") else "/version")


@pytest.mark.parametrize("url", ["http://127.0.0.1:5005", "ftp://host", "https://", "https://host:port", ""])
def test_any_other_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(SimulationError, match=re.escape(repr(url))):
        Server.at(url, TOKEN)


@pytest.mark.parametrize("token", ["", "t" * 31, "t" * 32 + "\n", "t" * 20 + " " + "t" * 20, "ä" * 32])
def test_a_token_that_no_server_takes_is_refused(token: str) -> None:
    with pytest.raises(SimulationError, match="token"):
        Server.at("https://127.0.0.1:5005", token)
