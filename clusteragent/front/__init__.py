"""The front of both web servers: an ASGI application before Django's views.

It keeps what a client does apart from what a thread does. A body is read before a thread is taken, by a deadline and up to a
cap. A streamed answer is made to its end in the thread, and sent after the thread was given back. So a client that is slow,
hostile or gone costs no thread and no transaction, and a bounded part of memory and disk.

Views that are coroutine functions (heartbeats, health) are answered on the event loop, without a thread and without
middleware. All others run in a thread, behind Django's WSGI handler.
"""

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, resolve
from django.urls.exceptions import Resolver404

from clusteragent.front.bodies import Bodies, Refused, is_awaited
from clusteragent.front.environ import caller, credential, environ_of
from clusteragent.front.load import Load, Overloaded
from clusteragent.front.quota import Quota, TooMany, Turns
from clusteragent.front.spool import PIECE, Abandoned, BrokenOff, Spool
from clusteragent.front.threads import Busy, Threads
from clusteragent.lib import clients

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Bytes that a body may have where a view names no other limit, and from whoever shows neither a token nor a session.
BODY, BODY_OF_STRANGERS = 5 * 2**19, 64 * 2**10
# Bytes of a body from which on its remains are cleared away at once.
LARGE = 2**18
# Bytes from which on an answer is a download, and how many of these a reader, and all, may have at once.
DOWNLOAD, DOWNLOADS_EACH, DOWNLOADS = 2**20, 4, 32
# Seconds in which a client must take a piece, and all of them.
PIECE_WITHIN, ALL_WITHIN = 30.0, 900.0


class Answer(NamedTuple):
    """What a view answered: all of it, or the spool that a thread fills. reader: who holds what is not sent yet."""

    status: int
    headers: Headers
    body: bytes | Spool
    reader: str


class Handler(WSGIHandler):
    """Django's, which leaves the request where its user can be read afterwards."""

    def get_response(self, request: Any) -> HttpResponseBase:
        request.environ["clusteragent.request"] = request
        return super().get_response(request)


class Front:
    """The ASGI application."""

    def __init__(self, *, threads: int, patience: float, each: int = 0, load: Load | None = None) -> None:
        """patience: seconds that a call waits for a thread. each: threads that one caller may have at once; 0: any number."""
        self._handler = Handler()
        self._threads = Threads(threads, patience)
        self._turns = Turns(each, patience) if each else None
        self._downloads = Quota("downloads", DOWNLOADS_EACH, DOWNLOADS)
        self._bodies = Bodies()
        self._load = load or Load()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self._load.watch()
        environ = environ_of(scope)
        try:
            await self._serve(environ, receive, send)
        except Abandoned:
            # Nothing more is sent, and the server breaks the connection off.
            return
        except Refused as refusal:
            await _refuse(send, environ, refusal.status, str(refusal))
        except TooMany as refusal:
            await _refuse(send, environ, HTTPStatus.TOO_MANY_REQUESTS, str(refusal))
        except (Busy, Overloaded, BrokenOff) as refusal:
            await _refuse(send, environ, HTTPStatus.SERVICE_UNAVAILABLE, str(refusal))

    async def _serve(self, environ: dict[str, Any], receive: Receive, send: Send) -> None:
        match = _resolved(environ)
        # The class, by the name of REST framework's viewsets or of Django.
        view: Any = getattr(match and match.func, "cls", getattr(match and match.func, "view_class", None))
        if match and iscoroutinefunction(match.func):
            self._load.admit(first=view.comes_first)
            if is_awaited(environ):
                await self._read(environ, receive, view)
            response = await match.func(WSGIRequest(environ), *match.args, **match.kwargs)
            await _send(send, response.status_code, _headers(response), response.content)
            return
        self._load.admit()
        if is_awaited(environ):
            await self._read(environ, receive, view)
        async with self._turns.one(caller(environ)) if self._turns else contextlib.nullcontext():
            loop = asyncio.get_running_loop()
            answer: Answer = await self._threads.run(lambda tell: self._respond(environ, loop, tell))
        await self._send_answer(answer, receive, send)

    async def _read(self, environ: dict[str, Any], receive: Receive, view: Any) -> None:
        limit = await self._limit(environ, view)
        await self._bodies.attach(environ, receive, limit, may_be_large=limit > BODY)

    async def _limit(self, environ: dict[str, Any], view: Any) -> int:
        """Bytes that are read of a body: more than usual where the view says so, from those whose headers show that they may."""
        if not credential(environ):
            return BODY_OF_STRANGERS
        most: int = getattr(view, "most_bytes", BODY)
        if most <= BODY:
            return BODY
        request = WSGIRequest(environ)
        may: bool = await self._threads.run(lambda tell: tell(view.may_send_much(request)))
        return most if may else BODY

    def _respond(
        self, environ: dict[str, Any], loop: asyncio.AbstractEventLoop, tell: Callable[[Answer], None]
    ) -> None:
        """Let Django answer, in a thread: tell the answer as soon as it begins, and make the rest of it."""
        response: Any = self._handler(environ, _start)
        try:
            body = Spool(loop) if response.streaming else response.content
            tell(Answer(response.status_code, _headers(response), body, _reader(environ)))
            if isinstance(body, Spool):
                with contextlib.suppress(Abandoned):
                    body.fill(response)
        finally:
            # Here: what it closes is this thread's.
            response.close()
            # Each would keep the other alive until the next garbage collection.
            environ.pop("clusteragent.request", None)
            if int(environ.get("CONTENT_LENGTH") or 0) > LARGE:
                # Views leave circles of what they made of it, and the collector looks at old ones once in millions.
                gc.collect()

    async def _send_answer(self, answer: Answer, receive: Receive, send: Send) -> None:
        if isinstance(answer.body, bytes):
            if len(answer.body) <= PIECE:
                await _send(send, answer.status, answer.headers, answer.body)
            else:
                with self._download(answer.reader, len(answer.body) > DOWNLOAD):
                    await _send_pieces(send, receive, answer.status, answer.headers, _pieces(answer.body))
            return
        with contextlib.closing(answer.body) as spool, self._download(answer.reader, await spool.more_than(DOWNLOAD)):
            await _send_pieces(send, receive, answer.status, answer.headers, spool.pieces())

    def _download(self, reader: str, is_one: bool) -> AbstractContextManager[None]:
        return self._downloads.one(reader) if is_one else contextlib.nullcontext()


def _start(*_: Any) -> Any:
    """WSGI's start_response: the handler returns Django's response, which says as much."""


def _resolved(environ: Mapping[str, Any]) -> ResolverMatch | None:
    try:
        return resolve(environ["PATH_INFO"].encode("latin-1").decode(errors="replace"))
    except Resolver404:
        return None


def _reader(environ: Mapping[str, Any]) -> str:
    """The user, whose sessions and tokens may be many; where there is none, the address."""
    user = getattr(environ.get("clusteragent.request"), "user", None)
    return f"user {user.pk}" if user is not None and user.is_authenticated else str(clients.address(environ))


def _headers(response: HttpResponseBase) -> Headers:
    cookies = (("Set-Cookie", cookie.output(header="").lstrip()) for cookie in response.cookies.values())
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (*response.items(), *cookies)]


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_pieces(
    send: Send, receive: Receive, status: int, headers: Headers, pieces: AsyncIterator[bytes]
) -> None:
    """Send an answer at the pace at which it is read. Raises Abandoned when nobody does."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        async with asyncio.timeout(ALL_WITHIN):
            await send({"type": "http.response.start", "status": status, "headers": headers})
            async for piece in pieces:
                await asyncio.wait_for(
                    send({"type": "http.response.body", "body": piece, "more_body": True}), PIECE_WITHIN
                )
                if gone.done():
                    raise Abandoned
        await send({"type": "http.response.body", "body": b""})
    except TimeoutError:
        raise Abandoned from None
    finally:
        gone.cancel()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


async def _gone(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, environ: Mapping[str, Any], status: HTTPStatus, reason: str) -> None:
    """An answer of our own, in the form that the route's others have: JSON in the operators' API, else a line."""
    is_api = environ["PATH_INFO"].startswith("/api/operator/")
    text = json.dumps({"detail": f"{reason[0].upper()}{reason[1:]}."}) if is_api else f"{reason}\n"
    kind = "application/json" if is_api else "text/plain; charset=utf-8"
    headers = {"content-type": kind, "x-content-type-options": "nosniff", "cache-control": "no-store"}
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["retry-after"] = "1"
    else:
        # What is left of a body that was not taken would be read as the next call.
        headers["connection"] = "close"
    await _send(send, status, [(name.encode(), value.encode()) for name, value in headers.items()], text.encode())
