"""No entrance leads out of a bound."""

from contextlib import suppress
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission

from acts.models import Act
from checks import dispatcher
from checks.dispatcher import costs
from checks.dispatcher.costs import Measured
from checks.sources import files
from checks.tests.cast import report, sent, silence
from clusteragent.lib import conf
from nodes.statsclient import Round
from operators import bounds
from operators.tests import test_acts
from operators.tests.bounded import calls, clicks, work
from operators.tests.cast import user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    work()


# What everybody does with what is its own.
OWN = {"save-view", "delete-view", "changes", "password_change", "login", "logout"}
ENTRANCES = {
    f"{number} {name}": passes
    for number, table in enumerate((test_acts.ADMIN, test_acts.PAGES, test_acts.REMEDIES, test_acts.API))
    for name, passes in table.items()
    if callable(passes) and name not in OWN
}


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> test_acts.World:
    """The world of test_acts, where bob has every permission, and a bound that covers nothing of it."""
    monkeypatch.setattr(costs, "measure", lambda: Measured(Round(0, 0, 0.0), 0, 0))
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    dispatcher.schedule([sent("mail")])
    report("elm")
    silence("elm")
    dispatcher.expire_nodes(force=True)
    who = user("bob")
    everything = Group.objects.create(name="everything")
    everything.permissions.set(Permission.objects.all())
    bounds.bind(["api:none"], ["team:none"], group=everything)
    who.groups.add(everything)
    return test_acts.World(client=clicks(who), olga=who, caller=calls(who), folder=tmp_path)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_no_entrance_leads_out_of_a_bound(bob: test_acts.World, entrance: str) -> None:
    """The entrances are all that leave an act: `test_acts` fails for a new one that is not among them."""
    with suppress(Exception):
        ENTRANCES[entrance](bob)
    found = Act.objects.filter(person="bob").exclude(verb__in=(Act.Verb.LOG_IN, Act.Verb.REFUSE))
    assert not [(one.verb, one.object) for one in found]
