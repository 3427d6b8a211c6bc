"""A config's page: its node, its three facts, the reason, its text and its history."""

import html
import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client

from checks import dispatcher
from checks.explain import facts, why
from checks.models import Assignment, Config, Move, Source
from checks.models.orders import Rule
from checks.models.troubles import Trouble
from checks.tests.cast import lead, owners, report, sent, silence
from checks.tests.operators import apply, config, operator, page_of, planned, saved, superuser
from clusteragent.lib import clock, conf
from nodes.goodbyes import note_goodbye
from nodes.models import Heartbeat, Node, NodeEvent, Runner, RunnerStats
from operators.pages.base import SEES

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

DB = "host: db\npassword: hunter22\n"


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """db runs on ash."""
    report("ash")
    dispatcher.schedule([sent("db", name="postgres", instances=(DB,))])


def page(key: str = "db", client: Client | None = None) -> str:
    """What the page says, without its markup."""
    response = (client or superuser()).get(page_of(key))
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


def fetch(node: str) -> None:
    """The node fetches all that it has."""
    Heartbeat.objects.filter(node__name=node).update(acknowledged=Node.objects.get(name=node).config_version)


def tell(node: str, **stats: Any) -> None:
    """The node's runner reports db."""
    row, _ = Runner.objects.update_or_create(node=Node.objects.get(name=node), defaults={"stats_at": Now()})
    given = {"check_id": config("db").instances.get().check_id, "execution_ms": 20, "total_runs": 3, **stats}
    RunnerStats.objects.create(**{"node": row.node, "total_errors": 0, "failed": False, "last_error": "", **given})


def truths(key: str = "db") -> list[str]:
    return [str(fact.truth) for fact in facts.of(config(key)).three]


def test_the_page_says_who_has_it_and_that_nobody_knows_yet_whether_it_runs() -> None:
    text = re.sub(r"\b\d+ s ago", "lately", page())
    assert "Owner: ash" in text
    assert "Assigned: yes check_circle to ash (scheduled) lately" in text
    assert "Acknowledged: no cancel ash has not fetched this version yet, made lately" in text
    assert "Running: unknown help no stats from ash" in text
    assert "Last error none known" in text


def test_a_config_is_acknowledged_when_its_node_fetched_a_version_of_since_it_came_or_changed() -> None:
    assert truths() == ["yes", "no", "unknown"]
    fetch("ash")
    assert truths() == ["yes", "yes", "unknown"]
    dispatcher.schedule([sent("other")])
    assert truths() == ["yes", "yes", "unknown"]
    dispatcher.schedule([sent("db", name="postgres", instances=(DB + "port: 1\n",))])
    assert truths() == ["yes", "no", "unknown"]


def test_a_config_runs_when_its_check_id_is_in_the_stats() -> None:
    tell("ash", execution_ms=300)
    assert truths()[2] == "yes"
    text = page()
    assert "Running: yes check_circle in the stats of ash" in text
    assert "Run time 300 ms of 15.0 s, 2.0 %" in text


def test_what_an_old_runner_does_not_tell_is_said_to_be_unknown() -> None:
    tell("ash", execution_ms=0, total_runs=None, total_errors=None)
    assert truths()[2] == "yes"
    text = page()
    assert "Run time under 1 ms of 15.0 s" in text
    assert "not told not told" in text


def test_a_check_that_is_told_by_its_bare_name_runs() -> None:
    tell("ash", check_id="postgres")
    assert truths()[2] == "yes"


@pytest.mark.parametrize(("check_id", "truth"), [("postgres", "yes"), ("other:1", "no")])
def test_stats_tell_whether_it_runs_unless_they_are_older_than_the_assignment(check_id: str, truth: str) -> None:
    tell("ash", check_id=check_id)
    assert truths()[2] == truth
    Assignment.objects.update(since=Now() + timedelta(seconds=60))
    assert truths()[2] == "unknown"


def test_a_run_that_takes_longer_than_its_interval_is_said_to() -> None:
    tell("ash", execution_ms=30_000)
    assert "Run time 30.0 s of 15.0 s, 200 %: longer than the time between two runs" in page()


def test_an_error_is_shown_without_its_secrets_and_escaped() -> None:
    tell("ash", failed=True, last_error='[{"message": "password=hunter22 <script>no</script>", "traceback": "x"}]')
    response = superuser().get(page_of("db")).content.decode()
    assert "password=********" in response
    assert "hunter22" not in response
    assert "<script>no" not in response


def test_what_turns_the_direction_of_writing_is_seen() -> None:
    client = superuser()
    yaml = "# \u202eone\ninstances:\n  - url: http://door\n    tags: ['x\u202ey']\n"
    saved(client, "/admin/checks/config/add/", key="door", check="http_check", yaml=yaml)
    text = client.get(page_of("door")).content.decode().split("YAML, secrets hidden")[1]
    assert "# \\u202eone" in text
    assert text.count("x\\u202ey") >= 2
    assert "\u202e" not in text


def test_what_was_sent_stands_beside_what_node_agents_get_and_neither_shows_a_secret() -> None:
    text = page()
    sent_text, served = text.split("What node agents get")
    assert "host: db" in sent_text
    assert "empty_default_hostname" not in sent_text
    assert "empty_default_hostname: true" in served
    assert "hunter22" not in text


def test_the_page_says_why_it_is_there_with_the_best_nodes_of_then() -> None:
    report("birch", "cedar")
    dispatcher.schedule([sent("shop")])
    text = page("shop")
    assert "It was placed on birch when it came, the least loaded of 3 nodes that could have it." in text
    assert "Best nodes when it was placed, of 3 that could have it Node Load then birch 0 % cedar 0 % ash" in text
    assert "It was assumed: the config's cost was not measured then" in text.replace("&#x27;", "'")


def elsewhere(key: str, client: Client) -> str:
    """What the page fetches about other nodes."""
    response = client.get(page_of(key).replace("/change/", "/others/"), headers={"HX-Request": "true"})
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


def test_nodes_that_came_since_are_offered_with_their_loads_of_now_and_refused_ones_are_not() -> None:
    report("birch", "cedar")
    dispatcher.schedule([sent("shop")])
    client = superuser()
    assert 'hx-trigger="load"><a class="underline" href="' in client.get(page_of("shop")).content.decode()
    assert "Node Load now Move cedar 0 % Move here… ash" in elsewhere("shop", client)
    report("dove")
    Node.objects.filter(name="ash").cordon()
    found = elsewhere("shop", client)
    assert "Node Load now Move cedar 0 % Move here… dove 0 % Move here… Nodes that" in found
    assert found.endswith("it is cordoned ash")
    Node.objects.filter(name__in=["cedar", "dove"]).cordon()
    assert "No other node could have it now." in elsewhere("shop", client)
    viewer = operator(*(seen.partition(".")[2] for seen in SEES))
    assert "Move here" not in elsewhere("db", viewer)
    assert Client().get(page_of("shop").replace("/change/", "/others/")).status_code == 401


def test_a_node_of_now_starts_the_move_to_it() -> None:
    report("birch", "cedar")
    dispatcher.schedule([sent("shop")])
    client = superuser()
    text = client.get(page_of("shop").replace("/change/", "/others/")).content.decode()
    assert '<button form="move" name="node" value="cedar"' in text
    assert '<button form="move" name="node" value="birch"' not in text
    plan = planned(client, "reassign", ["shop"], node="cedar")
    assert owners()["shop"] == "birch"
    apply(client, plan)
    assert owners()["shop"] == "cedar"
    assert '<button form="move" name="node"' not in operator("view_config").get(page_of("shop")).content.decode()


def test_the_page_tells_the_same_elsewhere_and_that_nothing_runs_at_once() -> None:
    client, pk = superuser(), config("db").pk
    text = html.unescape(client.get(page_of("db")).content.decode())
    assert "A check can't be run at once from here" in text
    copied = re.findall(r'aria-label="([^"]*)">([^<]*)</code>', text)
    assert ("link to this page", f"http://testserver{page_of('db')}") in copied
    assert ("command", f"clusteragent why {shlex.quote(str(config('db')))}") in copied
    assert ("digest", config("db").digest) in copied
    assert ("check ID", config("db").instances.get().check_id) in copied
    [call] = [words for label, words in copied if label == "call of the API"]
    assert f"http://testserver/api/operator/v1/configs/{pk}" in call


def test_a_command_about_a_config_whose_name_others_have_names_its_short_id() -> None:
    dispatcher.schedule([sent("db2", name="postgres", instances=("host: db\nport: 1\n",))])
    Config.objects.update(title="postgres db")
    assert f"clusteragent why {config('db').short_id}" in page()


def test_whoever_may_not_see_digests_copies_none() -> None:
    text = operator("view_config").get(page_of("db")).content.decode()
    assert config("db").digest not in text
    assert config("db").instances.get().shown_id() in text


def test_the_page_says_who_gave_it_to_its_node() -> None:
    report("birch")
    dispatcher.reassign([config("db").pk], "birch", actor="eve")
    assert "eve gave it to birch." in page()


def test_an_edit_is_no_reason_to_be_there() -> None:
    dispatcher.schedule([sent("db", name="postgres", instances=(DB + "port: 1\n",))], actor="eve")
    assert "It was placed on ash when it came" in why.explain(config("db")).sentence


def test_the_page_says_that_a_config_came_back_to_the_node_that_had_it() -> None:
    silence("ash")
    dispatcher.expire_nodes(force=True)
    report("ash", "birch")
    Config.objects.update(former_node=Node.objects.get(name="ash"))
    dispatcher.redispatch()
    assert owners()["db"] == "ash"
    assert why.explain(config("db")).sentence.startswith("It went to ash, after it had waited for a node")


def test_what_the_ledger_forgot_is_told_by_the_assignments_reason() -> None:
    Move.objects.all().delete()
    assert why.explain(config("db")).sentence == (
        "The move to ash is no longer in the ledger; its reason was: scheduled."
    )


REFUSALS: dict[str, Callable[[], object]] = {
    "it is cordoned": lambda: Node.objects.filter(name="birch").cordon(),
    "it is draining": lambda: Node.objects.filter(name="birch").cordon(draining=True),
    "it is silent for longer than 15 s": lambda: silence("birch"),
    "it said that it leaves": lambda: note_goodbye("birch", NodeEvent.Kind.LEAVING),
    "it said that it restarts": lambda: note_goodbye("birch", NodeEvent.Kind.RESTARTING),
    "it may have at most 0 configs": lambda: Node.objects.filter(name="birch").update(max_configs=0),
    "rule here: it requires disk=fast": lambda: Rule.objects.create(name="here", required={"disk": "fast"}),
    "the config is pinned to the node ash": lambda: dispatcher.pin([config("db").pk], "ash"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_the_page_says_why_another_node_can_not_have_it(reason: str) -> None:
    report("birch")
    assert why.others(config("db")).refused == {}
    REFUSALS[reason]()
    assert why.others(config("db")).refused == {reason: ["birch"]}
    assert f"{reason} birch" in elsewhere("db", superuser())


def test_a_node_is_refused_that_is_reserved_for_an_isolated_config() -> None:
    report("birch")
    dispatcher.schedule([sent("shop")])
    dispatcher.isolate([config("shop").pk])
    [(reason, names)] = why.others(config("db")).refused.items()
    assert reason.startswith("it is reserved for http_check")
    assert names == ["birch"]


def test_what_is_ordered_of_it_is_told_with_author_and_note() -> None:
    dispatcher.pin([config("db").pk], "ash", actor="eve", note="the <b>fast</b> one, password=hunter22")
    text = superuser().get(page_of("db")).content.decode()
    assert "Pinned to the node ash by eve on " in text
    assert "the &lt;b&gt;fast&lt;/b&gt; one, password=********" in text


def test_a_paused_config_says_so_and_is_nobodys() -> None:
    dispatcher.pause([config("db").pk], actor="eve", note="deploy")
    text = page()
    assert "Owner: none: paused" in text
    assert "It is paused, so it runs nowhere (ash ran it before)." in text
    assert re.search(r"Paused by eve on \S+ \S+ UTC: deploy", text)
    assert truths() == ["no", "no", "no"]


def test_a_dangling_config_says_why_nobody_can_have_it() -> None:
    Rule.objects.create(name="here", required={"disk": "fast"})
    dispatcher.move_misplaced(term=lead())
    assert (
        "No node can have it: rule here: it requires disk=fast (ash was no longer allowed to run it by rule here)."
        in page()
    )


def test_an_endpoint_check_belongs_to_its_node() -> None:
    dispatcher.schedule([sent("pod", node_name="ash")])
    text = page("pod")
    assert "It checks an endpoint of ash, so it runs there and nowhere else." in text
    assert "Assigned: yes check_circle to ash, whose endpoint it checks" in text


def test_the_timeline_tells_edits_moves_and_what_happened_to_its_owners() -> None:
    report("birch")
    dispatcher.schedule([sent("db", name="postgres", instances=(DB + "port: 5433\n",))], actor="eve")
    dispatcher.reassign([config("db").pk], "birch", actor="otto")
    Node.objects.all().cordon(actor="olga")
    timeline = page().partition("Timeline")[2]
    assert "+ port: 5433" in timeline
    assert timeline.index("birch cordoned: olga") < timeline.index("ash → birch: operator, by otto")
    assert timeline.index("by otto") < timeline.index("edit by eve") < timeline.index("nobody → ash: scheduled")
    assert "ash cordoned" not in timeline


def test_the_actions_are_those_that_its_state_allows() -> None:
    def offered() -> set[str]:
        return set(re.findall(r'name="action" value="(\w+)"', superuser_page()))

    client = superuser()

    def superuser_page() -> str:
        return client.get(page_of("db")).content.decode()

    report("birch")
    assert offered() == {"reassign", "pin", "pause", "isolate"}
    dispatcher.pin([config("db").pk], "ash")
    dispatcher.isolate([config("db").pk])
    assert offered() == {"reassign", "pin", "unpin", "pause", "release"}
    dispatcher.pause([config("db").pk])
    assert offered() == {"pin", "unpin", "resume", "release"}


def test_who_may_only_look_is_offered_nothing() -> None:
    response = operator("view_config").get(page_of("db"))
    assert response.status_code == 200
    assert b'name="action"' not in response.content


def test_a_page_takes_as_many_queries_with_a_long_past_as_with_a_short_one(
    django_assert_num_queries: Callable[..., Any], django_assert_max_num_queries: Callable[..., Any]
) -> None:
    report("birch")
    client, url = superuser(), page_of("db")
    dispatcher.reassign([config("db").pk], "birch", actor="eve")
    tell("birch")
    dispatcher.schedule([sent("db", name="postgres", instances=(DB + "port: 1\n",))])
    client.get(url)
    with django_assert_max_num_queries(60) as few:
        client.get(url)
    report(*(f"n{number}" for number in range(50)))
    Node.objects.filter(name__startswith="n").cordon()
    dispatcher.schedule([sent(f"c{number}") for number in range(100)])
    for number in range(2, 40):
        dispatcher.schedule([sent("db", name="postgres", instances=(DB + f"port: {number}\n",))])
    # On a slow machine they are overdue by now.
    report("ash", "birch")
    with django_assert_num_queries(len(few)):
        client.get(url)
    assert Move.objects.filter(source_node=F("to_node")).count() > 30


def test_versions_are_nanoseconds_of_the_databases_time() -> None:
    assignment = Assignment.objects.get()
    assert facts.version(assignment.since) <= assignment.node.config_version
    old = assignment.since - conf.NODE_EXPIRATION_TIMEOUT
    assert facts.version(old) < facts.version(assignment.since)


def test_the_page_warns_of_what_its_authors_may_not_have_meant() -> None:
    odd = {"where": "db", "line": 3, "warning": "tags are <odd>, token: hunter22"}
    Source.objects.filter(name="file").update(warnings=[odd, odd | {"where": "other", "warning": "of another"}])
    text = page()
    assert "Warnings db, line 3: tags are &lt;odd&gt;, token: ********" in text
    assert "of another" not in text


def test_the_page_warns_of_nothing_while_all_is_as_it_should_be() -> None:
    assert "Warnings" not in page()


def test_a_config_whose_file_is_broken_says_where() -> None:
    bad = {"where": "db", "line": 7, "error": "can't be read: <tab>, password: hunter22"}
    Source.objects.filter(name="file").update(errors=[bad, bad | {"where": "other", "error": "of another"}])
    text = page()
    assert "What sends it is broken: the last good config is kept" in text
    assert "db, line 7: can&#x27;t be read: &lt;tab&gt;, password: ********" in text
    assert "of another" not in text


def test_the_whole_error_is_on_the_page() -> None:
    error = " ".join(f"word{number}" for number in range(100))
    tell("ash", failed=True, last_error=error)
    assert f"Last error {error}" in page()


def test_a_shard_has_the_warnings_of_what_it_was_cut_from() -> None:
    dispatcher.schedule([sent("shop#1")])
    Source.objects.filter(name="file").update(warnings=[{"where": "shop", "line": None, "warning": "odd"}])
    assert "Warnings shop: odd" in page("shop#1")


def test_a_failing_config_says_at_its_top_since_when_and_what_and_that_running_is_no_good_news() -> None:
    began = clock.now() - timedelta(minutes=7)
    good = clock.now() - timedelta(minutes=9)
    Trouble.objects.create(config=config("db"), kind="failing", since=began)
    tell("ash", failed=True, last_error="connection refused", last_success=int(good.timestamp()))
    text = page()
    head, _, rest = text.partition("Owner: ash")
    assert "First failed 7 min ago Last good run 9 min ago Last error connection refused" in head
    assert "Running: yes, but its last run failed error in the stats of ash" in rest


def test_a_failing_config_that_moved_keeps_its_last_good_run() -> None:
    good = clock.now() - timedelta(minutes=9)
    Trouble.objects.create(config=config("db"), kind="failing", since=clock.now(), last_good=good)
    tell("ash", failed=True, last_error="connection refused", last_success=0)
    assert "Last good run 9 min ago" in page()


def test_a_failing_config_whose_runner_tells_no_last_good_run_says_so() -> None:
    tell("ash", failed=True, last_error="connection refused")
    assert "First failed not noted yet Last good run none known" in page()
