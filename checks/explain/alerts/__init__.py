"""Alerts: what needs an operator now, how many, why, since when, and where to look.

They are computed by queries each time; nothing is stored.
"""

from collections.abc import Sequence
from typing import Any

from django.db.models.functions import Now

from checks.explain import headroom
from checks.explain.alerts.cluster import of_names, of_the_cluster, warmup
from checks.explain.alerts.configs import of_checks, of_configs, of_removals
from checks.explain.alerts.kinds import WORDS, Alert, Kind, Target, Word, word
from checks.explain.alerts.nodes import (
    Losses,
    not_replaced,
    of_flapping_nodes,
    of_headroom,
    of_lost_nodes,
    of_nodes,
    of_slow_nodes,
    of_unread_runners,
    unacknowledged,
)
from checks.explain.alerts.orders import of_orders, pins_astray
from checks.explain.alerts.overload import beyond_moves, held_by_pins, of_overload
from checks.explain.alerts.tokens import of_ending_tokens, of_runners_certificates, of_the_certificate, of_tokens
from nodes.models import Hearing

__all__ = [
    "WORDS",
    "Alert",
    "Kind",
    "Losses",
    "Target",
    "Word",
    "beyond_moves",
    "cluster_wide",
    "current",
    "held_by_pins",
    "not_replaced",
    "of_overload",
    "pins_astray",
    "unacknowledged",
    "warmup",
    "word",
]

# What is so while adopted nodes do not know our address yet.
_BEFORE_THE_SWITCH = frozenset(
    {
        Kind.BRAKE,
        Kind.NONE_ACCEPTS,
        Kind.DEAD_OWNER,
        Kind.WARMUP,
        Kind.UNSCHEDULED,
        Kind.DANGLING,
        Kind.SILENT,
        Kind.NO_HEADROOM,
    }
)
# What is so of every start, as long as no pass has ended and nobody was heard or asked since.
_AT_THE_START = frozenset({Kind.NO_PASS, Kind.BRAKE, Kind.NONE_ACCEPTS, Kind.DEAD_OWNER, Kind.SILENT, Kind.NO_STATS})
# What is so because of the warm-up.
_IN_THE_WARMUP = frozenset({Kind.UNSCHEDULED, Kind.DANGLING})
_EXPLAINED = {Kind.ADOPTED: _BEFORE_THE_SWITCH, Kind.STARTING: _AT_THE_START, Kind.WARMUP: _IN_THE_WARMUP}


def current(differing: Sequence[str] = (), losses: Losses | None = None) -> list[Alert]:
    """Return all alerts, the most severe first. differing: names of this replica's secrets that differ from the leader's.

    losses: what `not_replaced` says, for who needs it, too: it reads all nodes.
    """
    hearing = _hearing()
    return _by_gravity(
        *of_the_cluster(hearing, differing),
        *of_configs(hearing),
        *of_checks(hearing.now),
        *of_removals(hearing.now),
        *of_lost_nodes(hearing.now, not_replaced() if losses is None else losses),
        *of_nodes(hearing.now),
        *of_unread_runners(hearing.now),
        *of_tokens(hearing.now),
        *of_ending_tokens(hearing.now),
        *of_runners_certificates(hearing.now),
        *of_the_certificate(hearing.now),
        *of_slow_nodes(hearing.now),
        *of_flapping_nodes(hearing.now),
        *of_overload(hearing.now),
        *of_headroom(hearing.now, headroom.worst()),
        *of_names(hearing),
        *of_orders(hearing.now),
    )


def cluster_wide(differing: Sequence[str] = ()) -> list[Alert]:
    """Return the alerts about the whole cluster or a source, the most severe first. Few queries: every page shows these."""
    found = of_the_cluster(_hearing(), differing)
    return _by_gravity(*(alert for alert in found if alert.kind != Kind.SOURCE_WARNING))


def _hearing() -> Any:
    return Hearing.objects.annotate(now=Now()).get()


def _by_gravity(*found: Alert) -> list[Alert]:
    order = list(Kind)
    left_out = {kind for alert in found for kind in _EXPLAINED.get(alert.kind, ())}
    return sorted((one for one in found if one.kind not in left_out), key=lambda alert: order.index(alert.kind))
