"""ClusterChecks as the watches tell them are dispatched; what they order is in force before they are."""

from typing import Any
from unittest.mock import Mock

import pytest

from checks.models import Config, Move, Origin, Source
from checks.models.orders import Pause, Pin
from checks.sources import ordered
from checks.sources.kubernetes.access import Access, Channel
from checks.sources.kubernetes.clusterchecks import read_clustercheck
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.events import Events
from checks.sources.kubernetes.following import Follower
from checks.sources.kubernetes.resources import CLUSTERCHECKS, ENDPOINTSLICES, SERVICES
from checks.sources.kubernetes.watching import Changed, Deleted, Listed, Phase, Told
from checks.tests.cast import lead, ledger, owners, report
from clusteragent.lib import conf

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

DB, DB2 = "clustercheck/shop/db", "clustercheck/shop/db2"


class Term:
    """A follower of a new term, which is told what a test says, and never connects."""

    def __init__(self) -> None:
        Source.objects.get_or_create(name="kubernetes")
        self.follower = Follower(lead(), lambda: Access(Channel("https://127.0.0.1:1")), Options())
        self.follower._events._watcher = Mock()

    def told(self, *told: Told) -> None:
        """Take what is told, and everything that follows from it."""
        for one in told:
            self.follower.told.put(one)
        while not self.follower.told.empty() or self.follower._ahead:
            self.follower.step()

    def lists(self, *declared: dict[str, Any]) -> None:
        self.told(Listed(SERVICES, []), Listed(ENDPOINTSLICES, []))
        self.told(Listed(CLUSTERCHECKS, list(map(read_clustercheck, declared))))

    def changes(self, data: dict[str, Any]) -> None:
        self.told(Changed(CLUSTERCHECKS, read_clustercheck(data)))

    def phase(self, phase: Phase, why: str) -> None:
        """Let the watch of ClusterChecks be in a phase."""
        [watch] = [watch for watch in self.follower._declared.values() if watch.resource == CLUSTERCHECKS]
        watch._enter(phase, why)


@pytest.fixture
def term(monkeypatch: pytest.MonkeyPatch) -> Term:
    # There is no API server to write them to.
    monkeypatch.setattr(Events, "step", lambda _: None)
    report("ash")
    return Term()


def declared(name: str = "db", *, status: str = "", **spec: Any) -> dict[str, Any]:
    fields = {"check": "postgres", "instances": [{"host": name}]} | spec
    return {"metadata": {"namespace": "shop", "name": name}, "spec": fields, "status": {"state": status}}


def row() -> Source:
    return Source.objects.get(name="kubernetes")


def texts() -> list[str]:
    return list(Config.objects.order_by("pk").values_list("text", flat=True))


def test_they_are_listed_changed_and_deleted_each_by_itself(term: Term) -> None:
    term.lists(declared(), declared("db2"))
    assert set(owners()) == {DB, DB2}
    before = list(Config.objects.order_by("pk").values_list("pk", flat=True))
    term.changes(declared(instances=[{"host": "other"}]))
    assert set(owners()) == {DB, DB2}
    assert "other" in texts()[0]
    assert list(Config.objects.order_by("pk").values_list("pk", flat=True)) == before
    term.told(Deleted(CLUSTERCHECKS, "shop", "db"))
    assert set(owners()) == {DB2}


def test_the_check_itself_may_change_and_stays_the_same_config(term: Term) -> None:
    term.lists(declared())
    [before] = Config.objects.values_list("pk", flat=True)
    term.changes(declared(check="mysql"))
    assert list(Config.objects.values_list("pk", "name")) == [(before, "mysql")]


def test_a_change_of_the_status_alone_is_no_scan(term: Term) -> None:
    term.lists(declared())
    before = (
        list(Move.objects.values()),
        list(Origin.objects.values()),
        list(Config.objects.values_list("pk", "changed")),
    )
    term.changes(declared(status="Running"))
    assert not term.follower._source.look()
    [seen] = term.follower._source.mirror.clusterchecks()
    assert seen.status == {"state": "Running"}
    assert before == (
        list(Move.objects.values()),
        list(Origin.objects.values()),
        list(Config.objects.values_list("pk", "changed")),
    )


def test_a_broken_one_goes_on_as_it_was_and_is_told(term: Term) -> None:
    term.lists(declared(), declared("db2"))
    before = ledger(), texts()
    term.changes(declared(instances=[{}, "x"]))
    assert [(one["where"], one["error"]) for one in row().errors] == [
        ("clustercheck shop/db", "spec.instances[1] is no object")
    ]
    assert (ledger(), texts()) == before
    term.changes(declared())
    assert row().errors == []


@pytest.mark.parametrize("broken", [{"instances": [{"host": "%%host%%"}]}, {"check": "a" * 1000}, {"instances": [5]}])
def test_the_orders_of_a_broken_one_stay_as_they_were(term: Term, broken: dict[str, Any]) -> None:
    term.lists(declared(paused=True), declared("db2"))
    term.changes(declared(**{"paused": False, **broken}))
    term.changes(declared("db2", **{"paused": True, **broken}))
    assert (set(owners()), len(row().errors)) == ({DB2}, 2)
    term.changes(declared())
    term.changes(declared("db2", paused=True))
    assert set(owners()) == {DB}


def test_what_is_edited_and_resumed_at_once_does_not_run_as_it_was(term: Term, monkeypatch: pytest.MonkeyPatch) -> None:
    term.lists(declared(paused=True))
    seen = []
    enforce = ordered.enforce

    def spy(*about: Any, **how: Any) -> None:
        enforce(*about, **how)
        seen.append((set(owners()), "other" in texts()[0]))

    monkeypatch.setattr(ordered, "enforce", spy)
    term.changes(declared(instances=[{"host": "other"}]))
    assert seen == [(set(), False), ({DB}, True)]


def test_one_that_is_paused_from_the_start_never_runs(term: Term) -> None:
    term.lists()
    term.changes(declared(paused=True))
    assert (owners(), ledger()) == ({}, [])
    assert Pause.objects.get().author == "clustercheck shop/db"
    term.changes(declared())
    assert owners() == {DB: "ash"}
    assert [reason for _, _, reason in ledger()] == ["resumed"]


def test_a_list_pauses_before_it_sends(term: Term) -> None:
    term.lists(declared(paused=True), declared("db2", pin={"node": "birch", "waits": True}))
    assert (owners(), ledger()) == ({}, [])
    assert Config.objects.count() == 2


def test_orders_of_a_broken_spec_stay(term: Term) -> None:
    term.lists(declared(paused=True))
    term.changes(declared(paused="no"))
    assert owners() == {}
    term.told(Deleted(CLUSTERCHECKS, "shop", "db"))
    term.follower.step()
    assert not Pause.objects.exists()
    assert not Config.objects.exists()


def test_a_new_term_moves_nothing_and_changes_no_order(term: Term) -> None:
    report("birch")
    term.lists(declared(paused=True), declared("db2", pin={"pattern": "bir*"}), declared("db3"))

    def state() -> list[Any]:
        orders = [list(kind.objects.values()) for kind in (Pin, Pause)]
        return [*orders, owners(), ledger(), list(Origin.objects.order_by("pk").values())]

    before = state()
    assert owners()[DB2] == "birch"
    again = Term()
    again.told(Listed(SERVICES, []), Listed(ENDPOINTSLICES, []))
    assert state() == before
    again.lists(declared(paused=True), declared("db2", pin={"pattern": "bir*"}), declared("db3"))
    assert state() == before


@pytest.mark.parametrize("phase", [Phase.MISSING, Phase.REFUSED])
def test_what_they_sent_stays_while_they_can_t_be_read_and_that_is_told(term: Term, phase: Phase) -> None:
    term.lists(declared(), declared("db2", paused=True))
    before = owners(), ledger(), Pause.objects.count()
    later = Term()
    later.phase(phase, "list clusterchecks: no")
    later.told(Listed(SERVICES, []), Listed(ENDPOINTSLICES, []))
    assert [one["warning"] for one in row().warnings] == [
        "ClusterChecks are not read: list clusterchecks: no; what they sent stays"
    ]
    assert row().errors == []
    assert (owners(), ledger(), Pause.objects.count()) == before
    later.phase(Phase.WATCHING, "")
    later.lists(declared("db2", paused=True))
    assert (owners(), row().warnings) == ({}, [])


def test_a_cluster_without_the_resource_has_nothing_to_tell(term: Term) -> None:
    term.phase(Phase.MISSING, "list clusterchecks: no such resource")
    term.told(Listed(SERVICES, []), Listed(ENDPOINTSLICES, []))
    assert (row().warnings, row().errors) == ([], [])
    [_, _, watch, _] = row().state["watches"]
    assert (watch["resource"], watch["phase"]) == ("clusterchecks (clusteragent.dev)", "not there")


def test_one_that_is_cut_is_ordered_and_removed_as_one(term: Term, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    two = {"instances": [{"host": "a"}, {"host": "b"}]}
    term.lists(declared(**two), declared("db2"))
    assert len(owners()) == 3
    term.changes(declared(**two, paused=True))
    assert set(owners()) == {DB2}
    term.changes(declared(instances=[{"host": "a"}], paused=True))
    assert set(owners()) == {DB2}
    term.told(Deleted(CLUSTERCHECKS, "shop", "db"))
    assert set(Origin.objects.values_list("key", flat=True)) == {DB2}
