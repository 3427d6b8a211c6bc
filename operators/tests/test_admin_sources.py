"""The admin's pages of the sources and of the ledger."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from acts.models import Act
from checks import dispatcher
from checks.models import Config, Move, Origin, Source
from checks.sources import files, sync
from checks.tests.cast import report, sent
from checks.tests.operators import confirmed, operator, superuser
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from operators.admin import sources as module

pytestmark = pytest.mark.django_db

SOURCES = "/admin/checks/source/"
LEDGER = "/admin/checks/move/"


@pytest.fixture
def folder(warm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source of twelve files, each one config."""
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    for number in range(12):
        write(tmp_path, number)
    return tmp_path


def write(folder: Path, number: int) -> None:
    (folder / f"check{number}.yaml").write_text(f"cluster_check: true\ninstances: [{{url: u{number}}}]\n")


def page() -> str:
    return f"{SOURCES}{Source.objects.get(name='file').pk}/change/"


def act(action: str, *permissions: str) -> str:
    client = operator(*permissions) if permissions else superuser()
    chosen = {"action": action, "_selected_action": [Source.objects.get(name="file").pk]}
    return client.post(SOURCES, chosen, follow=True).content.decode()


def test_a_scan_now_sends_what_the_files_have(folder: Path) -> None:
    assert "Scanned: 12 added, 0 changed, 0 removed, 0 held, 0 errors." in act("scan_now")
    assert Config.objects.count() == 12


def test_warnings_are_counted_and_listed(folder: Path) -> None:
    (folder / "check3.yaml").write_text("cluster_check: true\nservice: <b>\ninstances: [{url: u3}]\n")
    assert "0 errors, 1 warning." in act("scan_now")
    shown = operator("view_source").get(page()).content.decode()
    assert "nothing reads service at the top level" in shown


def test_held_removals_are_shown_and_accepted(folder: Path) -> None:
    sync()
    for number in range(11):
        (folder / f"check{number}.yaml").unlink()
    assert "11 held" in act("scan_now")
    client = operator("view_source", "change_source")
    shown = client.get(page()).content.decode()
    assert "check3.yaml" in shown
    assert 'value="accept_removals"' in shown
    before = list(Act.objects.values_list("pk", flat=True))
    confirmed(client, SOURCES, action="accept_removals", _selected_action=[Source.objects.get(name="file").pk])
    acts = Act.objects.exclude(pk__in=before).exclude(verb=Act.Verb.LOG_IN)
    came, accepted = acts.order_by("-pk").values_list("verb", "after")
    assert accepted == ("accept removals", {"file": 11})
    assert (came[0], came[1]["removed_number"], len(came[1]["removed"])) == ("scan", 11, 11), "and what came of it"
    assert list(Origin.objects.values_list("key", flat=True)) == ["check11.yaml"]
    assert 'value="accept_removals"' not in client.get(page()).content.decode()


def held_in(folder: Path) -> dict[str, Any]:
    """Let the source hold eleven of its twelve configs, and return the form that accepts that."""
    report("ash")
    sync()
    for number in range(11):
        (folder / f"check{number}.yaml").unlink()
    sync()
    return {"action": "accept_removals", "_selected_action": [Source.objects.get(name="file").pk]}


def test_accepting_removals_shows_them_first_and_asks_for_the_name_of_the_source(folder: Path) -> None:
    form, client = held_in(folder), superuser()
    shown = client.post(SOURCES, form)
    page = shown.content.decode()
    for text in ("11 of 12 configs would be removed.", "check3.yaml", "<strong>file</strong>"):
        assert text in page
    assert Config.objects.count() == 12
    page = client.post(SOURCES, form | {"seen": shown.context["seen"], "typed": "yes"}).content.decode()
    assert "type file to confirm it" in page
    assert Config.objects.count() == 12


def test_accepted_removals_are_on_record_as_done_by_who_accepted_them(folder: Path) -> None:
    form = held_in(folder)
    stopped = set(Origin.objects.exclude(key="check11.yaml").values_list("config_id", flat=True))
    client = superuser()
    assert "Would stop" in client.post(SOURCES, form).content.decode()
    confirmed(client, SOURCES, **form)
    about = Act.objects.get(verb=Act.Verb.ACCEPT).about
    assert about == {"configs": sorted(stopped), "nodes": ["ash"]}
    assert Config.objects.count() == 1
    removed = Move.objects.filter(reason=Move.Reason.UNSCHEDULED)
    assert set(removed.values_list("actor", flat=True)) == {"olga"}
    assert removed.count() == 11


def test_a_removal_that_is_held_since_is_not_accepted_unseen(folder: Path) -> None:
    form, client = held_in(folder), superuser()
    seen = client.post(SOURCES, form).context["seen"]
    (folder / "check11.yaml").unlink()
    sync()
    page = client.post(SOURCES, form | {"seen": seen, "typed": "file"}).content.decode()
    assert "Nothing was done, since something changed." in page
    refused = Act.objects.get(verb=Act.Verb.REFUSE)
    assert (refused.person, refused.object) == ("olga", "Remove what file does not send any more")
    assert Config.objects.count() == 12


def test_what_the_leader_watches_is_not_scanned_and_its_removals_are_accepted(warm: None) -> None:
    watches = [{"resource": "services", "phase": "away", "since": "2026-01-01T00:00:00+00:00", "why": "can't connect"}]
    state = {"phase": "away", "why": "can't connect", "watches": watches}
    row = Source.objects.create(name="kubernetes", state=state, held_removals=["one", "two"])
    client = superuser()
    shown = client.get(f"{SOURCES}{row.pk}/change/")
    assert "away: can&#x27;t connect" in shown.content.decode()
    assert shown.context["tables"][0].rows == [["services", "away", "2026-01-01 00:00:00", "can't connect"]]
    assert 'value="scan_now"' not in shown.content.decode()
    assert 'value="accept_removals"' in shown.content.decode()
    chosen = {"_selected_action": [row.pk]}
    scanned = client.post(SOURCES, chosen | {"action": "scan_now"}, follow=True).content.decode()
    assert "kubernetes: not scanned, since the leader does it all the time." in scanned
    done = confirmed(client, SOURCES, **chosen, action="accept_removals")
    assert "2 removals accepted." in done
    row.refresh_from_db()
    assert (row.accepted_removals, row.accepted_by) == (["one", "two"], "olga")


def test_what_is_not_scanned_is_named(folder: Path) -> None:
    shop = Source.objects.create(name="api:shop")
    client = superuser()
    assert 'value="scan_now"' not in client.get(f"{SOURCES}{shop.pk}/change/").content.decode()
    page = client.post(SOURCES, {"action": "scan_now", "_selected_action": [shop.pk]}, follow=True).content.decode()
    assert "api:shop: not scanned, since people or pipelines write it." in page
    assert "Scanned:" not in page


def test_who_may_only_look_neither_scans_nor_accepts(folder: Path) -> None:
    act("scan_now", "view_source")
    assert not Config.objects.exists()


def test_errors_are_shown_with_file_and_line_and_escaped(folder: Path) -> None:
    (folder / "<b>.yaml").write_text("instances:\n  - url: x\n   bad: y\n")
    (folder / "web.yaml").write_text("ad_identifiers: [nginx]\ncluster_check: true\ninstances: [{}]\n")
    sync()
    response = superuser().get(page())
    shown = response.content.decode()
    assert [row[:2] for row in response.context["tables"][0].rows] == [["<b>.yaml", "3"]]
    assert "&lt;b&gt;.yaml" in shown
    assert "<b>.yaml" not in shown
    assert "web.yaml" in shown
    assert "template" in shown


def test_of_many_findings_the_first_are_listed_and_the_number_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "MOST_STORED", 4)
    monkeypatch.setattr(module, "MOST_PROBLEMS", 3)
    for number in range(6):
        (folder / f"check{number}.yaml").write_text("cluster_check: true\ninstances: [\n")
    assert "6 errors." in act("scan_now")
    shown = operator("view_source").get(page()).content.decode()
    assert "Errors: the first 3 of 6" in shown
    assert shown.count(".yaml") == 3
    assert Source.objects.get(name="file").left_out == {"errors": 2}


def test_the_list_says_when_a_source_was_read_and_by_whom(warm: None) -> None:
    client = superuser()
    before = client.get(SOURCES).content.decode()
    Source.objects.update(read_at=ago(timedelta(hours=3)), scanned_at=ago(timedelta(seconds=5)), scanned_by="east")
    shown = client.get(SOURCES).content.decode()
    assert before.count("never") == shown.count("never") + 2
    assert "3 h ago" in shown
    assert "5 s ago" in shown
    assert "east" in shown


def test_the_ledger_is_newest_first_and_found_by_whole_names(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("shop")])
    dispatcher.schedule([sent("mail", name="tcp_check")])
    report("birch")
    client, mail = superuser(), Config.objects.get(name="tcp_check")
    dispatcher.reassign([mail.pk], "birch", actor="olga")

    def found(query: str) -> list[str]:
        moves = client.get(LEDGER + query).context["cl"].result_list
        return [f"{move.name} {move.source_node}>{move.to_node}" for move in moves]

    assert found("") == ["tcp_check ash>birch", "tcp_check >ash", "http_check >ash"]
    assert found("?q=birch") == ["tcp_check ash>birch"]
    assert found("?q=bir") == []
    assert found("?q=http_check") == ["http_check >ash"]
    assert found(f"?q={mail.digest}") == found(f"?config_id={mail.pk}") == found("")[:2]
    assert found("?reason__exact=operator") == ["tcp_check ash>birch"]
    assert found("?time_from=2001-01-01&time_to=2001-01-31") == []


def test_nobody_writes_in_the_ledger(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("shop")])
    move, client = Move.objects.get(), superuser()
    assert client.get(f"{LEDGER}{move.pk}/change/").status_code == 200
    assert client.post(f"{LEDGER}{move.pk}/change/", {"actor": "nobody"}).status_code == 403
    assert client.post(f"{LEDGER}{move.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{LEDGER}add/").status_code == 403
    assert Move.objects.get().actor == move.actor


def test_what_is_wrong_stands_before_the_facts_and_the_state_says_it() -> None:
    row = Source.objects.create(name="calm", read_at=Now())
    client = superuser()
    page = client.get(f"/admin/checks/source/{row.pk}/change/").content.decode()
    assert re.search(r"State.{1,400}?>\s*read\s*<", page, re.DOTALL)
    Source.objects.update(errors=[{"where": "a", "line": 1, "error": "odd"}])
    page = client.get(f"/admin/checks/source/{row.pk}/change/").content.decode()
    assert page.index(">Errors<") < page.index("Last scan") < page.index("</form>", page.index("Last scan"))
    assert re.search(r"State.{1,400}?>\s*1 error\s*<", page, re.DOTALL)


@pytest.mark.usefixtures("warm")
def test_what_is_written_in_the_admin_is_the_source_by_hand() -> None:
    report("ash")
    row = Source.objects.create(name="admin", warnings=[{"where": "shop", "line": 1, "warning": "odd"}])
    dispatcher.schedule([sent("shop", source="admin")])
    client = superuser()
    for page in (SOURCES, f"{SOURCES}{row.pk}/change/", "/admin/groups/?by=source"):
        assert re.search(r">\s*by hand\s*<", client.get(page).content.decode())
    page = client.get("/admin/checks/config/?source=admin")
    assert [chip.text for chip in page.context["cl"].chips] == ["source: by hand"]
    assert "hand-written configs" in client.get("/admin/changes/").content.decode()
    # Bounds and the bar above the configs go on naming it as origins do.
    assert client.get("/admin/checks/config/?q=source:admin").context["cl"].result_list
