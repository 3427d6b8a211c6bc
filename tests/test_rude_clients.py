"""Clients that are slow, gone, greedy or hostile don't delay the others."""

import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from checks.models import Move
from tests.map import register, store_many
from tests.replicas import wait_for
from tests.webserver import AGENT, LOCAL, TLS, Answer, WebServer, database_url, exchange, serving

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

STATUS = "/api/v1/clusterchecks/status/ash"
STATE = "/api/v1/clusterchecks"
LOGIN = "/admin/login/"
EXPORT = "/admin/changes/?last=30d&format=csv"
THREADS = 4
# Exports that one reader may have at once: clusteragent/front.
MOST = 4
# Seconds that a busy machine may take to begin an answer. How long it takes is not what these tests are about.
PATIENCE = 120


@pytest.fixture(scope="module")
def operators(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(database_url(), tmp_path_factory.mktemp("web"), threads=THREADS, whom="operators") as server:
        yield server


def open_call(server: WebServer, method: str, path: str, *headers: str, body: bytes = b"") -> ssl.SSLSocket:
    """Open a connection and send a call, or the beginning of one."""
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    caller = TLS.wrap_socket(plain, server_hostname="localhost")
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    try:
        caller.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    except OSError:
        caller.close()
        raise
    return caller


def session_of(person: User) -> str:
    client = Client()
    client.force_login(person)
    return f"Cookie: {client.cookies.output(attrs=[], header='', sep=';').strip()}"


def beats(server: WebServer, number: int = 30) -> set[int]:
    return {server.call("POST", STATUS, '{"last_change":0}').status for _ in range(number)}


def sessions_in_a_transaction() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def files_of(server: WebServer) -> int:
    """Return the unnamed files that the server's processes keep open in the temporary folder."""
    processes = [server.process.pid, *(child.pid for child in psutil.Process(server.process.pid).children(True))]
    links = [link for pid in processes for link in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(_target(link).startswith(f"{tempfile.gettempdir()}/#") for link in links)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


@pytest.fixture
def much_state(warm: None) -> None:
    """A state of 24 MB: more than the buffers on the way can hold."""
    store_many(120, b'"' + b"x" * 200_000 + b'"', owner=register("ash"))


MANY = 10_000


def many_moves() -> None:
    """An export of 10 MB from few rows: more than the buffers on the way can hold."""
    Move.objects.bulk_create(
        Move(
            config_id=1,
            digest="1",
            name="x" * 250,
            source_node="a" * 250,
            to_node="b" * 250,
            reason="rebalanced",
            actor="y" * 250,
        )
        for _ in range(MANY)
    )


@pytest.mark.parametrize("leaves_after", [0, 300, 3_000_000])
def test_aborted_downloads_leave_every_thread_as_it_was(web: WebServer, much_state: None, leaves_after: int) -> None:
    logged = len(web.log())
    for _ in range(20):
        with open_call(web, "GET", STATE, f"Authorization: {LOCAL}") as caller:
            left = leaves_after
            # Whoever comes before the last one's end was noticed may be told to wait.
            while left > 0 and b" 429 " not in (piece := caller.recv(min(left, 65536))):
                left -= len(piece)
    wait_for("no transaction is left", lambda: sessions_in_a_transaction() == 0)
    assert beats(web) == {200}
    assert json.loads(web.call("GET", STATE, token=LOCAL).body)["nodes"][0]["name"] == "ash"
    assert not {"Traceback", "transaction_left_open"} & set(web.log()[logged:].split())


def test_downloads_that_nobody_reads_keep_no_transaction_and_no_thread(web: WebServer, much_state: None) -> None:
    with ExitStack() as unread:
        for _ in range(4):
            unread.enter_context(open_call(web, "GET", STATE, f"Authorization: {LOCAL}"))
        wait_for("files", lambda: files_of(web) >= 4)
        wait_for("no transaction is left", lambda: sessions_in_a_transaction() == 0)
        assert beats(web) == {200}
        fifth = web.call("GET", STATE, token=LOCAL)
        assert (fifth.status, fifth.headers["Retry-After"]) == (429, "1")
    wait_for("files", lambda: files_of(web) == 0)
    assert web.call("GET", STATE, token=LOCAL).status == 200


def test_one_viewers_unread_exports_leave_the_port_to_others(operators: WebServer, warm: None) -> None:
    many_moves()
    greedy, other = (
        session_of(User.objects.create_superuser("greedy")),
        session_of(User.objects.create_superuser("other")),
    )
    with ExitStack() as unread:

        def begun(number: int) -> set[bytes]:
            """Return the beginnings of the answers to that many calls for exports at once."""
            callers = [unread.enter_context(open_call(operators, "GET", EXPORT, greedy)) for _ in range(number)]
            return {caller.recv(12) for caller in callers}

        for _ in range(MOST):
            # Alone: of many at once some may be told that they waited for too long.
            wait_for("an export begins", lambda: begun(1) == {b"HTTP/1.1 200"}, PATIENCE)
        # Whom a busy machine turns away has no export either.
        assert b"HTTP/1.1 429" in (refused := begun(13))
        assert refused <= {b"HTTP/1.1 429", b"HTTP/1.1 503"}
        wait_for("no transaction is left", lambda: sessions_in_a_transaction() == 0, PATIENCE)
        assert get(operators, "/admin/nodes/node/", other).status == 200
        assert get(operators, EXPORT, other).body.count("\n") > MANY
    wait_for("files", lambda: files_of(operators) == 0, PATIENCE)
    assert get(operators, EXPORT, greedy).status == 200


def get(server: WebServer, path: str, cookie: str) -> Answer:
    """Call until the server is not too busy; return its answer."""
    answers: list[Answer] = []

    def is_answered() -> bool:
        headers = {"Cookie": cookie.removeprefix("Cookie: ")}
        answers.append(exchange(server.connect(PATIENCE), "GET", path, token=None, headers=headers))
        return answers[-1].status != 503

    wait_for(path, is_answered, PATIENCE)
    return answers[-1]


@contextmanager
def slow_bodies(server: WebServer, path: str, *headers: str) -> Iterator[None]:
    """Thirty calls whose bodies begin and don't continue."""
    with ExitStack() as slow:
        for _ in range(30):
            slow.enter_context(open_call(server, "POST", path, *headers, "Content-Length: 5000", body=b"{"))
        yield


def test_bodies_that_do_not_come_keep_no_thread_of_the_operators_port(operators: WebServer) -> None:
    with slow_bodies(operators, LOGIN, "Content-Type: application/x-www-form-urlencoded"):
        for path in ("/healthz", "/readyz", LOGIN):
            assert operators.call("GET", path, token=None).status == 200


@pytest.mark.parametrize("path", [STATUS, "/api/v1/clusterchecks/goodbye/ash", "/api/v1/clusterchecks/rebalance"])
def test_bodies_that_do_not_come_keep_no_thread_of_the_agents_port(web: WebServer, warm: None, path: str) -> None:
    register("ash")
    with slow_bodies(web, path, f"Authorization: {LOCAL if 'rebalance' in path else AGENT}"):
        assert beats(web) == {200}
        for probe in ("/healthz", "/readyz"):
            assert web.call("GET", probe, token=None).status == 200
        assert web.call("GET", STATE, token=LOCAL).status == 200


def test_a_body_that_does_not_come_ends_by_itself(web: WebServer) -> None:
    with open_call(web, "POST", STATUS, f"Authorization: {AGENT}", "Content-Length: 5000", body=b"{") as caller:
        answer = caller.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"the body did not come within" in answer


def test_an_upload_without_a_login_is_refused_before_it_comes(operators: WebServer) -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    kind = "Content-Type: multipart/form-data; boundary=b"
    begin = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"x" * 1000
    with open_call(operators, "POST", LOGIN, kind, f"Content-Length: {100 * 2**20}", body=begin) as caller:
        assert caller.recv(1000).startswith(b"HTTP/1.1 413")
    assert files_of(operators) == 0
    assert not any("upload" in path.name for path in set(Path(tempfile.gettempdir()).iterdir()) - before)


def test_an_upload_in_chunks_is_stopped_at_the_limit(operators: WebServer) -> None:
    kind = "Content-Type: multipart/form-data; boundary=b"
    # One byte more than a stranger may send, and nothing after it: who sends on may find the connection closed.
    chunks = b"10000\r\n" + b"x" * 2**16 + b"\r\n1\r\nx\r\n"
    with open_call(operators, "POST", LOGIN, kind, "Transfer-Encoding: chunked", body=chunks) as caller:
        assert caller.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_path_with_letters_of_other_scripts_is_read_once(operators: WebServer) -> None:
    """Where a large body may come its path is read before that, too, to see who sends it."""
    answer = operators.call(
        "PUT", "/api/operator/v1/sources/%D1%95hop", "{}", token="x" * 64, headers={"Host": "localhost"}
    )
    assert answer.status == 401
    assert "exception" not in operators.log()


def test_a_file_in_a_form_is_no_file_on_the_disk(operators: WebServer) -> None:
    kind = "Content-Type: multipart/form-data; boundary=b"
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"x" * 60_000 + b"\r\n--b--\r\n"
    with open_call(operators, "POST", LOGIN, kind, f"Content-Length: {len(body)}", body=body) as caller:
        assert caller.recv(1000).startswith(b"HTTP/1.1 403")
    assert files_of(operators) == 0


def test_a_body_in_chunks_is_read_as_one_with_a_length(web: WebServer, warm: None) -> None:
    register("ash", version=7)
    chunks = b'5\r\n{"las\r\nd\r\nt_change":7} \r\n0\r\n\r\n'
    with open_call(web, "POST", STATUS, f"Authorization: {AGENT}", "Transfer-Encoding: chunked", body=chunks) as caller:
        assert caller.recv(1000).endswith(b'{"isuptodate":true}')


@pytest.mark.parametrize("size", ["FFFFFFFFFFFFFFFFF", "-11", "zz"])
def test_a_chunk_without_a_size_is_a_bad_call(web: WebServer, size: str) -> None:
    body = f"{size}\r\nabc\r\n0\r\n\r\n".encode()
    with open_call(web, "POST", STATUS, f"Authorization: {AGENT}", "Transfer-Encoding: chunked", body=body) as caller:
        assert caller.recv(1000).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("rude", ["half a call", "half a body", "nothing"])
def test_clients_that_leave_in_the_middle_leave_nothing(web: WebServer, warm: None, rude: str) -> None:
    register("ash")
    logged = len(web.log())
    for _ in range(50):
        plain = socket.create_connection(("127.0.0.1", web.port), timeout=20)
        with TLS.wrap_socket(plain, server_hostname="localhost") as caller:
            if rude == "half a call":
                caller.sendall(b"POST /api/v1/clu")
            elif rude == "half a body":
                head = f"POST {STATUS} HTTP/1.1\r\nHost: x\r\nAuthorization: {AGENT}\r\nContent-Length: 30\r\n\r\n{{"
                caller.sendall(head.encode())
    assert beats(web) == {200}
    assert "Traceback" not in web.log()[logged:]
