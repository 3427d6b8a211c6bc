"""An order follows its origin: when origins share a config and separate, come and go, or are cut into shards."""

import pytest

from checks import dispatcher
from checks.models import Config, Origin
from checks.models.orders import Pause, Pin
from checks.sources import origins
from checks.tests.cast import config, dangling, owners, report, sent
from clusteragent.lib import conf

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def id_of(key: str, source: str = "file") -> int:
    return Origin.objects.get(source=source, key=key).config_id


def pinned() -> dict[str, str]:
    """The pins: {origin: aim}."""
    return dict(Pin.objects.filter(config__isnull=False).values_list("config__origins__key", "aim"))


def test_an_order_that_waits_is_no_other_source_s_with_that_key():
    report("ash", "birch")
    dispatcher.schedule([sent("two")])
    dispatcher.pin([id_of("two")], "birch")
    dispatcher.unschedule([("file", "two")])
    dispatcher.schedule([sent("one"), sent("two", source="admin")])
    assert pinned() == {}
    dispatcher.schedule([sent("two", url="http://other")])
    assert pinned() == {"two": "birch"}


def test_an_origin_that_parts_from_a_shared_config_takes_its_orders_along():
    report("ash", "birch")
    dispatcher.schedule([sent("one", url="http://same"), sent("two", url="http://same")])
    dispatcher.pin([id_of("one")], "birch", actor="olga")
    dispatcher.pause([id_of("one")])
    dispatcher.schedule([sent("one", url="http://other")])
    assert pinned() == {"one": "birch", "two": "birch"}
    assert Pause.objects.filter(config__isnull=False).count() == 2
    assert (owners(), dangling()) == ({}, set())


@pytest.mark.parametrize("parting", [dispatcher.unschedule, lambda keys: dispatcher.schedule([sent(keys[0][1])])])
def test_an_order_waits_for_the_last_origin_that_sent_its_config(parting):
    report("ash", "birch")
    dispatcher.schedule([sent("one", url="http://same"), sent("two", url="http://same")])
    dispatcher.pin([id_of("one")], "birch")
    parting([("file", "one")])
    dispatcher.unschedule([("file", "two")])
    dispatcher.schedule([sent("two", url="http://same")])
    assert pinned()["two"] == "birch"


def test_of_two_orders_that_wait_for_an_origin_the_later_holds():
    report("ash", "birch")
    for aim in ("ash", "birch"):
        Pin.objects.create(source="file", key="one", aim=aim)
    dispatcher.schedule([sent("one")])
    assert pinned() == {"one": "birch"}
    assert Pin.objects.count() == 1


class TestShards:
    @pytest.fixture(autouse=True)
    def _cut(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)

    @staticmethod
    def send(number: int) -> None:
        origins.put("file", "one", config(instances=tuple(f"url: http://{n}\n" for n in range(number))))

    def test_orders_of_a_config_that_is_cut_are_those_of_its_shards(self):
        report("ash", "birch", "cedar")
        self.send(1)
        dispatcher.pin([id_of("one")], "birch")
        self.send(3)
        assert owners() == {"one#0": "birch", "one#1": "birch", "one#2": "birch"}
        dispatcher.pause(Config.objects.values_list("pk", flat=True))
        self.send(1)
        assert pinned() == {"one": "birch"}

    def test_a_paused_config_stays_so_when_it_is_cut(self):
        report("ash")
        self.send(1)
        dispatcher.pause([id_of("one")])
        self.send(2)
        assert (owners(), dangling()) == ({}, set())
        dispatcher.resume(Config.objects.values_list("pk", flat=True))
        self.send(3)
        assert owners() == {"one#0": "ash", "one#1": "ash", "one#2": "ash"}
