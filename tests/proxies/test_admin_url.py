"""Operators log in through a real proxy, with CLUSTERAGENT_ADMIN_URL as the one option."""

import re
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from clusteragent.lib import conf
from operators.middleware import PublicURL
from tests.proxies.programs import haproxy, pem
from tests.webserver import TLS, database_url, free_port, serving

LOGIN = "/admin/login/?next=/admin/checks/config/"
PASSWORD = "correct horse battery"
# The URL that browsers show, and the Host that reaches us; empty: the browser's.
SETUPS = [
    ("https://ca.example.com", ""),
    ("https://ca.example.com", "127.0.0.1:5006"),
    ("https://ca.example.com", "replicas"),
    ("https://localhost:8443", ""),
    ("http://localhost:8080", ""),
]
PROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
listen operators
    bind "${PROXY_OPERATORS}" %s
    %s
    server replica "${OPERATORS_1}" ssl verify none alpn http/1.1
"""


class Browser:
    """A browser that shows `url`, and reaches it through the proxy at `port`."""

    def __init__(self, url: str, port: int) -> None:
        self.url, self.port = url, port
        self.cookies = SimpleCookie()

    def call(self, method: str, path: str, body: str | None = None) -> tuple[HTTPResponse, str]:
        """Make a call as a browser does, with what it has of cookies."""
        is_tls = self.url.startswith("https")
        connection = (
            HTTPSConnection("127.0.0.1", self.port, context=TLS) if is_tls else HTTPConnection("127.0.0.1", self.port)
        )
        headers = {"Host": self.url.partition("//")[2], "Cookie": self.cookies.output([], "", ";").strip()}
        if body is not None:
            headers |= {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        for cookie in response.headers.get_all("Set-Cookie", []):
            # A browser stores neither a secure cookie nor the prefix of one that comes by plain HTTP.
            assert ("secure" in cookie.lower()) == cookie.startswith("__Host-") == is_tls
            self.cookies.load(cookie)
        return response, text

    def log_in(self) -> HTTPResponse:
        """Send the form of the login page."""
        _, page = self.call("GET", LOGIN)
        [token] = set(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page))
        form = f"username=olga&password={PASSWORD.replace(' ', '+')}&csrfmiddlewaretoken={token}"
        return self.call("POST", LOGIN, form)[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("url", "host"), SETUPS)
def test_operators_log_in_through_a_proxy(url: str, host: str, tmp_path: Path) -> None:
    User.objects.create_superuser("olga", password=PASSWORD)
    with serving(database_url(), tmp_path, whom="operators", CLUSTERAGENT_ADMIN_URL=url) as server:
        port, config = free_port(), tmp_path / "haproxy.cfg"
        tls = f"ssl crt {pem(tmp_path)}" if url.startswith("https") else ""
        config.write_text(PROXY % (tls, f"http-request set-header Host {host}" if host else ""))
        with haproxy(config, tmp_path, PROXY_OPERATORS=f"127.0.0.1:{port}", OPERATORS_1=f"127.0.0.1:{server.port}"):
            browser = Browser(url, port)
            answer = browser.log_in()
            assert (answer.status, answer.headers["Location"]) == (302, "/admin/checks/config/")
            page, text = browser.call("GET", "/admin/checks/config/")
            assert page.status == 200
            assert "olga" in text
            assert ("Strict-Transport-Security" in page.headers) == url.startswith("https")
            assert browser.call("GET", "/admin")[0].headers["Location"] == "/admin/"


@pytest.mark.django_db(transaction=True)
def test_a_form_of_another_origin_is_refused(tmp_path: Path) -> None:
    User.objects.create_superuser("olga", password=PASSWORD)
    url = "https://ca.example.com"
    with serving(database_url(), tmp_path, whom="operators", CLUSTERAGENT_ADMIN_URL=url) as server:
        # Straight to our own port.
        browser = Browser(url, server.port)
        browser.call("GET", LOGIN)
        browser.url = "https://evil.example.com"
        assert browser.log_in().status == 403
        browser.url = "https://localhost:5006"
        assert browser.log_in().status == 302


@pytest.mark.parametrize("is_tls", [True, False])
def test_links_are_by_the_url_whatever_arrives(is_tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "ADMIN_URL", "https://ca.example.com")
    monkeypatch.setattr(settings, "ALLOWED_HOSTS", ["ca.example.com"])

    def link(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.build_absolute_uri("/admin/"))

    request = RequestFactory().get("/", secure=is_tls, headers={"Host": "10.0.0.7:5006"})
    assert PublicURL(link)(request).content == b"https://ca.example.com/admin/"  # type: ignore[attr-defined]
