"""Proof of death: a port that refuses twice ends the wait for a silent node, and nothing else does. Real sockets on loopback."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.db.models import F
from django.db.models.functions import Now

from clusteragent.lib import conf
from nodes import proofs
from nodes.goodbyes import note_goodbye
from nodes.hearing import listen, lose_expired
from nodes.heartbeats import note_heartbeat, note_heartbeats
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, Probe, Runner
from nodes.models.heartbeats import Report
from nodes.models.runners import Answer

pytestmark = pytest.mark.django_db
ASH, BIRCH, CEDAR = "127.2.1.1", "127.2.1.2", "127.2.1.3"
APART = timedelta(seconds=2)
OTHERS = [f"127.2.2.{number}" for number in range(1, 7)]


class Ports:
    """Stats ports of nodes: all have one number, each an address of its own."""

    def __init__(self, held: ExitStack) -> None:
        self._held = held
        self._open: dict[str, socket.socket] = {}
        # Where nobody listens, so that no other process takes the number.
        self.number = self.listen("127.2.0.254", 0).getsockname()[1]

    def listen(self, address: str, number: int | None = None, backlog: int = 100) -> socket.socket:
        port = self._held.enter_context(socket.socket())
        port.bind((address, self.number if number is None else number))
        port.listen(backlog)
        self._open[address] = port
        return port

    def hang(self, address: str) -> None:
        """Let connections to the address wait for ever: the backlog is full and nobody accepts."""
        self.close(address)
        self.listen(address, backlog=0)
        for _ in range(4):
            caller = self._held.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((address, self.number))

    def close(self, *addresses: str) -> None:
        for address in addresses:
            self._open.pop(address).close()


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    with ExitStack() as held:
        ports = Ports(held)
        monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", ports.number)
        monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("127.0.0.0/8"),))
        yield ports


@pytest.fixture(autouse=True)
def _fleet(warm: None, ports: Ports) -> None:
    """Ash, and six others that live on; each answered with its stats once."""
    addresses = {"ash": ASH} | {f"node-{number}": address for number, address in enumerate(OTHERS)}
    for name, address in addresses.items():
        ports.listen(address)
        come(name, address)


def come(name: str, address: str | None) -> None:
    """Register the node, a minute ago, and let its port have answered since."""
    note_heartbeat(name, last_change=0, client_ip=address)
    NodeEvent.objects.filter(node_name=name).update(time=Now() - timedelta(minutes=1))
    answer(name, address)


def answer(name: str, address: str | None, error: str = "") -> None:
    told = Answer(None if error else [], 4, error, address=address, began=time.monotonic())
    Runner.objects.note({Node.objects.get(name=name).pk: told})


def fall_overdue(*names: str, seconds: float = 13) -> None:
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - timedelta(seconds=seconds))


def pass_two_seconds() -> None:
    """As if two seconds had gone by since the ports were asked."""
    Probe.objects.update(asked_at=F("asked_at") - APART, refused_at=F("refused_at") - APART)


def one_pass() -> set[str]:
    """What a pass does to nodes. Returns who expired."""
    listen()
    gone = lose_expired(Node.objects.all())
    Hearing.objects.note_pass()
    return set(gone.values())


def ask_twice() -> None:
    for _ in range(2):
        proofs.ask_ports()
        pass_two_seconds()


def expired() -> set[str]:
    """Who expires when ports are asked twice, with passes between."""
    one_pass()
    pass_two_seconds()
    proofs.ask_ports()
    gone = one_pass()
    pass_two_seconds()
    proofs.ask_ports()
    return gone | one_pass()


def test_an_overdue_node_whose_port_refuses_twice_is_lost_at_once(ports: Ports) -> None:
    ports.close(ASH)
    fall_overdue("ash")
    assert proofs.wanted()
    assert proofs.ask_ports() == (1, 1, 0)
    assert not one_pass(), "one refusal is no proof"
    assert not proofs.wanted(), "the second one comes two seconds later"
    pass_two_seconds()
    assert proofs.wanted()
    assert proofs.ask_ports() == (1, 1, 1)
    heard_at = Heartbeat.objects.get(node__name="ash").seen_at
    assert one_pass() == {"ash"}
    event = NodeEvent.objects.get(node_name="ash", kind=NodeEvent.Kind.EXPIRED)
    assert (event.cause, event.heard_at) == ("its port refuses connections", heard_at)
    assert NodeEvent.objects.outages(timedelta(minutes=1)).filter(node_name="ash").exists(), "it counts as a death"
    assert not proofs.wanted()
    proofs.ask_ports()
    assert not Probe.objects.exists()


def test_a_node_whose_port_has_refused_gets_nothing_new(ports: Ports) -> None:
    """Of nodes that die together one is proven dead before the others."""
    ports.close(ASH)
    fall_overdue("ash")
    assert Node.objects.accepting().filter(name="ash").exists()
    proofs.ask_ports()
    assert not Node.objects.accepting().filter(name="ash").exists()
    assert Node.objects.alive().filter(name="ash").exists()
    note_heartbeat("ash", last_change=-1, client_ip=ASH)
    assert Node.objects.accepting().filter(name="ash").exists()


def test_two_refusals_at_once_are_one(ports: Ports) -> None:
    ports.close(ASH)
    fall_overdue("ash")
    proofs.ask_ports()
    Probe.objects.update(asked_at=F("asked_at") - APART)
    assert proofs.ask_ports() == (1, 1, 0)
    assert not one_pass()


def test_a_port_that_accepts_proves_nothing() -> None:
    fall_overdue("ash")
    assert not expired()
    assert not Probe.objects.exclude(refused_at=None).exists()


def test_a_port_that_does_not_answer_proves_nothing(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "CONNECT", 0.2)
    ports.hang(ASH)
    fall_overdue("ash")
    assert not expired()
    assert not Probe.objects.exclude(refused_at=None).exists()


def test_a_refusal_before_and_after_an_accepted_connection_are_no_two(ports: Ports) -> None:
    fall_overdue("ash")
    for is_open in (False, True, False):
        (ports.listen if is_open else ports.close)(ASH)
        assert proofs.ask_ports().proven == 0
        pass_two_seconds()
    assert not one_pass()


def test_a_port_that_never_answered_proves_nothing(ports: Ports) -> None:
    note_heartbeat("birch", last_change=0, client_ip=BIRCH)
    NodeEvent.objects.filter(node_name="birch").update(time=Now() - timedelta(minutes=1))
    fall_overdue("birch")
    assert not expired()
    answer("birch", BIRCH, error="can't connect")
    assert not expired()


def test_a_port_that_failed_while_its_node_still_reported_proves_nothing(ports: Ports) -> None:
    answer("ash", ASH, error="can't connect")
    note_heartbeat("ash", last_change=-1, client_ip=ASH)
    answer("ash", ASH, error="can't connect")
    ports.close(ASH)
    fall_overdue("ash")
    Runner.objects.update(failing_since=F("failing_since") - timedelta(seconds=13))
    assert not expired()


def test_a_round_of_stats_that_fails_after_the_last_report_hides_no_death(ports: Ports) -> None:
    ports.close(ASH)
    fall_overdue("ash")
    answer("ash", ASH, error="can't connect")
    assert expired() == {"ash"}


@pytest.mark.parametrize("kind", ["registered", "back", "restarted"])
def test_a_port_that_answered_before_the_agents_start_proves_nothing(ports: Ports, kind: str) -> None:
    """It may listen elsewhere now."""
    ports.close(ASH)
    NodeEvent.objects.note(["ash"], kind)
    fall_overdue("ash")
    assert not expired()


def test_a_port_that_answered_at_another_address_proves_nothing(ports: Ports) -> None:
    note_heartbeat("ash", last_change=0, client_ip=BIRCH)
    fall_overdue("ash")
    assert not expired()


def test_a_proof_at_a_former_address_is_none(ports: Ports) -> None:
    ports.close(ASH)
    fall_overdue("ash")
    ask_twice()
    Heartbeat.objects.filter(node__name="ash").update(client_ip=BIRCH)
    assert not one_pass()


def test_a_shared_address_proves_nothing(ports: Ports) -> None:
    come("birch", ASH)
    ports.close(ASH)
    fall_overdue("ash", "birch")
    assert not expired()


def test_an_address_that_is_not_to_be_called_proves_nothing(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("10.0.0.0/8"),))
    ports.close(ASH)
    fall_overdue("ash")
    assert not expired()


def test_a_node_that_reports_before_the_proof_is_acted_on_lives(ports: Ports) -> None:
    ports.close(ASH)
    fall_overdue("ash")
    ask_twice()
    note_heartbeat("ash", last_change=-1, client_ip=ASH)
    assert not one_pass()


def test_a_report_between_two_refusals_makes_them_none(ports: Ports) -> None:
    ports.close(ASH)
    fall_overdue("ash")
    proofs.ask_ports()
    pass_two_seconds()
    note_heartbeat("ash", last_change=-1, client_ip=ASH)
    fall_overdue("ash")
    assert proofs.ask_ports() == (1, 1, 0)
    assert not one_pass()


def test_a_report_that_comes_while_the_node_is_being_lost_wins(ports: Ports) -> None:
    """The statement that deletes the heartbeat looks at the report that was judged."""
    ports.close(ASH)
    fall_overdue("ash")
    ask_twice()
    ash = Node.objects.get(name="ash")
    assert Node.objects.expired().get() == ash
    note_heartbeat("ash", last_change=-1, client_ip=ASH)
    assert Heartbeat.objects.delete_silent([ash.pk]) == {}


@pytest.mark.parametrize(
    ("before", "silent", "is_asked"),
    [(None, 11.5, False), (None, 12.5, True), (1, 11.5, False), (10, 12.5, True), (20, 21.5, False), (20, 22.5, True)],
)
def test_a_report_is_overdue_by_the_nodes_own_interval(before: float | None, silent: float, is_asked: bool) -> None:
    fall_overdue("ash", seconds=silent)
    if before is not None:
        Heartbeat.objects.filter(node__name="ash").update(former_at=F("seen_at") - timedelta(seconds=before))
    assert proofs.wanted() is is_asked


def test_each_way_to_report_keeps_the_time_of_the_report_before() -> None:
    heartbeat = Heartbeat.objects.get(node__name="ash")
    assert heartbeat.former_at is None
    for write in (
        lambda: note_heartbeat("ash", last_change=-1, client_ip=ASH),
        lambda: note_heartbeats([Report("ash", -1, client_ip=ASH)]),
    ):
        seen_at = heartbeat.seen_at
        write()
        heartbeat.refresh_from_db()
        assert heartbeat.former_at == seen_at
    former_at = heartbeat.former_at
    note_heartbeats([Report("ash", -1, client_ip=ASH, age=30)])
    heartbeat.refresh_from_db()
    assert heartbeat.former_at == former_at, "a late report undoes nothing"


def test_a_node_that_leaves_is_lost_when_its_port_refuses_twice(ports: Ports) -> None:
    note_goodbye("ash", "leaving")
    for number in range(6):
        note_heartbeat(f"node-{number}", last_change=-1)
    assert not expired()
    ports.close(ASH)
    assert expired() == {"ash"}
    assert NodeEvent.objects.get(node_name="ash", kind=NodeEvent.Kind.EXPIRED).cause == NodeEvent.ANNOUNCED


def test_a_node_that_restarts_is_not_asked(ports: Ports) -> None:
    note_goodbye("ash", "restarting")
    ports.close(ASH)
    fall_overdue("ash")
    assert not proofs.wanted()


class TestDisturbed:
    """No proof counts, neither new nor old, while it may be us."""

    @pytest.fixture(autouse=True)
    def _proven(self, ports: Ports) -> None:
        ports.close(ASH)
        fall_overdue("ash")
        ask_twice()
        assert Node.objects.expired().exists()

    @staticmethod
    def _nothing_counts() -> None:
        assert not Node.objects.expired().exists()
        Probe.objects.all().delete()
        assert not proofs.wanted()
        assert proofs.ask_ports() == (0, 0, 0)

    def test_during_the_warm_up(self) -> None:
        Hearing.objects.update(warmup=True)
        self._nothing_counts()

    def test_while_the_brake_is_on(self) -> None:
        Hearing.objects.update(braked_since=Now() - timedelta(minutes=1))
        self._nothing_counts()

    def test_just_after_we_were_deaf(self) -> None:
        Hearing.objects.update(hearing_since=Now() - timedelta(seconds=11))
        self._nothing_counts()
        Hearing.objects.update(hearing_since=Now() - timedelta(seconds=13))
        assert proofs.wanted()

    def test_when_it_is_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conf, "PROOF_OF_DEATH", "off")
        self._nothing_counts()

    def test_when_it_is_old(self) -> None:
        Probe.objects.update(proven_at=Now() - timedelta(seconds=11))
        assert not Node.objects.expired().exists()
        assert proofs.wanted()

    def test_while_no_other_could_take_the_work(self) -> None:
        Node.objects.exclude(name="ash").update(schedulable=False)
        assert not Node.objects.expired().exists()


def test_nobody_is_asked_while_no_report_is_written(ports: Ports) -> None:
    """Ash was due to report, and nobody has reported since."""
    ports.close(ASH)
    fall_overdue("ash", seconds=13)
    fall_overdue(*(f"node-{number}" for number in range(6)), seconds=5)
    assert not proofs.wanted()
    note_heartbeat("node-0", last_change=-1)
    assert proofs.wanted()


def test_nobody_is_asked_while_so_many_are_overdue_that_the_brake_should_judge(ports: Ports) -> None:
    for number in range(3):
        ports.close(OTHERS[number])
    ports.close(ASH)
    fall_overdue("ash", *(f"node-{number}" for number in range(3)))
    assert proofs.wanted()
    assert proofs.ask_ports() == (0, 0, 0)
    fall_overdue("node-0", seconds=1)
    assert proofs.ask_ports() == (3, 3, 0)


class TestDoubts:
    @pytest.fixture(autouse=True)
    def _refused_once(self, ports: Ports) -> None:
        ports.close(ASH)
        fall_overdue("ash")
        proofs.ask_ports()
        pass_two_seconds()

    def test_nothing_is_believed_when_half_of_the_others_refuse(
        self, ports: Ports, caplog: pytest.LogCaptureFixture
    ) -> None:
        ports.close(*OTHERS[:3])
        assert proofs.ask_ports() == (1, 1, 0)
        assert "proofs_doubted" in caplog.text
        assert not one_pass()
        pass_two_seconds()
        assert not proofs.wanted(), "its silence alone decides"
        fall_overdue("ash", seconds=31)
        assert one_pass() == {"ash"}
        assert NodeEvent.objects.get(node_name="ash", kind=NodeEvent.Kind.EXPIRED).cause == ""

    def test_a_few_others_that_refuse_do_not_matter(self, ports: Ports) -> None:
        ports.close(*OTHERS[:2])
        assert proofs.ask_ports() == (1, 1, 1)
        assert one_pass() == {"ash"}

    def test_nothing_is_believed_when_the_only_other_refuses(self, ports: Ports) -> None:
        Runner.objects.exclude(node__name__in=["ash", "node-0"]).delete()
        ports.close(OTHERS[0])
        assert proofs.ask_ports() == (1, 1, 0)

    def test_without_a_brake_nothing_is_doubted(self, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conf, "BRAKE_FRACTION", 0)
        ports.close(*OTHERS)
        assert proofs.ask_ports() == (1, 1, 1)


def test_those_for_whom_no_time_was_left_come_first_the_next_time(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    come("birch", BIRCH)
    fall_overdue("ash", "birch")
    ports.close(ASH)
    monkeypatch.setattr(proofs, "MOST", 1)
    for name in ("ash", "birch"):
        assert proofs.ask_ports().asked == 1
        assert Probe.objects.latest("asked_at").heartbeat.node.name == name
    monkeypatch.setattr(proofs, "SUSPECTS", 0)
    pass_two_seconds()
    assert proofs.ask_ports().asked == 0
