"""Whose pod is being deleted leaves, and whose pod is gone is dead: as a real API server tells it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from checks import dispatcher
from checks.sources.kubernetes import runnerpods
from clusteragent.lib import conf
from nodes.goodbyes import void_goodbyes
from nodes.hearing import listen
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, Pod
from tests.kubernetes.cluster import Namespace
from tests.kubernetes.kubelet import MACHINES, Kubelet
from tests.kubernetes.test_source import LISTS, LISTS_SLICES, Following, following, row, wait_until_watching
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

__all__ = ["following"]

ASH, BIRCH = "10.1.0.1", "10.1.0.2"
OTHERS = {f"other-{number}": f"10.1.1.{number}" for number in range(1, 5)}


@pytest.fixture
def kubelet(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Kubelet:
    """A namespace whose pods with the label app=runner are watched. Four other nodes report, which are no pods."""
    monkeypatch.setattr(conf, "KUBERNETES_RUNNER_PODS", (namespace.name, "app=runner"))
    monkeypatch.setattr(runnerpods, "COMPARE", 0.2)
    say(**OTHERS)
    return Kubelet(namespace)


def say(*, last_change: int = 0, **addresses: str) -> None:
    """Let nodes report: name=address."""
    for name, address in addresses.items():
        note_heartbeat(name, last_change=last_change, client_ip=address or None)


def pods() -> dict[str, str]:
    """The pod of each node that has one."""
    return dict(Pod.objects.values_list("node__name", "name"))


def wait_for_pod(name: str, uid: str, *addresses: str) -> None:
    """Let a node report until it is known to run in a pod."""

    def is_known() -> bool:
        say(last_change=-1, **dict(zip([name], addresses, strict=True)))
        return Pod.objects.filter(node__name=name, uid=uid).exists()

    wait_for(f"{name} runs in {uid}", is_known)


def leaving() -> set[str]:
    return set(Node.objects.filter(leaving=True).values_list("name", flat=True))


def causes(name: str, kind: str) -> list[str]:
    return list(NodeEvent.objects.filter(node_name=name, kind=kind).order_by("pk").values_list("cause", flat=True))


def one_pass() -> set[str]:
    """What a pass does to nodes while the others report. Returns who expired."""
    say(last_change=-1, **OTHERS)
    listen()
    before = set(Node.objects.known().values_list("name", flat=True))
    dispatcher.expire_nodes()
    Hearing.objects.note_pass()
    return before - set(Node.objects.known().values_list("name", flat=True))


def wait_until_proven(name: str) -> None:
    wait_for(f"the pod of {name} is gone", lambda: Pod.objects.gone().filter(node__name=name).exists())


class TestLeaving:
    def test_a_node_leaves_when_its_pod_is_being_deleted(
        self, kubelet: Kubelet, following: Callable[..., Following]
    ) -> None:
        following()
        uid = kubelet.run("ash", ASH, "worker-1")
        wait_for_pod("ash", uid, ASH)
        pod = Pod.objects.get(node__name="ash")
        assert (pod.namespace, pod.name, pod.kubernetes_node) == (kubelet.namespace.name, "ash", "worker-1")
        kubelet.delete("ash")
        wait_for("ash leaves", lambda: leaving() == {"ash"})
        assert causes("ash", "leaving") == ["its pod is being deleted"]
        assert not Node.objects.accepting().filter(name="ash").exists()
        assert not Pod.objects.gone().exists(), "it lives on"

    def test_one_that_lives_on_for_too_long_stays_and_is_not_taken_for_leaving_again(
        self, kubelet: Kubelet, following: Callable[..., Following]
    ) -> None:
        following()
        wait_for_pod("ash", kubelet.run("ash", ASH), ASH)
        kubelet.delete("ash", grace=600)
        wait_for("ash leaves", leaving)
        Node.objects.update(left_at=Now() - conf.GOODBYE_HOLDS - timedelta(seconds=1))
        assert void_goodbyes() == ["ash"]
        kubelet.label("ash", {"changed": "yes"})
        # Taken together with the change before it, or after it.
        wait_for_pod("birch", kubelet.run("birch", BIRCH), BIRCH)
        assert leaving() == set()

    def test_a_pod_of_the_same_name_starts_anew(self, kubelet: Kubelet, following: Callable[..., Following]) -> None:
        """As those of a StatefulSet."""
        following()
        wait_for_pod("ash", kubelet.run("ash", ASH), ASH)
        kubelet.delete("ash")
        wait_for("ash leaves", leaving)
        Node.objects.update(config_version=7)
        kubelet.end("ash")
        uid = kubelet.run("ash", BIRCH)
        say(ash=BIRCH)
        wait_for_pod("ash", uid, BIRCH)
        pod = Pod.objects.get(node__name="ash")
        assert (pod.deleted_at, pod.gone_at) == (None, None)
        assert leaving() == set()
        kubelet.delete("ash")
        wait_for("ash leaves again", leaving)

    def test_it_is_noted_by_a_leader_that_comes_later(
        self, kubelet: Kubelet, following: Callable[..., Following]
    ) -> None:
        first = following()
        wait_for_pod("ash", kubelet.run("ash", ASH), ASH)
        first.end()
        kubelet.delete("ash")
        following()
        wait_for("ash leaves", leaving)


class TestWhosePod:
    def test_a_contradicting_address_is_somebody_elses(
        self, kubelet: Kubelet, following: Callable[..., Following]
    ) -> None:
        following()
        kubelet.run("ash", ASH)
        say(ash="10.9.9.9")
        wait_for_pod("birch", kubelet.run("birch", BIRCH), BIRCH)
        assert pods() == {"birch": "birch"}

    def test_pods_without_the_label_are_not_seen(self, kubelet: Kubelet, following: Callable[..., Following]) -> None:
        following()
        kubelet.run("ash", ASH, labels={"app": "other"})
        say(ash=ASH)
        wait_for_pod("birch", kubelet.run("birch", BIRCH), BIRCH)
        assert pods() == {"birch": "birch"}

    def test_a_permission_that_is_missing_is_named(self, kubelet: Kubelet, following: Callable[..., Following]) -> None:
        following(kubelet.namespace.cluster.account(kubelet.namespace.name, "less", LISTS, LISTS_SLICES))
        wanted = "pods of runners are not seen: "
        wait_for("it is said", lambda: [one for one in row().warnings if wanted in str(one)])
        [said] = [one for one in row().warnings if wanted in str(one)]
        assert f"list pods in namespace {kubelet.namespace.name}" in str(said)

    def test_without_the_option_nothing_is_watched(
        self, kubelet: Kubelet, following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(conf, "KUBERNETES_RUNNER_PODS", None)
        Pod.objects.create(node=Node.objects.latest("pk"), namespace="datadog", name="oak", uid="1")
        following()
        wait_until_watching()
        assert "pods" not in {watch["resource"] for watch in row().state["watches"]}
        assert not Pod.objects.exists(), "what was known once is forgotten"

    def test_the_zone_is_that_of_the_kubernetes_node(
        self, kubelet: Kubelet, following: Callable[..., Following]
    ) -> None:
        name = f"worker-of-{kubelet.namespace.name}"
        labels = {"topology.kubernetes.io/zone": "eu-1a"}
        kubelet.namespace.cluster.call("POST", MACHINES, {"metadata": {"name": name, "labels": labels}})
        following()
        wait_for_pod("ash", kubelet.run("ash", ASH, name), ASH)
        wait_for("its zone is known", lambda: Pod.objects.filter(zone="eu-1a").exists())
        kubelet.namespace.cluster.call("DELETE", f"{MACHINES}/{name}")

    def test_a_cordoned_kubernetes_node_drains_its_runners_if_that_is_wanted(
        self, kubelet: Kubelet, following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(conf, "KUBERNETES_CORDONS", "drain")
        machine = f"worker-of-{kubelet.namespace.name}"
        path = f"{MACHINES}/{machine}"
        kubelet.namespace.cluster.call("POST", MACHINES, {"metadata": {"name": machine}})
        following()
        wait_for_pod("ash", kubelet.run("ash", ASH, machine), ASH)
        wait_for_pod("birch", kubelet.run("birch", BIRCH, machine), BIRCH)
        Node.objects.filter(name="birch").cordon(actor="olga")

        def cordon(unschedulable: bool) -> None:
            kubelet.namespace.cluster.call("PATCH", path, {"spec": {"unschedulable": unschedulable}})

        cordon(True)
        wait_for("ash drains", lambda: Node.objects.filter(name="ash", draining=True).exists())
        assert causes("ash", "draining") == ["kubernetes"]
        assert not Node.objects.get(name="birch").draining, "what a person ordered stays"
        # Somebody takes it back: it is not ordered again for the same cordon.
        Node.objects.filter(name="ash").cordon(schedulable=True, actor="olga")
        say(last_change=-1, ash=ASH)
        cordon(False)
        wait_for("it is noted", lambda: not Pod.objects.filter(cordoned=True).exists())
        cordon(True)
        wait_for("ash drains again", lambda: Node.objects.filter(name="ash", draining=True).exists())
        cordon(False)
        wait_for("ash gets work again", lambda: Node.objects.get(name="ash").schedulable)
        assert not Node.objects.get(name="birch").schedulable
        kubelet.namespace.cluster.call("DELETE", path)

    def test_a_cordon_is_not_followed_unless_that_is_wanted(
        self, kubelet: Kubelet, following: Callable[..., Following]
    ) -> None:
        machine = f"worker-of-{kubelet.namespace.name}"
        spec = {
            "metadata": {"name": machine, "labels": {"topology.kubernetes.io/zone": "b"}},
            "spec": {"unschedulable": True},
        }
        kubelet.namespace.cluster.call("POST", MACHINES, spec)
        following()
        wait_for_pod("ash", kubelet.run("ash", ASH, machine), ASH)
        wait_for("its Kubernetes node is known", lambda: Pod.objects.filter(zone="b").exists())
        assert not Node.objects.get(name="ash").draining
        kubelet.namespace.cluster.call("DELETE", f"{MACHINES}/{machine}")


class TestProof:
    @pytest.fixture
    def ash(self, kubelet: Kubelet, following: Callable[..., Following]) -> str:
        """The UID of ash's pod, which is known."""
        following()
        uid = kubelet.run("ash", ASH)
        wait_for_pod("ash", uid, ASH)
        return uid

    def test_a_node_whose_pod_is_gone_is_lost_at_once(self, kubelet: Kubelet, ash: str) -> None:
        kubelet.end("ash")
        wait_until_proven("ash")
        assert one_pass() == {"ash"}
        assert causes("ash", "expired") == ["its pod is gone"]
        assert NodeEvent.objects.outages(timedelta(minutes=1)).filter(node_name="ash").exists(), "it counts as a death"

    def test_a_node_whose_pod_was_evicted_is_lost_at_once(self, kubelet: Kubelet, ash: str) -> None:
        kubelet.fail("ash")
        wait_until_proven("ash")
        assert one_pass() == {"ash"}

    def test_a_node_that_left_is_lost_when_its_pod_is_gone(self, kubelet: Kubelet, ash: str) -> None:
        kubelet.delete("ash")
        wait_for("ash leaves", leaving)
        assert one_pass() == set()
        kubelet.end("ash")
        wait_until_proven("ash")
        assert one_pass() == {"ash"}
        assert causes("ash", "expired") == ["announced, and its pod is gone"]
        assert not NodeEvent.objects.outages(timedelta(minutes=1)).filter(node_name="ash").exists()

    def test_a_pod_that_only_lost_its_label_lives(self, kubelet: Kubelet, ash: str) -> None:
        kubelet.label("ash", {"app": None})
        wait_for("it is no longer its pod", lambda: not Pod.objects.exists())
        assert one_pass() == set()

    def test_a_report_after_the_proof_wins(self, kubelet: Kubelet, ash: str) -> None:
        kubelet.end("ash")
        wait_until_proven("ash")
        say(last_change=-1, ash=ASH)
        assert one_pass() == set()
        wait_for("the proof is forgotten", lambda: not Pod.objects.exists())

    def test_another_pod_of_its_name_proves_it_until_that_reports(self, kubelet: Kubelet, ash: str) -> None:
        kubelet.end("ash")
        kubelet.run("ash", BIRCH)
        wait_until_proven("ash")
        assert one_pass() == {"ash"}

    def test_nothing_is_believed_of_most_pods_at_once(
        self, kubelet: Kubelet, ash: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(5):
            name, address = f"oak-{number}", f"10.1.2.{number}"
            wait_for_pod(name, kubelet.run(name, address), address)
        for name in ("ash", *(f"oak-{number}" for number in range(5))):
            kubelet.end(name)
        wait_for("it is doubted", lambda: "pods_doubted" in caplog.text)
        assert len(one_pass()) <= 5, "those that were asked for before the last was gone"

    @pytest.mark.parametrize("proof", ["off", "port"])
    def test_it_can_be_switched_off(
        self, kubelet: Kubelet, ash: str, proof: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kubelet.end("ash")
        wait_until_proven("ash")
        monkeypatch.setattr(conf, "PROOF_OF_DEATH", proof)
        assert one_pass() == set()

    def test_it_does_not_count_while_nobody_else_reports(self, kubelet: Kubelet, ash: str) -> None:
        Heartbeat.objects.exclude(node__name="ash").update(seen_at=Now() - timedelta(seconds=13))
        kubelet.end("ash")
        wait_until_proven("ash")
        assert not Node.objects.expired().exists()

    @pytest.mark.parametrize(
        "state", [{"braked_since": Now()}, {"warmup": True}, {"hearing_since": Now()}], ids=["brake", "warm-up", "deaf"]
    )
    def test_it_does_not_count_while_it_may_be_us(self, kubelet: Kubelet, ash: str, state: dict[str, Any]) -> None:
        kubelet.end("ash")
        wait_until_proven("ash")
        say(last_change=-1, **OTHERS)
        Hearing.objects.update(**state)
        assert not Node.objects.expired().exists()
