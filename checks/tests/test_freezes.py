"""A freeze stops automatic balancing until its end or until someone ends it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher, plans, pruning, tasks
from checks.explain import alerts
from checks.explain.alerts import Kind
from checks.models import ClusterStore, Move, Plan, freezes
from checks.models.freezes import Freeze
from checks.tests.balance import furnish
from checks.tests.cast import lead, owners, silence
from checks.tests.operators import confirmed, superuser
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _uneven(warm: None) -> None:
    """An imbalance that a rebalance would correct."""
    furnish(ash=[0.4] * 4, birch=[])


def frozen() -> list[str]:
    return [alert.cause for alert in alerts.current() if alert.kind == Kind.FROZEN]


def pass_time() -> None:
    """The time of every freeze is over."""
    Freeze.objects.update(until=Now() - timedelta(seconds=1))


def test_the_leader_balances_nothing_while_it_holds() -> None:
    freezes.freeze(actor="eve", note="release")
    assert tasks.rebalance(lead()) == "nothing rebalanced: frozen by eve"
    assert set(owners().values()) == {"ash"}
    assert frozen() == ["Nothing is balanced automatically: frozen by eve (release)."]
    assert freezes.thaw(actor="adam") == 1
    assert tasks.rebalance(lead()) == "2 of 2 rebalanced"
    assert frozen() == []
    assert Freeze.objects.values_list("ended_by", flat=True).get() == "adam"


def test_a_freeze_ends_when_its_time_is_over() -> None:
    made = freezes.freeze(actor="eve", until=Hearing.objects.annotate(now=Now()).get().now + timedelta(hours=1))
    assert f"until {made.until:%Y-%m-%d %H:%M} UTC" in freezes.why_off()
    pass_time()
    assert freezes.why_off() == ""
    assert tasks.rebalance(lead()).endswith("2 of 2 rebalanced")
    assert freezes.thaw(actor="adam") == 0


def test_a_new_freeze_takes_the_place_of_the_one_that_holds() -> None:
    freezes.freeze(actor="eve")
    freezes.freeze(actor="adam")
    assert freezes.why_off() == "frozen by adam"
    assert list(Freeze.objects.values_list("author", "ended_by")) == [("adam", ""), ("eve", "adam")]


def test_a_plan_that_the_leader_made_before_moves_nothing_after() -> None:
    plan = plans.make()
    freezes.freeze(actor="eve")
    with pytest.raises(plans.StalePlan, match="nothing is balanced automatically: frozen by eve"):
        plans.apply(plan, actor="", term=lead())
    assert set(owners().values()) == {"ash"}


def test_who_asks_for_a_rebalance_gets_one() -> None:
    freezes.freeze(actor="eve")
    _, moves = plans.rebalance(actor="adam")
    assert len(moves) == 2


def test_what_must_move_moves() -> None:
    freezes.freeze(actor="eve")
    silence("ash")
    dispatcher.expire_nodes()
    dispatcher.redispatch()
    assert set(owners().values()) == {"birch"}


def test_a_look_at_the_nodes_from_before_is_not_believed() -> None:
    """Configs move from node agents to runners in chunks, by a snapshot that is kept while the revision stays."""
    before = ClusterStore.objects.get().revision
    freezes.freeze(actor="eve")
    assert ClusterStore.objects.get().revision > before
    note_heartbeat("birch", last_change=-1, node_type=1)
    assert dispatcher.move_misplaced() == []
    freezes.thaw(actor="eve")
    assert {move.reason for move in dispatcher.move_misplaced()} == {Move.Reason.REBALANCED}


def test_freezes_are_kept_as_long_as_the_ledger() -> None:
    for until in (None, Now() - conf.LEDGER_RETENTION - timedelta(minutes=1)):
        Freeze.objects.create(author="eve", until=until)
    assert pruning.prune()["freezes"] == 1
    Freeze.objects.update(ended_at=F("time") - conf.LEDGER_RETENTION - timedelta(minutes=1))
    assert pruning.prune()["freezes"] == 1


class TestCommands:
    def said(self, capsys: pytest.CaptureFixture[str], *words: str) -> str:
        call_command(*words)
        return capsys.readouterr().out

    def test_freeze_and_thaw(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert (
            self.said(capsys, "freeze", "--note", "release", "--as", "olga")
            == "Balancing is frozen by olga (command line).\n"
        )
        row = Freeze.objects.get()
        assert (row.author, row.note, row.until) == ("olga (command line)", "release", None)
        before = list(Freeze.objects.values())
        assert "It takes the place of this freeze" in self.said(capsys, "freeze", "--dry-run")
        assert list(Freeze.objects.values()) == before
        assert self.said(capsys, "thaw") == "The freeze is over.\n"
        with pytest.raises(CommandError, match="balancing is not frozen"):
            call_command("thaw")

    def test_until_then(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = json.loads(self.said(capsys, "freeze", "--until", "2h", "--json"))
        row = Freeze.objects.get()
        assert row.until is not None
        assert row.until - row.time == pytest.approx(timedelta(hours=2), abs=timedelta(seconds=5))
        assert told == {"id": row.pk, "until": row.until.isoformat(), "note": ""}

    def test_a_time_that_is_over_is_refused(self) -> None:
        with pytest.raises(CommandError, match="That is over already"):
            call_command("freeze", "--until", "2020-01-01")
        assert not Freeze.objects.exists()

    def test_what_an_option_keeps_off_is_said(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(conf, "REBALANCE_ENABLED", False)
        freezes.freeze(actor="eve")
        assert "but nothing is balanced: CLUSTERAGENT_REBALANCE_ENABLED is false." in self.said(capsys, "thaw")


class TestAdmin:
    LIST = "/admin/checks/freeze/"

    @pytest.fixture(autouse=True)
    def _client(self) -> None:
        self.client = superuser()

    def add(self, **fields: Any) -> Any:
        return self.client.post(f"{self.LIST}add/", {"until": "", "note": "", **fields}, follow=True)

    def test_it_is_given_and_ended(self) -> None:
        asked = self.add(until="2h", note="release password=hunter22")
        assert "No config moves any more to even out loads." in asked.content.decode()
        assert not Freeze.objects.exists()
        self.add(**dict(asked.context["hidden"]), seen=asked.context["seen"])
        row = Freeze.objects.get()
        assert row.author == "olga"
        for page in (self.LIST, f"{self.LIST}{row.pk}/change/", "/admin/checks/plan/", "/admin/checks/clusterstore/"):
            text = self.client.get(page).content.decode()
            assert "frozen by olga until " in text or "release" in text
            assert "hunter22" not in text
        confirmed(self.client, self.LIST, action="thaw", _selected_action=row.pk)
        assert freezes.why_off() == ""
        assert "ended by olga" in self.client.get(self.LIST).content.decode()

    def test_a_freeze_that_is_over_can_not_be_ended(self) -> None:
        confirmed(self.client, f"{self.LIST}add/", until="2h")
        page = f"{self.LIST}{Freeze.objects.get().pk}/change/"
        assert 'value="thaw"' in self.client.get(page).content.decode()
        freezes.thaw(actor="eve")
        assert 'value="thaw"' not in self.client.get(page).content.decode()

    def test_a_wrong_time_is_said_at_its_field(self) -> None:
        assert "30m, 2h, 3d" in self.add(until="soon").content.decode()
        assert not Freeze.objects.exists()

    def test_the_first_page_ends_it(self) -> None:
        freezes.freeze(actor="eve")
        assert "End the freeze" in self.client.get("/admin/now/").content.decode()
        assert "Balancing goes on." in confirmed(self.client, "/admin/now/remedy/frozen/")
        assert freezes.why_off() == ""
        assert Plan.objects.count() == 0
