"""The parts of the front, each separately; `tests/test_rude_clients.py` tests a real server."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from clusteragent import front
from clusteragent.front import Front, bodies
from clusteragent.front.bodies import Bodies, Refused
from clusteragent.front.environ import environ_of
from clusteragent.front.load import ALL, OTHERS, Load, Overloaded
from clusteragent.front.quota import Slots, TooMany
from clusteragent.front.spool import ON_DISK, PIECE, Abandoned, Spool
from clusteragent.front.threads import QUEUE, Busy, Threads
from clusteragent.lib.callers import caller, recognise

T = TypeVar("T")
SCOPE: dict[str, Any] = {
    "type": "http", "method": "GET", "path": "/", "query_string": b"", "http_version": "1.1", "scheme": "https",
    "headers": [], "client": ("192.0.2.1", 1), "server": ("192.0.2.2", 2),
}  # fmt: skip


def run(work: Coroutine[Any, Any, T]) -> T:
    async def in_time() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(in_time())


# What the views know of a call.


def test_an_environ_has_what_the_call_says() -> None:
    headers = [
        (b"host", b"a"),
        (b"x-real-ip", b"192.0.2.9"),
        (b"content-type", b"x/y"),
        (b"authorization", b"Bearer \xe9"),
    ]
    environ = environ_of(SCOPE | {"path": "/é", "query_string": b"a=%20", "headers": headers})
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/Ã©", "a=%20")
    assert (environ["HTTP_X_REAL_IP"], environ["CONTENT_TYPE"]) == ("192.0.2.9", "x/y")
    assert (environ["HTTP_AUTHORIZATION"], environ["REMOTE_ADDR"]) == ("Bearer é", "192.0.2.1")


def test_bytes_of_a_path_that_are_no_utf_8_stay_apart() -> None:
    """The server writes U+FFFD for each of them, by which two names of nodes would be one."""
    scope = SCOPE | {"path": "/\ufffd/a", "raw_path": b"/%ff/%61"}
    assert environ_of(scope)["PATH_INFO"] == "/\xff/a"


def test_a_header_with_an_underscore_is_not_taken_for_the_one_with_a_hyphen() -> None:
    assert "HTTP_X_REAL_IP" not in environ_of(SCOPE | {"headers": [(b"x_real_ip", b"192.0.2.9")]})


def test_headers_of_one_name_are_joined() -> None:
    headers = [(b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2"), (b"x-a", b"2")]
    environ = environ_of(SCOPE | {"headers": headers})
    assert (environ["HTTP_COOKIE"], environ["HTTP_X_A"]) == ("a=1; b=2", "1,2")


def test_a_caller_is_told_by_token_or_session_whatever_stands_around_them() -> None:
    def of(**headers: str) -> str:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        return caller(environ_of(SCOPE | {"headers": pairs}))

    assert of(authorization="Bearer  x") == of(authorization="bearer x") != of(authorization="Bearer y")
    session = settings.SESSION_COOKIE_NAME
    assert of(cookie=f"a=1; {session}=x") == of(cookie=f"{session}=x; b=2") != of(cookie=f"{session}=y")
    assert of(cookie="a=1") == of() == "192.0.2.1"
    # What is no token makes no other caller of a session.
    assert of(cookie=f"{session}=x", authorization="Foo 1") == of(cookie=f"{session}=x")
    assert of(authorization="Foo 1") == of(authorization="Bearer") == of()


def test_all_sessions_and_tokens_of_a_user_are_one_caller_once_they_are_known() -> None:
    def of(name: str, path: str = "/admin/", **headers: str) -> dict[str, Any]:
        return environ_of(
            SCOPE | {"path": path, "headers": [(name.encode(), f"{value}".encode()) for value in headers.values()]}
        )

    one, other = (
        of("cookie", cookie=f"{settings.SESSION_COOKIE_NAME}={key}") for key in ("one-of-eve", "other-of-eve")
    )
    token = of("authorization", "/api/operator/v1/status", token="Bearer token-of-eve")
    assert len({caller(one), caller(other), caller(token)}) == 3
    for each in (one, other, token):
        recognise(each, "eve")
    assert {caller(one), caller(other), caller(token)} == {"user eve"}
    # A blank of other scripts makes no token: REST framework does not take it for one.
    call = of("authorization", "/api/operator/v1/status", token="Bearer\xa0made-up")
    call["HTTP_COOKIE"] = one["HTTP_COOKIE"]
    assert caller(call) == "user eve"


def test_a_token_that_the_admin_does_not_look_at_makes_no_other_caller_of_a_session() -> None:
    def of(path: str, **headers: str) -> str:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        return caller(environ_of(SCOPE | {"path": path, "headers": pairs}))

    cookie = f"{settings.SESSION_COOKIE_NAME}=x"
    page, call = "/admin/checks/config/", "/api/operator/v1/configs"
    assert of(page, cookie=cookie, authorization="Bearer y") == of(page, cookie=cookie)
    assert of(page, authorization="Bearer y") == of(page) == "192.0.2.1"
    # A made-up session beside a token is not looked at, either.
    assert (
        of(call, cookie=cookie, authorization="Bearer y")
        == of(call, authorization="Bearer y")
        != of(call, cookie=cookie)
    )


# Bodies.


def coming(*pieces: bytes, ends: str = "http.request") -> Any:
    """A client that sends these messages and then nothing, or disconnects."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": ends, "body": b"", "more_body": False})

    async def receive() -> Mapping[str, Any]:
        await asyncio.sleep(0)
        return messages.pop(0)

    return receive


def read(receive: Any, limit: int = 100, reading: Bodies | None = None, **environ: Any) -> bytes:
    run((reading or Bodies()).attach(environ, receive, limit))
    body: bytes = environ["wsgi.input"].read()
    assert environ["CONTENT_LENGTH"] == str(len(body))
    return body


def test_a_body_is_what_came() -> None:
    assert read(coming(b"ab", b"c")) == b"abc"


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    assert read(coming(b"x" * 60, b"x" * 40)) == b"x" * 100
    with pytest.raises(Refused, match="too large"):
        read(coming(b"x" * 60, b"x" * 41))


def test_a_length_that_is_much_too_large_is_refused_unread() -> None:
    with pytest.raises(Refused, match="too large"):
        read(None, CONTENT_LENGTH="201")
    with pytest.raises(Refused, match="too large"):
        read(coming(b"x" * 101), CONTENT_LENGTH="101")


def test_a_body_that_ends_in_the_middle_is_no_body() -> None:
    with pytest.raises(Refused, match="broke off"):
        read(coming(b"a", ends="http.disconnect"))


def test_all_bodies_together_are_bounded_but_for_their_beginnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_OF_ALL", 1000)
    monkeypatch.setattr(bodies, "FREE", 100)
    reading = Bodies()

    async def two() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> Mapping[str, Any]:
            if not begun.is_set():
                begun.set()
                return {"type": "http.request", "body": b"x" * 1100, "more_body": True}
            await go_on.wait()
            return {"type": "http.disconnect"}

        first = asyncio.create_task(reading.attach({}, slow, 10_000))
        await begun.wait()
        await reading.attach({}, coming(b"x" * 100), 10_000)
        with pytest.raises(Refused, match="too many large bodies"):
            await reading.attach({}, coming(b"x" * 101), 10_000)
        go_on.set()
        with pytest.raises(Refused, match="broke off"):
            await first
        await reading.attach({}, coming(b"x" * 1100), 10_000)

    run(two())


def test_one_client_has_a_share_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_OF_CLIENT", 1000)
    monkeypatch.setattr(bodies, "FREE", 100)
    reading = Bodies()
    with pytest.raises(Refused, match="too many large bodies"):
        read(coming(b"x" * 1101), 10_000, reading, REMOTE_ADDR="192.0.2.1")
    assert len(read(coming(b"x" * 1100), 10_000, reading, REMOTE_ADDR="192.0.2.1")) == 1100
    environ: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1"}
    run(reading.attach(environ, coming(b"x" * 5000), 10_000, may_be_large=True))
    assert not reading._held
    assert not reading._held_of


# Threads.


def test_calls_beyond_what_the_queue_holds_are_refused_at_once_and_then_all_goes_on() -> None:
    async def crowd() -> None:
        threads, go_on = Threads(1, max_wait=20), threading.Event()
        waiting = [threads.run(lambda tell: tell(go_on.wait(10))) for _ in range(1 + QUEUE)]
        with pytest.raises(Busy):
            threads.run(lambda tell: tell(True))
        go_on.set()
        assert await asyncio.gather(*waiting) == [True] * (1 + QUEUE)
        while True:  # the last thread says that it is free a moment after its outcome
            try:
                assert await threads.run(lambda tell: tell(1)) == 1
            except Busy:
                await asyncio.sleep(0)
            else:
                return

    run(crowd())


def test_a_call_that_waited_too_long_is_not_begun() -> None:
    async def late() -> None:
        threads, begun = Threads(1, max_wait=-1), []
        with pytest.raises(Busy):
            await threads.run(lambda tell: begun.append(1))
        assert not begun

    run(late())


def test_an_error_is_the_call_s() -> None:
    async def fails() -> None:
        with pytest.raises(ZeroDivisionError):
            await Threads(1, max_wait=10).run(lambda tell: tell(1 // 0))

    run(fails())


def test_a_caller_has_so_many_turns_and_keeps_no_other_from_its_own() -> None:
    async def two_callers() -> None:
        slots = Slots(each=1, max_wait=0.01)
        async with slots.one("ash"), slots.one("birch"):
            with pytest.raises(TooMany):
                async with slots.one("ash"):
                    pass
        async with slots.one("ash"):
            pass

    run(two_callers())


# Streamed answers.


def test_a_spool_gives_what_was_written_whatever_its_length() -> None:
    async def through(chunks: list[bytes]) -> bytes:
        spool = Spool(asyncio.get_running_loop())
        writer = asyncio.create_task(asyncio.to_thread(spool.fill, chunks))
        got = b"".join([piece async for piece in spool.pieces()])
        await writer
        spool.close()
        return got

    for chunks in ([], [b"a"], [b"ab"] * 5, [b"x" * 100_000] * 30, [b"y" * (PIECE - 1), b"z" * 3]):
        assert run(through(list(chunks))) == b"".join(chunks)


def test_who_writes_is_stopped_when_nobody_reads_on_and_its_chunks_are_closed_in_its_thread() -> None:
    closed_in: list[threading.Thread] = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * PIECE
        finally:
            closed_in.append(threading.current_thread())

    async def leave() -> None:
        spool = Spool(asyncio.get_running_loop())

        def write() -> threading.Thread:
            chunks = endless()
            with pytest.raises(Abandoned):
                spool.fill(chunks)
            chunks.close()  # type: ignore[attr-defined]
            return threading.current_thread()

        writer = asyncio.create_task(asyncio.to_thread(write))
        assert await spool.more_than(10 * PIECE)
        spool.close()
        assert closed_in == [await writer]
        assert Spool._all == 0

    run(leave())


def test_an_answer_that_breaks_off_is_told_from_a_whole_one() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"x" * PIECE
        raise ValueError("broken")

    async def broken() -> None:
        spool = Spool(asyncio.get_running_loop())
        with pytest.raises(ValueError, match="broken"):
            spool.fill(chunks())
        with pytest.raises(Abandoned):
            assert [len(piece) async for piece in spool.pieces()] == [PIECE]
        spool.close()

    run(broken())


def test_all_spools_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spool, "_all", ON_DISK - 10)

    async def full() -> None:
        spool = Spool(asyncio.get_running_loop())
        with pytest.raises(Abandoned):
            spool.fill([b"x" * 11])
        spool.close()

    run(full())


# Load.


def test_who_is_behind_turns_others_away_first_and_then_all() -> None:
    load = Load()
    load._behind = OTHERS + 0.01
    load.admit(first=True)
    with pytest.raises(Overloaded):
        load.admit()
    load._behind = ALL + 0.01
    with pytest.raises(Overloaded):
        load.admit(first=True)
    load._behind = 0.0
    load.admit()


# All of it.


def stream(request: HttpRequest) -> HttpResponseBase:
    return StreamingHttpResponse(b"x" * PIECE for _ in range(100))


def large(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(b"y" * 3 * PIECE)


def broken(request: HttpRequest) -> HttpResponseBase:
    def chunks() -> Iterator[bytes]:
        yield b"begun"
        raise OperationalError("the connection is lost")

    return StreamingHttpResponse(chunks())


urlpatterns = [path("stream", stream), path("large", large), path("broken", broken)]


class Reader:
    """A client that takes a number of pieces, and then none."""

    def __init__(self, takes: float) -> None:
        self.takes, self.pieces = takes, []  # type: ignore[var-annotated]
        self.status = 0
        self.is_whole = False

    async def receive(self) -> Mapping[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif len(self.pieces) >= self.takes:
            await asyncio.get_running_loop().create_future()
        else:
            self.pieces.append(message["body"])
            self.is_whole = not message.get("more_body")


@pytest.mark.parametrize("where", ["/stream", "/large"])
def test_a_reader_that_stops_is_broken_off(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "PIECE_WITHIN", 0.05)
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        reader = Reader(takes=2)
        run(Front(threads=1, max_wait=10)(SCOPE | {"path": where}, reader.receive, reader.send))
    assert (reader.status, len(reader.pieces), reader.is_whole) == (200, 2, False)
    assert Spool._all == 0


@pytest.mark.parametrize(("where", "size"), [("/stream", 100), ("/large", 3)])
def test_one_that_reads_on_gets_all_of_it(where: str, size: int) -> None:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        reader = Reader(takes=1000)
        run(Front(threads=1, max_wait=10)(SCOPE | {"path": where}, reader.receive, reader.send))
    assert (reader.status, len(b"".join(reader.pieces)), reader.is_whole) == (200, size * PIECE, True)


def test_an_answer_that_breaks_off_before_anything_was_sent_is_a_503() -> None:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        reader = Reader(takes=1)
        run(Front(threads=1, max_wait=10)(SCOPE | {"path": "/broken"}, reader.receive, reader.send))
    assert (reader.status, reader.pieces) == (503, [b"the answer broke off, try again\n"])


# What a call leaves in its thread.


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_a_call_left_open_is_not_the_next_one_s() -> None:
    def leave(tell: Any) -> None:
        atomic = transaction.atomic()
        atomic.__enter__()
        connection.cursor().execute("SELECT 1")
        tell(True)

    def look(tell: Any) -> None:
        tell((connection.in_atomic_block, connection.cursor().execute("SELECT 1") is not None))
        connection.close()

    async def one_after_the_other() -> None:
        threads = Threads(1, max_wait=20)
        assert await threads.run(leave)
        in_atomic_block, answers = await threads.run(look)
        assert (in_atomic_block, answers) == (False, True)

    run(one_after_the_other())
