"""The clusterStore: configs, their assignments, orders and plans, and the ledger of moves.

Each model is in the file of its topic, beside its queryset.
"""

from checks.models.configs import Config, Instance, Origin, SearchedText
from checks.models.costs import Cost
from checks.models.edits import Edit
from checks.models.freezes import Freeze
from checks.models.handovers import Handover
from checks.models.history import ClusterHistory, ConfigHistory, NodeHistory
from checks.models.map import Assignment, ClusterStore, Move, MoveTotal, TaskRun
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.models.plans import Plan
from checks.models.sources import Source, SourceScan
from checks.models.troubles import Trouble

__all__ = [
    "Assignment", "ClusterHistory", "ClusterStore", "Config", "ConfigHistory", "Cost", "Edit", "Freeze", "Handover", "Instance",
    "Isolation", "Move", "MoveTotal", "NodeHistory", "Origin", "Pause", "Pin", "Plan", "Rule", "SearchedText", "Source",
    "SourceScan", "TaskRun", "Trouble",
]  # fmt: skip
