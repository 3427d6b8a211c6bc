"""The author's text is stored and displayed as written, whatever of it is sent."""

import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from checks import dispatcher, sources
from checks.models import Config, Move, Origin, Source
from checks.sources import FileSource, origins, repatching
from checks.sources.sync import sync
from checks.tests.cast import ledger, owners, report, sent, versions
from checks.tests.operators import CONFIGS, config, operator, page_of, saved, superuser
from clusteragent.lib import conf

pytestmark = pytest.mark.django_db

TEXT = """\
# The shop's checks
x-common: &common {timeout: 010}
cluster_checks: true
instances:
  - url: http://shop  # the first
    <<: *common
    retries: 1
    retries: 2
---
second: document
"""


@pytest.fixture(autouse=True)
def _nodes(warm: None) -> None:
    report("ash", "birch")


def save(client: Client, url: str, text: str, **fields: str) -> None:
    assert saved(client, url, **{"key": "shop", "check": "http_check", "yaml": text} | fields).status_code == 302


def form(client: Client) -> str:
    area = re.search(r"<textarea[^>]*>\n?(.*?)</textarea>", client.get(page_of("shop")).content.decode(), re.DOTALL)
    assert area
    return unescape(area[1])


def page(client: Client, key: str = "shop") -> list[str]:
    """The lines of what was sent, as the config's page shows them."""
    text = client.get(page_of(key)).content.decode().partition("What its origin sent")[2]
    return [unescape(line) for line in re.findall(r"<span>(.*?)\n</span>", text.partition("What node agents get")[0])]


def rows() -> list[Any]:
    """All that node agents and the ledger know of a config."""
    return [
        versions(),
        owners(),
        *Config.objects.values_list("pk", "digest", "changed"),
        *Move.objects.values_list("pk"),
    ]


def warned(source: str = "admin") -> list[tuple[str, int | None]]:
    return [(one["where"], one["line"]) for row in Source.objects.filter(name=source) for one in row.warnings]


def test_the_form_opens_with_what_was_written_and_an_unchanged_save_changes_nothing() -> None:
    client = superuser()
    save(client, CONFIGS + "add/", TEXT)
    assert form(client) == TEXT
    before, warnings = rows(), warned()
    assert [line for _, line in warnings] == [3, 8, 10]
    save(client, page_of("shop"), form(client).replace("\n", "\r\n"))
    assert (rows(), warned(), form(client)) == (before, warnings, TEXT)


def test_an_edit_of_comments_alone_is_stored_and_moves_and_restarts_nothing() -> None:
    client = superuser()
    save(client, CONFIGS + "add/", TEXT)
    before = rows()
    save(client, page_of("shop"), edited := TEXT.replace("# The shop's", "# Its own"))
    assert (form(client), rows()) == (edited, before)


def test_the_page_shows_the_lines_that_warnings_name() -> None:
    save(superuser(), CONFIGS + "add/", TEXT)
    assert page(operator("view_config")) == TEXT.splitlines()


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_lines_are_counted_as_the_warnings_count_them(line_break: str) -> None:
    save(superuser(), CONFIGS + "add/", line_break.join(["instances:", "- url: a", "tags: [b]", ""]))
    lines = page(operator("view_config"))
    assert [lines[(line or 0) - 1].strip() for _, line in warned()] == ["tags: [b]"]


def test_who_may_only_look_sees_neither_secrets_nor_comments_with_secrets() -> None:
    text = TEXT + "password: hunter21\n# password: hunter22\n# hunter23 is the old one\ntoken: hunter23\n"
    text = text.replace("---\nsecond: document\n", "")
    client = superuser()
    save(client, CONFIGS + "add/", text)
    assert form(client) == text
    lines = page(operator("view_config"))
    assert "hunter" not in "\n".join(lines)
    assert lines[0] == "# The shop's checks"
    assert lines[text[: text.index("token")].count("\n")] == "token: ********"


def test_a_config_of_before_is_shown_as_it_is_sent() -> None:
    client = superuser()
    save(client, CONFIGS + "add/", TEXT)
    Origin.objects.update(written="", written_hash="")
    assert form(client).startswith("instances:\n- retries: 2\n  timeout: 010\n  url: http://shop\n")
    assert page(client)[0] == "instances:"


def test_what_an_older_release_sent_since_is_shown_and_not_the_text_of_before() -> None:
    client = superuser()
    save(client, CONFIGS + "add/", TEXT)
    text = Origin.objects.values_list("written", "written_hash").get()
    origins.put("admin", "shop", sent("other", source="admin").original)
    Origin.objects.update(written=text[0], written_hash=text[1])
    assert "http://other" in form(client)
    assert "http://other" in "".join(page(client))


@pytest.mark.parametrize("cut", [True, False])
def test_a_config_keeps_its_text_in_shards_and_when_it_is_cut_otherwise(
    monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    client, text = superuser(), "# both\ninstances:\n- url: a\n- url: b\n"
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", cut)
    save(client, CONFIGS + "add/", text)
    keys = ["shop#0", "shop#1"] if cut else ["shop"]
    assert [page(client, key) for key in keys] == [text.splitlines()] * len(keys)
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", not cut)
    Config.objects.update(patched_with=repatching.options.made_with() + "-")
    repatching.repatch()
    assert Origin.objects.count() == 3 - len(keys)
    assert origins.written("admin", "shop") == text


def test_a_config_that_two_send_has_the_text_of_each() -> None:
    client = superuser()
    save(client, CONFIGS + "add/", TEXT)
    save(client, CONFIGS + "add/", TEXT.replace("The shop's", "The twin's"), key="twin")
    assert Config.objects.count() == 1
    lines = page(client)
    assert "# The shop's checks" in lines
    assert "# The twin's checks" in lines
    assert "admin:twin" in client.get(page_of("shop")).content.decode()


# Files

FILE = "cluster_check: true\n" + TEXT


@pytest.fixture
def confd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of files, which settle at once."""
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(sources.files, "SETTLED_AFTER", 0.0)
    (tmp_path / "http_check.d").mkdir()
    return tmp_path / "http_check.d"


def test_a_files_page_shows_the_file_and_an_edit_of_comments_is_stored(confd: Path) -> None:
    client, source, path = superuser(), FileSource(), confd / "conf.yaml"
    path.write_text("\ufeff" + FILE)
    sync(sources=[source])
    key, before = "http_check.d/conf.yaml", rows()
    assert page(client, key) == FILE.splitlines()
    path.write_text(FILE.replace("# The shop's", "# Its own"))
    report_ = sync(sources=[source])
    assert (report_.changed, rows()) == ([], before)
    assert page(client, key)[1] == "# Its own checks"
    assert warned("file")
    path.rename(confd / "renamed.yaml")
    sync(sources=[source])
    assert page(client, "http_check.d/renamed.yaml")[1] == "# Its own checks"


def test_a_file_that_breaks_keeps_the_text_of_what_goes_on(confd: Path) -> None:
    source, path = FileSource(), confd / "conf.yaml"
    path.write_text(FILE)
    sync(sources=[source])
    path.write_text("a: [")
    assert sync(sources=[source]).errors
    assert origins.written("file", "http_check.d/conf.yaml") == FILE


def test_files_of_before_get_their_text_with_the_next_scan_and_nothing_else_happens(confd: Path) -> None:
    (confd / "conf.yaml").write_text(FILE)
    sync(sources=[FileSource()])
    Origin.objects.update(written="", written_hash="")
    before = rows()
    sync(sources=[source := FileSource()])
    assert origins.written("file", "http_check.d/conf.yaml") == FILE
    sync(sources=[source])
    assert (rows(), ledger()) == (before, [("", "ash", "scheduled")])


def test_what_comes_without_a_text_takes_the_old_one_away() -> None:
    origins.put("api:ci", "shop", (one := sent("shop")).original, text="# a text\n")
    assert origins.written("api:ci", "shop") == "# a text\n"
    dispatcher.schedule([replace(one, source="api:ci")])
    assert origins.written("api:ci", "shop") == ""
    assert config("shop").origins.get().written_hash == ""
