"""What is kept of pods, and whose pod is whose."""

from typing import Any

from checks.sources.kubernetes.pods import Machine, Pod, Reporter, match, read_machine, read_pod
from tests.table import table

ASH, BIRCH = "10.1.0.1", "10.1.0.2"


def data(**fields: Any) -> dict[str, Any]:
    """A pod as the API tells it. fields: of its metadata, or `spec` and `status`."""
    others = {name: fields.pop(name) for name in ("spec", "status") if name in fields}
    return {"metadata": {"namespace": "datadog", "name": "ash", "uid": "u1"} | fields} | others


def pod(name: str = "ash", address: str = ASH, **fields: Any) -> Pod:
    uid = fields.pop("uid", name)
    return Pod("datadog", name, uid, fields.pop("node", "worker"), frozenset({address} - {""}), **fields)


def pods_of(reporters: dict[str, str], *pods: Pod) -> dict[str, list[str]]:
    """{name of a reporter: UIDs of the pods that may be its own}. reporters: {name: address}."""
    names = list(reporters)
    found = match({number: Reporter(name, reporters[name]) for number, name in enumerate(names)}, pods)
    return {names[number]: [one.uid for one in claimed] for number, claimed in found.items()}


def test_a_pod():
    found = read_pod(
        data(
            deletionTimestamp="2026-01-01T00:00:00Z",
            ownerReferences=[{"kind": "DaemonSet", "name": "datadog"}],
            spec={"nodeName": "worker"},
            status={"phase": "Running", "podIP": ASH, "podIPs": [{"ip": ASH}, {"ip": "FD00::0001"}]},
        )
    )
    assert found == Pod("datadog", "ash", "u1", "worker", frozenset({ASH, "fd00::1"}), is_deleted=True, is_daemon=True)


@table(("phase", "expected"), [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)])
def test_a_pod_ends_by_its_phase(phase, expected):
    found = read_pod(data(status={"phase": phase}))
    assert found is not None
    assert found.has_ended is expected


@table("odd", [{}, {"spec": None, "status": 1}, {"ownerReferences": [1], "status": {"podIPs": [1, {"ip": "x"}]}}])
def test_odd_fields_count_as_empty(odd):
    assert read_pod(data(**odd)) == Pod("datadog", "ash", "u1")


def test_a_pod_without_a_uid_is_none():
    assert read_pod(data(uid=None)) is None


def test_a_kubernetes_node():
    labels = {"topology.kubernetes.io/zone": "eu-1a"}
    told = {"metadata": {"name": "worker", "labels": labels}, "spec": {"unschedulable": True}}
    assert read_machine(told) == Machine("worker", "eu-1a", is_cordoned=True)
    assert read_machine({"metadata": {"name": "worker"}}) == Machine("worker")


@table(
    ("reporters", "pods", "expected"),
    [
        ({"ash": ASH}, [pod()], {"ash": ["ash"]}),
        # It names no address: its name is enough.
        ({"ash": ""}, [pod()], {"ash": ["ash"]}),
        ({"ash": BIRCH}, [pod()], {}),
        ({"ash": ASH}, [pod(address="")], {}),
        # An address alone says nothing.
        ({"oak": ASH}, [pod()], {}),
        # Of its Kubernetes node's name are other agents there, too.
        ({"worker": ASH}, [pod()], {"worker": ["ash"]}),
        ({"worker": ""}, [pod()], {}),
        ({"worker": ""}, [pod(is_daemon=True)], {"worker": ["ash"]}),
        ({"worker": ""}, [pod(is_daemon=True), pod("oak", BIRCH, is_daemon=True)], {"worker": ["ash", "oak"]}),
        ({"worker": BIRCH}, [pod(), pod("oak", BIRCH)], {"worker": ["oak"]}),
        # Two nodes that may be one pod.
        ({"ash": ASH, "worker": ASH}, [pod()], {}),
        # Of one that has ended only the next one is left.
        ({"worker": ""}, [pod(is_daemon=True, has_ended=True), pod("oak", is_daemon=True)], {"worker": ["oak"]}),
        ({"ash": ASH}, [pod(node="")], {"ash": ["ash"]}),
        ({"ash": ASH}, [pod(node="ash")], {"ash": ["ash"]}),
    ],
)
def test_whose_pod_it_is(reporters, pods, expected):
    assert pods_of(reporters, *pods) == expected
