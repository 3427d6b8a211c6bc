"""Servers that are no API server, or a broken one: each answer costs bounded time and memory, and the error says what it was."""

import asyncio
import json
import queue
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from checks.sources.kubernetes import client as limits
from checks.sources.kubernetes.access import Access, Channel
from checks.sources.kubernetes.client import Client, Event
from checks.sources.kubernetes.errors import ApiError, Away, Gone, Slow, TooLarge, Unreadable, refusal
from checks.sources.kubernetes.resources import SERVICES, Call, Selection
from checks.sources.kubernetes.watching import Kind, Listed, Phase, Told, Watch
from clusteragent.lib.version import USER_AGENT

SELECTION = Selection(SERVICES, "shop")
TOKEN = "a-token-that-nobody-may-see"


class Answering:
    """A server that sends the same bytes to everybody, or an answer to each head, then what `after` sends, and closes."""

    def __init__(
        self,
        answer: bytes | Callable[[str], bytes],
        after: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None,
    ) -> None:
        self.heads: list[str] = []
        self._answer, self._after = answer, after
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._tasks.append(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Also of tasks that were cancelled before they began.
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self._answer if isinstance(self._answer, bytes) else self._answer(self.heads[-1]))
            await writer.drain()
            if self._after:
                await self._after(writer)
            writer.close()
            await writer.wait_closed()
        finally:
            writer.transport.abort()


def ask(server: Answering, work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Do some work with a client of this server."""

    async def all_of_it() -> Any:
        listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        client = Client(lambda: Access(Channel(f"http://127.0.0.1:{port}"), TOKEN))
        async with listener:
            try:
                return await work(client)
            finally:
                await client.close()
                await server.close()

    return asyncio.run(all_of_it())


async def listed(client: Client) -> list[Any]:
    async with aclosing(client.pages(SELECTION)) as pages:
        return [page async for page in pages]


async def watched(client: Client) -> list[Event]:
    async with client.watch(SELECTION, "1", 5, 5) as events:
        return [event async for event in events]


def http(body: object, status: str = "200 OK", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


STREAM = b"HTTP/1.1 200 OK\r\n\r\n"
NESTED = b"[" * 100_000


async def flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 2**16)
        await writer.drain()


async def trickle(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (http(b"<html>"), Unreadable, "list services: the answer is not JSON"),
        (http(NESTED), Unreadable, "list services: the answer is not JSON"),
        (http([]), Unreadable, "list services: the answer is no object"),
        (http({}), Unreadable, "list services: the answer is no list of objects"),
        (http({"items": 7, "metadata": {"resourceVersion": "1"}}), Unreadable, "no list of objects"),
        (http({"items": [], "metadata": {"resourceVersion": ""}}), Unreadable, "no list of objects"),
        (http(b"", "302 Found", Location="https://example.com"), Away, "list services: the API server answers 302"),
        (http({"message": "etcd is away"}, "500 Oh"), Away, "list services: the API server answers 500: etcd is away"),
        (http(b"x" * 2**20, "500 Oh"), Away, "the API server answers 500$"),
        (http({"message": 7, "details": "none"}, "504 Oh"), Away, "the API server answers 504: 7"),
        (http({}, "410 Gone"), Gone, "the version is too old"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Away, "broke off"),
        (b"", Away, "broke off"),
        (http({"items": []})[:-3], Away, "broke off"),
    ],
)
def test_an_answer_that_is_none_is_told(answer: bytes, error: type[ApiError], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        ask(Answering(answer), listed)
    assert TOKEN not in str(caught.value)


def test_a_server_without_tls_is_told() -> None:
    def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def ask_it() -> None:
        listener = await asyncio.start_server(speak, "127.0.0.1", 0)
        channel = Channel(f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        async with listener:
            await listed(Client(lambda: Access(channel)))

    with pytest.raises(Away, match=r"can't connect to https://127.0.0.1:\d+: no TLS \(.+\)"):
        asyncio.run(ask_it())


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", 0.0), ("-1", 0.0), ("99999", 0.0)])
def test_a_busy_server_says_how_long_to_wait(header: str, seconds: float) -> None:
    with pytest.raises(Away) as caught:
        ask(Answering(http({}, "429 Too Many Requests", **{"Retry-After": header})), listed)
    assert caught.value.retry_after == seconds


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PAGE_BYTES", 2**20)
    with pytest.raises(TooLarge, match="an answer of more than 1024 KiB"):
        ask(Answering(STREAM, flood), listed)


def test_an_answer_that_trickles_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST", 0.3)
    with pytest.raises(Slow, match=r"list services: .* within 0\.3 s"):
        ask(Answering(STREAM, trickle), listed)
    with pytest.raises(Slow, match=r"list services: .* within 0\.3 s"):
        ask(Answering(b"HTTP/1.1 200 OK\r\n", lambda writer: asyncio.sleep(30)), listed)


@pytest.mark.parametrize(
    ("line", "error", "told"),
    [
        (b"<html>\n", Unreadable, "watch services: the answer is not JSON"),
        (NESTED + b"\n", Unreadable, "not JSON"),
        (b"{}\n", Unreadable, "an event without type or object"),
        (b'{"type": "ADDED", "object": []}\n', Unreadable, "an event without type or object"),
        (b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n', Gone, "too old"),
        (b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}\n', Away, "answers 500: etcd"),
        (b'{"type": "ERROR", "object": {"code": "x"}}\n', Away, "answers 500"),
    ],
)
def test_an_event_that_is_none_is_told(line: bytes, error: type[ApiError], told: str) -> None:
    with pytest.raises(error, match=told):
        ask(Answering(STREAM + line), watched)


def test_an_event_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 2**20)
    with pytest.raises(TooLarge, match="an event of more than 1 MiB"):
        ask(Answering(STREAM, flood), watched)


def test_half_an_event_is_none() -> None:
    whole = b'{"type": "ADDED", "object": {"a": 1}}\n\n'
    assert ask(Answering(STREAM + whole + whole[:20]), watched) == [Event("ADDED", {"a": 1})]


def test_a_watch_that_the_server_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def on_and_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b'{"type": "BOOKMARK", "object": {}}\n')
            await writer.drain()
            await asyncio.sleep(0.05)

    async def work(client: Client) -> int:
        async with client.watch(SELECTION, "1", 0.5, 0.5) as events:
            return len([event async for event in events])

    assert ask(Answering(STREAM, on_and_on), work) > 3


def test_it_says_who_asks_and_wants_nothing_compressed() -> None:
    server = Answering(STREAM)
    ask(server, watched)
    line, *headers = server.heads[0].strip().split("\r\n")
    assert line.startswith("GET /api/v1/namespaces/shop/services?")
    named = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
    assert named["accept-encoding"] == "identity"
    assert named["user-agent"] == USER_AGENT
    assert named["authorization"] == f"Bearer {TOKEN}"


def test_a_server_may_stand_below_a_path_and_names_are_quoted() -> None:
    async def listed_and_got() -> list[str]:
        server = Answering(http({"items": [], "metadata": {"resourceVersion": "3"}}))
        listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
        below = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/k8s/clusters/c-1"
        client = Client(lambda: Access(Channel(below)))
        async with listener:
            await listed(client)
            await client.get(SERVICES, "shop", "system:a/b")
            await client.close()
            await server.close()
        return [head.split(" ")[1].partition("?")[0] for head in server.heads]

    root = "/k8s/clusters/c-1/api/v1/namespaces/shop/services"
    assert asyncio.run(listed_and_got()) == [root, f"{root}/system%3Aa%2Fb"]


def test_a_watch_goes_on_from_the_last_bookmark() -> None:
    def answer(head: str) -> bytes:
        if "watch=true" not in head:
            return http({"items": [], "metadata": {"resourceVersion": "3"}})
        return STREAM + b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}\n'

    async def work(client: Client) -> None:
        watching = asyncio.create_task(Watch([Kind(SELECTION, dict)], told).run(client))
        while len(server.heads) < 3:
            await asyncio.sleep(0.01)
        watching.cancel()

    told: queue.Queue[Told] = queue.Queue()
    server = Answering(answer)
    ask(server, work)
    assert [re.findall("resourceVersion=([0-9]+)", head) for head in server.heads[:3]] == [[], ["3"], ["9"]]
    assert told.get_nowait() == Listed(SERVICES, [])
    assert told.empty()


@pytest.mark.parametrize(("version", "goes_on"), [("3", True), ("12", True), ("2", False), ("x", False)])
def test_a_silent_watch_goes_on_unless_the_server_has_an_older_version(version: str, goes_on: bool) -> None:
    def answer(head: str) -> bytes:
        if "watch=true" in head:
            return STREAM
        return http({"items": [], "metadata": {"resourceVersion": version if "limit=1 " in head else "3"}})

    async def silence(writer: asyncio.StreamWriter) -> None:
        if "watch=true" in server.heads[-1]:
            await asyncio.Event().wait()

    async def work(client: Client) -> None:
        watch = Watch([Kind(SELECTION, dict)], told, idle=0.1)
        watching = asyncio.create_task(watch.run(client))
        while sum("watch=true" in head for head in server.heads) < 3:
            await asyncio.sleep(0.01)
            seen.add(watch.state.phase)
        watching.cancel()

    told: queue.Queue[Told] = queue.Queue()
    seen: set[Phase] = set()
    server = Answering(answer, silence)
    ask(server, work)
    assert (told.qsize() == 1) == goes_on
    assert (Phase.AWAY not in seen) == goes_on


@pytest.mark.parametrize("event", [b"{}", b'{"type": "ERROR", "object": {"code": 410}}'])
def test_a_version_is_not_used_again_after_an_answer_that_is_none(event: bytes) -> None:
    def answer(head: str) -> bytes:
        if "watch=true" not in head:
            return http({"items": [], "metadata": {"resourceVersion": "3"}})
        return STREAM + event + b"\n"

    async def work(client: Client) -> None:
        watching = asyncio.create_task(Watch([Kind(SELECTION, dict)], queue.Queue()).run(client))
        while len(server.heads) < 3:
            await asyncio.sleep(0.01)
        watching.cancel()

    server = Answering(answer)
    ask(server, work)
    assert ["watch=true" in head for head in server.heads[:3]] == [False, True, False]


def test_a_version_that_is_newer_than_the_server_s_newest_is_gone() -> None:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    status = {"message": "Too large resource version: 9, current: 3", "details": {"causes": causes}}
    assert isinstance(refusal(504, status, Call("watch", SERVICES)), Gone)
