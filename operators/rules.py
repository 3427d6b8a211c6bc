"""What follows a change of rules, in the admin and in the operators' API alike."""

from checks.models.orders import Rule
from clusteragent.lib.words import plain_count
from nodes.models import NodeRule


def apply_rules(kind: type[Rule | NodeRule]) -> str:
    """Let changed rules of this kind take effect, outside of a transaction. Returns a sentence that says how.

    Those about configs need nothing here: saving one has called the leader.
    """
    if kind is NodeRule:
        return f"It changes {plain_count(NodeRule.objects.apply(), 'node')}."
    return "It holds for all placements from now on. Configs on forbidden nodes move within seconds."
