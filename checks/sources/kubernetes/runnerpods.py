"""Follows the pods of node agents: whose pod is being deleted leaves, and whose pod is gone is dead."""

import queue
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import ApiError, NotFound
from checks.sources.kubernetes.pods import Machine, Pod, Reporter, alive, match, read_machine, read_pod
from checks.sources.kubernetes.resources import NODES, PODS, Object, Selection
from checks.sources.kubernetes.watching import Changed, Deleted, Kind, Listed, Phase, Told, Watch
from clusteragent.lib import clock, conf
from nodes import pods as verbs
from nodes.models import Node
from nodes.models import Pod as Stored
from nodes.models.pods import Place

# Seconds after which pods are compared with nodes although nothing was told of them, since nodes report meanwhile, and the share
# of the time that comparing has at most.
COMPARE, SHARE = 5.0, 0.1
# A report may be under way for so long before it is written.
WRITTEN = timedelta(seconds=1)
# How many pods are asked for at a time.
MOST_ASKED = 50

Call = Callable[[Callable[[Client], Coroutine[Any, Any, Object]]], "Future[Object]"]

log = structlog.get_logger()


class _Known(NamedTuple):
    """A known node: its last report, and what is stored of its pod, if anything is."""

    name: str
    address: str | None
    seen_at: datetime
    namespace: str | None
    pod: str | None
    uid: str | None
    kubernetes_node: str | None
    zone: str | None
    deleted_at: datetime | None
    gone_at: datetime | None


class _Asked(NamedTuple):
    """A call for a pod of which the watch says that it is gone. at: reports after this time are the word of somebody alive."""

    node: int
    uid: str
    at: datetime
    answer: "Future[Object]"


class RunnerPods:
    """The pods that a selection names, and the nodes that run in them. told: the queue of the watches."""

    def __init__(self, namespace: str, labels: str, told: "queue.Queue[Told]") -> None:
        self._watch = Watch([Kind(Selection(PODS, namespace, labels), read_pod)], told, optional=True)
        self._machines_watch = Watch([Kind(Selection(NODES), read_machine)], told, optional=True)
        self.watches = [self._watch, self._machines_watch]
        self._pods: dict[str, Pod] = {}
        self._machines: dict[str, Machine] = {}
        # When each pod was seen first, by the database's clock.
        self._first: dict[str, datetime] = {}
        self._was_listed = self._is_due = False
        self._due = self._earliest = 0.0
        self._asked: dict[str, _Asked] = {}

    def take(self, told: Told) -> bool:
        """Take over what a watch told; return whether it was about pods or nodes of Kubernetes."""
        if told.resource not in (PODS, NODES):
            return False
        kept: dict[str, Any] = self._pods if told.resource == PODS else self._machines
        if isinstance(told, Listed):
            fresh = {one.name: one for one in told.objects}
            self._is_due |= kept != fresh or not self._was_listed
            kept.clear()
            kept.update(fresh)
            self._was_listed |= told.resource == PODS
        elif isinstance(told, Deleted):
            self._is_due |= kept.pop(told.name, None) is not None
        elif isinstance(told, Changed):
            self._is_due |= kept.get(told.object.name) != told.object
            kept[told.object.name] = told.object
        return True

    def refusals(self) -> Iterator[str]:
        """Yield why pods are not seen."""
        if self._watch.state.phase is Phase.REFUSED:
            yield f"pods of runners are not seen: {self._watch.state.why}"

    def step(self, call: Call) -> None:
        """Note what calls found out, and compare pods with nodes when something changed or it is time."""
        self._note_answers()
        began = time.monotonic()
        if self._was_listed and began >= (self._earliest if self._is_due else self._due):
            self._is_due = False
            try:
                self._compare(call)
            except BaseException:
                self._is_due = True
                raise
            now = time.monotonic()
            self._earliest = now + (now - began) / SHARE
            self._due = max(now + COMPARE, self._earliest)

    def _compare(self, call: Call) -> None:
        now, nodes, pods = clock.now(), _known(), alive(self._pods.values())
        self._first = {uid: self._first.get(uid, now) for uid in pods}
        matched = match({node: Reporter(one.name, one.address or "") for node, one in nodes.items()}, pods.values())
        bound: dict[int, Pod] = {}
        dropped: list[int] = []
        suspects: list[int] = []
        for node, one in nodes.items():
            found = matched.get(node, [])
            if len(found) == 1 and (found[0].uid == one.uid or one.seen_at >= self._first[found[0].uid]):
                bound[node] = found[0]
            elif one.uid is None:
                continue
            elif len(found) > 1 or one.uid in pods or (one.gone_at and one.gone_at <= one.seen_at):
                # Ambiguous, another's, or proven to be gone while somebody reports.
                dropped.append(node)
            elif not one.gone_at:
                suspects.append(node)
        self._store(nodes, bound, dropped)
        verbs.note_deletions(
            [node for node, pod in bound.items() if pod.is_deleted and not _is_noted(nodes[node], pod)]
        )
        if conf.KUBERNETES_CORDONS == "drain":
            verbs.follow_cordons([node for node, pod in bound.items() if self._is_cordoned(pod)])
        for node in suspects:
            self._ask(node, nodes[node], now - WRITTEN, call)

    def _store(self, nodes: dict[int, _Known], bound: dict[int, Pod], dropped: list[int]) -> None:
        places = {node: self._place(pod) for node, pod in bound.items()}
        changed = {node: place for node, place in places.items() if place != _stored(nodes[node])}
        if changed:
            Stored.objects.bind(changed)
        if dropped or Stored.objects.count() > sum(one.uid is not None for one in nodes.values()) + len(changed):
            Stored.objects.unbind(dropped)

    def _is_cordoned(self, pod: Pod) -> bool:
        machine = self._machines.get(pod.node)
        return machine is not None and machine.is_cordoned

    def _place(self, pod: Pod) -> Place:
        machine = self._machines.get(pod.node)
        return Place(pod.namespace, pod.name, pod.uid, pod.node, machine.zone if machine else "")

    def _ask(self, node: int, one: _Known, before: datetime, call: Call) -> None:
        """Ask the API server for a pod that the watch no longer has, once no report from it can be under way."""
        namespace, name, uid = one.namespace or "", one.pod or "", one.uid or ""
        if conf.PROOF_OF_DEATH not in ("all", "pod") or uid in self._asked:
            return
        if one.seen_at >= before or len(self._asked) >= MOST_ASKED:
            self._is_due = True
            return
        self._asked[uid] = _Asked(node, uid, before, call(lambda client: client.get(PODS, namespace, name)))

    def _note_answers(self) -> None:
        """Note which pods are gone: not there, of another UID, or ended. One that is not was only renamed or relabelled."""
        answered = {one: _is_gone(one) for one in self._asked.values() if one.answer.done()}
        if alive := [one.node for one, is_gone in answered.items() if is_gone is False]:
            Stored.objects.unbind(alive)
        if gone := {one.node: one.at for one, is_gone in answered.items() if is_gone}:
            verbs.note_gone(gone)
        for one in answered:
            del self._asked[one.uid]


def _is_gone(asked: _Asked) -> bool | None:
    """Whether the API server says that the pod is gone; None if it said neither."""
    try:
        pod = read_pod(asked.answer.result())
    except NotFound as error:
        # A proxy in front of the API server may answer 404, too.
        return True if '" not found' in str(error) else None
    except ApiError as error:
        log.info("pod_not_confirmed", uid=asked.uid, error=str(error))
        return None
    return pod is None or pod.uid != asked.uid or pod.has_ended


def _known() -> dict[int, _Known]:
    columns = ("namespace", "name", "uid", "kubernetes_node", "zone", "deleted_at", "gone_at")
    rows = Node.objects.known().values_list(
        "pk", "name", "heartbeat__client_ip", "heartbeat__seen_at", *(f"pod__{column}" for column in columns)
    )
    return {node: _Known(*row) for node, *row in rows}


def _stored(one: _Known) -> Place | None:
    if one.uid is None:
        return None
    return Place(one.namespace or "", one.pod or "", one.uid, one.kubernetes_node or "", one.zone or "")


def _is_noted(one: _Known, pod: Pod) -> bool:
    """Whether the deletion of the pod was noted."""
    return one.uid == pod.uid and one.deleted_at is not None
