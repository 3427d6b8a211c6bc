"""Rules that keep their configs apart from other checks."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import F

from checks import dispatcher, plans
from checks.dispatcher import placing
from checks.dispatcher.changes import Entry
from checks.dispatcher.deciding import NotAccepting
from checks.dispatcher.eligibility import read_snapshot
from checks.explain.why import explain
from checks.models import Assignment, Config, Move, freezes
from checks.models.orders import Rule
from checks.tests.balance import furnish
from checks.tests.cast import dangling, hand_over, lead, owners, report, silence
from checks.tests.domains import passes, schedule, zones
from nodes.models import Node, NodeRule

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def apart(by_domain: bool = False, **fields: object) -> Rule:
    return Rule.objects.create(
        **{
            "name": "rivals",
            "check_pattern": "http*",
            "apart_from": "tcp_*, dns",
            "apart_by_domain": by_domain,
            **fields,
        }
    )


def checks_of(node: str) -> set[str]:
    return set(Assignment.objects.filter(node__name=node).values_list("config__name", flat=True))


class TestPlacing:
    @pytest.mark.parametrize("first", ["http_check", "tcp_check"])
    def test_neither_side_comes_to_the_other(self, first: str):
        report("ash", "birch", "cedar")
        apart()
        second = {"http_check": "tcp_check", "tcp_check": "http_check"}[first]
        schedule(2, name=first)
        schedule(3, kind="two", name=second)
        assert [checks_of(name) for name in ("ash", "birch", "cedar")] == [{first}, {first}, {second}]

    def test_what_finds_no_node_dangles_until_there_is_one(self):
        report("ash", "birch")
        apart()
        schedule(2)
        schedule(1, kind="two", name="dns")
        assert dangling() == {"two-0"}
        assert explain(Config.objects.get(name="dns")).sentence == (
            "No node can have it: rule rivals: apart from http*, which it has."
        )
        report("cedar")
        dispatcher.redispatch()
        assert owners()["two-0"] == "cedar"

    def test_other_checks_are_free(self):
        report("ash")
        apart()
        schedule(1)
        schedule(1, kind="two", name="ntp")
        assert not dangling()

    def test_a_rule_that_names_its_own_check_lets_each_node_have_one(self):
        report("ash", "birch")
        apart(apart_from="http*")
        schedule(3)
        assert sorted(owners().values()) == ["ash", "birch"]
        assert len(dangling()) == 1

    def test_by_domain_no_two_nodes_of_one_have_them(self):
        zones(a=["ash", "aspen"], b=["birch"])
        apart(by_domain=True)
        schedule(1)
        assert owners() == {"one-0": "ash"}
        schedule(2, kind="two", name="dns")
        assert {owners()["two-0"], owners()["two-1"]} == {"birch"}
        silence("birch")
        dispatcher.run_pass(lead())
        assert dangling() == {"two-0", "two-1"}

    def test_a_rule_about_origins(self):
        report("ash", "birch")
        apart(source_pattern="file:one-*")
        schedule(1)
        schedule(1, kind="two")
        schedule(1, kind="three", name="dns")
        assert owners()["three-0"] == owners()["two-0"] != owners()["one-0"]


class TestOrders:
    @pytest.mark.parametrize(
        ("by_domain", "words"),
        [
            (False, "rule rivals: apart from tcp_*, dns, which it has"),
            (True, "rule rivals: apart from tcp_*, dns, which zone b has"),
        ],
    )
    def test_a_person_is_refused_in_words(self, by_domain: bool, words: str):
        zones(a=["ash"], b=["birch"])
        apart(by_domain)
        schedule(1)
        schedule(1, kind="two", name="dns")
        with pytest.raises(NotAccepting, match=f"{words}$".replace("*", r"\*")):
            dispatcher.reassign([Config.objects.get(name="http_check").pk], "birch", actor="eve")

    def test_nodes_without_a_domain_are_called_so(self):
        zones(a=["ash"])
        report("birch", "cedar")
        apart(by_domain=True)
        schedule(1)
        schedule(1, kind="two", name="dns")
        Assignment.objects.filter(config__name="dns").update(node=Node.objects.get(name="birch"))
        with pytest.raises(NotAccepting, match=r"which a node of no zone has$"):
            dispatcher.reassign([Config.objects.get(name="http_check").pk], "cedar", actor="eve")

    def test_a_node_of_a_domain_may_give_to_another_of_it(self):
        zones(a=["ash", "aspen"], b=["birch"])
        apart(by_domain=True, apart_from="http*")
        schedule(2)
        Node.objects.filter(name="ash").cordon(draining=True)
        passes()
        assert set(owners().values()) == {"aspen", "birch"}
        dispatcher.reassign([Config.objects.get(assignment__node__name="aspen").pk], "aspen", actor="eve")


class TestWhatIsTogetherAlready:
    @pytest.fixture(autouse=True)
    def _together(self, warm: None) -> None:
        report("ash")
        schedule(2)
        schedule(1, kind="two", name="dns")
        apart()

    def test_it_parts_once_another_node_can_have_it_and_stays_till_then(self):
        assert not passes()
        assert not dangling()
        report("birch")
        assert passes() == 1 + 1
        assert {frozenset(checks_of(name)) for name in ("ash", "birch")} == {
            frozenset({"http_check"}),
            frozenset({"dns"}),
        }
        assert not dangling()

    def test_a_freeze_does_not_keep_it_together(self):
        freezes.freeze(actor="eve")
        report("birch")
        assert passes()


def test_a_rebalance_brings_none_together():
    furnish(ash=[0.5] * 6, birch=[0.1])
    Config.objects.filter(origins__key="birch-0").update(name="dns")
    assert plans.draft().moves
    apart()
    assert not plans.draft().moves


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_they_are_apart_and_it_ends(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(placing, "NO_PILE_UP", timedelta(0))
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(chance.randint(3, 8))]
    report(*names)
    for name in names:
        labels = {"zone": chance.choice("abc")} if chance.random() < 0.9 else {}
        NodeRule.objects.create(pattern=name, labels=labels, max_configs=chance.choice([None, None, 4]))
    NodeRule.objects.apply()
    make: list[Callable[[], object]] = [
        lambda: apart(chance.random() < 0.5),
        lambda: apart(name="more", check_pattern="ntp", apart_from=chance.choice(["ntp", "dns", "*"])),
        lambda: Rule.objects.create(name="wide", spread=True),
    ]
    late = make.pop(chance.randrange(len(make)))
    for one in make:
        one()
    for kind, name in enumerate(("http_check", "dns", "ntp")):
        schedule(chance.randint(0, 6), kind=f"k{kind}", name=name)
    for turn in range(4):
        if turn == 1:
            late()
        lost = chance.sample(names, chance.randint(0, len(names) - 1))
        silence(*lost)
        dispatcher.run_pass(lead())
        Move.objects.update(time=F("time") - timedelta(minutes=1))
        if chance.random() < 0.7:
            report(*chance.sample(lost, chance.randint(0, len(lost))))
        dispatcher.redispatch(force=True)
        passes()
        hand_over()
        assert not dispatcher.move_misplaced()
        require_apart()


def require_apart() -> None:
    """What is together could not be on another node; what dangles could be on none."""
    snapshot = read_snapshot()
    for one in Assignment.objects.select_related("config"):
        entry = Entry(one.config_id, "", one.config.name, endpoint=False, owner=one.node_id)
        if snapshot.clash(entry, snapshot.by_id[one.node_id]):
            assert not snapshot.able(entry)
    for config in Config.objects.dangling():
        assert not snapshot.able(Entry(config.pk, "", config.name, endpoint=False))
