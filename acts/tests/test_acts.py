"""The table of acts: what is recorded of one, and that the database keeps it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from structlog.testing import capture_logs

from acts.models import Act
from acts.recording import entered, record
from checks import pruning
from clusteragent.lib import conf
from clusteragent.lib.clock import ago, now

pytestmark = pytest.mark.django_db


@pytest.fixture
def olga() -> Iterator[None]:
    with entered(Act.How.ADMIN, "192.0.2.1", lambda: "olga"):
        yield


def act(**how: Any) -> Act:
    record(Act.Verb.PIN, "shop", **how)
    return Act.objects.latest("pk")


def test_an_act_says_who_when_how_from_where_and_what(olga: None) -> None:
    found = act(before={"aim": "ash"}, after={"aim": "birch"}, plan=7, reason="near it", configs=[3], nodes=["ash"])
    assert (found.person, found.how, found.address, str(found)) == ("olga", "admin", "192.0.2.1", "pin shop")
    assert (found.before, found.after, found.plan, found.reason) == ({"aim": "ash"}, {"aim": "birch"}, 7, "near it")
    assert found.time == now() or now() - found.time < timedelta(minutes=1)


def test_it_says_by_what_the_person_was_known_without_its_secrets() -> None:
    with entered(Act.How.API, "", lambda: "ci", lambda: "token 1a2b…, for password=hunter2"):
        found = act()
    assert found.credential.startswith("token 1a2b…, for password=")
    assert "hunter2" not in found.credential


def test_outside_of_an_entrance_nothing_is_recorded() -> None:
    record(Act.Verb.PIN, "shop")
    assert not Act.objects.exists()


def test_it_is_found_by_what_it_was_done_to(olga: None) -> None:
    found = act(configs=[3, 4], nodes=["ash"])
    act(configs=[5])
    assert list(Act.objects.of_config(4)) == list(Act.objects.of_node("ash")) == [found]
    assert not Act.objects.of_config(6).exists()


def test_it_holds_no_secret(olga: None) -> None:
    found = act(before={"password": "hunter2"}, after=["password: hunter2"], reason="password=hunter2")
    assert "hunter2" not in f"{found.before} {found.after} {found.reason}"


def test_an_act_that_is_not_committed_is_neither_stored_nor_logged(
    olga: None, django_capture_on_commit_callbacks: Any
) -> None:
    with capture_logs() as logged, django_capture_on_commit_callbacks(execute=True):
        with transaction.atomic():
            act()
            transaction.set_rollback(True)
        found = act(reason="near it")
    assert Act.objects.get() == found
    [line] = logged
    assert line | {"before": None, "after": None, "plan": None} == {
        "event": "act", "log_level": "info", "id": found.pk, "person": "olga", "how": "admin", "address": "192.0.2.1",
        "credential": "", "verb": "pin", "object": "shop", "before": None, "after": None, "foreseen": None,
        "plan": None, "reason": "near it",
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    ["UPDATE acts_act SET person = 'eve'", "DELETE FROM acts_act", "TRUNCATE acts_act"],
)
def test_the_database_refuses_to_change_or_delete_one(olga: None, statement: str) -> None:
    act()
    with pytest.raises(DatabaseError, match="acts are never changed"), transaction.atomic():
        connection.cursor().execute(statement)
    with pytest.raises(DatabaseError, match="acts are never changed"), transaction.atomic():
        Act.objects.all().delete()
    assert Act.objects.get().person == "olga"


def test_what_is_past_its_retention_is_pruned_and_nothing_else(olga: None) -> None:
    old = Act.objects.create(time=ago(conf.ACT_RETENTION + timedelta(minutes=1)), person="eve", how="admin", verb="pin")
    young = act()
    assert pruning.prune()["acts"] == 1
    assert list(Act.objects.exclude(verb=Act.Verb.PRUNE)) == [young]
    assert old.pk != young.pk
    with pytest.raises(DatabaseError, match="acts are never changed"), transaction.atomic():
        young.delete()
