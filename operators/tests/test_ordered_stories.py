"""Rules, orders and freezes of people are stories, with their author and what they moved, in Changes and on the first page."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client

from acts.models import Act
from acts.recording import entered
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.explain.why import explain
from checks.models import Config, Move, freezes
from checks.models.orders import Rule
from checks.models.sources import Source
from checks.sources import accept_removals_of, files, sync
from checks.sources.authored import ADMIN
from checks.sources.files import FileSource
from checks.sources.origins import put
from checks.tests.cast import dangling, report, sent
from checks.tests.operators import config
from clusteragent.lib import conf
from nodes.models import Node, NodeRule
from operators import rules
from operators.pages import now
from operators.pages.titles import titled
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db

CHANGES = "/admin/changes/"


@pytest.fixture(autouse=True)
def _cast(warm: None) -> None:
    """one and two are on ash and birch; only birch has gold."""
    report("ash", "birch")
    Node.objects.filter(name="birch").update(labels={"disk": "gold"})
    dispatcher.schedule([sent("one"), sent("two")])


def by(person: str, deed: Callable[[], object]) -> None:
    """A person does something, and the leader's passes follow."""
    with entered(Act.How.ADMIN, "", lambda: person):
        deed()
    dispatcher.move_misplaced()
    dispatcher.redispatch(force=True)


def saved(rule: Rule | NodeRule, person: str = "otto") -> None:
    by(person, lambda: rules.save(rule, rule.save))


def told() -> list[str]:
    """The newest stories of the first page."""
    return [f"{title}: {facts}".rstrip(": ") for _, title, facts in titled(now.snapshot().history.stories)]


def gold_only() -> Rule:
    return Rule(name="gold-only", check_pattern="http_check", required={"disk": "gold"})


def test_a_saved_rule_is_a_story_with_its_author_and_what_it_moved() -> None:
    saved(gold_only())
    assert told()[0] == "Rule gold-only by otto: 1 config moved"
    moved = Config.objects.get(pk=Move.objects.get(reason="ineligible").config_id)
    assert explain(moved).sentence.startswith(
        "It moved to birch, since ash was no longer allowed to run it by rule gold-only"
    )
    assert Move.objects.get(reason="ineligible").why["forbidden_by"] == "gold-only"


def test_it_says_what_it_left_without_a_node() -> None:
    Node.objects.update(labels={})
    saved(gold_only())
    assert told()[0] == "Rule gold-only by otto: 2 configs wait for a node"
    assert dangling() == {"one", "two"}


def test_a_rule_that_moves_nothing_is_a_story() -> None:
    saved(Rule(name="few", check_pattern="http_check", max_per_node=5))
    assert told()[0] == "Rule few by otto: nothing moved"


def test_what_a_deleted_rule_frees_is_told_of_its_deletion() -> None:
    Node.objects.update(labels={})
    rule = gold_only()
    saved(rule)
    by("olga", lambda: rules.delete([rule]))
    deletion, making, *_ = told()
    assert deletion == "Rule gold-only deleted by olga: 2 configs placed"
    assert making.startswith("Rule gold-only by otto: 2 configs taken away, longest gap")


def test_what_a_node_rule_moves_is_told_of_it() -> None:
    gold_only().save()
    dispatcher.move_misplaced()
    saved(NodeRule(pattern="birch", labels={"disk": "slow"}), "olga")
    assert told()[0] == "Node rule birch by olga: 2 configs wait for a node"


def test_what_a_rule_moves_much_later_names_the_rule() -> None:
    gold_only().save()
    dispatcher.move_misplaced()
    assert told()[0] == "Moved to where rule gold-only allows them: 1 config moved"


def test_the_rules_that_one_saves_together_are_one_story() -> None:
    for name in "abcde":
        saved(Rule(name=name, check_pattern="nothing"))
    assert told()[0] == "Rule a, rule b, rule c and 2 more by otto: nothing moved"
    assert not any("Rule" in story for story in told()[1:])


@pytest.mark.parametrize(
    ("deed", "story"),
    [
        (lambda one: dispatcher.pin([one], "ash", actor="otto"), "Pinned by otto: http_check one to ash"),
        (lambda one: freezes.freeze(actor="otto"), "Automatic balancing frozen by otto"),
    ],
)
def test_an_order_that_moves_nothing_is_a_story(deed: Callable[[int], object], story: str) -> None:
    one = config("one")
    dispatcher.reassign([one.pk], "ash", actor="eve")
    by("otto", lambda: deed(one.pk))
    assert told()[0] == story


def on_ash(*keys: str) -> list[int]:
    """The ids of these configs, all of which are on ash."""
    ids = [config(key).pk for key in keys]
    dispatcher.reassign(ids, "ash", actor="eve")
    return ids


def test_several_pins_are_counted_apart_from_what_they_moved() -> None:
    one, two = on_ash("one", "two")
    by("otto", lambda: dispatcher.pin([one], "ash", actor="otto"))
    by("otto", lambda: dispatcher.pin([two], "birch", actor="otto"))
    assert told()[0] == "Pinned by otto: 2 acts (http_check one to ash; http_check two to birch), 1 config moved"


def test_two_freezes_and_two_undos_are_told_as_two() -> None:
    ids = on_ash("one", "two")
    by("otto", lambda: dispatcher.reassign(ids, "birch", actor="otto"))
    assert told()[0] == "Reassigned by otto: 2 configs moved"
    for move in Move.objects.filter(to_node="birch", config_id__in=ids, actor="otto").order_by("config_id"):
        by("otto", lambda pk=move.pk: plans.order(lambda: deciding.undo([pk]), actor="otto"))  # type: ignore[misc]
    for _ in range(2):
        by("otto", lambda: freezes.freeze(actor="otto"))
    assert told()[:2] == [
        "Automatic balancing frozen by otto: 2 acts",
        "Undone by otto: 2 acts (http_check one; http_check two), 2 configs moved",
    ]


def test_of_many_acts_the_first_ones_are_named() -> None:
    dispatcher.schedule([sent(key) for key in "abcde"])
    for one in on_ash(*"abcde"):
        by("otto", lambda one=one: dispatcher.pin([one], "ash", actor="otto"))  # type: ignore[misc]
    named = "http_check a to ash; http_check b to ash; http_check c to ash; 2 more"
    assert told()[0] == f"Pinned by otto: 5 acts ({named})"


def test_a_pause_pauses_and_what_had_no_node_is_placed() -> None:
    Move.objects.all().delete()
    by("otto", lambda: dispatcher.pause([config("one").pk], actor="otto"))
    assert told()[0] == "Paused by otto: http_check one, 1 config paused"
    by("otto", lambda: dispatcher.resume([config("one").pk], actor="otto"))
    assert "Resumed by otto: http_check one, 1 config placed" in told()
    Move.objects.all().delete()
    Node.objects.cordon()
    dispatcher.schedule([sent("three"), sent("four")])
    Node.objects.cordon(schedulable=True)
    dispatcher.redispatch(force=True)
    assert "Placed after waiting: 2 configs placed" in told()


def test_the_end_of_an_order_is_a_story() -> None:
    one = [config("one").pk]
    by("otto", lambda: dispatcher.pin(one, "birch", actor="otto"))
    by("olga", lambda: dispatcher.unpin(one))
    by("otto", lambda: freezes.freeze(actor="otto"))
    by("olga", lambda: freezes.thaw(actor="olga"))
    found = told()
    assert "Unpinned by olga: http_check one" in found
    assert "Automatic balancing no longer frozen by olga" in found


def test_what_follows_a_pin_is_told_of_it() -> None:
    one = config("one")
    with entered(Act.How.ADMIN, "", lambda: "otto"):
        dispatcher.pin([one.pk], "cedar", actor="otto")
    report("cedar")
    dispatcher.move_misplaced()
    assert "Pinned by otto: http_check one to cedar, 1 config moved" in told()
    assert not any(story.startswith("Pinned:") for story in told())


@pytest.mark.parametrize(("role", "links"), [(Role.OPERATOR, True), (Role.VIEWER, False)])
def test_an_unfolded_story_shows_its_acts(role: Role, links: bool) -> None:
    saved(gold_only())
    client = Client()
    client.force_login(user("vera", role))
    page = client.get(CHANGES)
    story = page.context["stories"][0][0]
    text = client.get(f"{CHANGES}story/?{page.context['span'].query}&story={story.key}").content.decode()
    assert "make rule gold-only" in text
    assert "Ineligible: rule gold-only" in text
    assert ("/acts/act/" in text) == links


@pytest.mark.parametrize(
    ("deed", "act"),
    [
        (lambda: dispatcher.reassign([config("one").pk], "birch", actor="otto"), "reassign http_check one to birch"),
        (lambda: plans.order(lambda: deciding.drain(["ash"]), actor="otto"), "drain ash"),
        (lambda: Node.objects.filter(name="ash").cordon(actor="otto"), "cordon ash"),
        (lambda: put(ADMIN, "new", sent("new").original, actor="otto"), "make config"),
    ],
)
def test_a_story_of_a_person_leads_to_all_acts_of_that_time(deed: Callable[[], object], act: str) -> None:
    on_ash("one")
    by("otto", deed)
    client = Client()
    client.force_login(user("vera", Role.OPERATOR))
    page = client.get(CHANGES)
    [story, *_] = [story for story, *_ in page.context["stories"] if "otto" in story.people]
    unfolded = f"{CHANGES}story/?{page.context['span'].query}&story={story.key}"
    text = client.get(unfolded).content.decode()
    [link] = re.findall(r'href="([^"]+)">All that otto did then', text)
    shown = client.get(html.unescape(link)).context["cl"].result_list
    assert any(str(one).startswith(act) for one in shown), [*map(str, shown)]
    client.force_login(user("victor", Role.VIEWER))
    assert "All that otto did" not in client.get(unfolded).content.decode()


def test_changes_lead_to_acts_as_the_whole_record() -> None:
    by("otto", lambda: freezes.freeze(actor="otto"))
    client = Client()
    client.force_login(user("vera", Role.OPERATOR))
    [link] = re.findall(r'is in <a href="([^"]+)">Acts', client.get(f"{CHANGES}?last=1h").content.decode())
    assert [str(one) for one in client.get(html.unescape(link)).context["cl"].result_list] == [
        "freeze automatic balancing"
    ]
    client.force_login(user("victor", Role.VIEWER))
    assert "acts/act" not in client.get(CHANGES).content.decode()


def test_a_removed_config_that_was_paused_is_counted() -> None:
    by("otto", lambda: dispatcher.pause([config("one").pk], actor="otto"))
    dispatcher.unschedule([("file", "one"), ("file", "two")])
    assert "2 configs gone" in told()[0]


def write(folder: Path, number: int) -> list[Path]:
    """Write as many files of one config each."""
    written = [folder / f"c{one}.yaml" for one in range(number)]
    for file in written:
        file.write_text(f"cluster_check: true\ninstances: [{{url: {file.stem}}}]\n")
    return written


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Twelve of twenty files are gone, and held back."""
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    # No file has them, so that they would be held, too.
    dispatcher.unschedule([("file", "one"), ("file", "two")])
    written = write(tmp_path, 20)
    sync(sources=[FileSource()])
    for file in written[:12]:
        file.unlink()
    sync(sources=[FileSource()])
    return Source.objects.get(name="file")


def test_accepted_removals_are_a_story_of_their_own(held: Source) -> None:
    dispatcher.schedule([sent("three", source="api:shop")], actor="otto")
    by("otto", lambda: accept_removals_of(held, actor="otto"))
    assert told()[0] == "Removals of file accepted by otto: 12 configs to be removed"
    sync(sources=[FileSource()])
    dispatcher.unschedule([("api:shop", "three")], actor="otto")
    assert told()[:2] == [
        "Changes of the sources by otto: 1 config new, 1 config gone",
        "Removals of file accepted by otto: 12 configs gone",
    ]


def test_removals_that_a_command_accepted_are_told_of_who_ran_it(held: Source) -> None:
    with entered(Act.How.COMMAND, "", lambda: "root"):
        sync(sources=[FileSource()], accept_removals=True, actor="root (command line)")
    assert told()[0] == "Removals of file accepted by root: 12 configs gone"
