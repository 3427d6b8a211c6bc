"""Rules, orders and freezes of people are stories, with their author and what they moved, in Changes and on the first page."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client

from acts.models import Act
from acts.recording import entered
from checks import dispatcher
from checks.explain.why import explain
from checks.models import Config, Move, freezes
from checks.models.orders import Rule
from checks.models.sources import Source
from checks.sources import accept_removals_of, files, sync
from checks.sources.files import FileSource
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
    assert told()[0] == "Rule gold-only by otto: 1 config moved once"
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
    assert deletion == "Rule gold-only deleted by olga: 2 configs moved once"
    assert making.startswith("Rule gold-only by otto: 2 configs taken away, longest gap")


def test_what_a_node_rule_moves_is_told_of_it() -> None:
    gold_only().save()
    dispatcher.move_misplaced()
    saved(NodeRule(pattern="birch", labels={"disk": "slow"}), "olga")
    assert told()[0] == "Node rule birch by olga: 2 configs wait for a node"


def test_what_a_rule_moves_much_later_names_the_rule() -> None:
    gold_only().save()
    dispatcher.move_misplaced()
    assert told()[0] == "Moved to where rule gold-only allows them: 1 config moved once"


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
    assert "Pinned by otto: 1 config moved once" in told()
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
