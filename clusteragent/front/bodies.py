"""Bodies of calls: read completely before a thread is taken, within a deadline, with a limit for each and for all together."""

import asyncio
import contextlib
import io
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from clusteragent.lib import clients

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

# Seconds for a body of up to one mebibyte, and for each further mebibyte.
SECONDS, SECONDS_A_MEBIBYTE = 10.0, 2.0
# The most bytes that a process holds of incomplete bodies. The first FREE bytes of each don't count: heartbeats are shorter,
# so other clients' bodies never block them.
MOST_OF_ALL, FREE = 96 * 2**20, 16 * 2**10
# The most bytes of these from one client. Sets of configs of callers who are authorised don't count.
MOST_OF_CLIENT = 24 * 2**20
_SILENCE = 0.5
_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large"


class Refused(Exception):
    """A body is refused."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        """status, reason: of the answer."""
        super().__init__(reason)
        self.status = status


def is_awaited(environ: Mapping[str, Any]) -> bool:
    """Return whether the headers announce a body."""
    return environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ


class Bodies:
    """All bodies that are being read in this process."""

    def __init__(self) -> None:
        self._held = 0
        self._held_of: Counter[str] = Counter()

    async def attach(
        self, environ: dict[str, Any], receive: Receive, limit: int, *, may_be_large: bool = False
    ) -> None:
        """Read the body, and set it and its length in the environ. Raises Refused.

        limit: bytes. may_be_large: the caller is authorised to send large bodies, so MOST_OF_CLIENT does not apply.
        """
        # As for failed logins: what a trusted proxy says, and all of a client's own IPv6 addresses together.
        client = "" if may_be_large else clients.network(clients.address(environ))
        announced = environ.get("CONTENT_LENGTH", "0")
        length = int(announced) if announced.isdecimal() else 0
        if length > 2 * limit:
            raise Refused(*_TOO_LARGE)
        seconds = SECONDS + SECONDS_A_MEBIBYTE * (limit // 2**20)
        try:
            async with asyncio.timeout(seconds):
                if length > limit:
                    # A client that still sends when the connection closes never reads the answer.
                    await _pass_over(receive)
                    raise Refused(*_TOO_LARGE)
                body = await self._read(receive, limit, client)
        except TimeoutError:
            reason = f"the body did not come within {seconds:g} s"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, reason) from None
        # A proxy may send it in chunks, without a length.
        environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)

    async def _read(self, receive: Receive, limit: int, client: str) -> bytes:
        pieces: list[bytes] = []
        size = counted = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    # The client has disconnected, or sent a chunk without a valid size.
                    raise Refused(HTTPStatus.BAD_REQUEST, "the body broke off")
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > limit:
                    raise Refused(*_TOO_LARGE)
                counts = max(0, size - FREE) - counted
                is_much = client and self._held_of[client] + counts > MOST_OF_CLIENT
                if counts and (is_much or self._held + counts > MOST_OF_ALL):
                    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many large bodies at once, try again")
                self._held, counted = self._held + counts, counted + counts
                self._held_of[client] += counts
                if not message.get("more_body"):
                    return b"".join(pieces)
        finally:
            self._held -= counted
            self._held_of[client] -= counted
            if not self._held_of[client]:
                del self._held_of[client]


async def _pass_over(receive: Receive) -> None:
    """Read and drop the body until its end, or until nothing comes: some clients wait for an answer before they send."""
    with contextlib.suppress(TimeoutError):
        while (await asyncio.wait_for(receive(), _SILENCE)).get("more_body"):
            pass
