"""Rules that place their configs beside other checks."""

import random
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db.models import F

from checks import dispatcher, plans
from checks.dispatcher import placing
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import read_snapshot
from checks.explain.why import explain
from checks.models import Assignment, Config, Cost, Move, freezes
from checks.models.orders import Rule
from checks.tests.balance import furnish, join, routes, settle
from checks.tests.cast import dangling, hand_over, lead, owners, report, sent, silence
from checks.tests.domains import passes, schedule, zones
from nodes.models import NodeRule
from operators.roles import Role
from operators.tests.cast import having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def together(**fields: object) -> None:
    Rule.objects.create(**{"name": "near", "check_pattern": "http*", "together_with": "redis*, dns", **fields})


@pytest.fixture
def redis(warm: None) -> None:
    """birch has a redisdb, and ash is as loaded."""
    furnish(ash=[0.2], birch=[0.2], cedar=[0.1])
    Config.objects.filter(origins__key="birch-0").update(name="redisdb")


def cheap(number: int, cost: float, name: str = "http_check") -> None:
    """Schedule configs of this cost, one after the other: the mean of those that are measured."""
    Cost.objects.update(workers_needed=cost)
    schedule(number, kind="new", name=name)


@pytest.mark.usefixtures("redis")
def test_a_config_goes_where_one_of_the_named_checks_is():
    together()
    cheap(1, 0.2)
    assert owners()["new-0"] == "birch"
    assert explain(Config.objects.get(origins__key="new-0")).sentence == (
        "It was placed on birch when it came, where rule near wants it together with others."
    )


@pytest.mark.usefixtures("redis")
def test_without_the_rule_it_goes_to_the_least_loaded():
    cheap(1, 0.2)
    assert owners()["new-0"] == "ash"


def test_it_goes_beside_what_the_same_transaction_placed():
    furnish(ash=[0.1] * 30, birch=[0.1] * 30, cedar=[0.1] * 30)
    together(source_pattern="file:new-*", together_with="dns")
    dispatcher.schedule([sent("db", name="dns"), sent("new-0")])
    assert owners()["new-0"] == owners()["db"]


def test_it_ends_where_the_node_would_be_loaded_above_the_others():
    furnish(ash=[0.1] * 30, birch=[0.1] * 30, cedar=[0.1] * 30)
    Config.objects.filter(origins__key="birch-0").update(name="redisdb")
    together()
    schedule(12, kind="new")
    # It takes one while its load is then at most a tenth above that of the least loaded.
    beside = [node for key, node in owners().items() if key.startswith("new")]
    assert beside.count("birch") == 6
    settle()
    assert not plans.draft().moves
    assert not passes()


@pytest.mark.usefixtures("redis")
def test_it_is_no_reason_to_dangle():
    together()
    NodeRule.objects.create(pattern="birch", max_configs=1)
    NodeRule.objects.apply()
    cheap(2, 0.2)
    assert not dangling()
    assert "birch" not in {node for key, node in owners().items() if key.startswith("new")}


@pytest.mark.usefixtures("redis")
def test_apart_and_spread_go_before_it():
    zones(a=["ash"], b=["birch"], c=["cedar"])
    together()
    Rule.objects.create(name="wide", check_pattern="http*", source_pattern="file:new-*", spread=True)
    cheap(3, 0.2)
    assert {owners()[f"new-{number}"] for number in range(3)} == {"ash", "birch", "cedar"}
    Rule.objects.create(name="rivals", check_pattern="ntp", apart_from="redisdb")
    Rule.objects.create(name="beside", check_pattern="ntp", together_with="http*")
    schedule(1, kind="three", name="ntp")
    assert owners()["three-0"] != "birch"


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"together_with": "dns", "apart_from": "d*"}, "it keeps configs apart from dns, and it together with it"),
        (
            {"together_with": "redisdb, dns"},
            {"apart_from": "d*"},
            "it keeps configs apart from dns, and rule first together with it",
        ),
        (
            {"check_pattern": "*", "apart_from": "dns"},
            {"together_with": "d*"},
            "rule first keeps configs apart from dns, and it together with it",
        ),
    ],
)
def test_rules_that_contradict_each_other_are_refused(first: dict[str, str], second: dict[str, str], words: str):
    Rule.objects.create(**{"name": "first", "check_pattern": "http*", **first})
    with pytest.raises(ValidationError, match=words.replace("*", r"\*")):
        Rule(**{"name": "second", "check_pattern": "http_check", **second}).clean()
    answer = having(Role.OPERATOR).call("POST", "rules", {"name": "second", "check_pattern": "http_check", **second})
    assert (answer.status_code, words in answer.content.decode()) == (400, True)


def test_rules_of_other_checks_do_not_contradict():
    Rule.objects.create(name="first", check_pattern="http*", together_with="dns")
    Rule(name="second", check_pattern="ntp", apart_from="dns").clean()


class TestWhatIsApartAlready:
    @pytest.fixture(autouse=True)
    def nodes(self, warm: None) -> None:
        """ash has an http_check, birch a redisdb, and both are as loaded as cedar."""
        furnish(ash=[0.1] * 24, birch=[0.1] * 24, cedar=[0.1] * 24)
        Config.objects.exclude(origins__key="ash-0").update(name="ntp")
        Config.objects.filter(origins__key="birch-0").update(name="redisdb")

    def test_comes_together_at_no_cost_and_stays(self):
        together()
        (move,) = dispatcher.move_misplaced()
        assert (move.reason, move.source_node, move.to_node) == ("rebalanced", "ash", "birch")
        told = explain(Config.objects.get(origins__key="ash-0")).sentence
        assert "from ash to birch, where rule near wants it together with others." in told
        settle()
        assert not passes()
        assert not plans.draft(force=True).moves

    def test_stays_while_the_node_would_be_above_the_others(self):
        together()
        Cost.objects.filter(config__origins__key="birch-1").update(workers_needed=0.4)
        assert not dispatcher.move_misplaced()

    def test_stays_where_others_want_it(self):
        together()
        Config.objects.filter(origins__key="ash-1").update(name="dns")
        Rule.objects.create(name="back", check_pattern="dns", together_with="http*")
        Rule.objects.filter(name="near").update(together_with="redisdb")
        assert not dispatcher.move_misplaced()

    def test_stays_while_balancing_is_frozen(self):
        together()
        freezes.freeze(actor="kim")
        assert not dispatcher.move_misplaced()

    def test_what_a_rule_wants_together_with_its_own_kind_is_no_company_for_itself(self):
        together(check_pattern="ntp", together_with="ntp")
        Config.objects.filter(origins__key__in=["cedar-1", "birch-1"]).update(name="dns")
        Config.objects.exclude(origins__key__in=["ash-3", "birch-3"]).filter(name="ntp").update(name="other")
        assert len(dispatcher.move_misplaced()) == 1
        assert owners()["ash-3"] == owners()["birch-3"]
        assert not passes()


class TestRebalances:
    @pytest.fixture(autouse=True)
    def nodes(self, warm: None) -> None:
        """ash has a redisdb and http_checks, others as much of something else, and elm has nothing."""
        furnish(ash=[0.25] * 4, **{f"n{number}": [0.25] * 4 for number in range(11)})
        Config.objects.exclude(origins__key__startswith="ash").update(name="ntp")
        Config.objects.filter(origins__key="ash-0").update(name="redisdb")
        join("elm")

    def of_ash(self) -> set[str]:
        """The http_checks that a rebalance takes from ash."""
        return {key for key in routes(plans.draft()) if key in {"ash-1", "ash-2", "ash-3"}}

    def test_what_no_rule_wants_together_goes_like_others(self):
        assert self.of_ash()

    def test_what_is_together_stays(self):
        together()
        assert not self.of_ash()

    def test_it_goes_where_its_node_has_too_much(self):
        together()
        Cost.objects.filter(config__name="http_check").update(workers_needed=0.6)
        assert self.of_ash()


def random_map(chance: random.Random) -> tuple[list[str], Callable[[], object]]:
    """Nodes, all kinds of rules and configs. Returns the names of the nodes, and what makes the last rule."""
    names = [f"n{number}" for number in range(chance.randint(3, 8))]
    report(*names)
    for name in names:
        labels = {"zone": chance.choice("abc")} if chance.random() < 0.9 else {}
        NodeRule.objects.create(pattern=name, labels=labels, max_configs=chance.choice([None, None, 9]))
    NodeRule.objects.apply()
    make: list[Callable[[], object]] = [
        lambda: together(together_with="dns", check_pattern=chance.choice(["http*", "*"])),
        lambda: together(name="chain", check_pattern="dns", together_with=chance.choice(["ntp", "http*", "*"])),
        lambda: together(name="ring", check_pattern="ntp", together_with="http*"),
        lambda: Rule.objects.create(name="rivals", check_pattern="tcp*", apart_from=chance.choice(["tcp*", "ntp"])),
        lambda: Rule.objects.create(name="wide", check_pattern=chance.choice(["*", "http*"]), spread=True),
    ]
    late = make.pop(chance.randrange(len(make)))
    for one in make:
        one()
    for kind, name in enumerate(("http_check", "dns", "ntp", "tcp_check")):
        schedule(chance.randint(0, 8), kind=f"k{kind}", name=name)
    costs = [
        Cost(config_id=one, workers_needed=chance.uniform(0.01, 0.3))
        for one in Config.objects.values_list("pk", flat=True)
    ]
    Cost.objects.bulk_create(chance.sample(costs, len(costs) // 2))
    return names, late


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_nothing_dangles_for_it_and_it_ends(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(placing, "NO_PILE_UP", timedelta(0))
    chance = random.Random(seed)
    names, late = random_map(chance)
    for turn in range(4):
        if turn == 1:
            late()
        lost = chance.sample(names, chance.randint(0, len(names) - 1))
        silence(*lost)
        dispatcher.run_pass(lead())
        Move.objects.update(time=F("time") - timedelta(minutes=1))
        report(*chance.sample(lost, chance.randint(0, len(lost))))
        dispatcher.redispatch(force=True)
        _settle()
        snapshot = read_snapshot()
        for one in Config.objects.dangling():
            assert not snapshot.able(_entry(one, None))
        for held in Assignment.objects.select_related("config"):
            entry = _entry(held.config, held.node_id)
            if snapshot.clash(entry, snapshot.by_id[held.node_id]):
                assert not snapshot.able(entry)


def _entry(config: Config, owner: int | None) -> Entry:
    return Entry(config.pk, "", config.name, endpoint=False, owner=owner)


def _settle(most: int = 20) -> None:
    """Rebalance and look at all configs in turns until neither moves anything."""
    for _ in range(most):
        moved = passes()
        settle()
        _, moves = plans.rebalance(actor="")
        hand_over()
        settle()
        if not (moved or moves):
            return
    raise AssertionError("no end")
