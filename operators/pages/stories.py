"""Stories: moves, node events and acts of one cause, folded into one. A rollout of 300 nodes is one story, not 7 000 lines."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import (
    BooleanField,
    Case,
    Count,
    DateTimeField,
    ExpressionWrapper,
    FloatField,
    Func,
    Max,
    Min,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.fields.json import KT

from acts.models import Act
from acts.models.acts import BY_COMMAND, MOVING, ORDERS
from checks.explain.reasons import Grouping, words
from checks.models import Move, Origin
from checks.models.handovers import Promise
from clusteragent.lib import conf
from nodes.models import NodeEvent
from nodes.pools import pool_of
from operators.pages.happenings import Cause, Deed, Event, LedgerLine, Older
from operators.pages.ranges import between

# After this time without anything new, a story has ended.
QUIET = timedelta(minutes=3)
# Nodes that join, or say goodbye, within this time of each other do so together: none takes another's place.
TOGETHER = timedelta(seconds=30)
# Moves that lie further apart are of several rounds. A large rebalance is several transactions, which follow at once.
ROUND = timedelta(seconds=10)
# The most node events, and acts, that are read. They are few beside moves.
MOST_EVENTS = 50_000
# What Move.why says of why a config moved.
_OF_WHY = ("rule", "is_chosen")
# How many of a story's configs are looked up, to name their sources.
LOOKED_AT = 100

_MOVE, _EVENT = Move.Reason, NodeEvent.Kind
_NODES_COME_AND_GO = {
    _EVENT.REGISTERED, _EVENT.BACK, _EVENT.EXPIRED, _EVENT.SILENT, _EVENT.LEAVING, _EVENT.RESTARTING, _EVENT.RESTARTED,
    _EVENT.FLAPPING,
}  # fmt: skip
# How a node goes for good, and for good or to start again.
GONE = (_EVENT.EXPIRED, _EVENT.LEAVING)
_GOES = {*GONE, _EVENT.RESTARTING, _EVENT.RESTARTED}
# And how it comes, anew or again.
_COMES = {_EVENT.REGISTERED, _EVENT.BACK, _EVENT.RESTARTED}

# Where somebody, or the balancing, gives configs to other nodes. What nodes do that come and go is not to be undone.
_UNDOABLE = {_MOVE.REBALANCED, _MOVE.OPERATOR, _MOVE.UNDONE}

# The reasons of moves by what a person orders.
_MOVED_BY: Mapping[str, str] = {
    "pin": _MOVE.PINNED, "pause": _MOVE.PAUSED, "resume": _MOVE.RESUMED, "isolate": _MOVE.ISOLATED,
    "reassign": _MOVE.OPERATOR, "rebalance": _MOVE.REBALANCED, "undo": _MOVE.UNDONE,
}  # fmt: skip
# What a person is named as the cause of.
_ORDERED = (_EVENT.CORDONED, _EVENT.UNCORDONED, _EVENT.DRAINING)

# What people say of rules, and of orders that wait. The moves that follow are the leader's.
RULED = "ruled"
# Removals that a source held back and somebody accepted. The leader removes them later.
ACCEPTED = "accepted"
# Of moves by a rule that nobody changed just now. about: its name.
BY_RULE = "by rule"
_BY_RULES = {RULED, BY_RULE, _MOVE.INELIGIBLE}


@dataclass
class Story:
    """The moves, events and acts of one cause that followed closely upon each other, the first one first.

    placed: how often each config got a node. dangling: configs that have no node at the end. gap: the longest time that a
    config ran nowhere, as far as the ledger shows: of a strict move, from when the former node was to stop it until the new one
    was given it. size: how many nodes the pool had before it, None if that is not known. more: how many moves it has that came
    before `steps` and were only counted. sources: the sources of new or changed configs. joined: {node: when it joined}.
    gone: the nodes that left, restarted or died. has_death: whether one of them died.
    """

    cause: Cause
    start: datetime
    end: datetime
    steps: list[LedgerLine] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    placed: Counter[int] = field(default_factory=Counter)
    dangling: set[int] = field(default_factory=set)
    gap: timedelta = timedelta(0)
    size: int | None = None
    more: int = 0
    first_move: int = 0
    sources: list[str] = field(default_factory=list)
    joined: dict[str, datetime] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    has_death: bool = False

    @property
    def key(self) -> str:
        """Identifies the story. It stays the same while the story begins with the same move or event."""
        if self.deeds:
            return f"a{self.deeds[0].id}"
        return f"m{self.first_move}" if self.first_move else f"e{self.events[0].id}"

    @property
    def query(self) -> str:
        """The URL query for the story's times."""
        return between(self.start, self.end + timedelta(seconds=1))

    @property
    def held(self) -> Counter[str]:
        """How many removals of each source were accepted."""
        return sum((Counter(deed.held or {}) for deed in self.deeds), Counter())

    @property
    def people(self) -> list[str]:
        """The names under which it was ordered, as acts have them. What did it by itself may be among them."""
        actors = {step.actor for step in self.steps} | {event.cause for event in self.events if event.kind in _ORDERED}
        if self.more and self.cause.kind not in ("nodes", "drain", BY_RULE):
            actors.add(self.cause.about)
        named = {actor.removesuffix(BY_COMMAND) for actor in actors} | {deed.person for deed in self.deeds}
        return sorted(named - {""})

    @property
    def moves_to_undo(self) -> list[int]:
        """The ids of its moves from node to node, where that is what the story is about."""
        return [step.id for step in self._undoable]

    @property
    def last_round(self) -> list[int]:
        """The ids of those moves to undo that were made last, at once; empty if all were."""
        steps = self._undoable
        for number in range(len(steps) - 1, 0, -1):
            if steps[number].time - steps[number - 1].time > ROUND:
                return [step.id for step in steps[number:]]
        return []

    @property
    def _undoable(self) -> list[LedgerLine]:
        if self.cause.kind not in _UNDOABLE:
            return []
        return [step for step in self.steps if step.source and step.to and step.source != step.to]

    @property
    def ended(self) -> set[str]:
        """The nodes that were gone for good when it ended."""
        last = {event.node: event.kind for event in self.events if event.kind in _GOES or event.kind in _COMES}
        return {node for node, kind in last.items() if kind in GONE}

    def nodes(self, *kinds: str) -> list[str]:
        """The names of the nodes with events of these kinds, sorted."""
        return sorted({event.node for event in self.events if event.kind in kinds})


class StoryList(NamedTuple):
    """The stories, the last one first. cut: of moves before `since` only numbers were read."""

    stories: list[Story]
    since: datetime
    cut: bool


def read(since: datetime, until: datetime, most: int, sizes: Mapping[str, int] | None = None) -> StoryList:
    """The stories of a range of time. sizes: {pool: number of nodes that stay}.

    The last `most` moves are read one by one, and all others are counted: no story loses what it had, however many moves follow.
    """
    moves = Move.objects.filter(time__gte=since, time__lt=until).order_by("-id")
    events = NodeEvent.objects.filter(time__gte=since, time__lt=until).order_by("-id")
    columns = ("id", "config_id", "source_node", "to_node", "reason", "actor", "promise", "handed_at")
    fields = ("id", "node_name", "kind", "cause", "time", "heard_at")
    chosen: Any = ExpressionWrapper(Q(why__isnull=False), BooleanField())
    told = moves.annotate(rule=KT("why__forbidden_by"), is_chosen=chosen)
    # As seconds, which are exact to the microsecond: reading so many times would take as long as all the rest of their rows.
    # Not Extract: that goes by time zones, and its numbers are decimal, which takes longer than it saves.
    seconds = Func(Value("epoch"), "time", function="date_part", output_field=FloatField())
    timed = told.annotate(seconds=seconds)
    steps = [_line(*row) for row in timed.values_list("seconds", *columns, *_OF_WHY)[:most]]
    happened = [Event(*row) for row in events.values_list(*fields)[:MOST_EVENTS]]
    acts = Act.objects.steering().filter(time__gte=since, time__lt=until).order_by("-id")
    held = Case(When(verb=Act.Verb.ACCEPT, then="after"))
    deeds = [Deed(*row) for row in acts.values_list("id", "person", "verb", "object", "time", held)[:MOST_EVENTS]]
    older = _older(told.filter(id__lt=steps[-1].id)) if len(steps) == most else []
    found = fold(reversed(steps), reversed(happened), sizes, older, reversed(deeds))
    sent = [story for story in found if story.cause.kind == "sent"]
    # By the last configs of each that still exist.
    last = {story.key: {step.config for step in story.steps[-LOOKED_AT:]} for story in sent}
    origins = Origin.objects.filter(config__in=set().union(*last.values())).values_list("config_id", "source")
    rows = list(origins) if sent else []
    for story in sent:
        story.sources = sorted({source for config, source in rows if config in last[story.key]})
    ends = [rows[-1].time for rows, is_cut in ((steps, older), (happened, len(happened) == MOST_EVENTS)) if is_cut]
    return StoryList(found, max([since, *ends]), bool(ends))


def _line(seconds: float, *rest: Any) -> LedgerLine:
    """A line of the ledger. seconds: its time, since 1970."""
    return LedgerLine(datetime.fromtimestamp(seconds, UTC), *rest)


def _older(moves: QuerySet[Move]) -> list[Older]:
    """Count moves by what makes them one story, each minute for itself."""
    alike = ("source_node", "reason", "actor")
    # Not TruncMinute: date_trunc goes by time zones, and takes twice the time.
    minute = Func(Value("1 minute"), "time", Value("epoch"), function="date_bin", output_field=DateTimeField())
    groups = moves.order_by().annotate(minute=minute).values(*alike, *_OF_WHY, "minute")
    counted = groups.annotate(Min("id"), Count("id"), Min("time"), Max("time"))
    columns = (*alike, "id__min", "id__count", "time__min", "time__max", *_OF_WHY)
    return [Older(*row) for row in counted.values_list(*columns)]


def fold(
    steps: Iterable[LedgerLine],
    events: Iterable[Event],
    sizes: Mapping[str, int] | None = None,
    older: Iterable[Older] = (),
    deeds: Iterable[Deed] = (),
) -> list[Story]:
    """Fold moves, events and acts, each sorted by time, and counts of older moves into stories, the last one first.

    sizes: {pool: number of nodes that stay}.
    """
    events = list(events)
    folding = _Folding(events)
    things: list[LedgerLine | Event | Older | Deed] = [*deeds, *events, *older, *steps]
    # A stable sort: what somebody did, or happened to a node, comes before what that moved at the same time.
    for thing in sorted(things, key=attrgetter("time")):
        if isinstance(thing, LedgerLine):
            folding.move(thing)
        elif isinstance(thing, Older):
            folding.count(thing)
        elif isinstance(thing, Deed):
            folding.act(thing)
        else:
            folding.happen(thing)
    if sizes is not None:
        _size(folding.stories, sizes)
    return sorted(folding.stories, key=lambda story: story.end, reverse=True)


def _size(stories: Iterable[Story], sizes: Mapping[str, int]) -> None:
    """Say of each story of a pool how many nodes that had then: what came and went since is counted back."""
    left = Counter(sizes)
    for story in sorted(stories, key=lambda story: story.start, reverse=True):
        if story.cause.kind == "nodes":
            pool = story.cause.about
            left[pool] += len(story.ended - story.joined.keys()) - len(story.joined.keys() - story.ended)
            story.size = max(left[pool], 0)


class _Folding:
    def __init__(self, events: Iterable[Event]) -> None:
        self.stories: list[Story] = []
        # When each node says goodbye. Of each goodbye, until when those of its pool follow that each come within TOGETHER of
        # another, and how many these are.
        self._goodbyes: dict[str, list[datetime]] = defaultdict(list)
        self._together: dict[int, tuple[datetime, int]] = {}
        self._note_goodbyes(events)
        self._open: dict[Cause, Story] = {}
        # The configs that run nowhere: {config id: (since when, the story in which it lost its node)}.
        self._lost: dict[int, tuple[datetime, Story]] = {}
        # The configs of strict moves that no node gets yet: the same.
        self._waiting: dict[int, tuple[datetime, Story]] = {}
        # Nodes that one order drains have one cause: that of its first node.
        self._orders: dict[tuple[datetime, str], Cause] = {}
        self._drained: dict[str, Cause] = {}
        # The last expiry of each node that is not back, and the story of it.
        self._expiries: dict[str, tuple[Event, Story]] = {}
        # The nodes that said that they leave, or restart, each with the story of it.
        self._announced: dict[str, Story] = {}
        # The last story with an act of each kind of cause, and the last one of each rule.
        self._acted: dict[str, Story] = {}

    def _note_goodbyes(self, events: Iterable[Event]) -> None:
        goodbyes = [event for event in events if event.kind == _EVENT.LEAVING]
        following: dict[str, tuple[datetime, datetime, int]] = {}
        for event in sorted(goodbyes, key=attrgetter("time"), reverse=True):
            self._goodbyes[event.node].append(event.time)
            pool = pool_of(event.node)
            next_one, until, number = following.get(pool, (event.time, event.time, 0))
            if next_one - event.time > TOGETHER:
                until, number = event.time, 0
            following[pool] = event.time, until, number + 1
            self._together[event.id] = until, number + 1

    def move(self, step: LedgerLine) -> None:
        since, story = self._lost.pop(step.config, (step.time, None))
        if story:
            story.dangling.discard(step.config)
            story.gap = max(story.gap, step.time - since) if step.to else story.gap
        # A config that is placed again belongs to the story in which it lost its node, unless a rule took it and has changed.
        cause = self._cause_of(step)
        freed = story is not None and story.cause.kind in _BY_RULES and cause.kind == RULED
        if story is None or freed or step.reason != _MOVE.REDISPATCHED:
            story = self._story(cause, step.time)
        story.end = max(story.end, step.time)
        story.steps.append(step)
        story.first_move = story.first_move or step.id
        if step.to:
            story.placed[step.config] += step.to != step.source
        elif words(step.reason).dangles:
            self._lost[step.config] = self._ran_until(step), story
            story.dangling.add(step.config)
        if step.source != step.to:
            self._stand_still(step, story, since)

    def _stand_still(self, step: LedgerLine, story: Story, since: datetime) -> None:
        """Count how long no node was to have a config by a strict move: until that was done, or until something else came of it.

        since: when that began, if the config was not waiting already.
        """
        waited = self._waiting.pop(step.config, None)
        began, first = waited or (since, story)
        is_strict = step.promise == Promise.STRICT
        if step.to and is_strict and step.handed_at is None:
            self._waiting[step.config] = began, first
        elif step.to and (is_strict or waited):
            ended = step.handed_at if is_strict and step.handed_at else step.time
            first.gap = max(first.gap, ended - began)

    def _ran_until(self, step: LedgerLine) -> datetime:
        """Until when a config ran on the node that it is taken from, as far as is known."""
        if step.reason != _MOVE.EXPIRED:
            return step.time
        expiry, _ = self._expiries.get(step.source, (None, None))
        # Without a proof a node has been silent for the timeout by then.
        return expiry.silent_since if expiry else step.time - conf.NODE_EXPIRATION_TIMEOUT

    def count(self, older: Older) -> None:
        story = self._story(self._cause_of(older), older.time)
        story.end = max(story.end, older.last)
        story.more += older.number
        story.first_move = story.first_move or older.id

    def happen(self, event: Event) -> None:
        cause = cause_of_event(event)
        if event.kind == _EVENT.DRAINING:
            cause = self._drained[event.node] = self._orders.setdefault((event.time, event.cause), cause)
        story = self._came_and_went(event, cause) if cause.kind == "nodes" else self._story(cause, event.time)
        story.end = max(story.end, event.time)
        story.events.append(event)

    def _came_and_went(self, event: Event, cause: Cause) -> Story:
        """The story of an event of a node that comes or goes."""
        story = self._told_with(event) or self._coming_or_going(event, cause)
        if event.kind in (_EVENT.LEAVING, _EVENT.RESTARTING):
            self._announced[event.node] = story
        elif event.kind == _EVENT.EXPIRED:
            self._expiries[event.node] = event, story
        elif event.kind in _COMES:
            self._announced.pop(event.node, None)
        return story

    def _told_with(self, event: Event) -> Story | None:
        """The story to which it belongs, however late it is: a return to that of the loss, the end of what said goodbye to its
        goodbye; None if it is neither.
        """
        if event.kind == _EVENT.EXPIRED:
            return self._announced.get(event.node)
        if event.kind != _EVENT.BACK or event.node not in self._expiries:
            return None
        _, story = self._expiries.pop(event.node)
        # What follows upon a late return does not belong there.
        if event.time - story.end > QUIET and self._open.get(story.cause) is story:
            del self._open[story.cause]
        return story

    def _coming_or_going(self, event: Event, cause: Cause) -> Story:
        story = self._story(cause, event.time)
        if event.kind == _EVENT.REGISTERED:
            story.joined[event.node] = event.time
        return self._gone(story, event) if event.kind in _GOES else story

    def _gone(self, story: Story, event: Event) -> Story:
        """The story of a node that goes: this one, or a new one where that is about something else."""
        is_death = event.kind == _EVENT.EXPIRED
        if is_death and not story.has_death and len(story.gone) < 2:
            # No rollout is under way: what came before its last word has nothing to do with it.
            story = self._apart(story, [other for other in story.events if other.time >= event.silent_since], event)
        elif not is_death and event.node in story.joined and event.node not in story.gone:
            # It goes in another story than that in which it came.
            story = self._apart(story, self._instead(story, event), event)
        story.gone.add(event.node)
        story.has_death |= is_death
        return story

    def _instead(self, story: Story, event: Event) -> list[Event]:
        """Who joined in this story in the place of a node that joined in it, too, and says goodbye, or of those that go with it.

        Nobody who joined together with it, or goes with it, and nobody who may stand for what went before.
        """
        if event.kind != _EVENT.LEAVING:
            return []
        until, number = self._together[event.id]
        joined, went = story.joined[event.node], len(story.gone - story.joined.keys())
        came = [other for other in story.events if other.kind == _EVENT.REGISTERED][went:]
        rest = [other for other in came if other.time - joined > TOGETHER and not self._goes(other, event.time, until)]
        return rest[:number]

    def _goes(self, joined: Event, since: datetime, until: datetime) -> bool:
        """Whether a node that joined says goodbye within this time."""
        return any(since <= time <= until for time in self._goodbyes.get(joined.node, ()))

    def _apart(self, story: Story, after: Sequence[Event], event: Event) -> Story:
        """The story that begins with these events of another one, and with this one; the same if nothing came before."""
        moved = {*after}
        before = [other for other in story.events if other not in moved]
        if not before or any(other.kind in _GOES for other in after):
            return story
        story.events = before
        story.end = max([before[-1].time, *(step.time for step in story.steps[-1:])])
        joined = {other.node: story.joined.pop(other.node) for other in after if other.kind == _EVENT.REGISTERED}
        begin = [*after, event][0].time
        found = self._open[story.cause] = Story(story.cause, begin, event.time, events=[*after], joined=joined)
        self.stories.append(found)
        return found

    def act(self, deed: Deed) -> None:
        cause = cause_of_act(deed)
        story = self._acted[cause.kind] = self._story(cause, deed.time)
        if deed.object.startswith("rule "):
            self._acted[deed.object] = story
        story.end = max(story.end, deed.time)
        story.deeds.append(deed)

    def _cause_of(self, step: LedgerLine | Older) -> Cause:
        cause = cause_of_move(step)
        if cause.kind == "drain":
            return self._drained.get(cause.about, cause)
        if accepted := self._accepted(step):
            return accepted
        # What somebody said of rules and pins moves configs in the passes that follow.
        kind = RULED if _follows_rules(step) else step.reason if step.reason == _MOVE.PINNED and not step.actor else ""
        story = self._acted.get(kind)
        if story and step.rule and not any(deed.object.startswith("node rule ") for deed in story.deeds):
            # Rules that forbid nothing take no config away.
            story = self._acted.get(f"rule {step.rule}")
        return story.cause if story and step.time - story.end <= QUIET else cause

    def _accepted(self, step: LedgerLine | Older) -> Cause | None:
        """The cause of what is gone since this person accepted that, up to as many as were accepted."""
        cause = Cause(ACCEPTED, step.actor.removesuffix(BY_COMMAND))
        story = self._open.get(cause) if step.reason == _MOVE.UNSCHEDULED else None
        if story is None or step.time - story.end > QUIET or len(story.steps) + story.more >= story.held.total():
            return None
        return cause

    def _story(self, cause: Cause, time: datetime) -> Story:
        story = self._open.get(cause)
        if story is None or time - story.end > QUIET:
            story = self._open[cause] = Story(cause, time, time)
            self.stories.append(story)
        return story


def cause_of_move(step: LedgerLine | Older) -> Cause:
    """The cause of a move. Moves with one cause are one story."""
    match words(step.reason).grouping:
        case Grouping.NODES:
            return Cause("nodes", pool_of(step.source))
        case Grouping.DRAIN:
            return Cause("drain", step.source)
        case Grouping.SENT:
            return Cause("sent", step.actor)
        case Grouping.OWN if step.rule:
            return Cause(BY_RULE, step.rule)
        case Grouping.OWN:
            # The act, which is the same story, names the person alone.
            return Cause(step.reason, step.actor.removesuffix(BY_COMMAND))


def _follows_rules(step: LedgerLine | Older) -> bool:
    """Whether a move may be due to what somebody said of rules: the leader made it, and not to even out loads."""
    if step.actor:
        return False
    return bool(step.rule) or step.reason == _MOVE.REDISPATCHED or (step.reason == _MOVE.REBALANCED and step.is_chosen)


def cause_of_act(deed: Deed) -> Cause:
    """The cause of an act by which somebody steers."""
    if deed.verb == Act.Verb.ACCEPT:
        return Cause(ACCEPTED, deed.person)
    return Cause(_MOVED_BY.get(deed.verb, deed.verb) if deed.verb in (*ORDERS, *MOVING) else RULED, deed.person)


def cause_of_event(event: Event) -> Cause:
    """The cause of a node event. A node that goes and the moves that follow have the same cause."""
    if event.kind in _NODES_COME_AND_GO:
        return Cause("nodes", pool_of(event.node))
    if event.kind == _EVENT.DRAINING:
        return Cause("drain", event.node)
    if event.kind in (_EVENT.CORDONED, _EVENT.UNCORDONED):
        return Cause(event.kind, event.cause)
    return Cause(f"node {event.kind}", "")


def find(stories: Sequence[Story], key: str) -> Story | None:
    """The story with this key; None if there is none."""
    return next((story for story in stories if story.key == key), None)
