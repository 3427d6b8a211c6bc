"""What happens to the simulated node agents of a plan, and that the account tells it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from simulation.account import Account
from simulation.agents import SimulatedNode
from simulation.client import Server, Timing
from simulation.fleet import Cut, Fleet, Kill, Plan, Rollout
from simulation.tests.scripted_server import FALSE, TOKEN, Answer, ScriptedServer, configs, scenario, until

QUICK = Timing(poll=0.02, first_retry=0.02, longest_retry=0.02, response=0.1, dial=0.1)


@asynccontextmanager
async def playing(server: ScriptedServer, timing: Timing = QUICK, **plan: Any) -> AsyncIterator[Fleet]:
    """A fleet of four unless the plan says otherwise, whose plan goes on while the test does."""
    async with Fleet(Server.at(server.url, TOKEN), timing, Plan(**{"nodes": 4} | plan), Account()) as fleet:
        play = asyncio.create_task(fleet.play())
        try:
            yield fleet
        finally:
            play.cancel()
            await asyncio.wait([play])


def living(fleet: Fleet) -> set[str]:
    return {node.name for node in fleet.nodes.values() if node.is_up}


def heard(server: ScriptedServer, since: int = 0) -> set[str]:
    """Who reported, from that request on."""
    return {request.target.rpartition("/")[2] for request in server.requests[since:] if request.kind == "status"}


def events(fleet: Fleet) -> list[str]:
    return [event["what"] for event in fleet.report()["events"]]


@scenario
async def test_a_plan_without_events_is_played_until_its_time_is_over() -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with Fleet(Server.at(server.url, TOKEN), QUICK, Plan(nodes=3, seconds=0.5), Account()) as fleet:
            await fleet.play()
            report = fleet.report()
    assert heard(server) == {"node-1", "node-2", "node-3"}
    assert report["nodes"] == {"started": 3, "living": 3, "cut_off": 0}
    assert 0.5 <= report["seconds"] < 2
    assert report["heartbeats"]["answered"]["number"] == report["heartbeats"]["sent"] > 10
    assert report["own_delay"]["number"] > 1


@scenario
async def test_the_nodes_report_at_moments_spread_over_the_interval_and_drawn_by_the_seed() -> None:
    delays: list[dict[str, float]] = []

    class Delays(Fleet):
        def start(self, name: str, delay: float = 0, **options: Any) -> SimulatedNode:
            delays[-1][name] = delay
            return super().start(name, delay, **options)

    async with ScriptedServer() as server:
        for seed in (1, 1, 2):
            delays.append({})
            plan = Plan(nodes=100, seed=seed, seconds=0.01)
            async with Delays(Server.at(server.url, TOKEN), Timing(poll=40), plan, Account()) as fleet:
                await fleet.play()
    assert delays[0] == delays[1] != delays[2]
    assert {int(delay // 10) for delay in delays[0].values()} == {0, 1, 2, 3}


@scenario
async def test_killed_nodes_vanish_and_are_drawn_by_the_seed() -> None:
    survivors = []
    for seed in (1, 1, 2):
        async with ScriptedServer() as server, playing(server, seed=seed, nodes=30, kills=(Kill(0.1, 15),)) as fleet:
            await until(lambda fleet=fleet: len(fleet.nodes) == 15)
            survivors.append(set(fleet.nodes))
            assert events(fleet) == ["15 nodes vanished"]
    assert survivors[0] == survivors[1] != survivors[2]


@scenario
async def test_a_dead_nodes_checks_have_no_runner_until_others_fetch_them() -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with playing(server, nodes=1) as fleet:
            await until(lambda: fleet.report()["checks"]["running"] == 1)
            fleet.vanish("node-1")
            assert fleet.report()["checks"]["ended"] == 1
            fleet.start("birch")
            await until(lambda: fleet.report()["checks"]["running"] == 1)
            report = fleet.report()
    assert report["without_runner"]["number"] == report["takeovers"]["number"] == 1
    assert report["takeovers"]["longest"] >= report["without_runner"]["longest"] > 0


@scenario
async def test_nodes_that_are_cut_off_reach_nobody_and_run_what_they_had_and_return() -> None:
    async with ScriptedServer() as server:
        server.answer(configs=configs("ntp:a"))
        async with playing(server) as fleet:
            await until(lambda: sum(len(node.running) for node in fleet.nodes.values()) == 4)
            *cut, whole = fleet.nodes.values()
            for node in cut:
                node.link.cut()
            await until(lambda: fleet.report()["heartbeats"]["lost"] > 5)
            before = len(server.requests)
            await until(lambda: len(server.requests) > before + 3)
            assert heard(server, before) == {whole.name}
            assert all(len(node.running) == 1 for node in cut)
            for node in cut:
                node.link.mend()
            before = len(server.requests)
            await until(lambda: len(heard(server, before)) == 4)
            report = fleet.report()
    assert report["restarts"]["again"] == report["checks"]["ended"] == 0


@scenario
async def test_a_cut_takes_the_first_nodes_that_are_whole_and_ends() -> None:
    async with ScriptedServer() as server:
        cuts = (Cut(0.1, 1, 0.1), Cut(1, 2, 60), Cut(1.1, 1, 60))
        async with playing(server, cuts=cuts) as fleet:
            await until(lambda: len(events(fleet)) == 4)
            assert events(fleet)[:2] == ["1 nodes cut off", "1 nodes reach the server again"]
            assert {name for name, node in fleet.nodes.items() if node.link.is_cut} == {"node-1", "node-2", "node-3"}
            assert fleet.report()["nodes"]["cut_off"] == 3


@scenario
async def test_a_share_of_the_heartbeats_gets_lost_and_nothing_else() -> None:
    async with ScriptedServer() as server:
        server.answer(status=FALSE)
        async with playing(server, nodes=10, loss=0.5) as fleet:
            await until(lambda: len(server.asked("status")) > 100)
            report = fleet.report()
    heartbeats = report["heartbeats"]
    assert 0.3 < heartbeats["lost"] / (heartbeats["lost"] + heartbeats["sent"]) < 0.7
    assert report["fetches"]["sent"] > 0 == report["fetches"]["lost"]


@scenario
async def test_a_node_of_the_plan_misses_polls_and_no_other() -> None:
    async with ScriptedServer() as server, playing(server, nodes=3, losses=(("node-2", 0.5),)) as fleet:
        await until(lambda: "node-2" in fleet.nodes)
        lossy = fleet.nodes["node-2"]
        await until(lambda: 3 < lossy.counters.heartbeats_failed < lossy.counters.heartbeats - 3)
        assert not any(node.counters.heartbeats_failed for node in fleet.nodes.values() if node is not lossy)


@scenario
async def test_slow_nodes_send_in_halves_and_read_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulation.fleet.LAG", 0.3)
    async with ScriptedServer() as server, playing(server, nodes=2, slow=1) as fleet:
        await until(lambda: len(heard(server)) == 2)
        first = {name: next(r.at for r in server.asked("status") if r.target.endswith(name)) for name in heard(server)}
        assert fleet.report()["heartbeats"]["failed"] == 0
    # Of the hello two lags, and one before the heartbeat is whole.
    assert first["node-1"] - first["node-2"] > 0.6


@scenario
async def test_a_rolling_rollout_replaces_one_after_the_other_under_new_names() -> None:
    async with ScriptedServer() as server:
        rollout = Rollout("rolling", after=0.2, over=0.4, delay=(0.02, 0.04))
        async with playing(server, rollout=rollout) as fleet:
            sizes = set()
            async with asyncio.timeout(10):
                while living(fleet) != {f"node-{number}" for number in range(5, 9)}:
                    sizes.add(len(living(fleet)))
                    await asyncio.sleep(0.005)
            await until(lambda: "node-8" in heard(server))
            assert events(fleet) == ["rolling rollout begins", "rolling rollout ends: the last new node was made"]
    assert max(sizes) == 4
    assert fleet.report()["nodes"]["started"] == 8


@scenario
async def test_a_surge_lets_an_old_node_go_when_its_successor_is_up_a_quarter_at_a_time() -> None:
    async with ScriptedServer() as server:
        rollout = Rollout("surge", after=0.1, over=0, delay=(0.1, 0.15))
        async with playing(server, rollout=rollout) as fleet:
            await until(lambda: len(living(fleet)) == 4)
            most = 0
            async with asyncio.timeout(10):
                while living(fleet) != {f"node-{number}" for number in range(5, 9)}:
                    most = max(most, len(fleet.nodes))
                    assert len(living(fleet)) >= 4
                    await asyncio.sleep(0.005)
    assert most == 5


@scenario
async def test_recreate_ends_all_before_the_first_new_one_is_up() -> None:
    async with ScriptedServer() as server:
        rollout = Rollout("recreate", after=0.5, over=0, delay=(0.5, 0.6))
        async with playing(server, rollout=rollout) as fleet:
            await until(lambda: len(living(fleet)) == 4)
            await until(lambda: not living(fleet))
            await until(lambda: living(fleet) == {f"node-{number}" for number in range(5, 9)})


@scenario
async def test_a_node_that_was_killed_gets_no_successors_death() -> None:
    async with ScriptedServer() as server:
        rollout = Rollout("surge", after=0.1, over=0.2, delay=(0.1, 0.1))
        async with playing(server, kills=(Kill(0.15, 2),), rollout=rollout) as fleet:
            await until(lambda: len(events(fleet)) == 3)
            assert fleet.report()["nodes"]["started"] == 8


@scenario
async def test_what_the_server_refuses_is_a_failure_by_its_status() -> None:
    async with ScriptedServer() as server:
        server.answer(status=Answer("", 503))
        async with playing(server) as fleet:
            await until(lambda: fleet.report()["heartbeats"]["failed"] > 3)
            report = fleet.report()
    assert list(report["heartbeats"]["reasons"]) == ["503"]
    assert report["heartbeats"]["answered"]["number"] == 0
