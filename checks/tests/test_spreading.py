"""Rules that spread their configs over failure domains."""

import random
from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F, Q

from checks import dispatcher, plans
from checks.dispatcher import placing
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import read_snapshot
from checks.explain.why import explain
from checks.models import Assignment, Config, Move, freezes
from checks.models.orders import Isolation, Pin, Rule
from checks.tests.balance import furnish, settle
from checks.tests.cast import counts, dangling, hand_over, lead, report, silence
from checks.tests.domains import by_zone, passes, schedule, zones
from nodes.models import Node, NodeRule

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def spread(**fields: object) -> None:
    Rule.objects.create(**{"name": "wide", "spread": True, **fields})


class TestPlacing:
    def test_domains_get_as_many_however_many_nodes_they_have(self):
        zones(a=["ash"], b=["birch", "beech"], c=["cedar", "cherry", "cypress"])
        spread()
        schedule(9)
        assert by_zone() == {"a": 3, "b": 3, "c": 3}
        assert sorted(counts().values()) == [1, 1, 1, 1, 2, 3]

    def test_only_what_the_rule_covers_is_spread(self):
        zones(a=["ash"], b=["birch", "beech"])
        spread(check_pattern="tcp_*")
        schedule(9)
        assert by_zone() == {"a": 3, "b": 6}
        schedule(4, kind="two", name="tcp_check")
        assert by_zone(config__name="tcp_check") == {"a": 2, "b": 2}

    def test_nodes_without_a_domain_are_one(self):
        zones(a=["ash"], b=["birch"])
        report("elm", "fir", "gum")
        spread()
        schedule(6)
        assert by_zone() == {"a": 2, "b": 2, None: 2}

    def test_a_full_domain_leaves_its_share_to_the_others(self):
        zones(a=["ash"], b=["birch"])
        NodeRule.objects.create(pattern="ash", max_configs=1)
        NodeRule.objects.apply()
        spread()
        schedule(6)
        assert by_zone() == {"a": 1, "b": 5}
        assert not dangling()
        assert not passes()

    def test_what_only_one_domain_may_run_runs_there(self):
        zones(a=["ash"], b=["birch"])
        spread()
        Rule.objects.create(name="near", required={"zone": "a"})
        schedule(4)
        assert by_zone() == {"a": 4}
        assert not passes()

    def test_the_first_rule_by_name_goes_before_the_others(self):
        zones(a=["ash"], b=["birch"])
        Rule.objects.create(name="1: all", spread=True)
        Rule.objects.create(name="2: some", source_pattern="file:one-*", spread=True)
        schedule(1, kind="two")
        schedule(3)
        assert by_zone() == {"a": 2, "b": 2}

    def test_why_says_so(self):
        zones(a=["ash"], b=["birch", "beech"])
        spread()
        schedule(2)
        placed = Config.objects.get(assignment__node__labels__zone="b")
        assert explain(placed).sentence == (
            "It was placed on beech when it came, the least loaded of 2 nodes in zone b, where rule wide has the fewest."
        )


class TestLoss:
    def test_the_share_of_a_lost_domain_goes_to_the_others_at_once(self):
        zones(a=["ash"], b=["birch"], c=["cedar"])
        spread()
        schedule(9)
        silence("ash")
        dispatcher.run_pass(lead())
        Config.objects.update(former_node=None)
        dispatcher.redispatch(force=True)
        assert by_zone() in ({"b": 4, "c": 5}, {"b": 5, "c": 4})

    def test_when_it_is_back_they_spread_again_at_the_usual_pace_and_settle(self):
        zones(b=["birch"], c=["cedar"])
        spread()
        schedule(30)
        zones(a=["ash"])
        assert len(dispatcher.move_misplaced()) == 5
        assert not dispatcher.move_misplaced()
        Move.objects.update(time=F("time") - timedelta(minutes=1))
        hand_over()
        assert passes() == 5
        assert by_zone() == {"a": 10, "b": 10, "c": 10}

    def test_a_difference_of_one_moves_nothing(self):
        zones(a=["ash"], b=["birch"])
        spread()
        schedule(3)
        assert by_zone() in ({"a": 1, "b": 2}, {"a": 2, "b": 1})
        assert not passes()

    def test_a_drained_node_gives_to_its_own_domain_where_that_has_fewest_then(self):
        zones(a=["ash", "aspen"], b=["birch"], c=["cedar"])
        spread()
        schedule(9)
        Node.objects.filter(name="ash").cordon(draining=True)
        passes()
        assert by_zone() == {"a": 3, "b": 3, "c": 3}
        assert "ash" not in counts()


class TestBounds:
    @pytest.fixture(autouse=True)
    def _uneven(self, warm: None) -> None:
        """Four configs in zone a, none in zone b."""
        zones(a=["ash"])
        schedule(4)
        zones(b=["birch"])
        spread()

    def test_it_is_balancing_so_it_waits_while_that_is_off(self):
        freezes.freeze(actor="eve")
        assert not passes()
        freezes.thaw(actor="eve")
        assert passes() == 2

    def test_a_pinned_config_stays(self):
        for one in Config.objects.all():
            Pin.objects.create(config=one, aim="ash", source="file", key=str(one.pk))
        assert not passes()

    def test_an_isolated_config_stays(self):
        Assignment.objects.exclude(pk=Assignment.objects.values("pk")[:1]).delete()
        Config.objects.filter(assignment=None).delete()
        schedule(2, kind="two")
        Assignment.objects.update(node=Node.objects.get(name="ash"))
        one = Config.objects.first()
        Isolation.objects.create(config=one, source="file", key="one")
        assert passes() == 2
        assert by_zone() == {"a": 1, "b": 2}

    def test_the_others_are_told_why_not(self):
        snapshot = read_snapshot()
        entry = Entry(0, "", "http_check", endpoint=False)
        assert str(snapshot.refusal(entry, snapshot.named("ash"))) == (
            "rule wide: 4 of its configs are in zone a, and only 0 in zone b"
        )
        assert snapshot.refusal(entry, snapshot.named("birch")) is None

    def test_a_person_may_name_any_node(self):
        one = Config.objects.first()
        assert one is not None
        dispatcher.reassign([one.pk], "birch", actor="eve")
        dispatcher.reassign([one.pk], "ash", actor="eve")
        assert by_zone() == {"a": 4}


class TestRebalances:
    def test_a_rebalance_moves_within_domains_alone(self):
        furnish(ash=[0.5] * 6, aspen=[0.1], birch=[0.1] * 7)
        zones(a=["ash", "aspen"], b=["birch"])
        spread()
        moved = plans.draft().moves
        assert moved
        assert {(move["from_node"], move["to_node"]) for move in moved} == {("ash", "aspen")}

    def test_what_it_moved_stays(self):
        furnish(ash=[0.5] * 6, aspen=[0.1], birch=[0.1] * 7)
        zones(a=["ash", "aspen"], b=["birch"])
        spread()
        _, moves = plans.rebalance(actor="eve")
        assert moves
        settle()
        assert not passes()


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_domains_with_room_differ_by_one_at_most_and_it_ends(
    seed: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(placing, "NO_PILE_UP", timedelta(0))
    chance = random.Random(seed)
    names = [f"n{number}" for number in range(chance.randint(3, 8))]
    report(*names)
    for name in names:
        labels = {"zone": chance.choice("abc")} if chance.random() < 0.9 else {}
        labels |= {"disk": "fast"} if chance.random() < 0.7 else {}
        most = chance.choice([None, None, 3])
        NodeRule.objects.create(pattern=name, labels=labels, max_configs=most)
    NodeRule.objects.apply()
    rules = [Rule.objects.create(name="1", spread=True, check_pattern=chance.choice(["*", "http*"]))]
    if chance.random() < 0.5:
        Rule.objects.create(name="2", check_pattern="tcp*", required={"disk": "fast"}, spread=chance.random() < 0.5)
    schedule(chance.randint(1, 14))
    schedule(chance.randint(1, 14), kind="two", name="tcp_check")
    for _ in range(4):
        lost = chance.sample(names, chance.randint(0, len(names) - 1))
        silence(*lost)
        dispatcher.run_pass(lead())
        dispatcher.redispatch(force=True)
        if chance.random() < 0.7:
            report(*chance.sample(lost, chance.randint(0, len(lost))))
        dispatcher.redispatch(force=True)
        passes()
        assert not dispatcher.move_misplaced()
        require_spread(rules[0])


def require_spread(rule: Rule) -> None:
    """No config of the rule has a node in another domain that may have it, has room, and has two fewer of them."""
    snapshot = read_snapshot()
    of_rule = Assignment.objects.filter(Q(config__name__startswith=rule.check_pattern.strip("*")))
    domains = {node.id: node.domain for node in snapshot.nodes}
    numbers = Counter(domains[one.node_id] for one in of_rule)
    for one in of_rule.select_related("config"):
        entry = Entry(one.config_id, "", one.config.name, endpoint=False, owner=one.node_id)
        for node in snapshot.able(entry):
            assert numbers[domains[one.node_id]] - numbers[node.domain] < 2
    for one in Config.objects.dangling():
        assert not snapshot.able(Entry(one.pk, "", one.name, endpoint=False))
