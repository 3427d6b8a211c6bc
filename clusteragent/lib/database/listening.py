"""A LISTEN session that receives what transactions notify, and knows up to which moment it has received everything."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import structlog
from asgiref.sync import sync_to_async
from django.db import connection
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf, locks

# Seconds: between two polls; between them while nobody has asked for _FORGOTTEN seconds; that a poll may take; between two
# connections; and between them when there is a pooler, which will stay.
_EVERY, _SELDOM, _POLL_WITHIN, _PAUSE, _LONG_PAUSE = 0.04, 0.5, 1.0, 0.5, 30.0
_FORGOTTEN = 1.0

# Parameters that name the server and the user.
_PLACE = frozenset({"host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"})

log = structlog.get_logger()


def parameters() -> dict[str, Any]:
    """Return psycopg's connection parameters for a session that does not go through a transaction pooler."""
    usual: Mapping[str, Any] = connection.get_connection_params()
    direct: dict[str, Any] = conninfo_to_dict(conf.DIRECT_DATABASE_URL)
    left_out = {"cursor_factory", "context", *(_PLACE if direct else ())}
    options = f"{usual['options']} {direct.get('options') or ''}".strip()
    return {name: value for name, value in usual.items() if name not in left_out} | direct | {"options": options}


def notify(channel: str, payload: str) -> None:
    """Send the payload to all listeners of the channel when the transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", (channel, payload))


class Listener:
    """Listens to a channel on the event loop, in a session of its own that is opened again whenever it is lost."""

    def __init__(self, channel: str, *, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """heard: called with each payload. missed: called when listening begins, as earlier payloads were not received."""
        self._channel, self._heard, self._missed = channel, heard, missed
        # All that was committed before this moment of the monotonic clock was received.
        self._heard_until = self._asked_at = float("-inf")
        self._is_well = True

    def has_heard(self, now: float, within: float) -> bool:
        """Return whether all that was committed until `within` seconds before `now` was received, by the monotonic clock."""
        self._asked_at = now
        return now - self._heard_until <= within

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            pause = _PAUSE
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - every error is logged, and listening is tried again
                self._note(error)
                pause = _LONG_PAUSE if isinstance(error, locks.Pooled) else _PAUSE
            self._heard_until = float("-inf")
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        # In a thread: Django may refuse to build the parameters on an event loop.
        how = await sync_to_async(parameters, thread_sensitive=False)()
        async with await psycopg.AsyncConnection.connect(**how, autocommit=True) as session:
            session.add_notify_handler(lambda notice: self._heard(notice.payload))
            await session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            # After LISTEN: changes before it were not received.
            self._missed()
            while True:
                asked = time.monotonic()
                # A server sends all notifications until now before the result of a statement.
                async with asyncio.timeout(_POLL_WITHIN):
                    cursor = await session.execute(locks.READ_MARK)
                    locks.require_mark(await cursor.fetchone())
                self._heard_until = asked
                self._note(None)
                is_asked = time.monotonic() - self._asked_at < _FORGOTTEN
                await asyncio.sleep(_EVERY if is_asked else _SELDOM)

    def _note(self, error: Exception | None) -> None:
        if self._is_well != (error is None):
            self._is_well = error is None
            if error:
                log.warning("not_listening", channel=self._channel, error=" ".join(str(error).split()) or repr(error))
            else:
                log.info("listening_again", channel=self._channel)
