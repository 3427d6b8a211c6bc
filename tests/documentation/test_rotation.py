"""The how-to that rotates secrets, followed while simulated node agents report: none is refused, and each old secret ends."""

import json
import re
import secrets
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests import identity_provider
from tests.certificates import write_own
from tests.documentation import machine as machines
from tests.documentation.machine import PATIENCE, Database, Machine
from tests.documentation.pages import ROOT, commands, sections
from tests.identity_provider import IdentityProvider
from tests.pools import Pool
from tests.replicas import wait_for
from tests.webserver import TLS

pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore:Unverified HTTPS request")]

PAGE = sections(ROOT / "docs/howto/rotate-secrets.md")
NAMES = ("ash", "birch", "cedar", "dogwood")
# Who has which config.
PLACES = """SELECT o.key, n.name FROM checks_assignment a JOIN checks_origin o USING (config_id)
JOIN nodes_node n ON n.id = a.node_id ORDER BY 1"""
LOCAL = "/api/v1/clusterchecks"
STATUS = "/api/operator/v1/status"
CONFIG = "cluster_check: true\ninstances: [{{host: db-{number}, password: {password}}}]\n"


class Receiver:
    """A receiver of the webhook, which hears what is sent to some paths and refuses the rest."""

    def __init__(self) -> None:
        self.heard: dict[str, list[dict[str, Any]]] = {}
        self.numbers: set[int] = set()
        receiver = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kept = receiver.heard.get(self.path)
                if kept is not None:
                    kept.append(message)
                    receiver.numbers.add(message["number"])
                self.send_response(410 if kept is None else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Answering)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def url(self, path: str) -> str:
        """Hear what is sent to a path from now on; return its URL."""
        self.heard[path] = []
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def forget(self, path: str) -> None:
        """Refuse what is sent to a path from now on."""
        del self.heard[path]

    def kinds(self, path: str, word: str) -> list[str]:
        """The kinds of alerts that messages to a path told as `new` or as `over`."""
        return [alert["kind"] for message in self.heard[path] for alert in message[word]]

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.end()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with identity_provider.running(tmp_path_factory.mktemp("provider")) as one:
        one.put("olga", "sre")
        yield one


@pytest.fixture(scope="module")
def database(template: Path) -> Iterator[Database]:
    # Not in pytest's folder: PostgreSQL runs as another user, who may not pass through that.
    with tempfile.TemporaryDirectory(prefix="clusteragent-machine-") as folder:
        Path(folder).chmod(0o755)
        database = Database(template, Path(folder))
        database.start()
        yield database
        database.stop("immediate")


@pytest.fixture(scope="module")
def machine(
    database: Database, provider: IdentityProvider, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    options = {
        "CLUSTERAGENT_ADMIN_HOSTS": "127.0.0.1",
        "CLUSTERAGENT_OIDC_ISSUER": provider.issuer,
        "CLUSTERAGENT_OIDC_CLIENT_ID": identity_provider.CLIENT_ID,
        "CLUSTERAGENT_OIDC_SCOPES": "openid profile email groups",
        "CLUSTERAGENT_OIDC_CONFIRMED_EACH": "1s",
        "CLUSTERAGENT_GROUP_ROLES": '{"operator": ["sre"]}',
        "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1",
    }
    given = {"oidc_client_secret": provider.client_secret, "webhook": receiver.url("/first")}
    folder = tmp_path_factory.mktemp("machine")
    options["CLUSTERAGENT_CONFD"] = str(folder / "etc/conf.d")
    with machines.running(folder, database, options, given) as one:
        provider.expect(one.url("operators", "/admin/login/provider/answer/"))
        yield one


@pytest.fixture
def pool(machine: Machine) -> Iterator[Pool]:
    pool = Pool(machine.url("agents"), poll=0.3)
    try:
        yield pool
    finally:
        pool.end()


def secret(machine: Machine, name: str) -> str:
    return (machine.secrets / name).read_text().strip()


def answers(machine: Machine, token: str, path: str, port: str = "agents") -> int:
    """The status that a call with this token gets."""
    headers = {"Authorization": f"Bearer {token}"}
    return browser().get(machine.url(port, path), headers=headers, timeout=10).status_code


def log_in(machine: Machine, password: str) -> requests.Session:
    """Log in to the admin as its first operator; return the session, whether that succeeded or not."""
    session = browser()
    page = machine.url("operators", "/admin/login/?next=/admin/")
    post(session, page, username="admin", password=password)
    return session


def sign_on(machine: Machine, provider: IdentityProvider) -> requests.Session:
    """Log in to the admin by the provider, as olga."""
    session = browser()
    begun = session.get(machine.url("operators", "/admin/login/provider/"), allow_redirects=False)
    session.get(provider.log_in("olga", begun.headers["Location"]))
    return session


def browser() -> requests.Session:
    """A client that opens a connection anew whose handshake was cut off: the server's worker ended, and another one is there."""
    session = requests.Session()
    session.verify, session.trust_env = False, False
    session.mount("https://", HTTPAdapter(max_retries=Retry(2, read=0, backoff_factor=0.1)))
    return session


def is_in(machine: Machine, session: requests.Session) -> bool:
    return "/login/" not in session.get(machine.url("operators", "/admin/")).url


def post(session: requests.Session, url: str, **fields: str) -> None:
    """Send the form of a page with these fields, and what nobody fills in."""
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', session.get(url).text))
    answer = session.post(url, hidden | fields, headers={"Referer": url})
    assert answer.status_code == 200, answer.text[-2000:]


def shown(machine: Machine, port: str, context: ssl.SSLContext = TLS) -> bytes:
    """The public key of the certificate that a new connection to a port gets. context: whom it trusts."""
    return wait_for("a handshake is done", lambda: handshake(machine.ports[port], context), PATIENCE)


def handshake(port: int, context: ssl.SSLContext) -> bytes | None:
    """The public key that a server shows, or None if its worker ended meanwhile: another one is there, as for agents."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as opened,
        ):
            certificate = opened.getpeercert(binary_form=True)
    except (ssl.SSLEOFError, ConnectionError):
        return None
    assert certificate
    return public(x509.load_der_x509_certificate(certificate))


def public(certificate: x509.Certificate) -> bytes:
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form)


def edit(machine: Machine, password: str) -> None:
    """Write the configs, with this password."""
    for number in range(4):
        file = machine.folder / f"etc/conf.d/postgres.d/{number}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(CONFIG.format(number=number, password=password))


def test_each_secret_is_rotated_while_agents_report_and_none_is_refused(
    machine: Machine, pool: Pool, provider: IdentityProvider, receiver: Receiver
) -> None:
    for name in NAMES:
        pool.start(name, secret(machine, "token"))
    edit(machine, "first")
    wait_for("every agent has a check", lambda: len(list(pool.running())) == len(NAMES), PATIENCE)
    placed = machine.database.ask(PLACES)

    second = rotate_node_tokens(machine, pool)
    wait_for("the first URL is told", lambda: "shared_token" in receiver.kinds("/first", "new"), PATIENCE)
    rotate_by_one_restart(machine, pool, provider, receiver)
    pool.give(secret(machine, "token"))
    revoke(machine, second)
    rotate_client_secret(machine, provider)
    key = put_own_certificate(machine)
    rotate_tokens_of_operators(machine)
    change_password(machine)
    check_certificate(machine, key)
    edit_configs(machine, pool)
    check_webhook(receiver)

    pool.wait_until_all_report(PATIENCE)
    assert {"401", "403"} & pool.failures.reasons == set()
    assert machine.database.ask("SELECT DISTINCT reason FROM checks_move ORDER BY 1") == ["changed", "scheduled"]
    assert machine.database.ask(PLACES) == placed


def rotate_node_tokens(machine: Machine, pool: Pool) -> str:
    """Give the agents a node token, and a second one in place of that; return it."""
    section = PAGE["The node agents' token"]
    first = machine.follow(section, "nodetoken add").strip()
    pool.give(first)
    [anew] = [one for one in commands(ROOT / "docs/howto/rotate-node-tokens.md") if 'add --note "runners 2027' in one]
    second = machine.run(anew.replace("runner-*", "*")).strip()
    pool.give(second)
    revoke(machine, first)
    return second


def revoke(machine: Machine, token: str) -> None:
    machine.follow(PAGE["The node agents' token"], "nodetoken revoke", nt_00000000=token[:11])
    wait_for("it opens nothing", lambda: answers(machine, token, "/version") == 403, PATIENCE)


def rotate_by_one_restart(machine: Machine, pool: Pool, provider: IdentityProvider, receiver: Receiver) -> None:
    """Replace what is read at a start, all of it before one restart."""
    names = ("token", "local_token", "secret_key")
    old = {name: secret(machine, name) for name in names}
    key = shown(machine, "agents")
    people = [log_in(machine, password(machine)), sign_on(machine, provider)]
    assert all(is_in(machine, one) for one in people)
    assert answers(machine, old["local_token"], LOCAL) == 200

    machine.follow(PAGE["The node agents' token"], "openssl", "systemctl")
    machine.follow(PAGE["The local token"])
    machine.follow(PAGE["The secret key"])
    *second_role, look, end = PAGE["The database's password"]
    machine.follow(second_role)
    machine.follow(PAGE["The webhook's URL"], given=f"{receiver.url('/second')}\n")
    machine.follow(PAGE["The certificate's key"], "rm ", "systemctl")
    assert machine.restart_due() == set(machines.ROLES)
    receiver.forget("/first")

    pool.wait_until_all_report(PATIENCE)
    assert {answers(machine, old["token"], "/version"), answers(machine, old["local_token"], LOCAL)} == {403}
    assert answers(machine, secret(machine, "token"), "/version") == 200
    assert answers(machine, secret(machine, "local_token"), LOCAL) == 200
    assert secret(machine, "secret_key") != old["secret_key"]
    assert not any(is_in(machine, one) for one in people)
    authority = ssl.create_default_context(cafile=str(machine.state / "ca.pem"))
    assert {shown(machine, port, authority) for port in machine.ports} - {key} == {shown(machine, "agents")}
    assert "(0 rows)" in machine.follow([look])
    machine.follow([end])
    check_roles(machine)


def check_roles(machine: Machine) -> None:
    """See that the first role logs in no more, and that the second one makes and changes what is the first one's."""
    with pytest.raises(psycopg.OperationalError, match=r"not permitted to log in|authentication failed"):
        psycopg.connect(machine.database_url("clusteragent", "PASSWORD"))
    with psycopg.connect(secret(machine, "database_url")) as session:
        session.execute("CREATE TABLE made (id int)")
        session.execute("ALTER TABLE operators_savedview ADD COLUMN made int")
        owner = session.execute("SELECT tableowner, session_user FROM pg_tables WHERE tablename = 'made'").fetchone()
        assert owner == ("clusteragent", "clusteragent_2")
        session.rollback()
    # It owns nothing, so the next one takes its place in the same way.
    assert machine.database.ask("BEGIN; DROP ROLE clusteragent_2; ROLLBACK") == []


def put_own_certificate(machine: Machine) -> bytes:
    """Put an operator's certificate in the place of ours, under running web servers; return its public key."""
    before, new = shown(machine, "agents"), machine.folder / "new"
    new.mkdir()
    write_own(new, -1, 90)
    machine.follow(PAGE["The certificate's key"], "cp ")
    key = public(x509.load_pem_x509_certificate((new / "cert.pem").read_bytes()))
    assert key != before
    return key


def check_certificate(machine: Machine, key: bytes) -> None:
    """Wait until new connections get the certificate with this key alone: former workers end a little later than others begin."""
    for port in machine.ports:
        wait_for("it is shown", lambda port=port: [shown(machine, port) for _ in range(8)] == [key] * 8, PATIENCE)  # type: ignore[misc]


def rotate_client_secret(machine: Machine, provider: IdentityProvider) -> None:
    """Replace the secret that the provider gave: who is logged in stays so, and is asked about with the new one."""
    first, second = provider.client_secret, secrets.token_hex(16)
    olga = sign_on(machine, provider)
    assert is_in(machine, olga)
    provider.hold(first, second)
    machine.follow(PAGE["The provider's client secret"], given=f"{second}\n")
    assert machine.restart_due() == {"operators"}
    provider.hold(second)
    assert (provider.takes(first), provider.takes(second)) == (False, True)
    [before] = machine.database.ask("SELECT now()")
    asked = "SELECT 1 FROM operators_identity WHERE confirmed_at > %s"
    wait_for("she is asked about", lambda: is_in(machine, olga) and machine.database.ask(asked, [before]), PATIENCE)
    assert is_in(machine, sign_on(machine, provider))


def rotate_tokens_of_operators(machine: Machine) -> None:
    """Delete the first of two tokens of a pipeline in the admin."""
    made = [machine.follow(PAGE["An operator's token"]).split()[-1] for _ in range(2)]
    assert {answers(machine, one, STATUS, "operators") for one in made} == {200}
    [digest] = machine.database.ask("SELECT digest FROM knox_authtoken WHERE token_key = %s", [made[0][:15]])
    admin = log_in(machine, password(machine))
    post(admin, machine.url("operators", f"/admin/knox/authtoken/{digest}/delete/"), post="yes")
    assert [answers(machine, one, STATUS, "operators") for one in made] == [401, 200]


def change_password(machine: Machine) -> None:
    """Change the first operator's password in the admin: the other session ends."""
    first, second = password(machine), secrets.token_urlsafe(18)
    one, other = log_in(machine, first), log_in(machine, first)
    [key] = machine.database.ask("SELECT id FROM auth_user WHERE username = 'admin'")
    page = machine.url("operators", f"/admin/auth/user/{key}/password/")
    post(one, page, password1=second, password2=second, usable_password="true")
    assert [is_in(machine, each) for each in (one, other)] == [True, False]
    machine.follow(PAGE["The first operator's password"])
    assert not (machine.state / "admin_password").exists()
    assert [is_in(machine, log_in(machine, each)) for each in (first, second)] == [False, True]


def edit_configs(machine: Machine, pool: Pool) -> None:
    """Change a password in configs: each agent fetches it."""
    before = {name: set(node.running) for name, node in pool.nodes.items()}
    edit(machine, "second")
    wait_for(
        "all have others", lambda: all(not before[node.name] & set(node.running) for node in pool.running()), PATIENCE
    )
    assert len(list(pool.running())) == len(NAMES)


def check_webhook(receiver: Receiver) -> None:
    """See that the second URL is told what is over, and that no message is missing."""
    wait_for("it is told", lambda: "shared_token" in receiver.kinds("/second", "over"), PATIENCE)
    assert sorted(receiver.numbers) == list(range(1, max(receiver.numbers) + 1))


def password(machine: Machine) -> str:
    return (machine.state / "admin_password").read_text().strip()


def test_it_is_noticed_when_agents_are_refused(machine: Machine, pool: Pool) -> None:
    token = machine.run("clusteragent nodetoken add --note ends --nodes '*'").strip()
    pool.start("elm", token)
    revoke(machine, token)
    wait_for("it is refused", lambda: "403" in pool.failures.reasons, PATIENCE)
