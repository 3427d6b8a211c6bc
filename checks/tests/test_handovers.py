"""Planned moves are handed over: by overlap nobody misses a config, by strict no two nodes have it."""

import re
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher import changes, placing, settling, transaction
from checks.explain import alerts, drains, facts, timeline, why
from checks.models import Assignment, Config, Handover, Move, Plan
from checks.models.orders import Rule
from checks.tests.cast import hand_over, lead, ledger, owners, report, sent, silence
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, RunnerStats
from nodes.models.runners import Answer, CheckStats, Runner

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(params=["overlap", "strict"])
def promise(request, monkeypatch):
    monkeypatch.setattr(conf, "HANDOVER", request.param)
    return request.param


@pytest.fixture
def strict(monkeypatch):
    monkeypatch.setattr(conf, "HANDOVER", "strict")


class Cluster:
    """Node agents that poll when they are told to, and remember which configs they run."""

    def __init__(self, *names: str) -> None:
        self.fetched = dict.fromkeys(names, 0)
        self.runs: dict[str, set[str]] = {name: set() for name in names}
        report(*names)

    def poll(self, *names: str) -> None:
        """Report, and fetch if the answer says so."""
        for name in names:
            if not note_heartbeat(name, last_change=self.fetched[name], client_ip="127.0.0.1"):
                [share] = Config.objects.shares_of([name])
                assert share is not None
                assert not share.unsure
                self.fetched[name] = share.version
                keys = dict(Config.objects.values_list("wire", "origins__key"))
                self.runs[name] = {key for wire, key in keys.items() if bytes(wire).decode() in share.configs}

    def runners_of(self, key: str) -> set[str]:
        """Return the nodes that run a config."""
        return {name for name, keys in self.runs.items() if key in keys}


def begin(to: str = "birch", **how: object) -> tuple[Cluster, int]:
    """A config that runs on ash is given to `to`, and nobody has polled since."""
    cluster = Cluster("ash", "birch", "cedar")
    dispatcher.schedule([sent("one")])
    config = Config.objects.get().pk
    dispatcher.reassign([config], "ash", actor="olga")
    Handover.objects.all().delete()
    cluster.poll("ash", "birch", "cedar")
    cluster.poll("ash", "birch", "cedar")
    assert cluster.runners_of("one") == {"ash"}
    dispatcher.reassign([config], to, actor="olga", **how)
    return cluster, config


def served() -> set[str]:
    """The nodes that would get the config now."""
    names = list(Node.objects.known().values_list("name", flat=True))
    shares = zip(names, Config.objects.shares_of(names), strict=True)
    return {name for name, share in shares if share and share.configs}


def let_time_pass(seconds: float) -> None:
    Handover.objects.update(since=F("since") - timedelta(seconds=seconds))


def test_the_former_node_runs_it_until_the_new_one_has_fetched_it():
    cluster, _ = begin()
    assert owners() == {"one": "birch"}
    assert served() == {"ash", "birch"}
    cluster.poll("birch", "ash")
    settling.settle()
    assert cluster.runners_of("one") == {"ash", "birch"}, "a fetch alone is no acknowledgement"
    cluster.poll("birch")
    settling.settle()
    assert served() == {"birch"}
    cluster.poll("ash")
    assert cluster.runners_of("one") == {"birch"}
    assert not Handover.objects.exists()
    assert ledger()[-1] == ("ash", "birch", "operator")


def test_what_goes_back_before_all_is_settled_is_kept_by_who_has_taken_it():
    cluster, config = begin()
    cluster.poll("birch")
    cluster.poll("birch")
    dispatcher.reassign([config], "ash", actor="olga")
    assert served() == {"ash", "birch"}
    cluster.poll("ash")
    cluster.poll("ash")
    settling.settle()
    assert served() == {"ash"}


def test_nobody_fetches_anew_for_a_hand_over_that_changes_nothing_for_it():
    cluster, _ = begin()
    before = cluster.fetched["ash"]
    cluster.poll("ash")
    assert cluster.fetched["ash"] == before


def test_the_new_node_gets_it_when_the_former_one_has_stopped_it(strict):
    cluster, _ = begin()
    assert served() == set()
    cluster.poll("birch", "ash")
    settling.settle()
    assert served() == set(), "ash fetched, but has not said so"
    cluster.poll("ash")
    settling.settle()
    cluster.poll("birch")
    assert cluster.runners_of("one") == {"birch"}


def test_a_move_at_once_waits_for_nobody(monkeypatch):
    monkeypatch.setattr(conf, "HANDOVER", "at-once")
    begin()
    assert served() == {"birch"}
    assert not Handover.objects.exists()


@pytest.mark.parametrize("version", [1, 2**62])
def test_a_version_of_another_server_acknowledges_nothing(promise, version):
    begin()
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=version)
    settling.settle()
    assert Handover.objects.exists()


def test_a_rule_says_what_moves_of_its_configs_promise():
    Rule.objects.create(name="singletons", source_pattern="file:one", handover="strict")
    Rule.objects.create(name="all", handover="at-once")
    begin()
    assert Handover.objects.get().promise == "strict", "of several rules the one that promises most"


@pytest.mark.parametrize(
    ("order", "becomes"), [("strict", set()), ("at-once", {"birch"}), ("overlap", {"ash", "birch"})]
)
def test_a_rule_about_a_check_binds(order, becomes):
    Rule.objects.create(name="one", check_pattern="http_*", handover=order)
    begin()
    assert served() == becomes


# The stats of the new node.


def tell_stats(name: str, *check_ids: str) -> None:
    node = Node.objects.get(name=name).pk
    Runner.objects.note({node: Answer([CheckStats(check_id, 1.0) for check_id in check_ids], 4)})


def check_ids() -> list[str]:
    return list(Config.objects.get().instances.values_list("check_id", flat=True))


def test_a_node_that_tells_stats_has_run_it_when_they_have_it():
    cluster, _ = begin()
    tell_stats("birch", "ntp:1")
    cluster.poll("birch")
    cluster.poll("birch")
    settling.settle()
    assert served() == {"ash", "birch"}
    assert settling.unproven() == {Node.objects.get(name="birch").pk}
    tell_stats("birch", "ntp:1", *check_ids())
    settling.settle()
    assert served() == {"birch"}
    assert not settling.unproven()


def test_stats_from_before_the_move_prove_nothing():
    cluster, _ = begin()
    tell_stats("birch", *check_ids())
    Runner.objects.update(stats_at=Now() - timedelta(seconds=20))
    cluster.poll("birch")
    cluster.poll("birch")
    settling.settle()
    assert served() == {"ash", "birch"}


def test_a_call_for_stats_that_fails_proves_nothing():
    cluster, _ = begin()
    tell_stats("birch")
    cluster.poll("birch")
    cluster.poll("birch")
    Runner.objects.update(failures=1)
    settling.settle()
    assert served() == {"ash", "birch"}


def test_a_bare_name_in_the_stats_proves_the_only_config_of_a_check():
    cluster, _ = begin()
    tell_stats("birch", "http_check")
    cluster.poll("birch")
    cluster.poll("birch")
    settling.settle()
    assert served() == {"birch"}


def test_a_bare_name_in_the_stats_says_nothing_where_another_config_of_the_check_runs():
    cluster, _ = begin()
    dispatcher.schedule([sent("two")])
    dispatcher.reassign([Config.objects.get(origins__key="two").pk], "birch", actor="olga")
    tell_stats("birch", "http_check")
    cluster.poll("birch")
    cluster.poll("birch")
    settling.settle()
    assert Handover.objects.filter(config__origins__key="one").exists()


def test_a_check_that_never_shows_in_the_stats_is_waited_for_until_the_deadline():
    cluster, _ = begin()
    tell_stats("birch")
    cluster.poll("birch")
    cluster.poll("birch")
    let_time_pass(31)
    settling.settle()
    assert served() == {"birch"}
    assert ledger()[-1] == ("ash", "birch", "operator"), "it was fetched, so nothing went wrong"


# The deadline.


def test_an_overlap_that_nobody_fetches_ends_at_the_deadline_and_is_on_record():
    begin()
    let_time_pass(31)
    report("birch")
    settling.settle(term=lead())
    assert served() == {"birch"}
    assert ledger()[-1] == ("birch", "birch", "unfetched")


def test_a_strict_hand_over_that_is_not_acknowledged_is_withdrawn(strict):
    begin()
    let_time_pass(31)
    report("ash")
    settling.settle()
    assert owners() == {"one": "ash"}
    assert served() == {"ash"}
    assert ledger()[-1] == ("birch", "ash", "withdrawn")


def test_what_is_withdrawn_runs_where_it_is_for_a_while_and_is_an_alert(strict):
    cluster, _ = begin(to="ash")
    Node.objects.filter(name="ash").cordon(draining=True)
    assert dispatcher.move_misplaced()
    let_time_pass(31)
    cluster.poll("birch", "cedar")
    # It reports all the time, and says each time that it has not fetched.
    note_heartbeat("ash", last_change=7)
    settling.settle()
    assert served() == {"ash"}
    assert dispatcher.move_misplaced() == []
    assert dispatcher.empty_leaving_nodes() == []
    [alert] = [one for one in alerts.current() if one.kind == alerts.Kind.WITHDRAWN]
    assert str(Config.objects.get()) in alert.cause
    assert "ash" in alert.cause
    assert alert.since == Assignment.objects.get().since
    Assignment.objects.update(since=F("since") - timedelta(minutes=6))
    assert dispatcher.move_misplaced()
    assert served() == set()


def test_the_deadline_does_not_end_what_a_silent_node_should_acknowledge(promise):
    begin()
    let_time_pass(31)
    Heartbeat.objects.update(seen_at=Now() - timedelta(seconds=40))
    settling.settle()
    assert Handover.objects.exists()


def test_the_deadline_begins_anew_when_we_hear_again(promise):
    begin()
    let_time_pass(31)
    report("ash", "birch")
    Hearing.objects.update(hearing_since=Now() - timedelta(seconds=5))
    settling.settle()
    assert Handover.objects.exists()


# What happens in between.


def expire(*names: str) -> None:
    silence(*names)
    dispatcher.expire_nodes(force=True)


def test_the_former_node_has_it_again_when_the_new_one_is_lost(promise):
    begin()
    expire("birch")
    assert owners() == {"one": "ash"}
    assert served() == {"ash"}
    assert ledger()[-1] == ("birch", "ash", "expired")
    assert not Handover.objects.exists()


def test_what_is_given_back_to_the_node_that_never_lost_it_is_fetched_and_before_it_is_not(promise):
    """Its version is from before it was given back, and it has no other to acknowledge, unless it was told to stop it first."""

    def told() -> set[bool]:
        return {bool(held.fetched) for held in Plan.objects.held()} | {not Assignment.objects.unfetched().exists()}

    begin()
    assert told() == {False}
    expire("birch")
    assert owners() == {"one": "ash"}
    assert told() == {promise == "overlap"}


def test_the_new_node_has_it_when_the_former_one_is_lost(promise):
    begin()
    expire("ash")
    assert owners() == {"one": "birch"}
    assert served() == {"birch"}
    assert not Handover.objects.exists()


def test_a_config_dangles_when_both_are_lost(promise):
    _, config = begin()
    expire("ash", "birch")
    assert not Assignment.objects.exists()
    assert Config.objects.dangling().get().pk == config
    assert not Handover.objects.exists()


def test_however_many_are_under_way_none_is_taken_from_the_node_that_runs_it(monkeypatch):
    monkeypatch.setattr(transaction, "CHUNK", 2)
    report("ash", "birch")
    dispatcher.schedule([sent(f"c{number}") for number in range(5)])
    ids = list(Config.objects.values_list("pk", flat=True))
    for node in ("ash", "birch"):
        for config in ids:
            dispatcher.reassign([config], node, actor="olga")
        if node == "ash":
            hand_over()
    assert Handover.objects.count() == 5
    before = Node.objects.get(name="ash").config_version
    expire("birch")
    assert set(owners().values()) == {"ash"}
    assert Node.objects.get(name="ash").config_version == before, "it ran them all the while"


def test_nobody_sees_a_lost_node_that_still_has_configs():
    begin()
    dispatcher.schedule([sent("two")])
    Assignment.objects.exclude(config__origins__key="one").update(node=Node.objects.get(name="birch"))
    silence("birch")
    placing._expire([Node.objects.get(name="birch").pk], None, True, "")
    assert owners() == {"one": "ash"}
    assert set(ledger()[-2:]) == {("birch", "ash", "expired"), ("birch", "", "expired")}


def test_a_second_move_keeps_the_nodes_that_may_run_it(promise):
    cluster, config = begin()
    cluster.poll("birch")
    dispatcher.reassign([config], "cedar", actor="olga")
    assert served() == ({"ash", "birch", "cedar"} if promise == "overlap" else set())
    cluster.poll("ash", "birch", "cedar")
    cluster.poll("ash", "birch", "cedar")
    settling.settle()
    cluster.poll("ash", "birch", "cedar")
    assert cluster.runners_of("one") == {"cedar"}


@pytest.fixture
def moved_on():
    """A config that ran on ash and was given to birch, which has fetched it and not said so, and then to cedar."""
    cluster, config = begin()
    cluster.poll("birch")
    dispatcher.reassign([config], "cedar", actor="olga")
    assert served() == {"ash", "birch", "cedar"}
    return cluster, config


def test_a_node_between_runs_it_on_when_the_former_one_ends(moved_on):
    cluster, config = moved_on
    expire("ash")
    settling.settle()
    assert served() == {"birch", "cedar"}, "cedar has acknowledged nothing"
    assert not changes.entries([config])[0].is_acknowledged
    cluster.poll("birch", "cedar")
    assert cluster.runners_of("one") >= {"birch", "cedar"}
    cluster.poll("cedar")
    settling.settle()
    assert served() == {"cedar"}
    assert not Handover.objects.exists()


def test_a_node_between_that_is_lost_leaves_it_to_the_former_one(moved_on):
    expire("birch")
    assert served() == {"ash", "cedar"}


def test_a_new_owner_that_is_lost_leaves_it_to_the_former_node(moved_on):
    expire("cedar")
    assert served() == {"ash"}
    assert ledger()[-1] == ("cedar", "ash", "expired")


def test_a_new_owner_that_is_lost_with_the_former_node_leaves_it_to_the_one_between(moved_on):
    cluster, _ = moved_on
    expire("ash", "cedar")
    assert owners() == {"one": "birch"}
    assert ledger()[-1] == ("cedar", "birch", "expired")
    cluster.poll("birch")
    assert cluster.runners_of("one") >= {"birch"}
    assert not Handover.objects.exists()


def test_of_several_nodes_between_the_last_one_runs_it_on(moved_on):
    cluster, config = moved_on
    dispatcher.reassign([config], "birch", actor="olga")
    assert served() == {"ash", "birch", "cedar"}
    cluster.poll("cedar", "birch")
    cluster.poll("birch")
    settling.settle()
    assert served() == {"birch"}


def test_what_may_not_run_on_its_owner_goes_to_the_node_between(moved_on):
    Rule.objects.create(name="there", required={"zone": "b"})
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    dispatcher.move_misplaced()
    assert owners() == {"one": "birch"}
    [share] = Config.objects.shares_of(["birch"])
    assert share is not None
    assert share.configs.count('"check_name"') == 1
    assert Handover.objects.get().between_id is None


def test_a_node_between_is_not_empty(moved_on):
    Node.objects.filter(name="birch").cordon(schedulable=False)
    found = drains.of("birch")
    assert (found.left, found.is_empty) == (1, False)
    assert "ash or birch runs it until cedar does" in why.explain(Config.objects.get()).sentence


def test_a_node_that_acknowledged_it_runs_it_until_the_next_has_it():
    """The former node may end by then, or never have begun, and is waited for no more."""
    cluster, config = begin()
    cluster.fetched["ash"], cluster.runs["ash"] = 0, set()
    cluster.poll("birch")
    cluster.poll("birch")
    dispatcher.reassign([config], "cedar", actor="olga")
    assert served() == {"birch", "cedar"}
    cluster.poll("birch")
    assert cluster.runners_of("one") == {"birch"}
    settling.settle()
    assert served() == {"birch", "cedar"}, "cedar has not said that it has it"
    cluster.poll("cedar")
    cluster.poll("cedar")
    settling.settle()
    assert served() == {"cedar"}
    assert ledger()[-1] == ("birch", "cedar", "operator")


def test_a_loss_after_a_second_move_leaves_it_where_it_was_acknowledged():
    cluster, config = begin()
    cluster.poll("birch")
    cluster.poll("birch")
    dispatcher.reassign([config], "cedar", actor="olga")
    expire("cedar")
    assert owners() == {"one": "birch"}
    assert served() == {"birch"}


def test_an_edit_of_what_was_acknowledged_reaches_both():
    cluster, _ = begin()
    cluster.poll("birch")
    cluster.poll("birch")
    dispatcher.schedule([sent("one", url="http://other")])
    assert served() == {"ash", "birch"}


def test_a_strict_config_that_moves_on_waits_for_each_node_that_was_given_it(strict):
    cluster, config = begin()
    cluster.poll("ash")
    cluster.poll("ash")
    dispatcher.reassign([config], "cedar", actor="olga")
    assert served() == set()
    settling.settle()
    assert served() == {"cedar"}, "birch was never given it"
    cluster.poll("cedar")
    dispatcher.reassign([config], "birch", actor="olga")
    settling.settle()
    assert served() == set(), "cedar runs it"
    cluster.poll("cedar")
    cluster.poll("cedar")
    settling.settle()
    assert served() == {"birch"}


def test_what_becomes_strict_waits_for_the_node_that_acknowledged_it(monkeypatch):
    cluster, config = begin()
    cluster.poll("birch")
    cluster.poll("birch")
    monkeypatch.setattr(conf, "HANDOVER", "strict")
    dispatcher.reassign([config], "cedar", actor="olga")
    cluster.poll("ash", "birch", "cedar")
    settling.settle()
    assert served() == set()
    cluster.poll("birch")
    settling.settle()
    assert served() == {"cedar"}


def test_a_move_back_ends_it(promise):
    _, _config = begin()
    dispatcher.undo([Move.objects.latest("pk").pk], actor="olga")
    assert owners() == {"one": "ash"}
    assert served() == {"ash"}
    assert not Handover.objects.exists()


def test_an_edit_reaches_both(promise):
    cluster, _ = begin()
    dispatcher.schedule([sent("one", url="http://other")])
    cluster.poll("ash", "birch")
    assert cluster.runners_of("one") == ({"ash", "birch"} if promise == "overlap" else set())
    cluster.poll("ash", "birch")
    settling.settle()
    cluster.poll("ash", "birch")
    assert cluster.runners_of("one") == {"birch"}


def test_a_removed_config_is_handed_over_no_more(promise):
    cluster, _ = begin()
    dispatcher.unschedule([("file", "one")])
    cluster.poll("ash", "birch")
    assert cluster.runners_of("one") == set()
    assert not Handover.objects.exists()


def test_a_paused_config_runs_nowhere(promise):
    cluster, config = begin()
    dispatcher.pause([config], actor="olga")
    cluster.poll("ash", "birch")
    assert cluster.runners_of("one") == set()
    cluster.poll("ash")
    settling.settle()
    assert not Handover.objects.exists()


def test_a_strict_config_that_is_resumed_waits_for_the_node_that_ran_it(strict):
    cluster, config = begin(to="ash")
    dispatcher.pause([config], actor="olga")
    Node.objects.filter(name="ash").cordon()
    dispatcher.resume([config], actor="olga")
    assert owners() != {"one": "ash"}
    assert served() == set()
    cluster.poll("ash")
    cluster.poll("ash")
    settling.settle()
    assert served() == set(owners().values())


def test_a_strict_config_that_is_resumed_where_it_ran_is_there_at_once(strict):
    _, config = begin(to="ash")
    dispatcher.pause([config], actor="olga")
    Node.objects.filter(name__in=["birch", "cedar"]).cordon()
    dispatcher.resume([config], actor="olga")
    assert served() == {"ash"}


def test_a_node_that_is_forgotten_leaves_no_hand_over(promise):
    begin()
    expire("ash")
    Node.objects.all().forget()
    settling.settle()
    assert served() == {"birch"}


def test_what_an_older_version_leaves_is_cleared_away(promise):
    _, config = begin()
    Assignment.objects.all().delete()
    Config.objects.get().origins.all().delete()
    Config.objects.get().instances.all().delete()
    Config.objects.filter(pk=config)._raw_delete("default")
    settling.settle()
    assert not Handover.objects.exists()


def test_what_is_handed_over_is_not_moved_by_itself(promise):
    begin()
    Node.objects.filter(name="birch").cordon(draining=True)
    dispatcher.move_misplaced()
    assert owners() == {"one": "birch"}
    hand_over()
    dispatcher.move_misplaced()
    assert owners() != {"one": "birch"}


def test_what_may_not_run_on_the_new_node_moves_on(promise):
    begin()
    Rule.objects.create(name="not there", required={"zone": "b"})
    Node.objects.filter(name="cedar").update(labels={"zone": "b"})
    dispatcher.move_misplaced()
    assert owners() == {"one": "cedar"}
    assert served() == ({"ash", "cedar"} if promise == "overlap" else set()), "birch may not have it"


def test_a_node_that_leaves_runs_it_until_another_has_it():
    _cluster, _ = begin(to="ash")
    Node.objects.filter(name="ash").update(leaving=True, left_at=Now())
    dispatcher.empty_leaving_nodes()
    assert "ash" in served()
    assert len(served()) == 2


def test_stats_rows_are_only_of_the_asked_nodes():
    """Asking for a proof leaves the stats of others as they are."""
    cluster, _ = begin()
    tell_stats("cedar", "ntp:1")
    cluster.poll("birch")
    cluster.poll("birch")
    assert settling.prove().asked == 0, "birch told no stats, so that it has fetched the config is all there is"
    assert RunnerStats.objects.count() == 1


# What people see.


def test_a_config_says_what_its_hand_over_waits_for(promise):
    _, config = begin()
    said = {
        "overlap": "ash runs it until birch does",
        "strict": "birch gets it when ash has stopped it",
    }[promise]
    one = Config.objects.get(pk=config)
    assert facts.of(one).assigned.details == f"to birch (operator); {said}"
    assert why.explain(one).sentence.endswith(f"It is being handed over: {said}.")


def moved() -> tuple[str, str, str, bool]:
    """The last move: from, to, its promise, and whether it was handed over."""
    move = Move.objects.exclude(source_node=F("to_node")).latest("pk")
    return move.source_node, move.to_node, move.promise, move.handed_at is not None


def test_the_ledger_has_what_was_promised_and_when_it_was_done(promise):
    cluster, config = begin()
    assert moved() == ("ash", "birch", promise, False)
    cluster.poll("ash", "birch", "ash", "birch")
    settling.settle()
    move = Move.objects.latest("pk")
    assert moved() == ("ash", "birch", promise, True)
    assert move.time < move.handed_at
    # What comes later says nothing of it.
    dispatcher.reassign([config], "cedar", actor="olga")
    move.refresh_from_db()
    assert move.handed_at < Move.objects.latest("pk").time
    assert moved() == ("birch", "cedar", promise, False)


def test_what_is_withdrawn_was_not_handed_over(strict):
    cluster, _ = begin()
    let_time_pass(31)
    cluster.poll("birch")
    note_heartbeat("ash", last_change=0, client_ip="127.0.0.1")
    settling.settle()
    assert ledger()[-1] == ("birch", "ash", "withdrawn")
    assert not Move.objects.filter(handed_at__isnull=False).exclude(reason="scheduled").exists()


def test_a_node_between_that_never_had_it_was_handed_nothing(strict):
    cluster, config = begin()
    dispatcher.reassign([config], "cedar", actor="olga")
    cluster.poll("ash", "ash")
    settling.settle()
    rows = Move.objects.filter(reason="operator").order_by("-pk").values_list("source_node", "to_node", "handed_at")[:2]
    assert [(one, to, at is not None) for one, to, at in rows] == [("birch", "cedar", True), ("ash", "birch", False)]


def test_what_the_node_between_acknowledged_was_handed_to_it(monkeypatch):
    monkeypatch.setattr(conf, "HANDOVER", "overlap")
    cluster, config = begin()
    cluster.poll("birch", "birch")
    dispatcher.reassign([config], "cedar", actor="olga")
    second, first = Move.objects.filter(reason="operator").order_by("-pk")[:2]
    assert first.handed_at == second.time
    assert moved() == ("birch", "cedar", "overlap", False)


def test_a_move_at_once_has_no_promise():
    begin()
    silence("birch", "ash")
    dispatcher.expire_nodes(force=True)
    assert set(Move.objects.filter(reason__in=["scheduled", "expired"]).values_list("promise", "handed_at")) == {
        ("", None)
    }


def lines(config: int) -> list[str]:
    """The timeline since the config was first placed, the oldest entry first."""
    found, _ = timeline.of(Config.objects.get(pk=config), 100)
    return [line.text for line in reversed(found) if line.kind != "edit"][1:]


def test_the_timeline_says_when_it_was_handed_over(promise):
    cluster, config = begin()
    assert lines(config)[-1] == "ash → birch: operator"
    cluster.poll("ash", "birch", "ash", "birch")
    settling.settle()
    assert lines(config)[-2:] == ["ash → birch: operator", "birch: handed over by ash"]


def test_the_timeline_of_a_strict_config_tells_nothing_of_a_node_that_never_had_it(strict):
    cluster, config = begin()
    Node.objects.filter(name="birch").cordon(actor="olga")
    dispatcher.reassign([config], "cedar", actor="olga")
    cluster.poll("ash", "ash")
    settling.settle()
    Node.objects.filter(name="cedar").cordon(actor="olga")
    assert lines(config)[-4:] == [
        "ash → birch: operator",
        "ash → cedar: operator",
        "cedar: handed over by ash",
        "cedar cordoned: olga",
    ]


def test_the_timeline_says_that_a_hand_over_was_withdrawn(strict):
    _, config = begin()
    let_time_pass(31)
    note_heartbeat("ash", last_change=0, client_ip="127.0.0.1")
    settling.settle()
    assert lines(config)[-2:] == ["ash → birch: operator", "ash keeps it: withdrawn"]


def test_the_timeline_says_once_that_an_overlap_was_not_fetched(monkeypatch):
    monkeypatch.setattr(conf, "HANDOVER", "overlap")
    _, config = begin()
    let_time_pass(31)
    note_heartbeat("birch", last_change=0, client_ip="127.0.0.1")
    settling.settle()
    assert lines(config)[-2:] == ["ash → birch: operator", "birch: unfetched"]


def test_the_timeline_says_when_a_pause_had_stopped_what_is_strict(strict):
    cluster, config = begin(to="ash")
    dispatcher.pause([config], actor="olga")
    cluster.poll("ash", "ash")
    settling.settle()
    assert lines(config)[-2:] == ["ash → nobody: paused", "given up by ash"]


def test_what_is_strict_is_run_by_the_former_node_until_it_fetches_that_it_lost_it(strict):
    _, config = begin()
    running = facts.of(Config.objects.get(pk=config)).running
    assert running.truth == "unknown"
    assert running.text == "ash runs it until it fetches that it is to stop it, and birch has not got it yet"


def test_what_is_handed_over_runs_on_its_former_node_until_the_new_one_has_it(monkeypatch):
    monkeypatch.setattr(conf, "HANDOVER", "overlap")
    cluster, config = begin()
    birch = Node.objects.get(name="birch")
    Runner.objects.update_or_create(node=birch, defaults={"stats_at": Now()})
    running = facts.of(Config.objects.get(pk=config)).running
    assert (running.truth, running.text) == ("yes", "ash runs it until birch does")
    cluster.poll("birch", "ash", "birch", "ash")
    settling.settle()
    Runner.objects.filter(node=birch).update(stats_at=Now())
    running = facts.of(Config.objects.get(pk=config)).running
    assert (running.truth, running.details) == ("no", "not in the stats of birch")


def test_what_was_withdrawn_says_until_when_it_rests(strict):
    _, config = begin()
    let_time_pass(31)
    note_heartbeat("ash", last_change=0, client_ip="127.0.0.1")
    settling.settle()
    one = Config.objects.get(pk=config)
    assert re.search(r" Until [-\d :]+ UTC only a person takes it from there again\.$", why.explain(one).sentence)
    Assignment.objects.update(since=F("since") - timedelta(minutes=6))
    assert "Until" not in why.explain(one).sentence
