"""Calls over HTTP that end in time: `requests` waits for each piece of an answer anew."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from io import BytesIO
from typing import Any

from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]
from requests import RequestException, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError


class Ending:
    """The end of some calls: it ends what is being read then, and what is begun later."""

    def __init__(self) -> None:
        self.is_over = False
        self._sockets: list[socket.socket] = []

    def watch(self, connected: socket.socket) -> None:
        """End what is read from this socket when the time is over."""
        # First: the time may end now.
        self._sockets.append(connected)
        if self.is_over:
            self.end()

    def end(self) -> None:
        """End all of them, from another thread than that which reads."""
        self.is_over = True
        for connected in self._sockets:
            with suppress(OSError):
                # Not the method of a TLS socket, which takes from its reader what it is reading with.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


_ending: ContextVar[Ending | None] = ContextVar("ending", default=None)


@contextmanager
def ending_within(seconds: float) -> Iterator[Ending]:
    """End the calls that this thread makes within it by a `Session`, all together, after so long."""
    ending = Ending()
    timer = threading.Timer(seconds, ending.end)
    timer.daemon = True
    token = _ending.set(ending)
    timer.start()
    try:
        yield ending
    finally:
        timer.cancel()
        _ending.reset(token)


def _watch(connected: socket.socket | None) -> None:
    if (ending := _ending.get()) and connected:
        ending.watch(connected)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self.sock)


class _TLSConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS = {"http": _Pool, "https": _TLSPool}
# The most bytes of an answer. A person in 20 000 groups takes less.
MOST = 4 << 20


class _Adapter(HTTPAdapter):
    """Makes connections that end, and reads no answer that is longer than MOST."""

    def send(self, request: Any, stream: bool = False, *args: Any, **how: Any) -> Response:
        answer = super().send(request, True, *args, **how)
        content = bytearray()
        try:
            for piece in answer.raw.stream(1 << 16, decode_content=True):
                content += piece
                if len(content) > MOST:
                    answer.close()
                    raise RequestException(f"its answer is longer than {MOST} bytes")
        except HTTPError as error:
            raise RequestException(error) from error
        answer.raw = BytesIO(content)
        return answer

    def init_poolmanager(self, *args: Any, **how: Any) -> None:
        super().init_poolmanager(*args, **how)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **how: Any) -> Any:
        manager: Any = super().proxy_manager_for(proxy, **how)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class Session(OAuth2Session):  # type: ignore[misc]
    """The library's session, whose calls end: see `ending_within`."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())
