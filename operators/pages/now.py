"""The admin's first page: is it healthy, who needs whom, how full are the nodes, and what happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest

from checks.dispatcher import costs
from checks.models import Assignment
from clusteragent.lib.clock import ago
from clusteragent.lib.words import counted, grouped
from nodes.models import Hearing, Node
from operators.admin.base import list_url, row_url
from operators.pages import base, stories, titles
from operators.pages.pools import STATES, Member, NodePool, pools
from operators.pages.remedies import Line, lines

REFRESH_SECONDS = 5
# Of pools, the rows; of stories, the lines.
MOST_POOLS = 40
MOST_STORIES = 8
# So much of the past is told, of so many lines of the ledger at most.
SPAN = timedelta(hours=1)
MOST_MOVES = 8_000
# A node is joining for so long after it was first heard.
JOINING = timedelta(minutes=2)
_LEAVING = {"draining", "leaving", "restarting"}


@dataclass(frozen=True)
class Snapshot:
    """All that the page says, of one moment by the database's clock."""

    at: datetime
    lines: list[Line]
    pools: list[NodePool]
    told: stories.Told

    @property
    def sentence(self) -> str:
        """Healthy. 5 000 checks on 300 nodes, 3 need you."""
        checks = sum(pool.configs for pool in self.pools)
        nodes = sum(pool.known for pool in self.pools)
        state = "Not healthy." if any(line.is_grave for line in self.lines) else "Healthy."
        number = len(self.lines)
        needing = "nothing needs you" if not number else f"{grouped(number)} {'needs' if number == 1 else 'need'} you"
        return f"{state} {counted(checks, 'check')} on {counted(nodes, 'node')}, {needing}."


def snapshot(user: Any, differing: Sequence[str] = ()) -> Snapshot:
    """differing: the secrets of this replica that are not the leader's."""
    now = Hearing.objects.annotate(now=Now()).values_list("now", flat=True).get()
    groups = pools(members())
    sizes = {pool.name: pool.known for pool in groups}
    return Snapshot(now, lines(user, differing), groups, stories.tell(now - SPAN, now, MOST_MOVES, sizes))


def members() -> list[Member]:
    """Every node with its state, the number of its configs and its load."""
    counts, needed, workers = Assignment.objects.counts(), costs.by_node(), costs.workers()
    nodes = Node.objects.with_state().annotate(young=Q(first_seen__gte=ago(JOINING))).order_by()
    rows = nodes.values_list("pk", "name", "state", "intake", "young")
    return [
        Member(
            id_, name, _shown(state, intake, young), counts.get(id_, 0), _share(needed.get(id_, 0.0), workers.get(id_))
        )
        for id_, name, state, intake, young in rows
    ]


def _shown(state: str, intake: str, young: bool) -> str:
    """The state in which a pool counts a node."""
    if state != "lost" and intake in _LEAVING:
        return "leaving"
    return "joining" if young and state == "alive" else state


def _share(needed: float, workers: int | None) -> float:
    return needed / workers if workers else 0.0


def context(request: HttpRequest, differing: Sequence[str]) -> dict[str, Any]:
    """What the page's template needs; nothing for those who may not see it."""
    if not base.may_see(request):
        return {}
    now = snapshot(request.user, differing)
    return {
        "title": "Now",
        "now": now,
        "pools": [(pool, _url(pool)) for pool in now.pools[:MOST_POOLS]],
        "pools_left": len(now.pools) - MOST_POOLS,
        "stories": titles.titled(now.told.stories[:MOST_STORIES]),
        "said": request.GET.get("said", ""),
        "states": STATES,
        "most_moves": MOST_MOVES,
        "refresh": REFRESH_SECONDS,
    }


def _url(pool: NodePool) -> str:
    """A single node's page, or the list of the nodes whose names begin like the pool's."""
    if len(pool.members) == 1:
        return row_url(Node(pk=pool.members[0].id))
    return list_url(Node, q=pool.name.partition("*")[0])
