"""Prunes what is older than its retention: each kind for itself, in batches."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from django.db import connection
from django.db.models import Exists, OuterRef, Q

from acts.models import Act
from acts.recording import deed
from checks.models import Config, Cost, Move, Plan
from checks.models.edits import Edit
from checks.models.freezes import Freeze
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database import bulk
from nodes.models import Node, NodeEvent, SharedTokenUse

log = structlog.get_logger()

# {kind: function that deletes at most so many old rows and returns how many}. Packages above add their kinds.
KINDS: dict[str, Callable[[float], int]] = {
    "moves": lambda most: bulk.delete(Move.objects.filter(time__lt=_old()).order_by("time"), most=most),
    "plans": lambda most: bulk.delete(Plan.objects.filter(time__lt=_old()).order_by("pk"), most=most),
    "edits": lambda most: bulk.delete(Edit.objects.filter(time__lt=_old()).order_by("time"), most=most),
    "freezes": lambda most: bulk.delete(
        Freeze.objects.filter(Q(ended_at__lt=_old()) | Q(until__lt=_old())).order_by("pk"), most=most
    ),
    "acts": lambda most: Act.objects.prune(most),
    "events": lambda most: NodeEvent.objects.prune(_old(), most),
    "uses of the shared token": lambda most: SharedTokenUse.objects.prune(most),
    "nodes": lambda most: Node.objects.prune(most),
    # Those of configs that are gone.
    "costs": lambda most: bulk.delete(
        Cost.objects.filter(~Exists(Config.objects.filter(pk=OuterRef("pk")))).order_by("pk"), most=most
    ),
}


class NotPruned(Exception):
    """Some kinds could not be pruned: the log says why. pruned: {kind: number of rows} of the others."""

    def __init__(self, failed: list[str], pruned: Mapping[str, int]) -> None:
        super().__init__(f"not pruned: {', '.join(failed)}")
        self.pruned = pruned


def prune(most: float = bulk.MOST) -> dict[str, int]:
    """Prune each kind by at most `most` rows. Return {kind: number of rows}. Raises NotPruned after all were tried."""
    pruned: dict[str, int] = {}
    failed = []
    with deed(Act.Verb.PRUNE, "what is past its retention") as outcome:
        for kind, delete in KINDS.items():
            try:
                pruned[kind] = delete(most)
            except Exception:
                log.exception("pruning_failed", kind=kind)
                failed.append(kind)
                connection.close_if_unusable_or_obsolete()
        outcome.told = {kind: number for kind, number in pruned.items() if number}
        if failed:
            raise NotPruned(failed, pruned)
    return pruned


def _old() -> Any:
    return ago(conf.LEDGER_RETENTION)
