"""What a simulated node agent does when the server answers, answers wrongly, or does not answer."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from simulation.agents import Observer, SimulatedNode, Simulation
from simulation.client import Config, Server, Timing
from simulation.tests.scripted_server import FALSE, TOKEN, TRUE, Answer, ScriptedServer, configs, scenario, until

QUICK = Timing(poll=0.01, first_retry=0.01, longest_retry=0.02)
RARELY = Timing(poll=60, first_retry=60)


@asynccontextmanager
async def ash_at(server: ScriptedServer, timing: Timing = QUICK, **options: Any) -> AsyncIterator[SimulatedNode]:
    async with Simulation(Server.at(server.url, TOKEN), timing) as simulation:
        yield simulation.start("ash", **options)


def names(node: SimulatedNode) -> list[str]:
    return sorted(running.config.label for running in node.running.values())


def last_changes(server: ScriptedServer) -> list[int]:
    return [json.loads(request.body)["last_change"] for request in server.asked("status")]


@scenario
async def test_an_agent_starts_with_version_then_status_then_configs_at_once() -> None:
    async with ScriptedServer() as server, ash_at(server, RARELY):
        await until(lambda: len(server.requests) == 3)
        assert server.order() == ["version", "status", "configs"]
        assert server.asked("status")[0].body == '{"last_change":0}'


@pytest.mark.parametrize("broken", [Answer("", 503), Answer("Forbidden", 403), Answer("no JSON"), Answer("[]")])
@scenario
async def test_an_agent_asks_nothing_else_until_the_version_came(broken: Answer) -> None:
    async with ScriptedServer() as server:
        server.answer(version=[broken] * 3 + [Answer("{}")])
        async with ash_at(server):
            await until(lambda: server.asked("status"))
        assert server.order()[:5] == ["version"] * 4 + ["status"]


@scenario
async def test_the_pause_between_two_tries_doubles_up_to_the_longest() -> None:
    async with ScriptedServer() as server:
        server.answer(version=Answer("", 503))
        async with ash_at(server, Timing(first_retry=0.1, longest_retry=0.2)):
            await until(lambda: len(server.requests) == 5)
    pauses = [later.at - sooner.at for sooner, later in zip(server.requests, server.requests[1:], strict=False)]
    assert all(pause >= least for pause, least in zip(pauses, [0.1, 0.2, 0.2, 0.2], strict=True))
    assert sum(pauses) < 0.1 + 0.2 + 0.4 + 0.8


@scenario
async def test_an_agent_fetches_only_after_it_was_told_that_its_configs_changed() -> None:
    async with ScriptedServer() as server:
        server.answer(status=[FALSE, TRUE, TRUE, FALSE, TRUE])
        server.answer(configs=[configs("ntp:a", last_change=7), configs("ntp:b", last_change=2**60)])
        async with ash_at(server) as node:
            await until(lambda: len(server.requests) >= 8)
            assert server.order()[1:8] == ["status", "configs", "status", "status", "status", "configs", "status"]
            assert last_changes(server)[:5] == [0, 7, 7, 7, 2**60]
            assert names(node) == ["ntp:b"]


@scenario
async def test_an_agent_reports_each_interval() -> None:
    async with ScriptedServer() as server, ash_at(server, Timing(poll=0.1)):
        await until(lambda: len(server.asked("status")) == 4)
    times = [request.at for request in server.asked("status")]
    assert 0.3 <= times[3] - times[0] < 1


@pytest.mark.parametrize(("node_type", "body"), [(1, '{"last_change":0,"node_type":1}'), (0, '{"last_change":0}')])
@scenario
async def test_an_agent_says_what_type_of_node_it_is_unless_zero(node_type: int, body: str) -> None:
    async with ScriptedServer() as server, ash_at(server, RARELY, node_type=node_type):
        await until(lambda: server.asked("status"))
        assert server.asked("status")[0].body == body


@scenario
async def test_the_same_bytes_restart_nothing_whatever_their_order_source_and_last_change() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE)
        server.answer(
            configs=[
                configs("ntp:a", "load:b", last_change=1, source="file:/a", provider="file"),
                configs("load:b", "ntp:a", last_change=2, source="file:/b", provider="api", unknown=[1]),
            ]
        )
        async with ash_at(server) as node:
            await until(lambda: names(node))
            since = {digest: running.since for digest, running in node.running.items()}
            await until(lambda: node.counters.fetches > 15)
            assert {digest: running.since for digest, running in node.running.items()} == since
            assert (node.counters.starts, node.counters.stops, node.counters.restarts) == (2, 0, 0)


@scenario
async def test_other_bytes_restart_that_check_alone() -> None:
    changes: list[tuple[list[str], list[str]]] = []

    class Seen(Observer):
        def checks_changed(self, node: SimulatedNode, started: list[Config], stopped: list[Config]) -> None:
            changes.append(([config.label for config in started], [config.label for config in stopped]))

    async with ScriptedServer() as server:
        server.answer(status=FALSE)
        changed = json.loads(configs("ntp:a", "load:b", last_change=2))
        changed["configs"][0]["init_config"] = "e30K"
        server.answer(configs=[configs("ntp:a", "load:b"), json.dumps(changed), configs("load:b", last_change=3)])
        async with Simulation(Server.at(server.url, TOKEN), QUICK, Seen()) as simulation:
            node = simulation.start("ash")
            await until(lambda: len(changes) == 3)
    assert changes == [(["ntp:a", "load:b"], []), (["ntp:a"], ["ntp:a"]), ([], ["ntp:a"])]
    assert (node.counters.starts, node.counters.stops, node.counters.restarts) == (3, 2, 1)


@pytest.mark.parametrize(
    "broken", [Answer("", 500), Answer("", 204), Answer("{"), Answer("[]"), Answer('{"isuptodate":1}'), Answer("", 403)]
)
@scenario
async def test_a_report_that_fails_counts_as_up_to_date_however_long_it_fails(broken: Answer) -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a", last_change=5))
        async with ash_at(server) as node:
            await until(lambda: names(node))
            server.answer(status=broken)
            await until(lambda: node.counters.heartbeats_failed > 10)
            assert (names(node), node.counters.fetches) == (["ntp:a"], 1)
            assert last_changes(server)[-1] == 5


@scenario
async def test_a_status_without_the_key_is_a_no() -> None:
    async with ScriptedServer() as server:
        server.answer(status="{}")
        async with ash_at(server):
            await until(lambda: len(server.asked("configs")) == 3)


@pytest.mark.parametrize("status", [201, 302, 403, 404, 500, 503])
@scenario
async def test_a_fetch_without_a_200_keeps_everything_and_is_repeated_each_poll(status: int) -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=[configs("ntp:a"), Answer(configs(), status)])
        async with ash_at(server) as node:
            await until(lambda: node.counters.fetches_failed == 5)
            assert names(node) == ["ntp:a"]
            assert server.order()[-6:] == ["status", "configs"] * 3


@scenario
async def test_a_fetch_that_is_answered_too_late_keeps_everything_and_costs_the_connection() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=[Answer(configs("ntp:a")), Answer(configs(), delay=0.6), configs("ntp:b")])
        async with ash_at(server, Timing(poll=0.02, response=0.25)) as node:
            await until(lambda: names(node) == ["ntp:b"])
            assert (node.counters.fetches_failed, server.connections) == (1, 2)


@pytest.mark.parametrize(
    "body",
    [
        configs(),
        '{"last_change":1,"configs":null}',
        "null",
        "",
        "<html>",
        "[]",
        '{"last_change":1.7e18,"configs":[]}',
        configs("ntp:a", last_change=2).replace("2,", "1.7e18,"),
        configs("ntp:a", logs="not base64!"),
        configs("ntp:a", check_name=5),
    ],
)
@scenario
async def test_a_200_that_is_empty_or_broken_stops_all_checks_at_once(body: str) -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=[configs("ntp:a", "load:b"), body])
        async with ash_at(server) as node:
            await until(lambda: len(names(node)) == 2)
            await until(lambda: not node.running)
            assert node.counters.stops == 2
            server.answer(configs=configs("ntp:a"))
            await until(lambda: names(node) == ["ntp:a"])


@scenario
async def test_a_broken_200_leaves_last_change_as_it_was() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE, configs=[configs("ntp:a", last_change=5), '{"last_change":6,"configs":[7]}'])
        async with ash_at(server):
            await until(lambda: len(server.asked("status")) > 3)
            assert last_changes(server)[:4] == [0, 5, 5, 5]


@scenario
async def test_an_extra_heartbeat_is_sent_when_the_last_good_report_is_old_and_once_per_period() -> None:
    timing = Timing(poll=0.1, extra_heartbeat=0.25)
    async with ScriptedServer() as server:
        server.answer(status=[TRUE, Answer("", 500)])
        async with ash_at(server, timing):
            await until(lambda: last_changes(server).count(-1) == 3)
    good, *extra = [server.asked("status")[0]] + [r for r in server.asked("status") if "-1" in r.body]
    pauses = [later.at - sooner.at for sooner, later in zip([good, *extra], extra, strict=False)]
    assert all(0.24 <= pause < 1 for pause in pauses)


@scenario
async def test_good_reports_need_no_extra_heartbeat() -> None:
    async with ScriptedServer() as server, ash_at(server, Timing(poll=0.05, extra_heartbeat=0.5)):
        await until(lambda: len(server.asked("status")) > 15)
        assert -1 not in last_changes(server)


@scenario
async def test_the_answer_to_an_extra_heartbeat_is_ignored() -> None:
    async with ScriptedServer() as server:
        server.answer(status=[TRUE, FALSE])
        async with ash_at(server, Timing(poll=60, extra_heartbeat=0.02)):
            await until(lambda: last_changes(server).count(-1) == 4)
        assert len(server.asked("configs")) == 1


@scenario
async def test_gzip_close_and_slow_answers_are_fine() -> None:
    async with ScriptedServer() as server:
        packed = Answer(gzip.compress(configs("ntp:a").encode()), headers={"Content-Encoding": "gzip"})
        closing = Answer(FALSE, headers={"Connection": "close"})
        server.answer(status=[FALSE, closing, FALSE], configs=[packed, Answer(configs("ntp:b"), delay=0.1)])
        async with ash_at(server) as node:
            await until(lambda: names(node) == ["ntp:b"])
            assert (node.counters.heartbeats_failed, node.counters.fetches_failed, node.failure) == (0, 0, "")


@scenario
async def test_an_answer_of_a_megabyte_is_read_whole() -> None:
    async with ScriptedServer() as server:
        many = [f"ntp:{number}" for number in range(10_000)]
        server.answer(configs=configs(*many))
        async with ash_at(server, RARELY) as node:
            await until(lambda: len(node.running) == 10_000)


@scenario
async def test_an_agent_tells_why_the_last_call_failed_and_when_the_next_did_not() -> None:
    failures: list[str] = []

    class Seen(Observer):
        def contact_changed(self, node: SimulatedNode) -> None:
            failures.append(node.failure)

    async with ScriptedServer() as server:
        server.answer(version=[Answer("invalid session token", 403)] * 2 + [Answer("{}")])
        async with Simulation(Server.at(server.url, TOKEN), QUICK, Seen()) as simulation:
            simulation.start("ash")
            await until(lambda: len(failures) == 2)
    assert failures == ["GET /version: 403 invalid session token", ""]


@scenario
async def test_a_node_that_vanishes_says_nothing_and_its_connection_ends() -> None:
    async with ScriptedServer() as server, Simulation(Server.at(server.url, TOKEN), RARELY) as simulation:
        simulation.start("ash")
        simulation.start("birch")
        await until(lambda: len(server.requests) == 6)
        simulation.vanish("ash")
        await until(lambda: len(server._writers) == 1)
        assert (list(simulation.nodes), len(server.requests)) == (["birch"], 6)


@scenario
async def test_the_summary_adds_up_what_the_nodes_did() -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a", "load:b"))
        async with Simulation(Server.at(server.url, TOKEN), RARELY) as simulation:
            for name in ("ash", "birch", "cedar"):
                simulation.start(name)
            await until(lambda: simulation.totals().starts == 6)
            assert simulation.summary() == (
                "3 nodes run 6 configs; heartbeats 3 (0 failed), fetches 3 (0 failed), starts 6, stops 0, restarts 0"
            )
