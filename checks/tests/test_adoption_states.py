"""Maps of other servers that are none, too large or hostile: a clear error, and no secret in it."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from checks.adoption import states
from checks.adoption.states import UnreadableState
from tests.webserver import make_certificate

Answer = Callable[[BaseHTTPRequestHandler], None]
Serving = Callable[[Answer], AbstractContextManager[str]]
SECRET = "a-token-that-nobody-may-see"


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """A server that answers so; its URL."""
    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    @contextmanager
    def serve(answer: Answer) -> Iterator[str]:
        methods = {"do_GET": answer, "log_message": lambda *_: None}
        with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (BaseHTTPRequestHandler,), methods)) as server:
            server.daemon_threads = True
            server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"https://127.0.0.1:{server.server_address[1]}"
            finally:
                server.shutdown()
                thread.join()

    return serve


def test_an_answer_that_is_too_large_is_not_read_to_its_end(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b" " * 3 * 2**20)

    monkeypatch.setattr(states, "MAX_BYTES", 2**20)
    with serving(answer) as url, pytest.raises(UnreadableState, match="more than 1 MiB"):
        states.fetch(url, SECRET)


def test_an_answer_without_end_has_a_deadline(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not over.wait(0.02):
            handler.wfile.write(b" ")

    monkeypatch.setattr(states, "DEADLINE", 0.2)
    with serving(answer) as url:
        with pytest.raises(UnreadableState, match="did not answer within"):
            states.fetch(url, SECRET)
        over.set()


@pytest.mark.parametrize("token", [f"{SECRET}\nsecond line", f"{SECRET}\0", f"{SECRET}é"])
def test_a_token_that_is_none_is_in_no_error(token: str) -> None:
    with pytest.raises(UnreadableState, match="not one line of plain characters"):
        states.fetch("https://127.0.0.1:1", token)


@pytest.mark.parametrize("url", ["https://eve:hunter22@127.0.0.1:1", "http://127.0.0.1:1"])
def test_only_a_plain_https_url_is_asked(url: str) -> None:
    with pytest.raises(UnreadableState, match="https://host:port") as error:
        states.fetch(url, SECRET)
    assert "hunter22" not in str(error.value)


@pytest.mark.parametrize(
    "document",
    [
        b'{"nodes":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        *(
            json.dumps({"nodes": [{"name": "ash", "configs": [config]}]}).encode()
            for config in (
                ["check_name"], "check_name here", {"config": ["x"]}, {"config": "x"},
                {"check_name": "x", "service_id": ["a"]}, {"check_name": "x", "node_name": {}},
            )
        ),
        json.dumps({"nodes": [{"name": "ash", "configs": []}, {"name": "ash", "configs": []}]}).encode(),
    ],
    ids=range(8),
)  # fmt: skip
def test_a_document_that_is_no_map_is_refused(document: bytes) -> None:
    with pytest.raises(UnreadableState):
        states.read(document)


def test_what_a_server_says_does_not_control_the_terminal() -> None:
    document: dict[str, Any] = {"nodes": [], "not_running": "\x1b[2J" + "x" * 10_000}
    with pytest.raises(UnreadableState, match="does not lead") as error:
        states.read(json.dumps(document).encode())
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 500
