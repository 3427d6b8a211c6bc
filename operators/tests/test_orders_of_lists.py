"""What lists are sorted by: each declared column of each list, and names in natural order."""

import pytest
from django.contrib import admin
from django.test import RequestFactory

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Source
from checks.models.orders import Pin
from checks.tests.cast import report, sent
from checks.tests.operators import config, superuser
from clusteragent.lib.words import natural
from operators.admin.base import ReadOnlyAdmin, list_url, row_url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NAMES = ["db-1", "db-2", "db-10"]
SORTED = {
    model._meta.model_name: (model, site)
    for model, site in admin.site._registry.items()
    if isinstance(site, ReadOnlyAdmin)
}


@pytest.fixture(autouse=True)
def _configs(warm: None) -> None:
    """db-10, db-2 and db-1 run on ash, and are pinned there."""
    report("ash", "birch")
    dispatcher.schedule([sent(name, name="tcp_check", instances=(f"host: {name}",)) for name in reversed(NAMES)])
    for name in ("db-10", "db-1", "db-2"):
        dispatcher.pin([config(name).pk], "ash", actor="otto")


def in_order(text: str) -> bool:
    places = [text.index(f">tcp_check {name}<") for name in NAMES]
    return places == sorted(places)


@pytest.mark.parametrize("name", sorted(SORTED))
def test_a_list_is_sorted_by_each_column_that_it_offers(name: str) -> None:
    model, site = SORTED[name]
    request, client = RequestFactory().get("/"), superuser()
    request.user = client.get(list_url(model)).wsgi_request.user
    offered = set(site.get_sortable_by(request))
    # The cluster is one row.
    assert offered or name == "clusterstore"
    for column in offered & set(site.get_list_display(request)):
        for sign in ("", "-"):
            page = client.get(list_url(model, o=f"{sign}{column}"))
            assert page.status_code == 200
            assert page.context["cl"].get_ordering_field_columns(), column


def test_pins_and_the_rows_of_a_plan_are_in_natural_order() -> None:
    client = superuser()
    assert in_order(client.get(list_url(Pin)).content.decode())
    plan = plans.store(deciding.pause([config(name).pk for name in NAMES]), author="otto")
    assert in_order(client.get(row_url(plan)).content.decode())


def test_held_removals_are_in_natural_order() -> None:
    source, _ = Source.objects.get_or_create(name="file")
    Source.objects.filter(pk=source.pk).update(held_removals=["db-10.yaml", "db-2.yaml", "db-1.yaml"])
    text = superuser().get(row_url(source)).content.decode()
    assert text.index("db-1.yaml") < text.index("db-2.yaml") < text.index("db-10.yaml")


def test_natural_order_is_the_database_s() -> None:
    names = ["web-10", "Web-2", "web", "web-1a", "10", "9", "a" + "1" * 30, "a2"]
    assert sorted(names, key=natural) == ["9", "10", "a2", "a" + "1" * 30, "web", "web-1a", "Web-2", "web-10"]
