"""Security headers of the operators' port, and the host names that it accepts."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client
from unfold.settings import CONFIG_DEFAULTS
from unfold.utils import convert_color

from clusteragent.lib import conf

pytestmark = pytest.mark.django_db

API = "/api/operator/v1"
ANSWERS = [
    "/admin/",
    "/admin/login/",
    "/admin/checks/config/",
    "/admin/checks/config/add/",
    "/admin/now/",
    "/admin/changes/?format=csv",
    "/admin/nowhere/",
    "/nowhere",
    "/healthz",
    "/metrics",
    f"{API}/",
    f"{API}/configs",
    f"{API}/schema/",
    f"{API}/docs/",
    f"{API}/nowhere",
    "/static/clusteragent/icon.svg",
]


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.mark.parametrize("url", ANSWERS)
@pytest.mark.parametrize("is_in", [True, False])
def test_every_answer_says_what_browsers_may_do_with_it(client: Client, url: str, is_in: bool, warm: None) -> None:
    answer = (client if is_in else Client()).get(url, secure=True)
    answer.close()
    policy = dict(one.strip().partition(" ")[::2] for one in answer["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == policy["style-src"] == "'self'"
    assert "unsafe-inline" not in policy["script-src"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"]
    assert ("no-store" in answer["Cache-Control"]) is not url.startswith("/static/")
    if url not in ("/healthz", "/metrics"):
        assert answer["Strict-Transport-Security"] == "max-age=86400"
        assert answer["Referrer-Policy"] == "same-origin"


def test_pages_have_no_script_or_style_in_them_but_one_with_a_nonce(client: Client) -> None:
    for url in ("/admin/", "/admin/login/", "/admin/checks/config/", "/admin/checks/config/add/", f"{API}/docs/"):
        answer = client.get(url, follow=True)
        page = answer.content.decode()
        assert "<style" not in page, url
        assert not re.search(r"""\son[a-z]+=["']|javascript:|hx-on""", page), url
        for attributes, script in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL):
            nonce = re.search('nonce="([^"]+)"', attributes)
            assert not script.strip() or (nonce and f"'nonce-{nonce[1]}'" in answer["Content-Security-Policy"]), url


def test_colours_are_unfolds() -> None:
    file = finders.find("clusteragent/colors.css")
    assert isinstance(file, str)
    ours = dict(re.findall(r"--color-([a-z0-9-]+): (.*);", Path(file).read_text()))
    theirs = {
        f"{name}-{weight}": convert_color(value)
        for name, weights in CONFIG_DEFAULTS["COLORS"].items()
        for weight, value in weights.items()
    }
    assert ours == theirs


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil", "a\x00b", "", "x" * 5000])
def test_a_foreign_name_is_refused_in_a_line_that_names_the_option(
    host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", list(conf.ADMIN_HOSTS))
    client = Client()
    for url in ("/admin/login/", "/", "/static/clusteragent/icon.svg", f"{API}/configs"):
        for _ in range(5):
            answer = client.get(url, headers={"Host": host})
            assert answer.status_code == 400
            assert b"CLUSTERAGENT_ADMIN_HOSTS" in answer.content
    [record] = caplog.records
    assert record.exc_info is None
    assert "CLUSTERAGENT_ADMIN_HOSTS" in caplog.text
    assert len(record.getMessage()) < 1000


def test_probes_may_use_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", list(conf.ADMIN_HOSTS))
    assert Client().get("/healthz", headers={"Host": "10.0.0.7"}).status_code == 200
