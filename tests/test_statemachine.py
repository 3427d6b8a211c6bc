"""Events in any order: the dispatcher does what a small model of it says, and its invariants hold."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from itertools import permutations
from typing import Any, NamedTuple

import pytest
from django.db import DatabaseError, connection
from django.db.models import F
from django.db.models.functions import Now
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from checks import dispatcher
from checks.dispatcher import NotLeader, Sent, handover, settling, transaction
from checks.dispatcher.changes import Entry
from checks.models import ClusterStore, Config, Handover, Source
from checks.models.configs import Share
from checks.models.handovers import Handing, HandoverQuerySet, Progress
from checks.tests.cast import sent
from clusteragent.lib import conf
from nodes import registration
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node
from nodes.models.heartbeats import Report
from tests.map import tell
from tests.model import Agent, Check, Key, Model

NODES = ("ash", "birch", "cedar")
ORIGINS = (("file", "a"), ("file", "b"), ("file", "c"), ("admin", "a"))
# The second says the same as the first in other bytes; the last is an endpoint's.
BODIES = (
    {"instances": ("url: http://x\ntags: [a, b]\n",)},
    {"instances": ("url: http://x\ntags: [b, a]\n",)},
    {"instances": ("url: http://y\n",)},
    {"instances": ("url: http://z\n",)},
    {"instances": ("url: http://z\n", "url: http://y\n")},
    {"instances": ("url: http://x\n",), "node_name": "kubelet"},
)
CHUNK = 3
MOST_EXAMPLES = 5_000
MINUTE = timedelta(seconds=61)
TIMES = ("hearing_since", "braked_since", "late_since", "warm_until")


@cache
def what(key: Key, body: int) -> Sent:
    """Return what an origin sends."""
    return sent(key[1], key[0], **BODIES[body])


names, keys, bodies = st.sampled_from(NODES), st.sampled_from(ORIGINS), st.integers(0, len(BODIES) - 1)
sents = st.builds(what, keys, bodies)


class Crash(DatabaseError):
    """The process has lost its database session."""


@contextmanager
def crashes(number: int) -> Iterator[None]:
    """Raise Crash before the statement of that number, if there are as many."""
    left = iter(range(number))

    def wrapper(execute: Callable[..., Any], *args: Any) -> Any:
        if next(left, None) is None:
            raise Crash
        return execute(*args)

    with suppress(Crash), connection.execute_wrapper(wrapper):
        yield


class Row(NamedTuple):
    """A config in the database."""

    digest: str
    id: int
    owner: str
    dangles: bool
    is_flagged: bool
    was_lost: bool
    is_endpoint: bool
    origins: list[str]
    check_ids: list[str]


# One statement each, since these are asked thousands of times.
CONFIGS = """
    SELECT c.digest, c.id, coalesce(n.name, ''), c.dangling_since IS NOT NULL, c.unscheduled,
        c.former_node_id IS NOT NULL, c.node_name <> '',
        ARRAY(SELECT o.source || ':' || o.key FROM checks_origin AS o WHERE o.config_id = c.id ORDER BY 1),
        ARRAY(SELECT i.check_id FROM checks_instance AS i WHERE i.config_id = c.id ORDER BY i.id)
    FROM checks_config AS c LEFT JOIN checks_assignment AS a ON a.config_id = c.id LEFT JOIN nodes_node AS n ON n.id = a.node_id
"""
HANDOVERS = """
    SELECT h.config_id, n.name, h.promise, coalesce(b.name, '')
    FROM checks_handover AS h JOIN nodes_node AS n ON n.id = h.source_id LEFT JOIN nodes_node AS b ON b.id = h.between_id
"""
MOVES = """
    SELECT id, config_id, source_node, to_node, reason, term FROM checks_move WHERE id > %s ORDER BY id
"""
BEGIN = """
    DELETE FROM checks_handover;
    DELETE FROM checks_move; DELETE FROM checks_origin; DELETE FROM checks_instance; DELETE FROM checks_assignment;
    DELETE FROM checks_config; DELETE FROM nodes_nodeevent; DELETE FROM nodes_heartbeat; DELETE FROM nodes_node;
    UPDATE nodes_hearing SET hearing_since = NULL, braked_since = NULL, late_since = NULL, warm_until = NULL, last_pass = NULL,
        warmup = %s;
    INSERT INTO nodes_node (name, labels) SELECT name, '{}' FROM unnest(%s::text[]) AS n (name);
    INSERT INTO nodes_heartbeat (node_id) SELECT id FROM nodes_node
"""


def ask(statement: str, *values: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


class Dispatching(RuleBasedStateMachine):
    """Sources, node agents, operators and passes act in any order; some actions are interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(warms_up=False)
        self.terms: list[int] = []
        self.ids: dict[Check, int] = {}
        # By the ledger: who has what, and who lost it last.
        self.map: dict[int, str] = {}
        self.lost_by: dict[int, str] = {}
        self.last_move = 0
        # Of each config the nodes that ran it before the last step, and those whose hand-over the deadline ended in it.
        self.ran: dict[int, set[tuple[str, int]]] = {}
        self.unfetched: set[int] = set()
        # The configs that were handed over when a minute passed: only their hand-overs may be over for want of an answer.
        self.late: set[int] = set()
        # Of each config the owner that said last that it has it, and how often that was lost.
        self.holders: dict[int, tuple[str, int]] = {}
        # What each node was to run, and how often it was lost, when its version was looked at.
        self.seen: dict[str, tuple[object, int]] = {}

    @initialize(
        names=st.sets(names, min_size=2),
        bodies=st.lists(bodies, min_size=2, max_size=len(ORIGINS)),
        cold=st.sampled_from([False, False, False, True]),
        promise=st.sampled_from(["overlap", "overlap", "strict", "strict", "at-once"]),
    )
    def start(self, names: set[str], bodies: list[int], cold: bool, promise: str) -> None:
        self.begin(names, bodies, promise, cold=cold)

    def begin(self, names: set[str], bodies: list[int], promise: str, *, cold: bool = False) -> None:
        self.promise = conf.HANDOVER = promise
        with connection.cursor() as cursor:
            cursor.execute(BEGIN, [cold, sorted(names)])
        self.model.warms_up = cold
        self.model.agents = {name: Agent() for name in names}
        self.lead()
        self.schedule(list(map(what, ORIGINS, bodies)))

    @rule(sents=st.lists(sents, min_size=1, max_size=4))
    def schedule(self, sents: list[Sent]) -> None:
        dispatcher.schedule(sents)
        self.model.send(sents)

    @rule(pair=st.sampled_from(list(permutations(ORIGINS, 2))))
    def trade(self, pair: tuple[Key, Key]) -> None:
        """Two origins send what the other one sent."""
        before = [self.model.origins[key][1] for key in pair if key in self.model.origins]
        if len(before) == len(pair):
            self.schedule(
                [replace(sent, source=key[0], key=key[1]) for key, sent in zip(reversed(pair), before, strict=True)]
            )

    @rule(keys=st.sets(keys, min_size=1, max_size=2))
    def unschedule(self, keys: set[Key]) -> None:
        dispatcher.unschedule(keys)
        self.model.forget(keys)

    @rule(names=st.sets(names, min_size=1), version=st.sampled_from([None, 0, -1]))
    def report(self, names: set[str], version: int | None) -> None:
        """Send heartbeats; without a version, with the one that the agent has."""
        self.send_reports(names, version)

    def hear_of(self, name: str) -> None:
        """Let a node agent poll."""
        self.send_reports({name}, None)

    def send_reports(self, names: set[str], version: int | None) -> None:
        agents = {name: self.model.agents.setdefault(name, Agent()) for name in sorted(names)}
        reports = [Report(name, agent.fetched if version is None else version) for name, agent in agents.items()]
        for report, answer in zip(reports, tell(reports), strict=True):
            alone = partial(note_heartbeat, report.name, last_change=report.last_change)
            self.hear(report, alone() if answer is None else answer)

    def hear(self, report: Report, is_up_to_date: bool) -> None:
        agent, named = self.model.agents[report.name], report.last_change
        is_right = named == agent.version and not agent.is_lost
        assert is_up_to_date == (self.model.warms_up or named == -1 or is_right)
        agent.silent_for, agent.is_lost = 0, False
        agent.acknowledged = named if named >= 0 else agent.acknowledged
        if not is_up_to_date:
            share = Config.objects.shares_of([report.name])[0]
            if not share.unsure:
                agent.fetched, agent.is_stale = share.version, False
                agent.runs = {
                    self.ids[check] for check in self.model.checks if check.sent.patched.wire.decode() in share.configs
                }

    @rule(names=st.sets(names, min_size=1))
    def write_behind(self, names: set[str]) -> None:
        """Write heartbeats that were answered a moment ago, when the agent's version was the last one."""
        agents = {name: self.model.agents[name] for name in sorted(names & self.model.agents.keys())}
        reports = [Report(name, agent.fetched, age=0.5) for name, agent in agents.items() if agent.fetched > 0]
        outcomes = tell(reports)
        for report, outcome in zip(reports, outcomes, strict=True):
            agent = self.model.agents[report.name]
            assert isinstance(outcome, bool) != agent.is_lost, "what was answered before revives nobody"
            if not agent.is_lost:
                agent.silent_for, agent.acknowledged = 0, report.last_change

    @rule(names=st.sets(names, min_size=1), age=st.sampled_from([20, 40]))
    def fall_silent(self, names: set[str], age: int) -> None:
        self.silence(names, age)

    def silence(self, names: set[str], age: int) -> None:
        Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - timedelta(seconds=age))
        for name in names & set(self.model.known()):
            self.model.agents[name].silent_for = age

    @rule(asleep=st.booleans())
    def wait(self, asleep: bool) -> None:
        """Let a minute pass in which no node becomes silent, with or without passes."""
        Hearing.objects.update(**{time: F(time) - MINUTE for time in TIMES})
        Config.objects.update(dangling_since=F("dangling_since") - MINUTE)
        Node.objects.update(lost_at=F("lost_at") - MINUTE)
        Handover.objects.update(since=F("since") - MINUTE)
        self.late |= {config for config, *_ in ask(HANDOVERS)}
        self.model.wait()
        if asleep:
            Hearing.objects.update(last_pass=F("last_pass") - MINUTE)
        else:
            self.run_pass(set(), None)

    @rule(names=st.sets(names), number=st.none() | st.integers(0, 60))
    def run_pass(self, names: set[str], number: int | None) -> None:
        """Run a pass after these nodes reported. A pass that crashes has committed its earlier steps; the next does the rest."""
        if names:
            self.send_reports(names, -1)
        if number is not None:
            with crashes(number):
                dispatcher.run_pass(self.terms[-1])
            self.see_that_the_map_is_whole()
        dispatcher.run_pass(self.terms[-1])
        recent = Now() - conf.NODE_EXPIRATION_TIMEOUT
        self.model.is_deaf = Hearing.objects.filter(hearing_since__gte=recent).exists()
        self.model.expire()
        self.model.redispatch()

    @rule(names=st.sets(names, min_size=1, max_size=2), force=st.booleans(), back=st.booleans())
    def die(self, names: set[str], force: bool, back: bool) -> None:
        """Nodes become silent and expire, and may return before their configs are placed on others."""
        self.silence(names, 40)
        dispatcher.expire_nodes(force=force)
        self.model.expire(force=force)
        if back:
            self.send_reports(names, None)

    @rule(force=st.booleans())
    def redispatch(self, force: bool) -> None:
        dispatcher.redispatch(force=force)
        self.model.redispatch(force=force)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), name=names)
    def reassign(self, data: st.DataObject, name: str) -> None:
        checks = sorted(self.ids, key=self.ids.__getitem__)
        chosen = data.draw(st.lists(st.sampled_from(checks), min_size=1, max_size=CHUNK, unique=True))
        error = self.model.why_not(chosen, name)
        with pytest.raises(error) if error else nullcontext():
            dispatcher.reassign([self.ids[check] for check in chosen], name, actor="eve")
            self.model.give(chosen, name)

    @rule(name=names, schedulable=st.booleans())
    def cordon(self, name: str, schedulable: bool) -> None:
        Node.objects.filter(name=name).cordon(schedulable=schedulable)
        if name in self.model.agents:
            self.model.agents[name].is_cordoned = not schedulable

    @rule(sents=st.lists(sents, min_size=1, max_size=2), keys=st.sets(keys, min_size=1, max_size=2))
    def lose_the_lead(self, sents: list[Sent], keys: set[Key]) -> None:
        """Another replica leads, and the former leader does not know it yet."""
        over = self.terms[-1]
        self.lead()
        for verb in (
            lambda: dispatcher.run_pass(over),
            lambda: dispatcher.schedule(sents, term=over),
            lambda: dispatcher.unschedule(keys, term=over),
        ):
            with pytest.raises(NotLeader):
                verb()

    def lead(self) -> None:
        with connection.cursor() as cursor:
            self.terms.append(ClusterStore.objects.begin_term(cursor, "another"))
        assert self.terms == sorted(set(self.terms))

    @rule(number=st.integers(0, 25), sents=st.lists(sents, min_size=1, max_size=CHUNK))
    def crash_while_scheduling(self, number: int, sents: list[Sent]) -> None:
        with crashes(number):
            dispatcher.schedule(sents)
            self.model.send(sents)

    @rule(number=st.integers(0, 15), keys=st.sets(keys, min_size=1, max_size=CHUNK))
    def crash_while_unscheduling(self, number: int, keys: set[Key]) -> None:
        with crashes(number):
            dispatcher.unschedule(keys)
            self.model.forget(keys)

    # What must hold.

    @invariant()
    def all_is_well(self) -> None:
        rows = self.see_that_the_map_is_whole()
        self.model.settle({digest: row.owner for digest, row in rows.items()})
        self.see_that_the_configs_are_the_models(rows)
        handings = {config: handing for config, *handing in ask(HANDOVERS)}
        for check in self.model.checks:
            handing = handings.pop(self.ids[check], None)
            check.handing = (handing[0], handing[1], handing[2]) if handing else None
            assert {*check.former_nodes} <= {*self.model.known()} - {check.owner}
        assert not handings, "of configs that are gone"
        self.see_that_promises_are_kept()
        for name in self.model.agents:
            self.see_what_the_agent_sees(name)

    def see_that_the_map_is_whole(self) -> dict[str, Row]:
        """Every config has one owner, dangles or is an endpoint's, and the ledger agrees."""
        rows = [Row(*row) for row in ask(CONFIGS)]
        assert len({row.id for row in rows}) == len(rows), "two owners"
        for row in rows:
            assert bool(row.owner) + row.dangles + row.is_endpoint == 1, row
            assert row.dangles or not row.is_flagged, row
        self.replay()
        assert self.map == {row.id: row.owner for row in rows if row.owner}
        return {row.digest: row for row in rows}

    def replay(self) -> None:
        """Apply the ledger's new lines."""
        for move, config, source, to, reason, term in ask(MOVES, self.last_move):
            assert self.map.pop(config, "") == source
            # What had no owner changes none; only its removal is noted.
            assert source or to or reason == "unscheduled"
            assert term == self.terms[-1]
            self.lost_by[config] = source if reason == "expired" and not to else ""
            assert reason not in ("unfetched", "withdrawn") or config in self.late, "nobody had time to answer"
            if reason == "unfetched":
                self.unfetched.add(config)
            if reason == "withdrawn":
                [check] = [check for check, id_ in self.ids.items() if id_ == config]
                assert check.handing == (to, "strict", "")
                check.owner = to
            if to:
                self.map[config] = to
            self.last_move = move

    def see_that_promises_are_kept(self) -> None:
        """Overlap: what ran somewhere goes on running, unless its nodes are lost. Strict: at most one node runs it.

        Of those that run it by overlap, one is the owner or the last that acknowledged it: others may be about to end.
        """
        agents = {name: agent for name, agent in self.model.agents.items() if not (agent.is_lost or agent.is_stale)}
        # A node that was lost in the last step and is back is another one.
        alive = {(name, agent.times_lost): agent.runs for name, agent in agents.items()}
        runs = {
            self.ids[check]: {node for node, running in alive.items() if self.ids[check] in running}
            for check in self.model.checks
            if not check.is_endpoint
        }
        owners = {self.ids[check]: check.owner for check in self.model.checks}
        for config, nodes in runs.items():
            if self.promise == "strict":
                assert len(nodes) <= 1, f"{nodes} run {config}"
            if self.promise == "overlap" and config not in self.unfetched:
                before = self.ran.get(config, set()) & alive.keys()
                assert nodes or not before, f"nobody runs {config} any more, which {before} ran"
                holder = self.holders.get(config)
                sure = {name for name, _ in nodes} & {owners[config], holder[0] if holder else ""}
                assert sure or holder not in before, f"{holder} stopped {config} before {owners[config]} ran it"
        self.ran = runs
        self.note_holders(owners)
        # Such a gap lasts until the owner fetches it.
        self.unfetched = {
            config
            for config in self.unfetched & runs.keys()
            if owners[config] not in {name for name, _ in runs[config]}
        }

    def note_holders(self, owners: dict[int, str]) -> None:
        for config, owner in owners.items():
            agent = self.model.agents.get(owner)
            if agent and agent.acknowledged == agent.fetched and (owner, agent.times_lost) in self.ran.get(config, ()):
                self.holders[config] = owner, agent.times_lost

    def see_that_the_configs_are_the_models(self, rows: dict[str, Row]) -> None:
        checks = self.model.checks
        assert rows.keys() == {check.digest for check in checks}
        for check in checks:
            row = rows[check.digest]
            assert self.ids.setdefault(check, row.id) == row.id
            assert (row.owner, row.dangles, row.was_lost) == (check.owner, check.dangles, bool(check.former))
            assert row.check_ids == list(check.sent.patched.check_ids)
            assert row.origins == sorted(f"{source}:{key}" for source, key in self.model.senders(check))
        self.ids = {check: self.ids[check] for check in checks}

    def see_what_the_agent_sees(self, name: str) -> None:
        share = Config.objects.shares_of([name])[0]
        assert (share is not None) == (name in self.model.known())
        if share is None:
            return
        checks = sorted(self.model.served(name), key=self.ids.__getitem__)
        assert share.configs == ",".join(check.sent.patched.wire.decode() for check in checks)
        assert bool(share.unsure) == self.model.is_unsure(name)
        self.see_that_the_version_tells_of_changes(name, share.version)
        self.see_that_nothing_stops_for_nobody(name, share)

    def see_that_the_version_tells_of_changes(self, name: str, version: int) -> None:
        agent = self.model.agents[name]
        seen = {(check, check.edits) for check in self.model.served(name)}, agent.times_lost
        is_same = seen == self.seen.get(name, (set(), 0))
        assert version == agent.version if is_same else version > agent.version
        self.seen[name], agent.version = seen, version

    def see_that_nothing_stops_for_nobody(self, name: str, share: Share) -> None:
        lost = {config for config, node in self.lost_by.items() if node == name}
        dangling = {self.ids[check] for check in self.model.checks if check.dangles}
        assert share.unsure or share.configs or not lost & dangling


class HandingOver(Dispatching):
    """Configs move while their node agents poll, each for itself: what all of them run is known at any time."""

    # The others happen seldom in the seconds that a hand-over takes.
    report = write_behind = fall_silent = redispatch = reassign = cordon = trade = None  # type: ignore[assignment]
    crash_while_scheduling = crash_while_unscheduling = lose_the_lead = None  # type: ignore[assignment]

    @initialize(
        bodies=st.lists(bodies, min_size=2, max_size=len(ORIGINS)), promise=st.sampled_from(["overlap", "strict"])
    )
    def start(self, bodies: list[int], promise: str) -> None:
        self.begin(set(NODES), bodies, promise)
        for name in (*NODES, *NODES):
            self.all_is_well()
            self.hear_of(name)

    @precondition(lambda self: self.ids)
    @rule(number=st.integers(0, len(ORIGINS) - 1), to=names)
    def move(self, number: int, to: str) -> None:
        """Give the config of that number, among those that there are, to a node."""
        checks = sorted(self.ids, key=self.ids.__getitem__)
        check = checks[number % len(checks)]
        if not self.model.why_not([check], to):
            dispatcher.reassign([self.ids[check]], to, actor="eve")
            self.model.give([check], to)

    @precondition(lambda self: self.ids)
    @rule(number=st.integers(0, len(ORIGINS) - 1), to=st.lists(names, min_size=2, max_size=3))
    def move_on(self, number: int, to: list[str]) -> None:
        """Move a config from node to node: on as soon as each has acknowledged it, before a pass has ended the hand-over."""
        first, *others = to
        self.move(number, first)
        for name, following in zip(to, others, strict=False):
            self.all_is_well()
            for _ in range(2):
                self.hear_of(name)
                self.all_is_well()
            self.move(number, following)
            self.all_is_well()
            self.hear_of(name)

    @rule(name=names)
    def poll(self, name: str) -> None:
        self.hear_of(name)

    @rule(name=names)
    def poll_before_a_pass(self, name: str) -> None:
        self.hear_of(name)
        self.all_is_well()
        self.run_pass(set(), None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("machine", "steps"), [(Dispatching, 7), (HandingOver, 10)])
def test_the_dispatcher_does_what_the_model_says(monkeypatch, caplog, machine, steps):
    caplog.set_level(logging.CRITICAL)  # a failure shows the steps that lead to it, not what all examples logged
    monkeypatch.setattr(transaction, "CHUNK", CHUNK)
    monkeypatch.setattr(conf, "HANDOVER", conf.HANDOVER)  # each example sets another
    # The model trusts nodes that come and go.
    monkeypatch.setattr(registration, "FLAPPING_TIMES", 10**6)
    Source.objects.update(read_at=Now())
    # Of the many that `make faults` asks for no more: each is a hundred statements, and 5 000 take about ten minutes.
    examples = min(settings.default.max_examples, MOST_EXAMPLES)
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=steps))


REAL_AFTER, REAL_END = handover.after, settling.end_of


def keep_the_first(entry: Entry, *move: Any) -> Handing | None:
    return REAL_AFTER(replace(entry, is_acknowledged=False), *move)


def trust_each_owner(entry: Entry, *move: Any) -> Handing | None:
    return REAL_AFTER(replace(entry, is_acknowledged=True), *move)


def forget_the_one_between(entry: Entry, *move: Any) -> Handing | None:
    handing = REAL_AFTER(entry, *move)
    return handing and handing._replace(between=None)


def believe_that_all_have_fetched(progress: Progress) -> settling.End | None:
    return REAL_END(progress._replace(has_acknowledged=True, is_proven=True))


def lose_patience(progress: Progress) -> settling.End | None:
    return REAL_END(progress._replace(is_late=True))


def never_end(progress: Progress) -> settling.End | None:
    return None


BUGS: dict[str, tuple[object, str, object]] = {
    "nothing is handed over": (handover, "after", lambda *_: None),
    "the former node goes on although another acknowledged it": (handover, "after", keep_the_first),
    "who was given it next is believed to run it": (handover, "after", trust_each_owner),
    "the node between is forgotten": (handover, "after", forget_the_one_between),
    "nobody's acknowledgement is waited for": (settling, "end_of", believe_that_all_have_fetched),
    "the deadline is over at once": (settling, "end_of", lose_patience),
    "lost nodes end no hand-over": (settling, "end_of_lost", lambda *_: 0),
    "a hand-over that goes on is not stored": (HandoverQuerySet, "begin", lambda *_: None),
}


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bug", BUGS)
def test_the_model_finds_a_hand_over_that_breaks_its_promise(monkeypatch, caplog, bug):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(transaction, "CHUNK", CHUNK)
    monkeypatch.setattr(conf, "HANDOVER", conf.HANDOVER)
    monkeypatch.setattr(registration, "FLAPPING_TIMES", 10**6)
    Source.objects.update(read_at=Now())
    monkeypatch.setattr(*BUGS[bug])
    generous = settings(max_examples=3000, stateful_step_count=10, phases=[Phase.generate], database=None)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(HandingOver, settings=generous)
