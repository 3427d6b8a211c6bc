"""Two people who save the same row at once, with real locks: the second one is shown what the first one made of it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client

from acts.models import Act
from checks.models import ClusterStore
from checks.models.orders import Rule
from checks.sources import origins
from checks.tests.cast import report
from checks.tests.operators import page_of, saved
from nodes.models import Hearing
from operators.admin.base import row_url
from operators.tests.test_stale_forms import form_of
from tests.test_races import Session

pytestmark = pytest.mark.django_db(transaction=True)

CONFIG = {"key": "shop", "check": "http_check", "yaml": "instances:\n  - url: http://shop\n"}


@pytest.fixture(autouse=True)
def _one_node(transactional_db: None) -> None:
    Hearing.objects.update(warmup=False)
    report("ash")


def logged_in(person: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(person))
    return client


def config() -> tuple[str, Callable[[str], dict[str, Any]], Callable[[], str]]:
    saved(logged_in("eve"), "/admin/checks/config/add/", **CONFIG)
    return (
        page_of("shop"),
        lambda person: {"yaml": f"instances:\n  - url: http://{person}\n"},
        lambda: origins.written("admin", "shop"),
    )


def rule() -> tuple[str, Callable[[str], dict[str, Any]], Callable[[], str]]:
    row = Rule.objects.create(name="few", check_pattern="dns", max_per_node=5)
    return (
        row_url(row),
        lambda person: {"note": person},
        lambda: Rule.objects.get().note,
    )


def group() -> tuple[str, Callable[[str], dict[str, Any]], Callable[[], str]]:
    row = Group.objects.create(name="night")
    return row_url(row), lambda person: {"name": f"of {person}"}, lambda: Group.objects.get(pk=row.pk).name


@pytest.mark.parametrize("make", [config, rule, group])
def test_of_two_who_save_at_once_the_second_one_is_shown_the_first_one_s(make: Any) -> None:
    url, fields, said = make()
    saves = []
    for person in ("olga", "otto"):
        client = logged_in(person)
        sent = form_of(client, url) | fields(person)
        asked: Any = client.post(url, sent)
        if "question" in (asked.context or {}):
            sent |= {"seen": asked.context["seen"], "typed": asked.context["word"]}
        saves.append(lambda client=client, sent=sent: client.post(url, sent))
    with transaction.atomic():
        # Both forms are compared with what is stored before either is stored.
        ClusterStore.objects.lock()
        for model in (Rule, Group):
            list(model._base_manager.select_for_update())
        sessions = [Session(save) for save in saves]
        for session in sessions:
            session.waits()
    answers = [session.finish() for session in sessions]
    assert sorted(answer.status_code for answer in answers) == [200, 302]
    [winner] = [person for person, answer in zip(("olga", "otto"), answers, strict=True) if answer.status_code == 302]
    [loser] = {"olga", "otto"} - {winner}
    [page] = [answer.content.decode() for answer in answers if answer.status_code == 200]
    assert winner in said()
    assert "was saved" in page
    # What the second one wrote is not lost.
    assert loser in page
    refusal = Act.objects.get(verb="refuse")
    assert refusal.person == loser
    assert refusal.reason.startswith("changed ")
