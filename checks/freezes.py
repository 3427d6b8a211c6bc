"""Whether the leader balances of its own accord: options switch it off, and operators freeze it for a while.

Rules, drains and pins still move configs then, nodes that die still lose theirs, and who asks for a rebalance gets one.
"""

from clusteragent.lib import conf


def why_off() -> str:
    """Why nothing is balanced automatically now; empty when it is."""
    if not conf.ADVANCED_DISPATCHING_ENABLED:
        return "DD_CLUSTER_CHECKS_ADVANCED_DISPATCHING_ENABLED is false"
    if not conf.REBALANCE_ENABLED:
        return "CLUSTERAGENT_REBALANCE_ENABLED is false"
    return ""
