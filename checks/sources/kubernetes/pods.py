"""What is kept of pods and of Kubernetes' own nodes, and whose pod is whose. Pure.

A runner reports by the name of its pod, of its Kubernetes node, or by any other. The first two tell its pod. Its address alone
does not: addresses are given out again, and another cluster may have the same. An address that contradicts a name tells that it
is another's.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

from checks.sources.kubernetes.resources import Object

_ZONE = "topology.kubernetes.io/zone"
# A pod in one of these phases never runs again.
_ENDED = ("Failed", "Succeeded")


class Pod(NamedTuple):
    """A pod. node: its Kubernetes node, empty if it has none yet. is_daemon: no other of its kind runs on that node."""

    namespace: str
    name: str
    uid: str
    node: str = ""
    addresses: frozenset[str] = frozenset()
    is_deleted: bool = False
    has_ended: bool = False
    is_daemon: bool = False


class Machine(NamedTuple):
    """A node of Kubernetes. namespace: always empty. zone: empty if it is not said."""

    name: str
    zone: str = ""
    is_cordoned: bool = False
    namespace: str = ""


class Reporter(NamedTuple):
    """A node as it reports to us. address: empty if it names none."""

    name: str
    address: str = ""


def read_pod(data: Object) -> Pod | None:
    """Return what is kept of a pod; None of one without a UID."""
    metadata, spec, status = data["metadata"], _fields(data, "spec"), _fields(data, "status")
    uid = _text(metadata, "uid")
    if not uid:
        return None
    owners = metadata.get("ownerReferences")
    kinds = [owner.get("kind") for owner in owners if isinstance(owner, dict)] if isinstance(owners, list) else []
    others = status.get("podIPs")
    told = [status, *(one for one in others if isinstance(one, dict))] if isinstance(others, list) else [status]
    addresses = frozenset(filter(None, (_address(one.get("podIP", one.get("ip"))) for one in told)))
    return Pod(
        metadata["namespace"],
        metadata["name"],
        uid,
        _text(spec, "nodeName"),
        addresses,
        is_deleted=bool(metadata.get("deletionTimestamp")),
        has_ended=_text(status, "phase") in _ENDED,
        is_daemon="DaemonSet" in kinds,
    )


def read_machine(data: Object) -> Machine:
    """Return what is kept of a node of Kubernetes."""
    is_cordoned = _fields(data, "spec").get("unschedulable") is True
    return Machine(data["metadata"]["name"], _text(_fields(data["metadata"], "labels"), _ZONE), is_cordoned)


def match(reporters: Mapping[int, Reporter], pods: Iterable[Pod]) -> dict[int, list[Pod]]:
    """Return {node's id: the pods that may be its own}, without nodes that have none. One pod is sure, several are ambiguous.

    A pod that has ended is nobody's. A pod that may be several nodes' is none's.
    """
    by_name: dict[str, list[Pod]] = defaultdict(list)
    for pod in pods:
        if not pod.has_ended:
            for name in {pod.name, pod.node}:
                by_name[name].append(pod)
    found = {node: [pod for pod in by_name.get(one.name, ()) if _may_be(one, pod)] for node, one in reporters.items()}
    claims: dict[str, int] = defaultdict(int)
    for claimed in found.values():
        for pod in claimed:
            claims[pod.uid] += 1
    sure = ((node, [pod for pod in claimed if claims[pod.uid] == 1]) for node, claimed in found.items())
    return {node: claimed for node, claimed in sure if claimed}


def _may_be(one: Reporter, pod: Pod) -> bool:
    """Whether a node of this name, the pod's or that of its Kubernetes node, is the pod's.

    Other agents may have the name of its Kubernetes node. So that name needs the pod's address, or a pod of a DaemonSet.
    """
    if one.address:
        return one.address in pod.addresses
    return one.name == pod.name or pod.is_daemon


def alive(pods: Collection[Pod]) -> dict[str, Pod]:
    """Return {UID: pod} of those that have not ended."""
    return {pod.uid: pod for pod in pods if not pod.has_ended}


def _fields(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def _address(value: object) -> str:
    """The address as PostgreSQL writes it; empty if it is none."""
    with suppress(ValueError):
        return str(ip_address(str(value)))
    return ""
