"""nodeStore: the node agents that report to us, when they were last heard, and what happened to them.

Each module imports only those before it: hearing, events, nodes, heartbeats, rules, runners, probes, slowness, pods, tokens. What
spans several tables is done above, in `nodes/`.
"""

from nodes.models.events import NodeEvent
from nodes.models.hearing import Hearing, Memory
from nodes.models.heartbeats import Heartbeat
from nodes.models.nodes import Node, NodeType, UnknownNode
from nodes.models.pods import Pod
from nodes.models.probes import Probe
from nodes.models.rules import NodeRule, validate_labels, validate_network
from nodes.models.runners import Runner, RunnerStats
from nodes.models.slowness import MissedPolls, RunLength, Slowness
from nodes.models.tokens import NodeToken, SharedTokenUse
from nodes.names import validate_node_name

__all__ = [
    "Hearing", "Heartbeat", "Memory", "MissedPolls", "Node", "NodeEvent", "NodeRule", "NodeToken", "NodeType", "Pod", "Probe",
    "RunLength", "Runner", "RunnerStats", "SharedTokenUse",
    "Slowness", "UnknownNode", "validate_labels", "validate_network", "validate_node_name",
]  # fmt: skip
