"""The words for stories: a title, and the facts."""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple, Self

from checks.explain.reasons import words
from checks.models import Move
from checks.models.originkeys import ADMIN
from checks.wire.scrub import scrub
from clusteragent.lib.words import duration, grouped, grouped_count, listed, natural
from nodes.models import NodeEvent
from operators.pages.stories import ACCEPTED, BY_RULE, GONE, RULED, Story

_MOVE, _EVENT = Move.Reason, NodeEvent.Kind
# What says that a node is there again.
_RETURNED = (_EVENT.RESTARTED, _EVENT.RESTARTING, _EVENT.BACK)
# What was done to a rule, in words.
_RULED = {"make": "", "change": " changed", "delete": " deleted"}
# The titles of stories of acts that move nothing.
_ACTS = {
    "unpin": "Unpinned",
    "release": "Released from isolation",
    "freeze": "Automatic balancing frozen",
    "thaw": "Automatic balancing no longer frozen",
}
# What people write in the admin, beside the names of other sources.
_HAND_WRITTEN = "hand-written configs"
# What sources sent, and removals of theirs that somebody accepted.
_OF_SOURCES = ("sent", ACCEPTED)
# So many objects of a story's acts are named.
MOST_OBJECTS = 3
# Acts that are about the whole cluster.
_OF_ALL = {"freeze", "thaw"}


def titled(stories: Iterable[Story]) -> list[tuple[Story, str, str]]:
    """[(story, its title, its facts)] for these stories."""
    return [(story, *_told_of(story)) for story in stories]


def _told_of(story: Story) -> tuple[str, str]:
    """The title of a story, and its facts."""
    nodes = _Turnover.of(story)
    return _title(story, nodes), _facts(story, nodes)


def _title(story: Story, turnover: "_Turnover") -> str:
    """What happened, in a few words."""
    kind, about = story.cause
    by = f" by {about}" if about else ""
    nodes = listed(sorted({event.node for event in story.events}, key=natural))
    match kind:
        case "nodes":
            return _turned_over(story, turnover)
        case "drain":
            # Each new order replaces the one before.
            orders = [event for event in story.events if event.cause]
            last = max(orders, key=lambda event: event.time).cause if orders else ""
            drained = listed(story.nodes(_EVENT.DRAINING)) or about
            return f"Drain of {drained}{f' by {last}' if last else ''}"
        case _ if kind in _OF_SOURCES:
            return _sent(story) + by
        case _EVENT.CORDONED | _EVENT.UNCORDONED:
            return f"{nodes} {kind}{by}"
        case _ if kind == RULED:
            return _ruled(story) + by
        case _ if kind in _ACTS:
            return _ACTS[kind] + by
        case _ if kind == BY_RULE:
            return f"Moved to where rule {scrub(about)} allows them"
        case _:
            about_nodes = kind.startswith("node ")
            return f"{nodes}: {kind.removeprefix('node ')}" if about_nodes else f"{words(kind).title}{by}"


def _sent(story: Story) -> str:
    """Of which sources this is, and whether it is what somebody accepted."""
    is_accepted = story.cause.kind == ACCEPTED
    names = sorted(story.held) if is_accepted else story.sources
    sources = listed([_HAND_WRITTEN if name == ADMIN else name for name in names]) or "the sources"
    return f"Removals of {sources} accepted" if is_accepted else f"Changes of {sources}"


def _facts(story: Story, turnover: "_Turnover") -> str:
    """How many nodes and configs the story touched: `212 of 300 replaced, 3 540 configs moved, longest gap 38 s`."""
    gap = f"longest gap {duration(story.gap)}" if story.gap > timedelta(0) else ""
    dangling = len(story.dangling)
    waiting = (
        f"{grouped_count(dangling, 'config')} {'waits' if dangling == 1 else 'wait'} for a node" if dangling else ""
    )
    moved = _moved(story)
    which = "more move" if moved else "earlier move"
    more = f"{'and ' if moved else ''}{grouped_count(story.more, which)}" if story.more else ""
    found = [*filter(None, (_replaced(story, turnover), moved, more, gap, waiting))]
    # What an isolation moved is what made room. Several acts are told apart from what all of them moved, and that of one config
    # says which it was, and whether it is held there.
    is_of_one = len(story.deeds) == 1 and len({step.config for step in story.steps}) == 1
    if not found or story.cause.kind == _MOVE.ISOLATED or len(story.deeds) > 1 or is_of_one:
        found = [*_said(story, moved=bool(found)), *found]
    return ", ".join(found)


def _ruled(story: Story) -> str:
    """What somebody said of rules, each as it was said last: `Rule gold-only changed and node rule runner-* deleted`."""
    last = {deed.object: _RULED[deed.verb] for deed in story.deeds}
    said = listed([f"{named}{verb}" for named, verb in last.items()])
    return said[0].upper() + said[1:]


def _said(story: Story, *, moved: bool) -> list[str]:
    """What the acts of a story are about: `3 acts (tls a; tls b)`. moved: whether its moves are told, too."""
    if story.cause.kind == ACCEPTED:
        return [] if moved else [f"{grouped_count(story.held.total(), 'config')} to be removed"]
    if story.cause.kind == RULED:
        # The title names them.
        return [] if moved else ["nothing moved"]
    objects = [] if story.cause.kind in _OF_ALL else list(dict.fromkeys(deed.object for deed in story.deeds))
    if len(story.deeds) < 2:
        return objects
    rest = [f"{grouped(len(objects) - MOST_OBJECTS)} more"] if len(objects) > MOST_OBJECTS else []
    about = "; ".join([*objects[:MOST_OBJECTS], *rest])
    return [f"{grouped_count(len(story.deeds), 'act')}{f' ({about})' if about else ''}"]


class _Turnover(NamedTuple):
    """The nodes that are gone for good, the new ones, those that restarted, and those that were lost without a word and are back,
    each by its last event. reported: those that are back, and of whose loss the story does not tell. dead: those of the gone that
    expired. brief: how many of the gone had joined in the same story. replaced: how many of the gone a new one stands for;
    revived: how many of these expired.
    """

    gone: list[str]
    came: list[str]
    restarted: list[str]
    recovered: list[str]
    reported: list[str]
    dead: list[str]
    brief: int
    replaced: int
    revived: int

    @classmethod
    def of(cls, story: Story) -> Self:
        went, returned, new = ({*story.nodes(*kinds)} for kinds in (GONE, _RETURNED, (_EVENT.REGISTERED,)))
        gone = story.ended
        # A node that registers anew after it was gone has come back.
        back = (returned | (went & new)) - gone
        dead = gone & _died(story)
        came = new - gone - back
        announced = {*story.nodes(_EVENT.LEAVING, _EVENT.RESTARTING)}
        unannounced = (back & {*story.nodes(_EVENT.BACK)}) - announced
        recovered = unannounced & {*story.nodes(_EVENT.EXPIRED)}
        reported = unannounced - recovered - {*story.nodes(_EVENT.RESTARTED)}
        # What says goodbye may have its replacement already. What dies has one only if that came after it.
        joined = sorted(event.time for event in story.events if event.kind == _EVENT.REGISTERED and event.node in came)
        taken = min(len(gone - dead), len(joined))
        rest, revived = joined[taken:], 0
        # The last of each node: they come by time.
        expired = {event.node: event for event in story.events if event.kind == _EVENT.EXPIRED}
        for silent in sorted((event.silent_since for node, event in expired.items() if node in dead), reverse=True):
            if rest and rest[-1] >= silent:
                rest.pop()
                revived += 1
        restarted = back - recovered - reported
        gone_, came_, restarted_, recovered_, reported_, dead_ = (
            sorted(names, key=natural) for names in (gone, came, restarted, recovered, reported, dead)
        )
        brief = len(gone & story.joined.keys())
        return cls(gone_, came_, restarted_, recovered_, reported_, dead_, brief, taken + revived, revived)

    @property
    def is_rollout(self) -> bool:
        return bool(self.replaced) or len(self.restarted) > 1


def _died(story: Story) -> set[str]:
    """The nodes that expired without a goodbye since they came last."""
    announced: set[str] = set()
    found = set()
    for event in story.events:
        if event.kind == _EVENT.LEAVING:
            announced.add(event.node)
        elif event.kind == _EVENT.EXPIRED and event.node not in announced:
            found.add(event.node)
        elif event.kind in (_EVENT.REGISTERED, *_RETURNED):
            announced.discard(event.node)
            found.discard(event.node)
    return found


def _turned_over(story: Story, nodes: _Turnover) -> str:
    """What became of the nodes of a pool, in a few words."""
    about = story.cause.about
    if nodes.is_rollout:
        return f"Rollout of {about}"
    for names, verb in _told(nodes):
        return f"{listed(names)} {verb}"
    silent = story.nodes(_EVENT.SILENT, _EVENT.FLAPPING)
    return f"{listed(silent)} not heard for a while" if silent else f"Configs of {about} given to others"


def _told(nodes: _Turnover) -> list[tuple[list[str], str]]:
    """What became of the nodes where that is no rollout, the worst first: [(names, verb)]."""
    left = sorted({*nodes.gone} - {*nodes.dead}, key=natural)
    told = (
        (nodes.dead, "lost"),
        (left, "left"),
        (nodes.recovered, "lost and back"),
        (nodes.reported, "back"),
        (nodes.restarted, "restarted"),
        (nodes.came, "joined"),
    )
    return [(names, verb) for names, verb in told if names]


def _replaced(story: Story, nodes: _Turnover) -> str:
    if not nodes.is_rollout:
        return ", ".join(f"{grouped(len(names))} {verb}" for names, verb in _told(nodes)[1:])
    lost = len(nodes.dead) - nodes.revived
    # Who joined and died had somebody's place.
    before = len(nodes.gone) - nodes.brief
    more_gone = max(before - nodes.replaced - lost, 0)
    numbers = (
        (nodes.replaced, "replaced"),
        (len(nodes.restarted), "restarted"),
        (len(nodes.recovered), "lost and back"),
        (len(nodes.reported), "back"),
        (lost, "lost"),
        (more_gone, "more gone"),
        (len(nodes.came) - nodes.replaced, "more joined"),
    )
    known = nodes.replaced + len(nodes.restarted) + len(nodes.recovered) + len(nodes.reported)
    known += max(lost - nodes.brief, 0) + more_gone
    of_size = "" if story.size is None else f" of {grouped(max(story.size, known))}"
    parts = [
        (f"{grouped(number)}{of_size if verb in ('replaced', 'restarted') else ''}", verb)
        for number, verb in numbers
        if number
    ]
    return ", ".join(map(" ".join, parts))


def _moved(story: Story) -> str:
    if story.cause.kind in _OF_SOURCES:
        counts = Counter(step.reason for step in story.steps)
        found = ((counts[reason], words(reason).outcome) for reason in Move.Reason)
        return ", ".join(f"{grouped_count(number, 'config')} {word}" for number, word in found if number and word)
    if not story.placed:
        taken = len({step.config for step in story.steps if not step.to})
        is_ruled_out = story.cause.kind == RULED and not story.dangling
        done = "paused" if story.cause.kind == _MOVE.PAUSED else "taken away" if is_ruled_out else ""
        return f"{grouped_count(taken, 'config')} {done}" if taken and done else ""
    often = max(story.placed.values())
    number = grouped_count(len(story.placed), "config")
    if often == 1 and all(step.to and (not step.source or step.source == step.to) for step in story.steps):
        # They had no node before, and it is not told here that they lost one.
        return f"{number} placed"
    return f"{number} moved" if often == 1 else f"{number} moved, up to {often} times"
