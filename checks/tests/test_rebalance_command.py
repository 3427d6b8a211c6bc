"""manage.py rebalance and the leader's rebalance task: output, stored plans and logs."""

import json

import pytest
from django.core.management import CommandError, call_command

from checks import dispatcher, plans, tasks
from checks.dispatcher import costs
from checks.dispatcher.costs import Measured
from checks.models import ClusterStore, Config, Move, Plan
from checks.models.orders import Pin
from checks.tests.balance import furnish
from checks.tests.cast import owners
from nodes.models import Node, NodeEvent
from nodes.statsclient import Round

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
TERM = 7


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the runners were asked."""
    rounds: list[str] = []

    def measure() -> Measured:
        rounds.append("asked")
        return Measured(Round(0, 0, 0.0), 0, 0)

    monkeypatch.setattr(costs, "measure", measure)
    ClusterStore.objects.update(term=TERM)
    return rounds


class TestCommand:
    @pytest.fixture(autouse=True)
    def _uneven(self, warm: None) -> None:
        furnish(ash=[0.5, 0.5], birch=[])

    def shown(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
        call_command("rebalance", *arguments)
        return capsys.readouterr().out.splitlines()

    def test_it_tells_number_moves_and_spread(self, capsys: pytest.CaptureFixture[str], measured: list[str]):
        first, move, last = self.shown(capsys, "--as", "olga")
        assert first == "1 cluster checks rebalanced successfully"
        assert move == "http_check ash-1: ash → birch (0.5 workers)"
        assert last == "highest load 25\u202f% → 12\u202f%, standard deviation of loads 12\u202f% → 0\u202f%"
        assert sorted(owners().values()) == ["ash", "birch"]
        assert measured == ["asked"]
        assert Move.objects.latest("pk").actor == "olga (command line)"

    def test_a_dry_run_shows_the_same_and_stores_nothing(self, capsys: pytest.CaptureFixture[str], measured: list[str]):
        dry = self.shown(capsys, "--dry-run")
        assert dry[0] == "1 config would move"
        assert set(owners().values()) == {"ash"}
        assert not Plan.objects.exists()
        assert measured == []
        assert self.shown(capsys)[1:] == dry[1:]

    def test_as_json(self, capsys: pytest.CaptureFixture[str]):
        dry = json.loads("".join(self.shown(capsys, "--dry-run", "--json")))
        done = json.loads("".join(self.shown(capsys, "--json")))
        assert dry.pop("dry_run") is True
        assert dry == done
        assert [(move["from_node"], move["to_node"], move["cost"]) for move in done["moves"]] == [("ash", "birch", 0.5)]
        assert done["outcome"] == ""

    def test_where_nothing_is_to_be_done_it_says_so(self, capsys: pytest.CaptureFixture[str]):
        Node.objects.filter(name="birch").cordon()
        why = "No move that is allowed makes a clear difference; --force also makes small ones."
        assert self.shown(capsys, "--dry-run")[-1] == why
        assert self.shown(capsys, "--dry-run", "--force")[-1] == "No move that is allowed makes loads more even."
        assert self.shown(capsys)[0] == "0 cluster checks rebalanced successfully"

    def test_what_changes_meanwhile_is_an_error_that_names_it(self, monkeypatch: pytest.MonkeyPatch):
        make = plans.making.make

        def made(**how: object) -> Plan:
            plan = make(**how)
            Node.objects.filter(name="birch").cordon()
            return plan

        monkeypatch.setattr(plans.making, "make", made)
        with pytest.raises(CommandError, match=r"nothing moved.*node birch is cordoned"):
            call_command("rebalance")

    def test_what_stopped_in_between_is_an_error_that_says_how_far_it_came(self, monkeypatch: pytest.MonkeyPatch):
        stopped = plans.make()
        stopped.outcome = "stopped after 1 of 2 moves: node birch is lost"
        monkeypatch.setattr(plans, "rebalance", lambda **_: (stopped, []))
        for more in ([], ["--json"]):
            with pytest.raises(CommandError, match="stopped after 1 of 2 moves: node birch is lost"):
                call_command("rebalance", *more)


def test_no_budget_moves_all_at_once(capsys: pytest.CaptureFixture[str]):
    furnish(ash=[0.1] * 30, birch=[])
    call_command("rebalance", "--no-budget")
    assert capsys.readouterr().out.startswith("14 cluster checks rebalanced successfully")


class TestTask:
    """The leader's, each minute."""

    def test_it_asks_the_runners_and_moves_as_the_leader(self, measured: list[str]):
        furnish(ash=[0.5, 0.5], birch=[])
        assert tasks.rebalance(TERM) == "1 of 1 rebalanced"
        move = Move.objects.latest("pk")
        assert (move.actor, move.term, move.reason) == ("", TERM, "rebalanced")
        assert measured == ["asked"]

    def test_while_nodes_come_and_go_it_waits(self):
        furnish(ash=[0.5, 0.5], birch=[])
        NodeEvent.objects.create(node_name="birch", kind="registered")
        assert tasks.rebalance(TERM) == "0 of 0 rebalanced"

    def test_drained_nodes_and_balance_share_one_budget(self):
        furnish(ash=[0.1] * 3, birch=[0.1] * 20, cedar=[])
        Node.objects.filter(name="ash").cordon(draining=True)
        assert dispatcher.budget() == 5
        assert len(dispatcher.move_misplaced(term=TERM)) == 3
        assert tasks.rebalance(TERM) == "2 of 2 rebalanced"

    def test_what_must_go_leaves_nothing_for_balance_when_it_is_much(self):
        furnish(ash=[0.1] * 20, birch=[0.1] * 10, cedar=[])
        ids = list(Config.objects.filter(origins__key__startswith="ash").values_list("pk", flat=True))
        dispatcher.pin(ids[:10], "ash", waits=True)
        Pin.objects.update(aim="cedar")
        assert len(dispatcher.move_misplaced(term=TERM)) == 10
        assert tasks.rebalance(TERM) == "0 of 0 rebalanced"

    def test_a_plan_that_went_stale_is_made_anew_the_next_time(self, monkeypatch: pytest.MonkeyPatch):
        furnish(ash=[0.5, 0.5], birch=[])
        make = plans.making.make

        def made(**how: object) -> Plan:
            plan = make(**how)
            monkeypatch.setattr(plans.making, "make", make)
            Plan.objects.filter(pk=plan.pk).update(applied_at="2026-01-01T00:00Z")
            return plan

        monkeypatch.setattr(plans.making, "make", made)
        assert tasks.rebalance(TERM) == "0 rebalanced: the plan was applied already"
        assert tasks.rebalance(TERM) == "1 of 1 rebalanced"
