"""How configs stand: a word, a reason and a node for each. For many of them at once, such as the resources of a cluster."""

import enum
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.explain import facts
from checks.explain.facts import Facts, Truth
from checks.explain.why import ordered, refusals, why_dangling
from checks.models import Config, Origin
from checks.models.configs import OriginQuerySet
from checks.models.orders import ORDERS, Order
from checks.wire.sharding import parent_of
from clusteragent.lib import clock
from clusteragent.lib.words import escape_controls

# Of so many kinds of dangling configs (by check, rules and pin) it is worked out why no node can have them.
MOST_EXPLAINED = 20


class State(enum.StrEnum):
    """How far a config is with its node; of several the first is the worst."""

    DANGLING = "Dangling"
    FAILING = "Failing"
    PAUSED = "Paused"
    ASSIGNED = "Assigned"
    ACKNOWLEDGED = "Acknowledged"
    RUNNING = "Running"


@dataclass(frozen=True, slots=True)
class Standing:
    """How what a key sends stands. Equal until something changes: no text has an age.

    reason: why it does not run, the last error, or that it runs elsewhere than it is pinned to; else empty. node: the names of
    the nodes that have it, and id: the short IDs of its configs, with commas if there are several. overrides: what operators
    ordered, {kind of order: words}.
    is_ready: it runs, or was fetched by a node that never told stats.
    """

    state: State
    reason: str = ""
    node: str = ""
    id: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    is_ready: bool = False


def under(source: str, beginnings: Collection[str]) -> dict[str, Standing]:
    """Return how what a source sends under keys with these beginnings stands: {key: standing}."""
    return of(Origin.objects.filter(source=source).beginning_with(beginnings))


def of(origins: OriginQuerySet) -> dict[str, Standing]:
    """Return how the configs of these origins stand, {key: standing}; of shards, all of a key together.

    The number of queries does not depend on that of the origins.
    """
    sent = list(origins.order_by("key").values_list("key", "config_id"))
    configs = Config.objects.filter(pk__in=list({config_id for _, config_id in sent}))
    configs = configs.select_related("assignment", *map(_kind, ORDERS)).defer("original", "wire", "scrubbed", "text")
    known, causes = facts.of_many(configs), _causes([config for config in configs if config.dangling_since])
    now = clock.now()
    each = {config.pk: _standing(config, known[config.pk], causes.get(config.pk, ""), now) for config in configs}
    parts: dict[str, list[Standing]] = defaultdict(list)
    for key, config_id in sent:
        if config_id in each:
            parts[parent_of(key)].append(each[config_id])
    return {key: _together(some) for key, some in parts.items()}


def _standing(config: Config, known: Facts, cause: str, now: datetime) -> Standing:
    """How a config stands. cause: why it dangles."""
    orders = {kind: getattr(config, kind) for kind in map(_kind, ORDERS) if hasattr(config, kind)}
    if "pin" in orders and orders["pin"].until and orders["pin"].until < now:
        del orders["pin"]
    overrides = {kind: _words(order) for kind, order in orders.items() if not order.from_source}
    state, reason = _state(known, _words(orders["pause"]) if "pause" in orders else "", cause)
    if state in (State.ACKNOWLEDGED, State.RUNNING) and "pin" in orders:
        reason = _unfollowed(orders["pin"], known) or reason
    # Acknowledged by a node that will tell stats is not there yet.
    is_ready = known.is_heard and (state is State.RUNNING or (state is State.ACKNOWLEDGED and not known.tells_stats))
    return Standing(state, escape_controls(reason), known.node, config.short_id, overrides, is_ready)


def _unfollowed(pin: Any, known: Facts) -> str:
    """That no node accepts it where it is pinned to; empty if one did."""
    if pin.matches(known.node, known.labels):
        return ""
    return f"{ordered(pin)}, but no such node accepts it: it runs elsewhere"


def _state(known: Facts, paused: str, cause: str) -> tuple[State, str]:
    """The state, and the reason. paused: by whom; empty: it is not. cause: why it dangles."""
    acknowledged, running = known.acknowledged, known.running
    if known.assigned.truth is Truth.NO:
        return (State.PAUSED, paused) if paused else (State.DANGLING, cause)
    if known.node and not known.is_heard:
        return State.ASSIGNED, f"{known.node} is not heard any more"
    if acknowledged.truth is Truth.NO:
        return State.ASSIGNED, acknowledged.details
    if running.truth is not Truth.UNKNOWN and known.error:
        return State.FAILING, known.error
    if running.truth is Truth.YES:
        return State.RUNNING, ""
    if acknowledged.truth is Truth.YES:
        return State.ACKNOWLEDGED, running.details
    return State.ASSIGNED, acknowledged.details


def _causes(configs: Collection[Config]) -> dict[int, str]:
    """Why each of these configs dangles: {config's id: words}."""
    if not configs:
        return {}
    entries, snapshot = entries_of([config.pk for config in configs]), read_snapshot()
    snapshot.read_origins(entries)
    causes: dict[object, str] = {}
    found = {}
    for entry in entries:
        pin = entry.pin
        kind = entry.name, frozenset(entry.sent_as), pin and (pin.kind, pin.aim, pin.waits)
        if kind not in causes and len(causes) < MOST_EXPLAINED:
            causes[kind] = why_dangling(refusals(snapshot, entry), len(snapshot.nodes))
        found[entry.id] = causes.get(kind, "no node can have it")
    return found


def _together(parts: Sequence[Standing]) -> Standing:
    """How shards of one key stand together: as the worst of them."""
    if len(parts) == 1:
        return parts[0]
    worst = min(parts, key=lambda one: list(State).index(one.state))
    return Standing(
        worst.state,
        worst.reason,
        node=", ".join(sorted({one.node for one in parts if one.node})),
        id=", ".join(one.id for one in parts),
        overrides={kind: words for one in parts for kind, words in one.overrides.items()},
        is_ready=all(one.is_ready for one in parts),
    )


def _kind(order: type[Order]) -> str:
    return order._meta.model_name or ""


def _words(order: Order) -> str:
    """An order in words that stay the same: what, by whom, and until when."""
    until = getattr(order, "until", None)
    author = f" by {escape_controls(order.author)}" if order.author else ""
    end = f" until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if until else ""
    return f"{ordered(order)}{author}{end}".removesuffix(",")
