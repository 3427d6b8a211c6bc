"""Checks that don't run move to another node. Configs that kill their nodes are quarantined."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher, tasks
from checks.dispatcher import StalePlan, quarantine, transaction
from checks.models import Assignment, Config, Move
from checks.models.map import NotLeader, Suspect
from checks.models.orders import Isolation
from checks.models.troubles import Trouble
from checks.tests.cast import lead, ledger, owners, report, sent, silence
from clusteragent.lib import conf
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeEvent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

LONG = timedelta(minutes=5)


def config_id(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def on(key: str) -> str:
    return owners()[key]


def noticed(kind: str) -> list[str]:
    return list(NodeEvent.objects.filter(kind=kind).order_by("pk").values_list("node_name", flat=True))


class TestNotRunning:
    @pytest.fixture(autouse=True)
    def _placed(self, warm: None) -> None:
        report("ash", "birch", "cedar")
        dispatcher.schedule([sent(f"{one:02}") for one in range(12)])

    def stand_still(self, *keys: str, since: timedelta = LONG) -> None:
        """Let rounds of stats find that these configs don't run on their nodes."""
        for key in keys:
            Trouble.objects.create(config_id=config_id(key), kind=Trouble.Kind.NOT_RUNNING, since=Now() - since)

    def test_it_is_noted_and_tried_elsewhere(self) -> None:
        before = on("00")
        self.stand_still("00")
        [move] = quarantine.try_elsewhere(term=lead())
        assert (move.source_node, move.to_node, move.reason) == (before, on("00"), "not running")
        assert on("00") != before
        assert noticed("not running") == [before]

    def test_it_goes_elsewhere_even_if_its_node_is_the_least_loaded(self) -> None:
        dispatcher.reassign([config_id(key) for key in owners() if key != "00"], "birch", actor="olga")
        Node.objects.filter(name="cedar").cordon()
        assert on("00") == "ash"
        self.stand_still("00")
        quarantine.try_elsewhere()
        assert on("00") == "birch"

    def test_once_a_day(self) -> None:
        self.stand_still("00")
        assert len(quarantine.try_elsewhere()) == 1
        assert quarantine.try_elsewhere() == []
        Move.objects.update(time=F("time") - timedelta(days=1, seconds=1))
        assert len(quarantine.try_elsewhere()) == 1

    def test_it_is_noted_once_for_as_long_as_it_lasts(self) -> None:
        Node.objects.exclude(name="ash").cordon()
        self.stand_still(next(key for key, node in owners().items() if node == "ash"))
        for _ in range(3):
            quarantine.try_elsewhere()
        assert noticed("not running") == ["ash"]

    def test_what_one_round_alone_missed_is_left_where_it_is(self) -> None:
        self.stand_still("00", since=timedelta(seconds=60))
        assert quarantine.try_elsewhere() == []
        assert noticed("not running") == []

    def test_where_no_other_node_may_have_it_it_stays(self) -> None:
        Node.objects.exclude(name=on("00")).cordon()
        before = on("00")
        self.stand_still("00")
        assert quarantine.try_elsewhere() == []
        assert on("00") == before

    def test_what_someone_put_there_stays_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dispatcher.pin([config_id("00")], on("00"))
        dispatcher.isolate([config_id("01")])
        self.stand_still("00", "01")
        assert quarantine.try_elsewhere() == []
        monkeypatch.setattr(conf, "EXCLUDE_CHECKS_FROM_DISPATCHING", frozenset({"http_check"}))
        self.stand_still("02")
        assert quarantine.try_elsewhere() == []

    def test_when_most_do_not_run_it_is_not_their_places(self) -> None:
        self.stand_still(*(key for key in owners() if key < "07"))
        assert quarantine.try_elsewhere() == []
        assert len(noticed("not running")) == 7
        Trouble.objects.filter(config_id=config_id("06")).delete()
        assert len(quarantine.try_elsewhere()) == 6

    def test_what_is_wrong_otherwise_moves_nothing(self) -> None:
        Trouble.objects.create(config_id=config_id("00"), kind=Trouble.Kind.FAILING, since=Now() - LONG)
        assert quarantine.try_elsewhere() == []

    def test_a_leader_that_no_longer_leads_moves_nothing(self) -> None:
        self.stand_still("00")
        term = lead()
        lead()
        with pytest.raises(NotLeader):
            quarantine.try_elsewhere(term=term)
        assert not Move.objects.filter(reason="not running").exists()


class TestPoison:
    """Deaths are made by the real verbs. The test is fast enough that all are within the hour."""

    @pytest.fixture(autouse=True)
    def _placed(self, warm: None) -> None:
        """Sixteen configs that have been where they are for long, and one that just came."""
        report("ash", "birch", "cedar", "elm", "fir", "oak", "pine", "yew")
        dispatcher.schedule([sent(f"{one:02}") for one in range(16)])
        pass_by(timedelta(hours=3))
        dispatcher.schedule([sent("poison")])

    def kill(self, times: int) -> list[str]:
        """Let the owner of the config die so many times."""
        return [die(on("poison")) for _ in range(times)]

    def test_what_killed_three_nodes_is_left_alone(self) -> None:
        victims = self.kill(3)
        moves = quarantine.quarantine(term=lead())
        node = on("poison")
        assert [key for key, owner in owners().items() if owner == node] == ["poison"]
        assert {(move.source_node, move.reason) for move in moves} == {(node, "quarantined")}
        isolation = Isolation.objects.get()
        assert (isolation.config_id, isolation.reason) == (config_id("poison"), "quarantined")
        assert isolation.note == f"{', '.join(sorted(victims))} died soon after they got it"
        assert noticed("quarantined") == [node]

    def test_the_minutes_task_does_it(self) -> None:
        self.kill(3)
        assert tasks.rebalance(lead()) not in (tasks.FAILED, tasks.NOT_LEADER)
        assert Isolation.objects.get().config_id == config_id("poison")

    def test_two_deaths_prove_nothing(self) -> None:
        self.kill(2)
        assert quarantine.quarantine() == []
        assert not Isolation.objects.exists()

    def test_it_stays_alone_where_it_goes_next(self) -> None:
        self.kill(3)
        quarantine.quarantine()
        self.kill(1)
        dispatcher.move_misplaced()
        assert [key for key, owner in owners().items() if owner == on("poison")] == ["poison"]

    def test_once_released_only_other_deaths_count(self) -> None:
        self.kill(3)
        quarantine.quarantine()
        dispatcher.release([config_id("poison")])
        quarantine.quarantine()
        self.kill(2)
        quarantine.quarantine()
        assert not Isolation.objects.exists()
        self.kill(1)
        quarantine.quarantine()
        assert Isolation.objects.exists()

    def test_an_edited_config_is_another(self) -> None:
        self.kill(3)
        dispatcher.schedule([sent("poison", url="http://mended")])
        assert quarantine.quarantine() == []
        assert not Isolation.objects.exists()

    def test_nodes_that_died_long_after_they_got_it_are_not_its_victims(self) -> None:
        for _ in range(3):
            pass_by(timedelta(minutes=11))
            die(on("poison"))
        assert quarantine.quarantine() == []
        assert not Isolation.objects.exists()

    def test_deaths_of_another_hour_are_forgotten(self) -> None:
        self.kill(1)
        pass_by(timedelta(minutes=61))
        # It is new to the node that has it.
        dispatcher.reassign([config_id("poison")], "yew", actor="olga")
        self.kill(2)
        quarantine.quarantine()
        assert not Isolation.objects.exists()

    def test_nodes_that_said_goodbye_did_not_die_of_it(self) -> None:
        for _ in range(3):
            node = on("poison")
            note_goodbye(node, "leaving")
            die(node)
        quarantine.quarantine()
        assert not Isolation.objects.exists()

    def test_restarts_without_a_word_count_as_deaths(self) -> None:
        for name in ("ash", "birch", "cedar"):
            dispatcher.reassign([config_id("poison")], name, actor="olga")
            note_heartbeat(name, last_change=7)
            note_heartbeat(name, last_change=0)
        dispatcher.reassign([config_id("poison")], "yew", actor="olga")
        quarantine.quarantine()
        assert Isolation.objects.get().config_id == config_id("poison")

    def test_a_node_that_restarts_again_and_again_is_one(self) -> None:
        dispatcher.reassign([config_id("poison")], "ash", actor="olga")
        for _ in range(4):
            note_heartbeat("ash", last_change=7)
            note_heartbeat("ash", last_change=0)
        quarantine.quarantine()
        assert not Isolation.objects.exists()

    def test_what_left_a_node_before_it_died_did_not_kill_it(self) -> None:
        for name in ("ash", "birch", "cedar"):
            dispatcher.reassign([config_id("poison")], name, actor="olga")
            dispatcher.reassign([config_id("poison")], "yew", actor="olga")
            die(name)
        quarantine.quarantine()
        assert not Isolation.objects.exists()

    def test_a_paused_one_can_not_be_left_alone_and_harms_nobody(self) -> None:
        self.kill(3)
        dispatcher.pause([config_id("poison")])
        assert quarantine.quarantine() == []
        assert not Isolation.objects.exists()
        assert noticed("quarantined") == []


class TestDisasters:
    def test_nodes_that_die_with_all_they_just_got_accuse_nobody(self) -> None:
        """All configs are new, so many were on each dead node."""
        report(*(f"oak-{number}" for number in range(6)))
        dispatcher.schedule([sent(f"{one:02}") for one in range(60)])
        for number in range(5):
            die(f"oak-{number}")
        assert len(Move.objects.suspects(3, timedelta(hours=1), timedelta(minutes=10))) > quarantine.FEW
        quarantine.quarantine()
        assert not Isolation.objects.exists()

    def test_a_rollout_that_happens_to_take_one_config_along_accuses_it_not(self) -> None:
        report(*(f"oak-{number}" for number in range(8)))
        dispatcher.schedule([sent("one")])
        for number in range(7):
            report(f"elm-{number}")
            if number < 3:
                die(on("one"))
            else:
                die(next(name for name in Node.objects.known().values_list("name", flat=True) if name != on("one")))
        assert len(Move.objects.suspects(3, timedelta(hours=1), timedelta(minutes=10))) == 1
        quarantine.quarantine()
        assert not Isolation.objects.exists()

    def test_many_nodes_that_die_at_once_accuse_nobody(self) -> None:
        names = [f"oak-{number}" for number in range(10)]
        report(*names)
        dispatcher.schedule([sent(f"{one:02}") for one in range(60)])
        silence(*names[:6])
        dispatcher.expire_nodes(force=True)
        quarantine.quarantine()
        assert not Isolation.objects.exists()
        assert ledger()[-1][2] == "expired"


def test_a_quarantine_whose_company_changes_meanwhile_is_one_all_the_same(
    warm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 1)
    report("ash", "birch")
    dispatcher.schedule([sent("poison"), *(sent(f"c{number}") for number in range(5))])
    suspect = Suspect(config_id("poison"), ["cedar"])

    def isolate_one_then_go_stale(ids: list[int], **how: Any) -> list[Move]:
        Isolation.objects.create(config_id=ids[0], reason=how["reason"])
        raise StalePlan("another config came")

    monkeypatch.setattr(dispatcher, "isolate", isolate_one_then_go_stale)
    assert quarantine._quarantine(suspect, None) == []
    assert noticed("quarantined") == [on("poison")]


def test_a_quarantine_that_is_stale_at_once_is_left_to_the_next_round(
    warm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("poison")])

    def go_stale(ids: list[int], **how: Any) -> list[Move]:
        raise StalePlan("another config came")

    monkeypatch.setattr(dispatcher, "isolate", go_stale)
    assert quarantine._quarantine(Suspect(config_id("poison"), ["cedar"]), None) == []
    assert noticed("quarantined") == []


def pass_by(time: timedelta) -> None:
    Move.objects.update(time=F("time") - time)
    NodeEvent.objects.update(time=F("time") - time)
    Assignment.objects.update(since=F("since") - time)


def die(name: str) -> str:
    """A node expires, and others get what it had."""
    silence(name)
    dispatcher.expire_nodes(force=True)
    dispatcher.redispatch(force=True)
    return name
