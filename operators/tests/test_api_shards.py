"""Sets of configs whose instances are dispatched each for itself: pipelines go on speaking of the configs that they wrote."""

import pytest

from checks.dispatcher.changes import Sent
from checks.models import Config
from checks.sources import sets
from checks.sources.authored import written
from checks.tests.cast import owners, report
from clusteragent.lib import conf

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

SOURCE = "api:ci"


@pytest.fixture(autouse=True)
def _sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    report("ash", "birch")


def wish(name: str, *urls: str) -> Sent:
    instances = "".join(f"- url: {url}\n" for url in urls)
    return written(name, "http_check", f"instances:\n{instances}", SOURCE)


def replace(*desired: Sent) -> sets.Difference:
    return sets.replace(SOURCE, desired, actor="ci")


def test_a_set_is_told_by_its_configs_and_dispatched_in_shards() -> None:
    first = replace(wish("shop", "a", "b"), wish("mail", "m"))
    assert (first.added, set(owners())) == (["mail", "shop"], {"shop#0", "shop#1", "mail"})
    before = owners()
    second = replace(wish("shop", "a", "b", "c"), wish("mail", "m"))
    assert (second.changed, second.unchanged, second.removed) == (["shop"], ["mail"], [])
    assert before.items() <= owners().items()
    third = replace(wish("mail", "m"))
    assert (third.removed, set(owners())) == (["shop"], {"mail"})


def test_the_same_set_has_the_same_revision_and_changes_nothing() -> None:
    desired = [wish("shop", "a", "b"), wish("mail", "m")]
    revision = replace(*desired).revision
    assert sets.revision_of(SOURCE) == revision
    again = sets.replace(SOURCE, desired, actor="ci", revision=revision)
    assert (again.unchanged, again.revision) == (["mail", "shop"], revision)


def test_shards_count_as_one_config_when_removals_are_judged() -> None:
    replace(wish("shop", *map(str, range(30))), wish("mail", "m"))
    assert replace(wish("mail", "m")).removed == ["shop"]
    assert Config.objects.count() == 1
