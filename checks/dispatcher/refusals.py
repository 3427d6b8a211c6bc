"""Why a node may not have a config, in words, and for what purposes nodes are looked for."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Reason(enum.Enum):
    """The reasons why a node may not have a config, with the words that people read."""

    WARMUP = "nothing is placed before the warm-up of this new database is over"
    DRAINING = "{node} is draining"
    CORDONED = "{node} is cordoned"
    LEAVING = "{node} said that it leaves"
    RESTARTING = "{node} said that it restarts"
    SILENT = "{node} is silent for longer than {time}"
    RESERVED = "{node} is reserved for {config}, which is {why}"
    NOT_INCLUDED = "the node declares that it runs only {checks}"
    EXCLUDED = "the node declares that it does not run {check}"
    UNKNOWN_GROUP = "the node's group {group} is unknown"
    OTHER_GROUP = "{check} is for the group {group}"
    NOT_CLAIMED = "the node's group {group} does not claim {check}"
    REQUIRED = "rule {rule}: it requires {label}"
    FORBIDDEN = "rule {rule}: it forbids {label}"
    RULE_FULL = "rule {rule}: at most {most} on one node"
    APART = "rule {rule}: apart from {checks}, which {node} has"
    APART_IN_DOMAIN = "rule {rule}: apart from {checks}, which {domain} has"
    PINNED = "the config is pinned to {pin}"
    RUNNERS_FIRST = "{node} is a node agent, and runners come first"
    FLAPPING = "{node} comes and goes"
    FULL = "{node} may have at most {most}"
    SPREAD = "rule {rule}: {number} of its configs are in {domain}, and only {fewer} in {other}"


# What a person can do about a refusal.
_ADVICE: Mapping[Reason, str] = {Reason.PINNED: "unpin it first"}


@dataclass(frozen=True)
class Refusal:
    """Why a node may not have a config: a reason, and the values for the placeholders of its words."""

    reason: Reason
    named: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.about("it")

    def about(self, node: str) -> str:
        """The sentence about the node; `node` is its subject, as in "node ash"."""
        return self.reason.value.format(node=node, **self.named)

    def with_advice(self, node: str = "it") -> str:
        """The sentence about the node, and what a person can do about it."""
        return ": ".join(filter(None, (self.about(node), _ADVICE.get(self.reason, ""))))


class Purpose(NamedTuple):
    """For what purpose a node is needed. It says which constraints count.

    signals: the signals that a node may have (`Node.objects.with_signal`). ignored: reasons that do not count.
    shares_reserved: if all nodes are reserved for isolated configs, each may get other configs, too.
    """

    signals: frozenset[str]
    ignored: frozenset[Reason] = frozenset()
    shares_reserved: bool = False


# The dispatcher places a config by itself. Silence that may be our own fault ("unsure") does not count.
PLACEMENT = Purpose(frozenset({"heard", "unsure"}), shares_reserved=True)
# A choice that was made before is verified: preferences may have changed since, and do not count.
CHOSEN = Purpose(
    PLACEMENT.signals, frozenset({Reason.FLAPPING, Reason.RUNNERS_FIRST, Reason.SPREAD}), shares_reserved=True
)
# A rebalance. No config waits for it, so all silence counts. The warm-up does not: it only delays placing. Nor does what rules
# spread: a plan keeps each such config in its domain.
BALANCE = Purpose(frozenset({"heard"}), frozenset({Reason.WARMUP, Reason.SPREAD}))
# A person undoes a move. Preferences do not count.
UNDO = Purpose(PLACEMENT.signals, CHOSEN.ignored)
# A person names the node. A silent node counts as heard until it expires, and a restart does not matter.
ORDER = Purpose(PLACEMENT.signals | {"silent"}, UNDO.ignored | {Reason.RESTARTING})
