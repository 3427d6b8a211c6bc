"""What follows an act that moves nothing by itself, in the words that pages, the operators' API and commands show. Read-only."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from django.db.models.functions import Now

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.dispatcher.acting import require_touchable, shown
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.inventory import read_reserved
from checks.dispatcher.placing import pile_up_ceiling
from checks.dispatcher.returning import going_back
from checks.dispatcher.transaction import light_entries
from checks.explain.aftermath import ASKED_WHY, Aftermath, Moving, follow
from checks.explain.loss import homeless_reasons
from checks.explain.objections import Objection, nowhere, of_closing, why_nowhere
from checks.explain.why import ended
from checks.models import Assignment, Config, bounds, freezes
from checks.models.orders import Isolation, Pin
from checks.wire.scrub import scrub
from clusteragent.lib import conf, deadlines
from clusteragent.lib.words import agreeing, duration, grouped, grouped_count, listed, percent, utc
from nodes.models import Hearing, Node
from nodes.runnercertificates import Offer, written

# Of so many dangling configs it is worked out at most where each would go: a person waits for it.
MOST_FORESEEN = 10_000
# How it begins to say which order an act ends.
ENDS = "It ends this"
# What uncordoning ends.
_CLOSED = ("cordoned", "draining", "leaving", "restarting")


class Forecast(NamedTuple):
    """What an act does at once, and what the leader does in the passes after it.

    what: the act. moves: the configs that would move or get a node then; at most what was worked out. objections: what must be
    accepted. is_balanced: whether it says that balancing may move more then. configs, nodes: the ids of the configs and the names
    of the nodes that it is done to.
    """

    what: str
    sentences: Sequence[str]
    moves: Sequence[Moving] = ()
    objections: Sequence[Objection] = ()
    is_balanced: bool = False
    configs: Collection[int] = ()
    nodes: Collection[str] = ()

    @property
    def told(self) -> Sequence[str]:
        """All that it says: what must be accepted first."""
        return [*(one.reason for one in self.objections), *self.sentences]


def uncordon(names: Collection[str]) -> Forecast:
    """Return what follows when these nodes are given work again. Raises UnknownNode."""
    now = read_snapshot()
    lost = set(Node.objects.lost().filter(name__in=names).values_list("name", flat=True))
    chosen = {name if name in lost else now.named(name).name for name in names}
    if (left := open_of(names)) == chosen:
        nothing = f"Nothing would change: {not_closed(left)}."
        return Forecast(f"Uncordon {listed(sorted(chosen))}", [nothing], nodes=sorted(chosen))
    unchanged = [f"Of these {not_closed(left)}: nothing would change there."] if left else []
    chosen -= left
    opened = [
        node._replace(intake="open") if node.name in chosen and node.intake in _CLOSED else node for node in now.nodes
    ]
    later = replace(now, nodes=opened)
    after = follow(now, later)
    sentences = [
        agreeing(
            len(chosen),
            "It gets new checks again, and keeps what it has.",
            "They get new checks again, and keep what they have.",
        ),
        *unchanged,
        *([f"{listed(sorted(lost))}: lost now, so that holds once it reports."] if lost else []),
        *([f"{grouped_count(after.staying, 'config')} about to move away would stay."] if after.staying else []),
    ]
    more = "more to it" if len(chosen) == 1 else "more to them"
    named = sorted(chosen)
    return _followed(f"Uncordon {listed(named)}", sentences, after, more)._replace(nodes=named)


def open_of(names: Collection[str]) -> set[str]:
    """Return which of these nodes are neither cordoned nor draining."""
    nodes = Node.objects.filter(name__in=names, schedulable=True, draining=False)
    return set(nodes.values_list("name", flat=True))


def not_closed(names: Collection[str]) -> str:
    """Return in words that these nodes are neither cordoned nor draining."""
    return f"{listed(sorted(names))} {agreeing(len(names), 'is', 'are')} neither cordoned nor draining"


def cordon(names: Collection[str]) -> Forecast:
    """Return what follows when these nodes get nothing new. Unknown names count for nothing."""
    nodes = Node.objects.filter(name__in=names)
    draining = sorted(nodes.filter(draining=True).values_list("name", flat=True))
    held = Assignment.objects.filter(node__in=nodes).count()
    keeps = agreeing(
        len(names), "It gets nothing new, and keeps what it has", "They get nothing new, and keep what they have"
    )
    sentences = [f"{keeps}: {grouped_count(held, 'config')}. Nothing moves, and uncordoning takes it back."]
    if draining:
        sentences.append(f"The drain of {listed(draining)} ends: what is left there stays.")
    named = sorted(names)
    return Forecast(f"Cordon {listed(named)}", sentences, objections=of_closing(names), nodes=named)


def accept_certificates(offers: Sequence[Offer]) -> Forecast:
    """Return what follows when these runners are taken for who they say they are."""
    names = [one.node for one in offers]
    sentences = [
        f"{one.node} shows {written(one.other)} instead of {written(one.kept)}, kept since {utc(one.since)}."
        for one in offers
    ]
    sentences.append(
        "Who shows that certificate is sent the node's token from the next round of stats on. Compare it with the node agent's"
        " own first."
    )
    return Forecast(f"Accept the certificate of {listed(names)}", sentences, nodes=names)


def freeze(until: datetime | None = None) -> Forecast:
    """Return what a freeze stops, and until when."""
    told = _freeze()
    end = f"Until {deadlines.told(until)}." if until else "Until somebody ends it."
    return told._replace(sentences=[*told.sentences, end])


def _freeze() -> Forecast:
    stays = "Configs of lost nodes still move, and so does what rules, drains and people order."
    if still := freezes.switched_off():
        return Forecast("Freeze balancing", [f"Nothing is balanced automatically all the same: {still}.", stays])
    if frozen := list(freezes.Freeze.objects.in_force()):
        return Forecast("Freeze balancing", [f"It takes the place of this freeze: {frozen[0]}.", stays])
    otherwise = f"Otherwise, b{_next_round()[0][1:]}"
    return Forecast("Freeze balancing", ["No config moves any more to even out loads.", otherwise, stays])


def unpin(config_ids: Collection[int]) -> Forecast:
    """Return what follows when these configs are not pinned any more. Raises NotTheirs and Outside."""
    require_touchable("unpin", config_ids)
    deciding.require_theirs(Pin, config_ids)
    pinned = [pk for pk in Pin.objects.of(config_ids).values_list("config_id", flat=True) if pk]
    if not pinned:
        return Forecast("Unpin", [f"Nothing would change: {not_ordered(config_ids, 'pinned')}."])
    now = read_snapshot()
    after = follow(now, replace(now), unpinned=pinned)
    said = ended(Pin.objects.of(pinned), ENDS)
    if Assignment.objects.filter(config__in=pinned).exists():
        said.append(agreeing(len(pinned), "It stays where it is for now.", "What runs stays where it is for now."))
    told = _followed(f"Unpin {shown(pinned)}", said, after, "it" if len(pinned) == 1 else "them")
    return told._replace(configs=pinned)


def release(config_ids: Collection[int]) -> Forecast:
    """Return what follows when these configs are not isolated any more. Raises Outside."""
    require_touchable("release", config_ids)
    alone = [pk for pk in Isolation.objects.of(config_ids).values_list("config_id", flat=True) if pk]
    if not alone:
        return Forecast("Release", [f"Nothing would change: {not_ordered(config_ids, 'isolated')}."])
    now = read_snapshot()
    after = follow(now, replace(now, reserved=read_reserved(without=alone)))
    may = agreeing(len(alone), "Others may be placed on its node again.", "Others may be placed on their nodes again.")
    ending = ended(Isolation.objects.of(alone), ENDS)
    return _followed(f"Release {shown(alone)}", [*ending, may], after, "others there")._replace(configs=alone)


def _followed(what: str, sentences: Sequence[str], after: Aftermath, others: str) -> Forecast:
    """The forecast of an act that passes follow, and balancing if nothing keeps it from that. others: what that may move."""
    why_off = freezes.why_off()
    balancing = (
        f"Nothing is balanced automatically now: {why_off}." if why_off else f"Balancing may move {others}: {rounds()}."
    )
    moves = [*after.found, *after.moves, *after.lost]
    return Forecast(what, [*sentences, *_passes(after), balancing], moves, is_balanced=not why_off)


def not_ordered(config_ids: Collection[int], ordered: str) -> str:
    """Return in words that none of these configs is e.g. `pinned` (`ordered`)."""
    return f"{shown(config_ids)} {agreeing(len(config_ids), 'is', 'are')} not {ordered}"


def thaw() -> Forecast:
    """Return what follows when the freeze ends."""
    frozen = list(freezes.Freeze.objects.in_force())
    if not frozen:
        return Forecast("End the freeze", ["Balancing is not frozen."])
    ending = [f"{ENDS}: {one}{f': {scrub(one.note)}' if one.note else '.'}" for one in frozen]
    if still := freezes.switched_off():
        return Forecast("End the freeze", [*ending, f"Nothing would be balanced automatically all the same: {still}."])
    told, moves = _next_round()
    return Forecast("End the freeze", [*ending, f"Balancing goes on: {rounds()}.", told], moves)


def _next_round() -> tuple[str, list[Moving]]:
    """What the next automatic rebalance would move, in a sentence and as moves."""
    plan = plans.draft(settling=True)
    moves = [Moving(one["config"], one["name"], one["from_node"], one["to_node"]) for one in plan.moves]
    told = f"By the last measured loads the next round moves {grouped_count(len(moves), 'config')}"
    peak = f", highest load {' → '.join(map(percent, plan.spread['peak']))}." if moves else "."
    return told + peak, moves


def redispatch(*, force: bool = False) -> Forecast:
    """Return what placing the dangling configs now does: where each would go, and why others would go on dangling.

    force: without the warm-up, and the limit of configs that a node gets at once. Of many configs the first MOST_FORESEEN are
    looked at. Raises Outside for who is bound.
    """
    bounds.require_all(bounds.NEEDED["reassign"], "it places whatever dangles")
    hearing = Hearing.objects.annotate(now=Now()).get()
    ends_warmup = hearing.warmup and hearing.warm_until is not None and hearing.warm_until <= hearing.now
    waiting = Config.objects.dangling().filter(node_name="").order_by("dangling_since", "pk")
    rows = list(waiting.values_list("pk", "name", "former_node")[:MOST_FORESEEN])
    number = waiting.count()
    snapshot = read_snapshot(ceiling=math.inf if force else pile_up_ceiling(), cold=True)
    # What nobody may have at any time waits for no ceiling.
    without_ceiling = replace(snapshot, ceiling=math.inf)
    returning = [] if hearing.warmup else going_back(snapshot, MOST_FORESEEN)
    moves = [
        Moving(one.id, one.name, snapshot.by_id[one.owner].name, snapshot.by_id[to].name)
        for one, to in returning
        if one.owner in snapshot.by_id
    ]
    entries = light_entries([(pk, name, None) for pk, name, _ in rows], snapshot)
    for entry, (_, _, former) in zip(entries, rows, strict=True):
        entry.near = former
    placed = [(entry, snapshot.choose(entry)) for entry in entries]
    found = [Moving(one.id, one.name, "", snapshot.by_id[to].name) for one, to in placed if to is not None]
    is_cold = hearing.warmup and not (ends_warmup or force)
    sentences = _placing(len(found), len(rows), number, is_cold=is_cold)
    if left := [entry for entry, to in placed if to is None]:
        sentences.append(f"{grouped_count(len(left), 'config')} would go on dangling.")
        homeless = [entry for entry in left if not without_ceiling.has_place(entry)]
        if len(homeless) < len(left):
            sentences.append("For a minute no node gets too many of lost nodes at once.")
        sentences += [f"Why: {why}." for why in homeless_reasons(without_ceiling, homeless[:ASKED_WHY])]
    if moves:
        back = agreeing(len(moves), "its former node, which reports", "their former nodes, which report")
        sentences.append(
            f"{grouped_count(len(moves), 'config')} would go back to {back} again, since no other has fetched it."
        )
    if ends_warmup:
        sentences.append("It ends the warm-up.")
    if rows or moves:
        sentences.append("The leader tries the same in each pass, within seconds.")
    return Forecast("Dispatch what runs nowhere", sentences, [*found, *moves])


def _placing(found: int, asked: int, number: int, *, is_cold: bool) -> list[str]:
    """How many of the dangling configs would get a node. asked: of how many this was asked; number: how many dangle."""
    sentences = []
    if is_cold:
        sentences.append("The warm-up is not over: until then no config is placed, so that nothing moves twice.")
    if number > asked:
        sentences.append(f"Of the first {grouped(asked)} of {grouped_count(number, 'config')} that dangle:")
    if found:
        sentences.append(f"{grouped_count(found, 'config')} would get a node.")
    else:
        sentences.append("No config would get a node now." if asked else "No config waits for a node.")
    return sentences


def forget(names: Collection[str]) -> Forecast:
    """Return what is lost with these lost nodes."""
    lost = Node.objects.lost().filter(name__in=names)
    chosen = sorted(lost.values_list("name", flat=True))
    waiting = Config.objects.filter(former_node__in=lost).count()
    one = len(chosen) == 1
    sentences = [
        f"{'It leaves' if one else 'They leave'} the list, with {'its' if one else 'their'} charts, and with being cordoned.",
        "Events, moves and acts stay.",
        f"If {'it reports' if one else 'they report'} again, {'it is a new node' if one else 'they are new nodes'}: labels, "
        "weight and limits come from the rules.",
    ]
    if waiting:
        sentences.append(f"{grouped_count(waiting, 'config')} would not go back there any more.")
    return Forecast(f"Forget {listed(chosen)}", sentences, nodes=chosen)


def _passes(after: Aftermath) -> list[str]:
    """What passes do, one sentence each."""
    found = []
    if after.found:
        found.append(f"{grouped_count(len(after.found), 'config')} without a node would get one.")
    if after.moves:
        found.append(
            f"{grouped_count(len(after.moves), 'config')} would move within about a minute, within the budget."
        )
    if after.lost:
        found.append(nowhere(len(after.lost)))
        found += why_nowhere(after.why)
    if after.waiting:
        found.append(f"{grouped_count(after.waiting, 'config')} would run nowhere, as now.")
    return found or ["Nothing else moves for it."]


def rounds() -> str:
    """Return how many configs automatic balancing moves at most, and how often it does."""
    return f"at most {grouped_count(dispatcher.budget(), 'config')} in {duration(conf.REBALANCE_PERIOD)}"
