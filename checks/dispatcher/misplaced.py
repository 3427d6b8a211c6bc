"""Whether a config is where it should be."""

from checks.changes import Entry
from checks.dispatcher.turns import Placement
from checks.eligibility import Candidate, Eligibility, candidates
from checks.models import Move
from checks.orders import Pin
from clusteragent.lib import conf
from nodes.models import Node


class Judge:
    """Says why configs must or should leave the nodes that have them, given the nodes that could."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._nodes: dict[int, Candidate] = {node.id: node for node in candidates(Node.objects.known())}
        self.eligibility = Eligibility(list(self._nodes.values()))
        self._draining = set(Node.objects.filter(draining=True).values_list("pk", flat=True))

    def is_content(self) -> bool:
        """Whether everything is right, as can be told without a look at any config."""
        return self.eligibility.is_plain and not self._draining and not Pin.objects.exists()

    def must_go(self, entry: Entry) -> str:
        """Why it may not run where it is; empty when it may."""
        node = self._nodes.get(entry.owner or 0)
        if node is None:
            return ""
        if entry.pin is not None and entry.pin.waits and not entry.pin.matches(node.name, node.labels):
            return Move.Reason.PINNED
        return Move.Reason.INELIGIBLE if self.eligibility.refusal(entry, node) else ""

    def should_go(self, entry: Entry) -> str:
        """Why it should run elsewhere, where another node can have it now; empty when it is right."""
        node = self._nodes.get(entry.owner or 0)
        able = self._placement.able(entry) if node else []
        if node is None or not able:
            return ""
        if entry.pin is not None and not entry.pin.matches(node.name, node.labels):
            return Move.Reason.PINNED if any(entry.pin.matches(one.name, one.labels) for one in able) else ""
        if node.id in self._draining:
            return Move.Reason.DRAINED
        prefers = conf.PLACEMENT_PREFER == "runners" and entry.pin is None
        return Move.Reason.REBALANCED if prefers and not node.is_runner and all(one.is_runner for one in able) else ""
