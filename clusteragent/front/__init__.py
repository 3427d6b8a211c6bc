"""The front of both web servers: an ASGI application before Django's views.

Slow clients never hold a thread. A body is read before a thread is taken, within a deadline and up to a maximal size. A
streamed answer is produced to its end in the thread, and sent after the thread was released. So a client that is slow, hostile
or gone costs no thread and no transaction, and a limited amount of memory and disk.

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
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest, get_path_info
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.urls.exceptions import Resolver404

from clusteragent.front import spans
from clusteragent.front.bodies import Bodies, Refused, is_awaited
from clusteragent.front.environ import environ_of
from clusteragent.front.load import Load, Overloaded
from clusteragent.front.quota import Quota, Slots, TooMany
from clusteragent.front.spool import PIECE, Abandoned, BrokenOff, Spool
from clusteragent.front.threads import Busy, Threads
from clusteragent.lib import clients, traces
from clusteragent.lib.callers import caller, credential

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# Bytes that a body may have unless its view names another limit, and from callers without a token or session.
BODY, BODY_OF_STRANGERS = 5 * 2**19, 64 * 2**10
# Bytes of a body from which on garbage is collected right after the call.
LARGE = 2**18
# Bytes from which on an answer is a download; how many downloads a reader may have at once, and all readers together.
DOWNLOAD, DOWNLOADS_EACH, DOWNLOADS = 2**20, 4, 32
# Seconds within which a client must take a piece, and the whole answer.
PIECE_WITHIN, ALL_WITHIN = 30.0, 900.0


class Answer(NamedTuple):
    """A view's answer. body: complete, or the spool that a thread fills; reader: the name by which its downloads are counted."""

    status: int
    headers: Headers
    body: bytes | Spool
    reader: str


class Handler(WSGIHandler):
    """Django's WSGI handler, which also stores the request in the environ: the front reads its user afterwards."""

    def get_response(self, request: Any) -> HttpResponseBase:
        """Answer the request, and store it in its environ."""
        request.environ["clusteragent.request"] = request
        return super().get_response(request)


class Front:
    """The ASGI application."""

    def __init__(self, *, threads: int, max_wait: float, each: int = 0, load: Load | None = None) -> None:
        """max_wait: seconds that a call waits for a thread. each: threads that one caller may have at once; 0: any number."""
        self._handler = Handler()
        self._threads = Threads(threads, max_wait)
        self._slots = Slots(each, max_wait) if each else None
        self._downloads = Quota("downloads", DOWNLOADS_EACH, DOWNLOADS)
        self._bodies = Bodies()
        self._load = load or Load()
        # Asked at the start: the first call would wait for OpenTelemetry to be loaded.
        self._is_traced = traces.tracer() is not None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self._load.watch()
        environ = environ_of(scope)
        if self._is_traced:
            await spans.record(environ, send, lambda noting: self._answer(environ, receive, noting))
        else:
            await self._answer(environ, receive, send)

    async def _answer(self, environ: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            await self._serve(environ, receive, send)
        except Abandoned:
            # Nothing more is sent, so the server closes the connection.
            return
        except Refused as refusal:
            await _refuse(send, environ, refusal.status, str(refusal))
        except TooMany as refusal:
            await _refuse(send, environ, HTTPStatus.TOO_MANY_REQUESTS, str(refusal))
        except (Busy, Overloaded, BrokenOff) as refusal:
            await _refuse(send, environ, HTTPStatus.SERVICE_UNAVAILABLE, str(refusal))

    async def _serve(self, environ: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            match = resolve(get_path_info(environ))
        except Resolver404:
            match = None
        environ[spans.ROUTE] = match and match.route
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
        async with self._slots.one(caller(environ)) if self._slots else contextlib.nullcontext():
            loop = asyncio.get_running_loop()
            answer: Answer = await self._threads.run(lambda set_result: self._respond(environ, loop, set_result))
        await self._send_answer(answer, receive, send)

    async def _read(self, environ: dict[str, Any], receive: Receive, view: Any) -> None:
        """Read the body: more than BODY where the view allows it, for callers who are authorised."""
        most: int = getattr(view, "most_bytes", BODY)
        limit = BODY if credential(environ) else BODY_OF_STRANGERS
        if limit == BODY < most:
            # A request writes its path, decoded, into its environ: the next one would decode that again.
            request = WSGIRequest(dict(environ))
            if await self._threads.run(lambda set_result: set_result(view.may_send_much(request))):
                limit = most
        await self._bodies.attach(environ, receive, limit, may_be_large=limit > BODY)

    def _respond(
        self, environ: dict[str, Any], loop: asyncio.AbstractEventLoop, set_result: Callable[[Answer], None]
    ) -> None:
        """Let Django answer, in a thread: pass on the answer as soon as it begins, then produce the rest of its body."""
        with traces.within(environ.pop(spans.SPAN, None)):
            self._respond_to(environ, loop, set_result)

    def _respond_to(
        self, environ: dict[str, Any], loop: asyncio.AbstractEventLoop, set_result: Callable[[Answer], None]
    ) -> None:
        response: Any = self._handler(environ, _start)
        try:
            body = Spool(loop) if response.streaming else response.content
            # A user may have many sessions and tokens.
            user = getattr(environ.get("clusteragent.request"), "user", None)
            reader = f"user {user.pk}" if user and user.is_authenticated else str(clients.address(environ))
            set_result(Answer(response.status_code, _headers(response), body, reader))
            if isinstance(body, Spool):
                with contextlib.suppress(Abandoned):
                    body.fill(response)
        finally:
            # In this thread, as it closes this thread's database connection.
            response.close()
            # Environ and request refer to each other: only the garbage collector would free them.
            environ.pop("clusteragent.request", None)
            if int(environ.get("CONTENT_LENGTH") or 0) > LARGE:
                # What views made of a large body may be in reference cycles, which the collector would find late.
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
    """WSGI's start_response. It does nothing: the handler returns Django's response, which has status and headers."""


def _headers(response: HttpResponseBase) -> Headers:
    cookies = (("Set-Cookie", cookie.output(header="").lstrip()) for cookie in response.cookies.values())
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (*response.items(), *cookies)]


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_pieces(
    send: Send, receive: Receive, status: int, headers: Headers, pieces: AsyncIterator[bytes]
) -> None:
    """Send an answer at the pace at which the client reads it. Raises Abandoned when it stops reading."""
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
    """Wait until the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(send: Send, environ: Mapping[str, Any], status: HTTPStatus, reason: str) -> None:
    """Send an error in the form of the route: JSON for the operators' API, else a line of text."""
    is_api = environ["PATH_INFO"].startswith("/api/operator/")
    text = json.dumps({"detail": f"{reason[0].upper()}{reason[1:]}."}) if is_api else f"{reason}\n"
    kind = "application/json" if is_api else "text/plain; charset=utf-8"
    headers = {"content-type": kind, "x-content-type-options": "nosniff", "cache-control": "no-store"}
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["retry-after"] = "1"
    else:
        # The rest of a body that was not read would be taken for the next call.
        headers["connection"] = "close"
    await _send(send, status, [(name.encode(), value.encode()) for name, value in headers.items()], text.encode())
