"""The different values of an indexed column."""

import pytest

from checks import dispatcher
from checks.models import Config, Origin
from checks.tests.cast import sent
from clusteragent.lib.database import distinct

pytestmark = pytest.mark.django_db


def test_each_value_is_told_once_and_in_the_database_s_order() -> None:
    assert distinct.values(Config, "name", 10) == []
    names = ["tls", "Tls", "dns", "http_check", "dns", "ähnlich", "tls_2"]
    dispatcher.schedule([sent(f"c{number}", name=name) for number, name in enumerate(names)])
    told = list(Config.objects.order_by("name").values_list("name", flat=True).distinct())
    assert distinct.values(Config, "name", 10) == told
    assert distinct.values(Config, "name", 2) == told[:2]
    assert distinct.values(Origin, "source", 10) == ["file"]
