"""Whom we take for the client behind a real proxy: in logs, in the count of failed logins, and as a node's address."""

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User

from clusteragent.front.bodies import MOST_OF_CLIENT
from nodes import tokens
from nodes.models import Heartbeat, NodeToken
from operators.lockout import MOST_OF_PAIR
from tests.proxies import fronts
from tests.replicas import wait_for
from tests.webserver import TLS, Answer, WebServer, exchange

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://ca.example.com"
LOGIN = "/admin/login/"
PASSWORD = "correct horse battery"
# Where the proxy calls from. Clients have other addresses of this machine.
PROXY = "127.0.0.1"
OPTIONS = {"CLUSTERAGENT_ADMIN_URL": URL, "CLUSTERAGENT_TRUSTED_PROXIES": PROXY}
FORGED = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-Ip": "203.0.113.9"}


class Client:
    """A client at an address, who forges what says where he is."""

    def __init__(self, address: str, server: WebServer) -> None:
        self._at, self._port = (address, 0), server.port

    def call(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        connection = HTTPSConnection("127.0.0.1", self._port, source_address=self._at, context=TLS, timeout=30)
        try:
            return exchange(connection, method, path, body, token=None, headers=FORGED | headers)
        finally:
            connection.close()

    def log_in(self, password: str) -> int:
        """Send the form of the login page, and return the status."""
        page = self.call("GET", LOGIN)
        [token] = set(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.body))
        form = {"username": "olga", "password": password, "csrfmiddlewaretoken": token}
        cookie = page.headers["Set-Cookie"].partition(";")[0]
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.call("POST", LOGIN, urlencode(form), Cookie=cookie, Origin=URL, **kind).status


@pytest.mark.parametrize("kind", [fronts.HAProxy, fronts.Nginx])
def test_failed_logins_are_counted_by_the_clients_true_address(kind: type[fronts.Front], tmp_path: Path) -> None:
    User.objects.create_superuser("olga", password=PASSWORD)
    front = kind(tmp_path)
    with front.before_replicas(1, **OPTIONS) as servers:
        proxy, server = front.proxies["OPERATORS"], servers["OPERATORS_1"]
        thief, olga = Client("127.0.0.2", proxy), Client("127.0.0.3", proxy)
        assert [thief.log_in("wrong horse") for _ in range(MOST_OF_PAIR + 1)] == [200] * MOST_OF_PAIR + [429]
        assert olga.log_in(PASSWORD) == 302
        # Past the proxy.
        assert Client("127.0.0.4", server).log_in("wrong horse") == 200
        assert olga.call("GET", "/api/operator/v1/nodes", Authorization="Bearer made-up").status == 401
        told = set(re.findall(r"(login_failed|login_refused|logged_in|\w*token\w*) .*address=([\d.]+)", server.log()))
        assert {(event, address) for event, address in told if event.startswith("log")} == {
            ("login_failed", "127.0.0.2"),
            ("login_refused", "127.0.0.2"),
            ("logged_in", "127.0.0.3"),
            ("login_failed", "127.0.0.4"),
        }
        assert [address for event, address in told if "token" in event] == ["127.0.0.3"]
        assert "203.0.113.9" not in server.log()


def test_a_rude_client_behind_a_proxy_uses_up_its_own_share_of_bodies(tmp_path: Path) -> None:
    # nginx passes on whole bodies only.
    front = fronts.HAProxy(tmp_path)
    with front.before_replicas(1, **OPTIONS) as servers, ExitStack() as stack:
        proxy, server = front.proxies["OPERATORS"], servers["OPERATORS_1"]

        def hold(_: int) -> None:
            """Send a body of 2 MiB but for its last byte."""
            connection = HTTPSConnection("127.0.0.1", proxy.port, source_address=("127.0.0.2", 0), context=TLS)
            stack.enter_context(contextlib.closing(connection))
            connection.putrequest("POST", "/api/operator/v1/nodes", skip_host=True)
            for name, value in {
                "Host": "localhost",
                "Authorization": "Bearer made-up",
                "Content-Length": 2**21 + 1,
            }.items():
                connection.putheader(name, value)
            with contextlib.suppress(OSError):
                connection.endheaders(b" " * 2**21)

        # At once, and a few more on a busy machine, where the first ones are given up before the last ones came.
        number = -(-MOST_OF_CLIENT // (2 * 2**20))
        pool = stack.enter_context(ThreadPoolExecutor(number))
        more = iter(range(3 * number))
        list(pool.map(hold, range(number)))
        large = " " * 400_000

        def sent_by(address: str, through: WebServer, **headers: str) -> int:
            """The status of the answer; 503 also where the proxy breaks off, since the server refuses a body that still comes."""
            token = {"Authorization": "Bearer made-up", "Host": "localhost"}
            try:
                return Client(address, through).call("POST", "/api/operator/v1/nodes", large, **token, **headers).status
            except (ConnectionError, HTTPException):
                return 503

        def is_used_up() -> bool:
            if sent_by("127.0.0.2", proxy) == 503:
                return True
            for one in more:
                hold(one)
                break
            return False

        wait_for("the share is used up", is_used_up)
        # Another client behind the same proxy, and one past it that says it is the first.
        assert sent_by("127.0.0.3", proxy) == 401
        assert sent_by("127.0.0.4", server, **{"X-Forwarded-For": "127.0.0.2"}) == 401
        # The first client gets no other share by what it says.
        assert sent_by("127.0.0.2", proxy, **{"X-Forwarded-For": "127.0.0.5"}) == 503


@pytest.mark.parametrize("kind", [fronts.HAProxy, fronts.Nginx])
def test_a_proxy_that_is_not_trusted_is_the_client_itself(kind: type[fronts.Front], tmp_path: Path) -> None:
    User.objects.create_superuser("olga", password=PASSWORD)
    front = kind(tmp_path)
    with front.before_replicas(1, **OPTIONS | {"CLUSTERAGENT_TRUSTED_PROXIES": "10.0.0.0/8"}) as servers:
        assert Client("127.0.0.2", front.proxies["OPERATORS"]).log_in(PASSWORD) == 302
        assert re.findall(r"logged_in .*address=([\d.]+)", servers["OPERATORS_1"].log()) == [PROXY]


@pytest.mark.parametrize("kind", fronts.ALL)
def test_a_nodes_address_is_the_one_that_it_names(kind: type[fronts.Front], tmp_path: Path) -> None:
    front = kind(tmp_path)
    with front.before_replicas(1, **OPTIONS):
        named = {"ash": "10.1.2.3", "birch": "2001:db8::7", "cedar": ""}
        for name, address in named.items():
            headers = {"X-Real-Ip": address, "X-Forwarded-For": "203.0.113.9"}
            path = f"/api/v1/clusterchecks/status/{name}"
            assert front.proxies["AGENTS"].call("POST", path, '{"last_change": 0}', headers=headers).status == 200
        told = Heartbeat.objects.values_list("node__name", "client_ip")
        assert {name: address or "" for name, address in told} == named


# Where the proxy passes the agents' TLS through, a header is the agent's own word, whatever is trusted for operators.
@pytest.mark.parametrize(
    ("kind", "trusted", "is_believed"),
    [(fronts.HAProxy, "", False), (fronts.Nginx, "", False), (fronts.NginxReencrypting, PROXY, True)],
)
def test_a_header_of_a_node_agent_opens_no_network_and_no_name_of_others(
    kind: type[fronts.Front], trusted: str, is_believed: bool, tmp_path: Path
) -> None:
    def of(network: str) -> str:
        return f"Bearer {tokens.make(NodeToken(note=network, pattern='*', networks=network))}"

    def status(address: str, network: str, name: str) -> int:
        headers = {"Authorization": of(network), "X-Forwarded-For": "10.1.0.9"}
        path = f"/api/v1/clusterchecks/status/{name}"
        return Client(address, front.proxies["AGENTS"]).call("POST", path, '{"last_change": 0}', **headers).status

    front = kind(tmp_path)
    options = OPTIONS | {"CLUSTERAGENT_ONE_ADDRESS": "refuse", "CLUSTERAGENT_AGENT_PROXIES": trusted}
    with front.before_replicas(1, **options):
        assert status("127.0.0.2", "10.1.0.0/16", "ash") == 403
        assert status("127.0.0.2", "127.0.0.0/8", "ash") == 200
        assert status("127.0.0.2", "127.0.0.2/32", "birch") == (200 if is_believed else 403)
        # Where all come from the proxy, all are one.
        assert status("127.0.0.3", "127.0.0.0/8", "ash") == (403 if is_believed else 200)
