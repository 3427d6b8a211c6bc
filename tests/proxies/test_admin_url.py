"""Operators log in through a real proxy, with CLUSTERAGENT_ADMIN_URL as the one option."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
from tests.proxies.programs import haproxy, nginx, pem
from tests.webserver import TLS, database_url, free_port, serving

LOGIN = "/admin/login/?next=/admin/checks/config/"
PASSWORD = "correct horse battery"
# The URLs that browsers show, and the Host that reaches us; empty: the browser's.
SETUPS = {
    "https://ca.example.com": ("", "127.0.0.1:5006", "replicas"),
    "https://localhost:8443": ("",),
    "http://localhost:8080": ("",),
}
# %(port)d: where the proxy listens, %(server)d: our port, %(tls)s: what ends TLS, %(host)s: what sets the Host.
HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
listen operators
    bind "127.0.0.1:%(port)d" %(tls)s
    %(host)s
    server replica "127.0.0.1:%(server)d" ssl verify none alpn http/1.1
"""
HAPROXY_PASSTHROUGH = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 30s
    timeout server 30s
listen operators
    bind "127.0.0.1:%(port)d"
    server replica "127.0.0.1:%(server)d"
"""
NGINX = """
include /etc/nginx/modules-enabled/*.conf;
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:%(port)d %(tls)s;
        location / {
            proxy_pass https://127.0.0.1:%(server)d;
            %(host)s
        }
    }
}
"""
NGINX_PASSTHROUGH = """
include /etc/nginx/modules-enabled/*.conf;
events {}
stream {
    server {
        listen 127.0.0.1:%(port)d;
        proxy_pass 127.0.0.1:%(server)d;
    }
}
"""


@contextmanager
def proxy(kind: str, folder: Path, server: int, *, is_tls: bool, host: str) -> Iterator[int]:
    """Run HAProxy or nginx before our port, which ends TLS or speaks plain HTTP to browsers, and return its port."""
    port, config, certificate = free_port(), folder / f"{kind}.cfg", pem(folder)
    values: dict[str, object] = {"port": port, "server": server}
    if kind == "haproxy":
        set_host = f"http-request set-header Host {host}" if host else ""
        tls = f"ssl crt {certificate}" if is_tls else ""
        config.write_text(HAPROXY % {**values, "tls": tls, "host": set_host})
        with haproxy(config, folder, PROXY_OPERATORS=f"127.0.0.1:{port}"):
            yield port
    else:
        tls = f"ssl; ssl_certificate {certificate}; ssl_certificate_key {certificate}" if is_tls else ""
        set_host = f"proxy_set_header Host {host or '$http_host'};"
        config.write_text(NGINX % {**values, "tls": tls, "host": set_host})
        with nginx(config, folder, port):
            yield port


@contextmanager
def passthrough(kind: str, folder: Path, server: int) -> Iterator[int]:
    """Run HAProxy or nginx, which knows nothing of TLS and HTTP, before our port, and return its port."""
    port, config = free_port(), folder / f"{kind}.cfg"
    text = HAPROXY_PASSTHROUGH if kind == "haproxy" else NGINX_PASSTHROUGH
    config.write_text(text % {"port": port, "server": server})
    run = (
        haproxy(config, folder, PROXY_OPERATORS=f"127.0.0.1:{port}")
        if kind == "haproxy"
        else nginx(config, folder, port)
    )
    with run:
        yield port


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
@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
@pytest.mark.parametrize("url", SETUPS)
def test_operators_log_in_through_a_proxy(url: str, kind: str, tmp_path: Path) -> None:
    User.objects.create_superuser("olga", password=PASSWORD)
    with serving(database_url(), tmp_path, whom="operators", CLUSTERAGENT_ADMIN_URL=url) as server:
        for host in SETUPS[url]:
            with proxy(kind, tmp_path, server.port, is_tls=url.startswith("https"), host=host) as port:
                check_that_olga_logs_in(Browser(url, port))
        if url.startswith("https"):
            with passthrough(kind, tmp_path, server.port) as port:
                check_that_olga_logs_in(Browser(url, port))


@pytest.mark.django_db(transaction=True)
def test_a_proxy_that_speaks_http_towards_us_reaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://ca.example.com"
    monkeypatch.setattr("tests.proxies.test_admin_url.HAPROXY", HAPROXY.replace("ssl verify none", ""))
    with (
        serving(database_url(), tmp_path, whom="operators", CLUSTERAGENT_ADMIN_URL=url) as server,
        proxy("haproxy", tmp_path, server.port, is_tls=True, host="") as port,
    ):
        assert Browser(url, port).call("GET", LOGIN)[0].status == 502


def check_that_olga_logs_in(browser: Browser) -> None:
    answer = browser.log_in()
    assert (answer.status, answer.headers["Location"]) == (302, "/admin/checks/config/")
    page, text = browser.call("GET", "/admin/checks/config/")
    assert page.status == 200
    assert "olga" in text
    assert ("Strict-Transport-Security" in page.headers) == browser.url.startswith("https")
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
