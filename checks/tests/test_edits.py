"""The text of a config before an edit is kept without secrets, as long as the ledger."""

import pytest

from checks import dispatcher, tasks
from checks.models import Config, Move
from checks.models.edits import Edit
from checks.sources import repatching
from checks.tests.cast import lead, report, sent
from clusteragent.lib import conf
from clusteragent.lib.clock import ago

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def changes() -> list[tuple[str, list[str]]]:
    """The edits of the only config, the newest first: (actor, the changed lines of its diff)."""
    config = Config.objects.get()
    found = Edit.objects.changes(config.pk, config.text, 20)
    return [(one.actor, [line for line in one.diff if line[0] in "+-"]) for one in found]


def test_each_edit_tells_who_changed_which_lines() -> None:
    dispatcher.schedule([sent("shop", url="http://one")])
    dispatcher.schedule([sent("shop", url="http://two")], actor="eve")
    dispatcher.schedule([sent("shop", url="http://three")])
    [latest, first] = changes()
    assert latest == ("", ["-  url: http://two", "+  url: http://three"])
    assert first == ("eve", ["-  url: http://one", "+  url: http://two"])


def test_the_same_again_is_no_edit() -> None:
    dispatcher.schedule([sent("shop")])
    dispatcher.schedule([sent("shop")])
    assert changes() == []


def test_an_edit_shows_no_secret_and_one_of_secrets_alone_no_line() -> None:
    for password in ("hunter22", "hunter23"):
        dispatcher.schedule([sent("db", instances=(f"host: db\npassword: {password}\n",))])
    assert changes() == [("", [])]
    assert "hunter22" not in Edit.objects.get().text


def test_other_tags_are_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    dispatcher.schedule([sent("shop")])
    monkeypatch.setattr(conf, "CLUSTER_NAME", "north")
    repatching.repatch()
    [(actor, lines)] = changes()
    assert actor == repatching.ACTOR
    assert any("kube_cluster_name:north" in line for line in lines)


def test_long_edits_are_cut() -> None:
    for word in ("old", "new"):
        dispatcher.schedule([sent("long", instances=tuple(f"url: {word}{number}\n" for number in range(500)))])
    config = Config.objects.get()
    [change] = Edit.objects.changes(config.pk, config.text, 1)
    assert change.diff[-1].endswith(" more lines")
    assert len(change.diff) == 401


def test_edits_are_pruned_with_the_ledger() -> None:
    report("ash")
    for url in ("http://one", "http://two", "http://three"):
        dispatcher.schedule([sent("shop", url=url)])
    oldest = Edit.objects.order_by("pk").values("pk")[:1]
    Edit.objects.filter(pk__in=oldest).update(time=ago(2 * conf.LEDGER_RETENTION))
    tasks.prune(lead())
    assert [actor for actor, _ in changes()] == [""]
    assert Move.objects.count() == 3
