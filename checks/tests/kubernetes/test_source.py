"""The source `kubernetes`: a list is a sync of everything, under the guards; a change is a sync of its Services alone."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checks.models import Config, Origin, Source
from checks.models.map import NotLeader
from checks.sources.guards import HELD_FROM
from checks.sources.kubernetes import configs
from checks.sources.kubernetes import source as module
from checks.sources.kubernetes.access import Access, Channel
from checks.sources.kubernetes.configs import OF_ENDPOINTS, Options
from checks.sources.kubernetes.following import Follower, note_unwatched
from checks.sources.kubernetes.mirror import keep_slice
from checks.sources.kubernetes.objects import read_service
from checks.sources.kubernetes.resources import ENDPOINTSLICES, SERVICES
from checks.sources.kubernetes.source import KubernetesSource
from checks.sources.kubernetes.watching import Changed, Deleted, Listed, Told
from checks.sources.sync import Report, accept_removals_of, add_watched, sync_watched
from checks.tests.cast import lead, ledger, owners, report
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, service
from clusteragent.lib import conf

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

HTTP: dict[str, Any] = {"http_check": {"instances": [{"url": "http://%%host%%:%%port%%"}]}}
WEB = "service/shop/web/http_check"


class Watched:
    """A source of a term, and what its watches told it."""

    def __init__(self) -> None:
        self.source = KubernetesSource(Options())
        self.term = lead()
        self.known: dict[str, Any] = {"complete": True, "refusals": (), "unknown": ()}

    def lists(self, *services: dict[str, Any], slices: tuple[dict[str, Any], ...] = ()) -> Report | None:
        self.source.take(Listed(SERVICES, list(map(read_service, services))))
        self.source.take(Listed(ENDPOINTSLICES, list(map(keep_slice, slices))))
        return self.sync()

    def changes(self, data: dict[str, Any]) -> Report | None:
        is_slice = data["kind"] == "EndpointSlice"
        kept = keep_slice(data) if is_slice else read_service(data)
        self.source.take(Changed(ENDPOINTSLICES if is_slice else SERVICES, kept))
        return self.sync()

    def deletes(self, name: str) -> Report | None:
        self.source.take(Deleted(SERVICES, "shop", name))
        return self.sync()

    def sync(self) -> Report | None:
        """Sync if there is anything new."""
        self.source.note(**self.known)
        if not self.source.look():
            return None
        done = sync_watched(self.source, self.term)
        self.source.settle()
        return done


@pytest.fixture
def watched() -> Watched:
    report("ash", "birch")
    return Watched()


def annotated(name: str = "web", **annotations: Any) -> dict[str, Any]:
    return service(annotations or {"service.checks": HTTP}, name=name)


def many(number: int) -> list[dict[str, Any]]:
    return [annotated(f"web-{each}") for each in range(number)]


def row() -> Source:
    return Source.objects.get(name="kubernetes")


def queries(act: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured)


def test_what_makes_the_same_as_before_costs_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = endpoint_slice(endpoint())
    watched.lists(annotated(), service(name="plain"), slices=(slices,))
    assert set(owners()) == {WEB}
    labelled = annotated() | {"status": {"loadBalancer": {}}}
    pods = endpoint_slice(endpoint("10.9.9.9"))
    assert queries(lambda: [watched.changes(each) for each in (labelled, pods, service(name="plain"))]) == 0
    monkeypatch.setattr(configs, "make", None)
    assert watched.sync() is None


def test_a_service_that_fails_keeps_what_it_sent_and_others_go_on(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.lists(annotated("bad"), annotated("good"))
    make = configs.make

    def failing(service: Any, *how: Any) -> Any:
        if service.name == "bad":
            raise RecursionError
        return make(service, *how)

    monkeypatch.setattr(configs, "make", failing)
    watched.lists(annotated("bad"), annotated("good"), annotated("new"))
    assert {key.split("/")[2] for key in owners()} == {"bad", "good", "new"}
    [error] = row().errors
    assert error["where"] == "service shop/bad"
    assert error["error"] == "RecursionError, an error of ours; what was sent stays"
    monkeypatch.setattr(configs, "make", make)
    watched.lists(annotated("good"), annotated("new"))
    assert "service/shop/bad/http_check" not in owners()


def test_a_change_asks_as_many_questions_in_a_large_cluster_as_in_a_small_one(watched: Watched) -> None:
    def change(port: int) -> Callable[[], object]:
        return lambda: watched.changes(service({"service.checks": HTTP}, name="web-0", ports=[{"port": port}]))

    watched.lists(*many(2))
    few = queries(change(81))
    watched.lists(*many(60))
    assert queries(change(82)) == few
    assert len(owners()) == 60


def test_very_many_changes_are_several_scans(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 5)
    watched.lists(*many(12))
    for each in many(12):
        watched.source.take(
            Changed(SERVICES, read_service(each | {"spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 1}]}}))
        )
    scans = [watched.sync() for _ in range(4)]
    assert [scan and len(scan.changed) for scan in scans] == [5, 5, 2, None]


def of_namespace(namespace: str, name: str) -> Changed:
    data = annotated(name)
    data["metadata"]["namespace"] = namespace
    return Changed(SERVICES, read_service(data))


def test_no_namespace_waits_for_all_changes_of_another(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    watched.lists()
    for number in range(5):
        watched.source.take(of_namespace("loud", f"web-{number}"))
    watched.source.take(of_namespace("quiet", "web"))
    watched.source.take(of_namespace("still", "web"))
    scans = [watched.sync() for _ in range(3)]
    found = [sorted(key.split("/")[1] for key in scan.added) for scan in scans if scan]
    assert found == [["loud", "quiet"], ["loud", "still"], ["loud", "loud"]]


def test_a_scan_that_takes_long_goes_on_later(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.0)
    watched.lists()
    for name in ("a", "b"):
        watched.source.take(of_namespace("shop", name))
    assert [scan and len(scan.added) for scan in (watched.sync(), watched.sync(), watched.sync())] == [1, 1, None]


def test_a_subject_that_takes_long_is_left_alone_for_a_while(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONG", 0.0)
    monkeypatch.setattr(module, "REST", 1_000_000)
    watched.lists()
    assert watched.changes(annotated("slow"))
    changed = annotated("slow", **{"service.checks": {"http_check": {"instances": [{"url": "other"}]}}})
    assert watched.changes(changed) is None
    assert watched.changes(annotated("quick"))
    watched.source._rests.clear()
    assert watched.sync()
    assert Config.objects.filter(text__contains="other").exists()


def test_a_new_term_writes_nothing_and_moves_nothing(watched: Watched) -> None:
    objects = annotated(), annotated("other", **{"endpoints.checks": HTTP})
    slices = (endpoint_slice(endpoint("10.0.0.1", node="", pod="")),)
    watched.lists(*objects, slices=slices)
    before = ledger(), list(Config.objects.values_list("pk", "changed")), list(Origin.objects.values())
    again = Watched().lists(*objects, slices=slices)
    assert again
    assert again == Report()
    assert before == (ledger(), list(Config.objects.values_list("pk", "changed")), list(Origin.objects.values()))


def test_a_new_term_refuses_what_is_excluded_now(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.lists(annotated())
    monkeypatch.setattr(conf, "EXCLUDE_CHECKS", frozenset({"http_check"}))
    Watched().lists(annotated())
    assert not owners()
    assert row().passed_over == [{"where": "service shop/web", "why": "http_check is in cluster_checks.exclude_checks"}]


def test_a_new_term_cuts_what_is_to_be_cut_now(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {"http_check": {"instances": [{"url": "one"}, {"url": "two"}]}}
    watched.lists(annotated(**{"service.checks": two}))
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    Watched().lists(annotated(**{"service.checks": two}))
    assert len(owners()) == 2


def test_a_name_that_no_integration_has_is_told(watched: Watched) -> None:
    watched.lists(annotated(**{"service.checks": {"htpp_check": HTTP["http_check"]}}))
    [warning] = row().warnings
    assert warning["where"] == "service shop/web"
    assert "is http_check meant?" in warning["warning"]


def test_a_term_that_is_over_dispatches_nothing(watched: Watched) -> None:
    lead()
    with pytest.raises(NotLeader):
        watched.lists(annotated())
    assert not owners()


def test_what_failed_is_looked_at_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    watched.lists(annotated())
    term, watched.term = watched.term, 0
    with pytest.raises(NotLeader):
        watched.deletes("web")
    watched.term = term
    watched.sync()
    assert not owners()


def test_lists_without_many_services_hold_their_removal_and_changes_do_not(watched: Watched) -> None:
    watched.lists(*many(HELD_FROM + 2))
    assert watched.lists(*many(2)) == Report(held=sorted(f"service/shop/web-{n}/http_check" for n in range(2, 12)))
    watched.changes(annotated("web-2"))
    assert len(row().held_removals) == HELD_FROM - 1
    for number in range(3):
        watched.deletes(f"web-{number}")
    assert len(owners()) == len(row().held_removals) == HELD_FROM - 1


def test_what_was_accepted_is_removed_and_nothing_else(watched: Watched) -> None:
    watched.lists(*many(HELD_FROM + 12))
    watched.lists(*many(4))
    accept_removals_of(row(), actor="olga")
    Source.objects.filter(name="kubernetes").update(accepted_removals=row().held_removals[:3])
    watched.source.begin_again()
    watched.sync()
    assert len(owners()) == HELD_FROM + 9
    assert len(row().held_removals) == HELD_FROM + 5
    assert row().accepted_removals == []


def test_when_it_is_off_all_stays_until_it_is_accepted_that_it_goes(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.lists(*many(3))
    monkeypatch.setattr(conf, "KUBERNETES", "auto")
    note_unwatched()
    assert row().state["why"].startswith("the leader runs in no cluster, and has no CLUSTERAGENT_KUBECONFIG")
    assert row().held_removals == []
    monkeypatch.setattr(conf, "KUBERNETES", "off")
    note_unwatched()
    assert len(owners()) == len(row().held_removals) == 3
    accept_removals_of(row(), actor="olga")
    assert not owners()
    assert row().held_removals == []


def test_before_everything_is_listed_nothing_happens(watched: Watched) -> None:
    watched.lists(annotated())
    later = Watched()
    later.known["complete"] = False
    assert later.lists() is None
    assert set(owners()) == {WEB}


def test_a_refusal_is_a_problem_until_it_is_over(watched: Watched) -> None:
    watched.known = {"complete": False, "refusals": ["may not list services", "may not list services"], "unknown": ()}
    watched.sync()
    assert row().errors == [{"where": "API", "line": None, "error": "may not list services; what was sent stays"}]
    assert watched.sync() is None
    watched.known = {"complete": True, "refusals": (), "unknown": ()}
    watched.lists()
    assert row().errors == []


def test_of_endpoints_that_are_not_known_what_they_sent_stays(watched: Watched) -> None:
    web = annotated(**{"endpoints.checks": HTTP})
    watched.lists(web, slices=(endpoint_slice(endpoint(node="", pod="")),))
    later = Watched()
    later.known["unknown"] = OF_ENDPOINTS
    later.lists(web)
    later.changes(service({"service.checks": HTTP}))
    assert set(owners()) == {WEB, "endpoints/shop/web/10.244.0.7/http_check"}
    later.known["unknown"] = ()
    later.lists(web)
    assert not owners()


def test_findings_of_other_services_stay(watched: Watched) -> None:
    broken = {"service.checks": "[]", "service.cheks": "{}"}
    watched.lists(annotated("one", **broken), annotated("two", **broken), annotated())
    assert [one["where"] for one in row().errors] == ["service shop/one", "service shop/two"]
    watched.changes(annotated("two"))
    assert [one["where"] for one in row().errors] == ["service shop/one"]
    assert [one["where"] for one in row().warnings] == ["service shop/one"]
    assert row().held_removals == []


def test_a_check_that_cannot_be_dispatched_is_said_once_for_all_endpoints(watched: Watched) -> None:
    addresses = [endpoint(f"10.0.0.{number}", node="", pod="") for number in range(5)]
    odd = {"http_check": {"instances": [{"min_collection_interval": "x" * 1_500_000}]}}
    watched.lists(annotated(**{"endpoints.checks": odd}), slices=(endpoint_slice(*addresses),))
    assert len(row().errors) <= 1


def test_a_text_that_the_database_cannot_hold_hinders_nobody(watched: Watched) -> None:
    odd = {"http_check": {"instances": [{"name": "a\0b", "url": "\0"}]}, "a\0b": HTTP["http_check"]}
    watched.lists(annotated("odd", **{"service.checks": odd}), annotated())
    assert WEB in owners()


def test_what_the_leader_found_is_in_the_report_of_others(watched: Watched) -> None:
    watched.lists(*many(HELD_FROM), annotated("broken", **{"service.checks": "[]"}))
    watched.lists(annotated("broken", **{"service.checks": "[]"}))
    Source.objects.note_watch("kubernetes", {"phase": "watching"}, read=True)
    seen, accepted = Report(), Report()
    add_watched(seen)
    assert [problem.where for problem in seen.errors] == ["service shop/broken"]
    assert len(seen.held) == HELD_FROM
    add_watched(accepted, accept_removals=True)
    assert (accepted.held, accepted.accepted) == ([], seen.held)
    assert row().accepted_removals == seen.held


def test_deletions_that_were_seen_are_not_judged_by_the_list_after_them(db: None) -> None:
    report("ash")
    follower = Follower(lead(), lambda: Access(Channel("https://127.0.0.1:1")), Options())
    told: list[Told] = [Listed(SERVICES, list(map(read_service, many(12)))), Listed(ENDPOINTSLICES, [])]
    told += [Deleted(SERVICES, "shop", f"web-{number}") for number in range(12)]
    for one in [*told, Listed(SERVICES, [])]:
        follower.told.put(one)
    for _ in range(4):
        follower.step()
    assert len(ledger()) == 24
    assert not owners()
    assert row().held_removals == []


def broken(name: str, text: str = "[]") -> dict[str, Any]:
    return service({"service.checks": text}, name=name)


def errors_number() -> int:
    return int(Source.objects.with_counts().get(name="kubernetes").errors_number)


def test_thousands_of_errors_are_counted_and_a_change_of_one_is_no_more_work_than_of_few(watched: Watched) -> None:
    names = [f"web-{number:04}" for number in range(3000)]
    done = watched.lists(*map(broken, names))
    assert done is not None
    assert len(done.errors) == 3000
    assert (len(row().errors), row().left_out, errors_number()) == (Source.MOST_STORED, {"errors": 2000}, 3000)
    with CaptureQueriesContext(connection) as captured:
        done = watched.changes(broken(names[7], "{"))
        watched.changes(annotated(names[2990]))
    assert done is not None
    # Events and statuses need all of them, those that are not stored too.
    assert len(done.errors) == 3000
    assert sum(len(query["sql"]) for query in captured) < 2 * 200 * Source.MOST_STORED
    assert (len(row().errors), errors_number()) == (Source.MOST_STORED, 2999)
    assert row().errors[7]["where"] == "service shop/web-0007"
    assert len(watched.source.findings.errors if watched.source.findings else ()) == 2999


def test_what_is_not_stored_counts_until_a_new_term_has_read_everything(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "MOST_STORED", 3)
    names = [f"web-{number}" for number in range(5)]
    watched.lists(*map(broken, names))
    later = Watched()
    later.known |= {"complete": False, "refusals": ["services: forbidden"]}
    later.sync()
    assert [one["where"] for one in row().errors] == ["API", "service shop/web-0", "service shop/web-1"]
    assert errors_number() == 6
    later.known |= {"complete": True, "refusals": ()}
    later.lists(*map(broken, names[:4]))
    assert ([one["where"] for one in row().errors], row().left_out) == (
        [f"service shop/web-{number}" for number in range(3)],
        {"errors": 1},
    )
    later.lists(broken(names[0]))
    assert (len(row().errors), row().left_out) == (1, {})


def test_what_is_not_stored_is_told_where_the_rest_is_listed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Source, "MOST_STORED", 3)
    watched.lists(*(broken(f"web-{number}") for number in range(5)))
    Source.objects.note_watch("kubernetes", {"phase": "watching"}, read=True)
    with pytest.raises(CommandError, match=r"^5 in error, 0 removals held"):
        call_command("syncconfigs")
    told = capsys.readouterr().out
    assert told.count("error: service shop/web-") == 3
    assert "; 2 more errors not listed\n" in told
