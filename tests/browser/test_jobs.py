"""The jobs of an operator's day, each done to its end, with no more clicks and texts than docs/howto/jobs.md says."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import NODES, PATIENCE, Cluster
from tests.browser.jobs import TABLE, Effort, Person
from tests.browser.test_orders import other_than, runs_only_on
from tests.browser.visit import Visit, sending
from tests.replicas import wait_for

pytestmark = pytest.mark.processes

ALLOWED = Effort.allowed()
DONE: set[str] = set()
_FAILING = "SELECT 1 FROM checks_trouble WHERE kind = 'failing'"
_OVERLOADED = "SELECT 1 FROM nodes_runner WHERE overloaded_since IS NOT NULL"
_ERRORS = "SELECT jsonb_array_length(errors) FROM checks_source WHERE name = 'file'"


@contextmanager
def doing(page: Page, job: str) -> Iterator[Person]:
    """A job that begins on the first page. Raises AssertionError if it takes more or less than the table says."""
    page.goto("/admin/")
    person = Person(page)
    yield person
    DONE.add(job)
    assert str(person.effort) == str(ALLOWED[job]), f"{job}: change {TABLE.name} only to a lower number"


def _settle(cluster: Cluster) -> None:
    """Wait until every check runs where it shall, and every node knows that."""
    cluster.wait_until_whole()
    wait_for("every node has fetched", lambda: all(map(cluster.has_acknowledged, NODES)), PATIENCE)


def test_is_it_healthy(page: Page, cluster: Cluster) -> None:
    with doing(page, "Is it healthy?"):
        expect(page.get_by_role("status")).to_contain_text(
            re.compile(r"(Healthy|Needs attention)\. .*configs on 3 nodes")
        )


def test_who_runs_it_and_why_there(page: Page, cluster: Cluster) -> None:
    with doing(page, "Who runs check X?") as person:
        person.search("core-2")
        person.follow("snmp core-2")
        owner = cluster.owner("snmp.d/core-2.yaml")
        expect(page.get_by_role("heading", name=f"Owner: {owner}")).to_be_visible()
        assert "snmp:core-2" in cluster.runs(owner)
    with doing(page, "Why is it there?") as person:
        person.search("core-2")
        person.follow("snmp core-2")
        expect(page.get_by_role("region", name="Why here")).to_contain_text(f" to {owner}")


def test_what_fails(page: Page, cluster: Cluster) -> None:
    error = "could not connect to db-11.example.com:5432"
    with cluster.failing({"postgres:db-11": error}):
        wait_for("the failure is known", lambda: cluster.ask(_FAILING), PATIENCE)
        with doing(page, "It fails: error, since when, whose?") as person:
            person.go("Failures")
            expect(page.get_by_role("main")).to_contain_text(error)
            expect(page.get_by_role("main")).to_contain_text(
                re.compile(r"First failed\s*\d+ s.*Team\s*reports", re.DOTALL)
            )
    wait_for("it is over", lambda: not cluster.ask(_FAILING), PATIENCE)


def test_what_changed_then(page: Page, cluster: Cluster) -> None:
    [time] = cluster.ask("SELECT to_char(max(time) AT TIME ZONE 'UTC', 'HH24:MI') FROM checks_move")
    with doing(page, "What changed at 03:12?") as person:
        person.go("Changes")
        person.write(page.get_by_label("At (UTC)"), time)
        person.enter()
        expect(page.get_by_label("At (UTC)")).to_have_value(time)
        expect(page.locator(".pages-story").first).to_contain_text(f" {time[:2]}:")


def test_move_it_and_keep_it_there(page: Page, cluster: Cluster) -> None:
    other = other_than(cluster.owner("redisdb.d/jobs.yaml"))
    with doing(page, "Move X to B and keep it there") as person:
        person.search("redisdb.d/jobs")
        person.follow("redisdb jobs")
        person.press("Reassign to a node")
        person.write(page.locator("#id_node"), other)
        person.click(page.get_by_label("Until someone unpins them"))
        person.press("Show what would move")
        person.press("Apply")
        expect(page.get_by_text("It was applied; 1 config moved.")).to_be_visible()
    runs_only_on(cluster, "redisdb:jobs", other)
    assert cluster.ask("SELECT aim FROM checks_pin") == [other]
    page.goto(f"/admin/checks/config/{cluster.number_of('redisdb.d/jobs.yaml')}/change/")
    _confirm(page, "Unpin")
    _settle(cluster)


def test_drain_a_node(page: Page, cluster: Cluster) -> None:
    node = page.locator("#node-drain")
    with doing(page, "Drain node N") as person:
        person.search("cedar")
        person.press("Drain")
        person.press("Apply")
        expect(page.get_by_text("It was applied; begun").first).to_be_visible()
    page.goto(f"/admin/nodes/node/{cluster.number_of_node('cedar')}/change/")
    expect(node).to_contain_text("empty, safe to stop", timeout=PATIENCE * 1000)
    assert not cluster.runs("cedar")
    _confirm(page, "Uncordon")
    _settle(cluster)


def _confirm(page: Page, act: str) -> None:
    """Press the button of an act on a row's page, and that of the page which asks."""
    with sending(page):
        page.get_by_role("button", name=act).click()
    with sending(page):
        page.get_by_role("button", name=act, exact=True).click()


def _placed(cluster: Cluster) -> dict[str, set[str]]:
    return {node: cluster.runs(node) for node in NODES}


def test_undo_the_last_rebalance(page: Page, cluster: Cluster) -> None:
    # Tests run in any order, and a rebalance must find something: a node that was drained has nothing.
    page.goto(f"/admin/nodes/node/{cluster.number_of_node('cedar')}/change/")
    with sending(page):
        page.get_by_role("button", name="Drain").click()
    with sending(page):
        page.get_by_role("button", name="Apply").click()
    wait_for("it is empty", lambda: not cluster.runs("cedar"), PATIENCE)
    page.goto(f"/admin/nodes/node/{cluster.number_of_node('cedar')}/change/")
    _confirm(page, "Uncordon")
    _settle(cluster)
    before = _placed(cluster)

    def plan_is_made() -> bool:
        page.goto("/admin/checks/plan/rebalance/")
        page.get_by_label("Even if it makes no clear difference").check()
        page.get_by_label("Without a limit of moves").check()
        with sending(page):
            page.locator("form [type=submit]").last.click()
        return bool(page.get_by_role("button", name="Apply").count())

    # Checks that have not run yet where they are don't move.
    wait_for("there is something to move", plan_is_made, PATIENCE)
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It was applied;")).to_be_visible()
    _settle(cluster)
    assert cluster.runs("cedar") - before["cedar"]
    with doing(page, "Undo the last rebalance") as person:
        person.go("Changes")
        person.press("Undo Rebalance")
        person.press("Apply")
        expect(page.get_by_text("It was applied;")).to_be_visible()
    wait_for("every check is where it was", lambda: _placed(cluster) == before, PATIENCE)
    _settle(cluster)


def test_pause_some_checks_of_a_team(page: Page, cluster: Cluster) -> None:
    def running() -> set[str]:
        return {label for node in NODES for label in cluster.runs(node) if label.startswith("http_check:")}

    everything = running()
    with doing(page, "Pause http_check of team payments for 2 h") as person:
        person.go("Configs")
        person.write(page.locator("#searchbar"), "http_check team:payments")
        person.enter()
        person.click(page.get_by_role("checkbox", name="Select all objects"))
        person.choose(page.get_by_role("combobox", name="Select action to run"), "pause")
        person.press("Run")
        person.write(page.get_by_label("Until"), "2 hours")
        person.press("Show what would move")
        person.press("Apply")
        expect(page.get_by_text("2 configs paused").first).to_be_visible()
    wait_for("they run nowhere", lambda: everything - running() == {"http_check:shop", "http_check:api"}, PATIENCE)
    page.goto("/admin/checks/config/?order=paused")
    page.get_by_role("checkbox", name="Select all objects").check()
    page.get_by_role("combobox", name="Select action to run").select_option("resume")
    with sending(page):
        page.get_by_role("button", name="Run").click()
    with sending(page):
        page.get_by_role("button", name="Apply").click()
    wait_for("they run again", lambda: running() == everything, PATIENCE)


def test_add_a_check_by_hand_with_mistakes_in_it(page: Page, cluster: Cluster) -> None:
    with doing(page, "Add a check by hand, with mistakes in it") as person:
        person.go("Configs")
        person.follow("Add config")
        person.write(page.locator("#id_key"), "door")
        person.write(page.locator("#id_check"), "http_check")
        person.compose("instances:\n  - name: door\n   url: https://door.example.com\n")
        person.press("Save")
        expect(page.locator("#id_yaml_error")).to_contain_text(re.compile("line 3", re.IGNORECASE))
        person.compose("instances:\n  - name: door\n    url: https://door.example.com\n    timeoutt: 5\n")
        expect(page.get_by_role("status").filter(has_text=re.compile("Line 4: .*timeoutt"))).to_be_visible()
        person.compose("instances:\n  - name: door\n    url: https://door.example.com\n    timeout: 5\n")
        expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible()
        expect(page.get_by_text("1 config would be added, on ")).to_be_visible()
        person.press("Save")
        expect(page.get_by_text("was added successfully")).to_be_visible()
    wait_for("it runs", lambda: any("http_check:door" in cluster.runs(node) for node in NODES), PATIENCE)
    [number] = cluster.ask("SELECT config_id FROM checks_origin WHERE source = 'admin' AND key = 'door'")
    page.goto(f"/admin/checks/config/{number}/change/")
    _confirm(page, "Unschedule")
    wait_for("it is gone", lambda: not any("http_check:door" in cluster.runs(node) for node in NODES), PATIENCE)


def test_all_checks_of_a_team(page: Page, cluster: Cluster) -> None:
    with doing(page, "All checks with tag team:reports") as person:
        person.search("team:reports")
        for number in (3, 7, 11, 15):
            expect(page.get_by_role("link", name=f"postgres db-{number:02}").first).to_be_visible()


def test_read_only_access_for_a_colleague(page: Page, cluster: Cluster) -> None:
    with doing(page, "Read-only access for a colleague") as person:
        person.go("Users")
        person.follow("Add user")
        person.write(page.get_by_label("Username"), "carla")
        person.write(page.locator("#id_password1"), "four-words-in-a-row")
        person.write(page.locator("#id_password2"), "four-words-in-a-row")
        person.click(page.get_by_label("viewer"))
        person.press("Save")
        expect(page.get_by_text("User carla gets the role viewer: sees everything but secrets")).to_be_visible()
        person.press("Save")
        expect(page.get_by_text("was added successfully")).to_be_visible()
    browser = page.context.browser
    assert browser is not None
    with Visit(browser, cluster.url, None) as visit, visit.page() as hers:
        hers.goto("/admin/")
        hers.get_by_label("Username").fill("carla")
        hers.get_by_label("Password").fill("four-words-in-a-row")
        hers.get_by_role("button", name="Log in").click()
        expect(hers.get_by_role("status")).to_contain_text("configs on 3 nodes")
        hers.goto(f"/admin/nodes/node/{cluster.number_of_node('ash')}/change/")
        expect(hers.get_by_role("button", name="Drain")).to_be_disabled()


def test_a_token_for_a_pipeline(page: Page, cluster: Cluster) -> None:
    cluster.manage("createtoken", "--user", "pipeline", "--role", "author")
    with doing(page, "A token for a pipeline") as person:
        person.go("Users")
        person.follow("pipeline")
        person.follow("Add a token")
        person.press("Save")
        expect(page.get_by_text("It is bound to nothing")).to_be_visible()
        person.press("Make the token")
        token = page.get_by_label("Token", exact=True).inner_text()
        [path] = re.findall(r"https://[^/]+(/\S+)", page.get_by_text("curl ").inner_text())
    assert cluster.call("GET", path, token) == 200
    assert cluster.call("GET", path, token[:-1]) == 401
    # An author writes configs, and orders nothing.
    assert cluster.call("PUT", "/api/operator/v1/sources/shop?dry_run=1", token, {"configs": []}) == 200
    assert cluster.call("POST", f"/api/operator/v1/nodes/{NODES[0]}/drain", token, {}) == 403


def test_a_token_for_a_new_pipeline(page: Page, cluster: Cluster) -> None:
    with doing(page, "A token for a new pipeline") as person:
        person.go("Tokens")
        person.follow("Add token")
        person.write(page.get_by_label("Or a new user for it"), "shop-deploys")
        person.click(page.get_by_label("author: sees what a viewer sees; writes and removes configs"))
        person.press("Save")
        expect(page.get_by_text("User shop-deploys is made with it, and can't log in.")).to_be_visible()
        expect(page.get_by_text("It is bound to nothing")).to_be_visible()
        person.press("Make the token")
        token = page.get_by_label("Token", exact=True).inner_text()
        expect(page.get_by_text(re.compile(r"It\s+ends \d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC\."))).to_be_visible()
    assert cluster.call("PUT", "/api/operator/v1/sources/shop?dry_run=1", token, {"configs": []}) == 200


def test_what_if_a_node_is_lost(page: Page, cluster: Cluster) -> None:
    # Whichever has something: another job may have drained one.
    [node] = cluster.ask(
        "SELECT n.name FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id ORDER BY 1 LIMIT 1"
    )
    with doing(page, "What if node N is lost?") as person:
        person.search(node)
        expect(page.get_by_role("region", name="If it were lost now")).to_contain_text("would go to")


def test_a_source_is_broken(page: Page, cluster: Cluster) -> None:
    file = cluster.confd / "http_check.d" / "late.yaml"
    file.write_text("cluster_check: true\ninstances:\n  - name: late\n   url: https://late.example.com\n")
    wait_for("the error", lambda: cluster.ask(_ERRORS) == [1], PATIENCE)
    with doing(page, "A source is broken: find and mend it") as person:
        row = page.locator(".pages-need", has_text="late.yaml")
        expect(row).to_contain_text("late.yaml")
        person.click(row.get_by_role("link", name="Show"))
        expect(page.get_by_text("http_check.d/late.yaml").first).to_be_visible()
        expect(page.get_by_role("cell", name="4", exact=True).first).to_be_visible()
    file.unlink()
    wait_for("no error", lambda: cluster.ask(_ERRORS) == [0], PATIENCE)


def test_which_node_is_overloaded_and_by_what(page: Page, cluster: Cluster) -> None:
    with cluster.slow("ash", 60):
        wait_for("it is overloaded", lambda: cluster.ask(_OVERLOADED), PATIENCE)
        with doing(page, "Which node is overloaded, and by what?"):
            row = page.locator(".pages-need", has_text="Overloaded")
            expect(row).to_contain_text(re.compile(r"ash.*(postgres|http_check|tls|snmp|redisdb)", re.DOTALL))
    wait_for("it is over", lambda: not cluster.ask(_OVERLOADED), PATIENCE)


def test_the_table_has_the_jobs_that_are_tried(request: pytest.FixtureRequest) -> None:
    source = request.path.read_text()
    assert set(re.findall(r'doing\(page, "([^"]+)"\)', source)) == set(ALLOWED)
    assert len(ALLOWED) == 17
