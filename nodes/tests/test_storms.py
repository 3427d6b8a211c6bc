"""Very many nodes that are new, back or started anew at once: the same comes of it as one by one, in a few statements."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError, connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from clusteragent.lib import conf
from nodes import newcomers, registration
from nodes.declarations import canonical
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent, NodeRule
from nodes.models.heartbeats import Report
from nodes.signals import node_arrived, node_changed
from tests.map import tell

NTP, DISK = canonical(include=["ntp"]), canonical(exclude=["disk"])


def one_by_one(reports: list[Report]) -> list[Any]:
    return [note_heartbeat(**report.said()) for report in reports]


def together(reports: list[Report]) -> list[Any]:
    return tell(reports)


def furnish() -> None:
    """Nodes in every state in which a report can find one."""
    NodeRule.objects.create(pattern="*-lost", labels={"zone": "a"}, weight=2)
    NodeRule.objects.create(pattern="new-*", network="10.1.0.0/16", labels={"zone": "b"}, max_configs=7)
    kinds = ("up", "outdated", "leaving", "restarting", "virgin-leaving", "lost", "left-lost", "flapping-lost", "often")
    for kind in kinds:
        note_heartbeat(kind, last_change=0, declared=NTP if kind == "lost" else "")
    Node.objects.exclude(name="virgin-leaving").update(config_version=7)
    Heartbeat.objects.exclude(node__name="virgin-leaving").update(acknowledged=7)
    for kind in ("leaving", "virgin-leaving", "left-lost"):
        note_goodbye(kind, "leaving")
    note_goodbye("restarting", "restarting")
    NodeEvent.objects.note(["flapping-lost", "often"], NodeEvent.Kind.RESTARTED)
    lost = Node.objects.filter(name__endswith="lost")
    NodeEvent.objects.note(lost.values_list("name", flat=True), NodeEvent.Kind.EXPIRED)
    Heartbeat.objects.filter(node__in=lost).delete()
    lost.update(lost_at=Now())


REPORTS = [
    Report("up", 7), Report("outdated", 5, 2, "10.0.0.9", NTP), Report("leaving", 0), Report("restarting", 0),
    Report("virgin-leaving", 0), Report("lost", -1), Report("left-lost", 7, 1, "10.0.0.1", DISK), Report("flapping-lost", 0),
    Report("often", 0, declared=DISK), Report("new-1", 0, 1, "10.1.2.3", NTP), Report("new-2", -1, 0, None, NTP),
    Report("new-3", 12, 2, "10.2.0.1"), Report("New-1", 0), Report("z'\"\\{}", 0),
]  # fmt: skip


def state() -> tuple[Any, ...]:
    """All that reports change, but for times and numbers of rows."""
    fields = ("name", "config_version", "leaving", "declared", "labels", "weight", "max_configs", "likeness")
    beats = ("heartbeat__acknowledged", "heartbeat__node_type", "heartbeat__client_ip", "heartbeat__former_ip")
    nodes = [
        (*row[:-3], *(time is None for time in row[-3:]))
        for row in Node.objects.values_list(*fields, *beats, "kept_until", "not_before", "lost_at")
    ]
    events = {
        name: list(NodeEvent.objects.filter(node_name=name).order_by("pk").values_list("kind", "cause"))
        for name in Node.objects.values_list("name", flat=True)
    }
    return nodes, events


@pytest.mark.django_db
@pytest.mark.usefixtures("warm")
class TestTheSame:
    @pytest.mark.parametrize("seed", range(5))
    def test_as_one_by_one(self, seed: int) -> None:
        reports = random.Random(seed).sample(REPORTS, len(REPORTS))
        found: list[Any] = []
        for way in (one_by_one, together):
            Node.objects.all().delete()
            NodeRule.objects.all().delete()
            NodeEvent.objects.all().delete()
            furnish()
            answers = way(reports)
            found.append((dict(zip((report.name for report in reports), answers, strict=True)), without_order(state())))
        assert found[0] == found[1]

    def test_signals_are_sent_once_with_all_names(self) -> None:
        sent: list[tuple[str, set[str]]] = []

        def hear(kind: str) -> Callable[..., None]:
            return lambda names, **kwargs: sent.append((kind, set(names)))

        arrived, changed = hear("arrived"), hear("changed")
        node_arrived.connect(arrived)
        node_changed.connect(changed)
        tell([Report("ash", 0), Report("birch", 0, declared=NTP), Report("cedar", 0, declared=NTP)])
        node_arrived.disconnect(arrived)
        node_changed.disconnect(changed)
        assert sent == [("arrived", {"ash", "birch", "cedar"}), ("changed", {"birch", "cedar"})]

    def test_many_take_as_many_statements_as_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Each counts the newcomers, not just the first within a second.
        monkeypatch.setattr(newcomers, "_COUNT_HOLDS", -1)

        def statements(number: int, version: int = 0) -> int:
            with CaptureQueriesContext(connection) as queries:
                outcomes = tell([Report(f"{number}-{one}", version) for one in range(number)])
            assert not [outcome for outcome in outcomes if not isinstance(outcome, bool)]
            return len(queries)

        assert statements(1) == statements(100) <= 12
        Heartbeat.objects.update(acknowledged=7)
        assert statements(1) == statements(100) <= 14
        NodeEvent.objects.update(time=Now() - timedelta(days=1))
        Heartbeat.objects.all().delete()
        assert statements(1) == statements(100) <= 14


def without_order(found: tuple[Any, ...]) -> tuple[Any, ...]:
    """Look-alikes are noted at whichever comes last: of two that come together, at both."""
    nodes, events = found
    plain = {name: [one for one in rows if one[0] != "looks alike"] for name, rows in events.items()}
    alike = {name for name, rows in events.items() if any(kind == "looks alike" for kind, _ in rows)}
    return nodes, plain, bool(alike & {"new-1", "New-1"})


@pytest.mark.django_db(transaction=True)
class TestPoison:
    """One report that the database can't take is nobody else's trouble."""

    def names(self) -> list[str]:
        return [f"node-{number}" for number in range(20)]

    @pytest.mark.parametrize(
        "poison", [Report("a\0b", 0), Report("odd", 2**70), Report("odd", 0, 2**20), Report("odd", 0, 0, "nowhere")]
    )
    def test_of_a_new_node(self, poison: Report) -> None:
        outcomes = tell([*(Report(name, 0) for name in self.names()), poison])
        assert set(map(type, outcomes[:-1])) == {bool}
        assert isinstance(outcomes[-1], DataError)
        assert Node.objects.known().count() == 20

    def test_of_a_rule_that_can_not_be_applied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        NodeRule.objects.create(pattern="*")

        def covers(rule: NodeRule, name: str, *rest: Any) -> bool:
            if name == "node-7":
                raise ValueError(name)
            return False

        monkeypatch.setattr(NodeRule, "covers", covers)
        outcomes = tell([Report(name, 0) for name in self.names()])
        assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, ValueError)] == [7]
        assert Node.objects.known().count() == 19

    def test_restarts_beside_it_are_noted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tell([Report(name, 7) for name in self.names()])
        note = registration.note_restarts

        def fails_for_one(beats: dict[str, Any]) -> None:
            note(beats)
            if "node-7" in beats:
                raise DataError("node-7")

        monkeypatch.setattr(registration, "note_restarts", fails_for_one)
        tell([Report(name, 0) for name in self.names()])
        noted = set(NodeEvent.objects.filter(kind="restarted").values_list("node_name", flat=True))
        assert noted >= set(self.names()) - {"node-7"}


@pytest.mark.django_db
def test_ten_thousand_new_names_at_once_are_within_the_default_limit(warm: None) -> None:
    assert conf.NEW_NODES_A_MINUTE >= 20_000
    for start in range(0, 10_000, 500):
        reports = [Report(f"node-{number}", 0) for number in range(start, start + 500)]
        assert tell(reports) == [True] * 500
    assert Node.objects.known().count() == 10_000
