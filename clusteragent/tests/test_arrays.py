"""Long lists of values are one array parameter, with the same results."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.models import Assignment, Config, Instance
from checks.models.orders import Pin
from checks.tests.cast import report, sent
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _configs(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent(f"c{i}") for i in range(30)])


def statement(rows: object) -> str:
    with CaptureQueriesContext(connection) as made:
        list(rows)  # type: ignore[call-overload]
    return str(made[0]["sql"])


def test_many_values_are_one_array() -> None:
    ids = list(Config.objects.values_list("pk", flat=True))
    digests = list(Config.objects.values_list("digest", flat=True))
    assert "ANY" in statement(Config.objects.filter(pk__in=ids))
    assert "ANY" not in statement(Config.objects.filter(pk__in=ids[:5]))
    assert Config.objects.filter(pk__in=[*ids, None]).count() == 30
    assert Config.objects.filter(pk__in=set(ids)).count() == 30
    assert Config.objects.filter(digest__in=digests).count() == 30
    assert Config.objects.exclude(digest__in=digests[1:]).get().digest == digests[0]
    assert Assignment.objects.filter(config__in=ids).count() == 30
    assert Assignment.objects.filter(config__in=list(Config.objects.all())).count() == 30
    assert Assignment.objects.filter(config_id__in=ids).update(reason="x") == 30
    assert Instance.objects.filter(config__assignment__node__in=[Node.objects.get().pk] * 30).count() == 30
    assert Pin.objects.filter(config__in=ids).delete()[0] == 0


def test_values_that_fit_no_column_and_quotes_are_nothing_special() -> None:
    odd = ["'", '"', "{", "}", ",", "\\", "NULL", "", "%s", *map(str, range(20))]
    Node.objects.bulk_create([Node(name=name) for name in odd if name])
    assert set(Node.objects.filter(name__in=odd).values_list("name", flat=True)) == set(odd) - {""}
    assert not Config.objects.filter(pk__in=[10**30 + i for i in range(30)]).exists()


def test_subqueries_and_nothing_stay_what_they_are() -> None:
    assert Config.objects.filter(pk__in=Assignment.objects.values("config")).count() == 30
    assert not Config.objects.filter(pk__in=[None] * 30).exists()
    assert not Config.objects.filter(pk__in=[]).exists()
