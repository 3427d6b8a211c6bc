"""A config is written by hand in the editor: with a template to begin with, and remarks while one types."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import NODES, PATIENCE, Cluster
from tests.browser.visit import sending
from tests.replicas import wait_for

pytestmark = pytest.mark.processes

ADD = "/admin/checks/config/add/"


def test_a_config_is_written_with_remarks_and_runs(page: Page, cluster: Cluster) -> None:
    page.goto(ADD)
    page.get_by_label("Name").fill("by-hand")
    page.get_by_label("Check").fill("tcp_check")
    page.locator(".ace_content").click()
    expect(page.locator(".ace_content")).to_contain_text("collect_response_time")

    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("instances: [")
    remarks = page.get_by_role("status").filter(has_text="Line 1")
    expect(remarks).to_contain_text("a [ begins here that is not closed")
    expect(page.locator(".ace_gutter-cell.ace_error, .ace_gutter .ace_error").first).to_be_visible()

    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text("instances:\n  - name: by-hand\n    host: mail.example.com\n    port: 25\n")
    expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible()
    expect(page.get_by_text("1 config would be added, on ")).to_be_visible()
    with sending(page):
        page.get_by_role("button", name="Save", exact=True).click()
    wait_for("it runs", lambda: any("tcp_check:by-hand" in cluster.runs(node) for node in NODES), PATIENCE)
    page.goto(f"/admin/checks/config/{cluster.number_of('by-hand')}/change/")
    expect(page.locator(".ace_content")).to_contain_text("mail.example.com")
    page.goto("/admin/checks/config/?q=by-hand")
    page.get_by_role("checkbox", name="Select all objects").check()
    page.get_by_role("combobox", name="Select action to run").select_option("unschedule")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Unschedule").click()
    expect(page.get_by_text("1 config unscheduled.")).to_be_visible()


def test_another_check_brings_its_template_but_not_in_place_of_what_was_written(page: Page, cluster: Cluster) -> None:
    own = "instances:\n  - name: mine\n    url: http://mine.example.com\n"
    page.goto(ADD)
    check = page.get_by_role("combobox", name="Check")
    page.get_by_label("Name").fill("mine")
    check.fill("htp_check")
    page.locator(".ace_content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(own)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("No integration is called htp_check: is http_check meant?")).to_be_visible()
    check.fill("http_check")
    page.keyboard.press("Tab")
    expect(page.get_by_text("1 config would be added, on ")).to_be_visible()
    expect(page.locator(".ace_content")).to_contain_text("mine.example.com")
    # Whoever is asked is shown the text, too.
    page.route("**/config/remarks/", lambda route: None)
    page.get_by_label("Name").fill("mine-too")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Save mine-too")).to_be_visible()
    expect(page.get_by_text("url: http://mine.example.com")).to_be_visible()
    # Nor where the browser puts back what was written.
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".ace_content")).to_contain_text("mine.example.com")
    check.fill("tcp_check")
    page.keyboard.press("Tab")
    expect(
        page.get_by_text("Nothing is wrong with it.").or_(page.locator(".ace_gutter .ace_error")).first
    ).to_be_visible()
    expect(page.locator(".ace_content")).to_contain_text("mine.example.com")


def test_who_saves_before_the_forecast_came_is_shown_it_first(page: Page, cluster: Cluster) -> None:
    page.goto(ADD)
    page.get_by_label("Name").fill("raced")
    page.get_by_label("Check").fill("tcp_check")
    page.locator(".ace_content").click()
    expect(page.locator(".ace_content")).to_contain_text("collect_response_time")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text("instances:\n  - name: raced\n    host: mail.example.com\n    port: 25\n")
    # The server is slow to look at the text.
    page.route("**/config/remarks/*", lambda route: None)
    page.route("**/config/remarks/", lambda route: None)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Save raced")).to_be_visible()
    expect(page.get_by_text("1 config would be added, on ")).to_be_visible()
    assert not cluster.ask("SELECT 1 FROM checks_origin WHERE key = 'raced'")
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    # Of a config that is there the form says at once what saving it would do.
    expect(page.get_by_text("Nothing that runs would change.")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    page.get_by_role("button", name="Unschedule…").click()
    page.get_by_role("button", name="Unschedule", exact=True).click()
    expect(page.get_by_text("1 config unscheduled.")).to_be_visible()


def written(page: Page, text: str) -> None:
    page.locator(".ace_content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(text)


def test_what_a_colleague_saved_meanwhile_is_shown_before_it_is_overwritten(page: Page, cluster: Cluster) -> None:
    text = "instances:\n  - name: shared\n    {} http://mail:25\n"
    page.goto(ADD)
    page.get_by_label("Name").fill("shared")
    page.get_by_role("combobox", name="Check").fill("http_check")
    page.locator(".ace_content").click()
    expect(page.locator(".ace_content")).to_contain_text("url")
    written(page, text.format("ulr:"))
    expect(page.locator("#yaml-remarks")).to_contain_text("ulr")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Save shared")).to_be_visible()
    # Back to the form, where the text is that was found odd.
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".ace_content")).to_contain_text("ulr: http://mail:25")
    expect(page.locator("#yaml-remarks")).to_contain_text("ulr")
    written(page, text.format("url:"))
    expect(page.locator("#yaml-remarks")).not_to_contain_text("ulr")
    expect(page.get_by_text("1 config would be added, on ")).to_be_visible()
    with sending(page):
        page.get_by_role("button", name="Save", exact=True).click()
    theirs = page.context.new_page()
    theirs.goto(page.url)
    expect(theirs.get_by_text("Nothing that runs would change.")).to_be_visible()
    for one, port in ((theirs, "2525"), (page, "465")):
        written(one, text.format("url:").replace("mail:25", f"mail:{port}"))
        expect(one.get_by_text("1 config would change")).to_be_visible()
        with sending(one):
            one.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("after this form was opened. Nothing was saved.")).to_be_visible()
    expect(page.locator(".errornote del")).to_contain_text("http://mail:2525")
    expect(page.locator(".errornote ins")).to_be_in_viewport()
    expect(page.locator(".errornote ins")).to_contain_text("http://mail:465")
    assert cluster.ask("SELECT 1 FROM checks_config WHERE position('mail:2525' IN text) > 0")
    expect(page.get_by_text("1 config would change")).to_be_visible()
    with sending(page):
        page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert cluster.ask("SELECT 1 FROM checks_config WHERE position('mail:465' IN text) > 0")
    page.get_by_role("button", name="Unschedule…").click()
    page.get_by_role("button", name="Unschedule", exact=True).click()
    expect(page.get_by_text("1 config unscheduled.")).to_be_visible()


def test_what_was_wrong_when_it_was_sent_is_seen_and_gone_once_the_text_is_another(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(ADD)
    page.get_by_label("Name").fill("long")
    page.get_by_label("Check").fill("tcp_check")
    page.locator(".ace_content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text("# one more line\n" * 60 + "instances: [")
    page.get_by_role("button", name="Save", exact=True).click()
    error = page.locator("#id_yaml_error")
    expect(error).to_contain_text("is not closed")
    bar = page.get_by_role("button", name="Save", exact=True).bounding_box()
    box = error.bounding_box()
    assert bar
    assert box
    assert 0 < box["y"] < bar["y"] - box["height"]
    page.locator(".ace_content").click()
    page.keyboard.type("]")
    expect(error).to_have_count(0)


def test_the_keyboard_leads_past_the_editor(page: Page) -> None:
    page.goto(ADD)
    page.get_by_label("Check").focus()
    save = page.get_by_role("button", name="Save", exact=True)
    for _ in range(40):
        page.keyboard.press("Tab")
        if save.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("Tab does not leave the editor")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_are_those_of_the_page(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(ADD)
    theme = "github-dark" if scheme == "dark" else "github-light-default"
    expect(page.locator(f".ace-{theme}")).to_be_visible()


# How much higher a frame is than the editor in it.
GAP = """() => {
    const [frame, editor] = ['.django-ace-editor', '.ace_editor'].map((one) => document.querySelector(one));
    return editor ? frame.clientHeight - editor.offsetHeight : NaN;
}"""


def test_the_editor_fills_its_frame_and_a_refusal_is_said_once(page: Page) -> None:
    page.goto(ADD)
    page.get_by_label("Name").fill("twice")
    page.get_by_label("Check").fill("tcp_check")
    wait_for("the editor is as high as its frame", lambda: page.evaluate(GAP) == 0, PATIENCE)
    frame = page.locator(".django-ace-editor")
    room = frame.bounding_box()
    assert room
    # A click below the last line.
    frame.click(position={"x": room["width"] / 2, "y": room["height"] - 8})
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text("instances: [")
    with sending(page):
        page.get_by_role("button", name="Save", exact=True).click()
    remark = page.locator("#yaml-remarks li")
    expect(remark).to_be_attached()
    expect(remark).to_be_hidden()
    expect(page.locator("#id_yaml_error")).to_contain_text("a [ begins here that is not closed")
    expect(page.locator(".ace_gutter .ace_error").first).to_be_attached()
    # The frame has the focus, not what lies below the line of the cursor.
    outline = "one => getComputedStyle(one).outlineStyle"
    wait_for("the frame has the focus", lambda: frame.evaluate(outline) == "solid", PATIENCE)
    page.locator(".ace_content").click()
    page.keyboard.type("7")
    expect(remark).to_be_visible()
