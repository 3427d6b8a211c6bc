"""A session that hears what transactions notify at their commit, and knows up to which moment it has heard everything."""

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

from clusteragent.lib import conf, poolers

# Seconds between two looks, also while nobody has asked for a second; that a look may take; and between two connections, also
# where there is a pooler, which will not go away.
_EVERY, _SELDOM, _LOOK_WITHIN, _PAUSE, _LONG_PAUSE = 0.04, 0.5, 1.0, 0.5, 30.0
_FORGOTTEN = 1.0

# What says where a server is, and as whom.
_PLACE = frozenset({"host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"})

log = structlog.get_logger()


def parameters() -> dict[str, Any]:
    """How psycopg reaches the database past a transaction pooler."""
    usual: Mapping[str, Any] = connection.get_connection_params()
    direct: dict[str, Any] = conninfo_to_dict(conf.DIRECT_DATABASE_URL)
    left_out = {"cursor_factory", "context", *(_PLACE if direct else ())}
    options = f"{usual['options']} {direct.get('options') or ''}".strip()
    return {name: value for name, value in usual.items() if name not in left_out} | direct | {"options": options}


def notify(channel: str, payload: str) -> None:
    """Let those who listen hear it when the transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", (channel, payload))


class Listener:
    """Hears a channel on the event loop, in a session of its own that is made anew whenever it is lost."""

    def __init__(self, channel: str, *, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """heard: is given each payload. missed: is called when it begins to hear, since nothing was heard before."""
        self._channel, self._heard, self._missed = channel, heard, missed
        # What was committed before this moment of the monotonic clock was heard.
        self._heard_until = self._asked_at = float("-inf")
        self._is_well = True

    def has_heard(self, now: float, within: float) -> bool:
        """Whether all was heard that was committed up to so many seconds before now, by the monotonic clock."""
        self._asked_at = now
        return now - self._heard_until <= within

    async def run(self) -> None:
        """Listen until it is cancelled."""
        while True:
            pause = _PAUSE
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and tried again
                self._note(error)
                pause = _LONG_PAUSE if isinstance(error, poolers.Pooled) else _PAUSE
            self._heard_until = float("-inf")
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        # In a thread: Django makes them from settings, and may ask who it is on an event loop.
        how = await sync_to_async(parameters, thread_sensitive=False)()
        async with await psycopg.AsyncConnection.connect(**how, autocommit=True) as session:
            session.add_notify_handler(lambda notice: self._heard(notice.payload))
            await session.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            # Not sooner: what changes until now is not heard.
            self._missed()
            while True:
                await self._look(session)
                self._note(None)
                is_asked = time.monotonic() - self._asked_at < _FORGOTTEN
                await asyncio.sleep(_EVERY if is_asked else _SELDOM)

    async def _look(self, session: psycopg.AsyncConnection[Any]) -> None:
        """Hear what was notified. A server sends that before it says that a statement is done."""
        asked = time.monotonic()
        async with asyncio.timeout(_LOOK_WITHIN):
            cursor = await session.execute(poolers.READ_MARK)
            poolers.insist_on_mark(await cursor.fetchone())
        self._heard_until = asked

    def _note(self, error: Exception | None) -> None:
        if self._is_well != (error is None):
            self._is_well = error is None
            if error:
                log.warning("not_listening", channel=self._channel, error=" ".join(str(error).split()) or repr(error))
            else:
                log.info("listening_again", channel=self._channel)
