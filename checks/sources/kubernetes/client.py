"""Calls of the Kubernetes API: lists by pages, watches by lines, writes. Every answer has a limit of bytes and of time."""

import asyncio
import json
import os
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import httpx

from checks.sources.kubernetes.access import Access, Channel, Reader
from checks.sources.kubernetes.connections import CONNECT, connect
from checks.sources.kubernetes.errors import Away, Slow, TooLarge, Unreadable, refusal
from checks.sources.kubernetes.resources import Call, Object, Resource, Selection

# Objects of a page of a list. A page that is too large is asked for again with fewer.
PAGE = 500
MAX_PAGE_BYTES = 32 * 2**20
# An event, or the answer to another call. etcd takes objects of at most 1.5 MB.
MAX_BYTES = 16 * 2**20
MAX_ERROR_BYTES = 64 * 2**10
# Servers take objects that nest as deep as their author likes, more than Python reads. What is deeper than this is left out.
MAX_DEPTH = 200
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
# Seconds for a page of a list, until a watch begins, and for each other call.
LIST, BEGIN, CALL = 60.0, 30.0, 10.0


class Page(NamedTuple):
    """A page of a list. version: of the whole list, from which a watch goes on."""

    items: list[Object]
    version: str


class Event(NamedTuple):
    """A line of a watch. kind: ADDED, MODIFIED, DELETED, or BOOKMARK (nothing but a newer version)."""

    kind: str
    object: Object


class Client:
    """A client of one API server. It reads its access anew for each call, and keeps connections while that is the same.

    Every method raises an ApiError that says what is wrong. A client belongs to one event loop.
    """

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._channel: Channel | None = None
        # The present connections last; those before are still used by watches that began over them.
        self._connections: list[httpx.AsyncClient] = []

    async def close(self) -> None:
        """Close all connections."""
        while self._connections:
            await self._connections.pop().aclose()
        self._channel = None

    async def pages(self, selection: Selection, size: int = PAGE) -> AsyncGenerator[Page, None]:
        """Yield a consistent list page by page. Raises Gone if it expires in between: then begin again."""
        call = Call("list", selection.resource, selection.namespace)
        following = version = ""
        while True:
            query = selection.query() | {"limit": str(size)} | ({"continue": following} if following else {})
            try:
                answer = await self._ask(call, "GET", selection.path(), query=query, seconds=LIST, most=MAX_PAGE_BYTES)
            except TooLarge:
                if size == 1:
                    raise
                size = max(1, size // 8)
                continue
            items, metadata = answer.get("items") or [], answer.get("metadata")
            if not isinstance(items, list) or not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
                raise Unreadable(f"{call}: the answer is no list of objects")
            version = version or metadata["resourceVersion"]
            yield Page([item for item in items if isinstance(item, dict)], version)
            following = metadata.get("continue") or ""
            if not following:
                return

    async def version(self, selection: Selection) -> str:
        """Return the version that the API server has now."""
        call = Call("list", selection.resource, selection.namespace)
        answer = await self._ask(call, "GET", selection.path(), query=selection.query() | {"limit": "1"})
        metadata = answer.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("resourceVersion"), str):
            raise Unreadable(f"{call}: the answer is no list of objects")
        return str(metadata["resourceVersion"])

    @asynccontextmanager
    async def watch(
        self, selection: Selection, version: str, seconds: float, idle: float
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Watch what changes after this version. Entered once the server accepted it; then it yields events until it ends.

        The server ends it after `seconds`. Raises Slow after `idle` seconds without a word, Gone if the version is too old.
        """
        call = Call("watch", selection.resource, selection.namespace)
        query = selection.query() | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        async with (
            self._open(call, "GET", selection.path(), BEGIN, params=query) as response,
            aclosing(_lines(response, call, idle, time.monotonic() + seconds + idle)) as lines,
        ):
            yield _events(lines, call)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return an object."""
        return await self._ask(Call("get", resource, namespace), "GET", resource.path(namespace, name))

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Object:
        """Create an object; return it as it was stored. Raises Rejected with status 409 if it exists."""
        return await self._ask(Call("create", resource, namespace), "POST", resource.path(namespace), body=body)

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """Merge fields into an object, or into its subresource such as `status`; return it as it was stored."""
        call = Call("patch", resource, namespace, subresource)
        return await self._ask(call, "PATCH", resource.path(namespace, name, subresource), body=body)

    async def _ask(
        self,
        call: Call,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float = CALL,
        most: int = MAX_BYTES,
    ) -> Object:
        """The JSON object of an answer."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        try:
            async with (
                asyncio.timeout(seconds),
                self._open(call, method, path, seconds, params=query, content=content, headers=headers) as response,
            ):
                return _object(await _body(response, call, most), call)
        except TimeoutError:
            raise Slow(f"{call}: no complete answer within {seconds:g} s") from None

    @asynccontextmanager
    async def _open(
        self, call: Call, method: str, path: str, seconds: float, **words: Any
    ) -> AsyncIterator[httpx.Response]:
        """A good answer whose body is still to be read."""
        access = await asyncio.to_thread(self._read)
        http = await self._connected(access.channel)
        opened = _Opened()
        request = http.build_request(method, path, extensions=_extensions(access) | {"trace": opened}, **words)
        if access.token:
            request.headers["Authorization"] = f"Bearer {access.token}"
        try:
            async with asyncio.timeout(seconds), opened:
                response = await http.send(request, stream=True)
            async with aclosing(response):
                if not response.is_success:
                    status = await _status(response, call)
                    raise refusal(response.status_code, status, call, response.headers.get("Retry-After", ""))
                yield response
        except TimeoutError:
            raise Slow(f"{call}: {access.channel.server} did not answer within {seconds:g} s") from None
        except httpx.ConnectTimeout:
            raise Away(f"can't connect to {access.channel.server} within {CONNECT:g} s") from None
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise Away(f"can't connect to {access.channel.server}: {_cause(error)}") from None
        except httpx.HTTPError as error:
            raise Away(f"{call}: the connection to {access.channel.server} broke off: {_cause(error)}") from None

    async def _connected(self, channel: Channel) -> httpx.AsyncClient:
        if channel != self._channel:
            fresh = connect(channel)
            # Whatever still uses the connections before the last ones began a rotation ago.
            while len(self._connections) > 1:
                await self._connections.pop(0).aclose()
            self._connections.append(fresh)
            self._channel = channel
        return self._connections[-1]


class _Opened:
    """Closes the connection that a request opened if it fails: httpcore leaves one open that was still being encrypted."""

    _stream: Any = None

    async def __call__(self, event: str, about: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._stream = about["return_value"]

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind and self._stream:
            await self._stream.aclose()


def _extensions(access: Access) -> dict[str, Any]:
    return {"sni_hostname": access.channel.server_name} if access.channel.server_name else {}


async def _status(response: httpx.Response, call: Call) -> Object:
    """The Status object of a refusal; empty if there is none."""
    try:
        async with asyncio.timeout(CALL):
            return _object(await _body(response, call, MAX_ERROR_BYTES), call)
    except (TimeoutError, Unreadable):
        return {}


async def _body(response: httpx.Response, call: Call, most: int) -> bytes:
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > most:
            raise TooLarge(f"{call}: an answer of more than {most >> 10} KiB")
    return bytes(body)


def _shallow(body: bytes) -> bytes:
    """The JSON with null in place of whatever nests deeper than MAX_DEPTH."""
    parts, depth, start = [], 0, 0
    for token in _TOKEN.finditer(body):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                parts += [body[start : token.start()], b"null"]
        elif token[0] in (b"]", b"}"):
            if depth == MAX_DEPTH + 1:
                start = token.end()
            depth -= 1
    return b"".join([*parts, body[start:]])


def _object(body: bytes, call: Call) -> Object:
    try:
        try:
            value = json.loads(body)
        except RecursionError:
            # Otherwise one such object would hide all others of its list.
            value = json.loads(_shallow(body))
    except ValueError:
        raise Unreadable(f"{call}: the answer is not JSON") from None
    if not isinstance(value, dict):
        raise Unreadable(f"{call}: the answer is no object")
    return value


async def _lines(response: httpx.Response, call: Call, idle: float, ends: float) -> AsyncGenerator[bytes, None]:
    """Yield complete lines. httpx's own would split them at characters that JSON may contain, such as U+0085."""
    parts = response.aiter_raw()
    begun = bytearray()
    while (left := ends - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(min(idle, left)):
                part = await anext(parts, None)
        except TimeoutError:
            if left < idle:
                return
            raise Slow(f"{call}: not a word for {idle:g} s") from None
        if part is None:
            return
        first, *others = part.split(b"\n")
        begun += first
        for other in others:
            yield bytes(begun)
            begun[:] = other
        if len(begun) > MAX_BYTES:
            raise TooLarge(f"{call}: an event of more than {MAX_BYTES >> 20} MiB")


async def _events(lines: AsyncIterator[bytes], call: Call) -> AsyncGenerator[Event, None]:
    async for line in lines:
        if not line.strip():
            continue
        said = _object(line, call)
        kind, about = said.get("type"), said.get("object")
        if not isinstance(kind, str) or not isinstance(about, dict):
            raise Unreadable(f"{call}: an event without type or object")
        if kind == "ERROR":
            code = about.get("code")
            raise refusal(code if isinstance(code, int) else 500, about, call)
        yield Event(kind, about)


def _cause(error: BaseException) -> str:
    """Words for the innermost reason why a connection failed."""
    while inner := _first(error) or error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({(error.reason or str(error)).lower().replace('_', ' ')})"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _first(error: BaseException) -> BaseException | None:
    """The failure of the first of a host's addresses."""
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
