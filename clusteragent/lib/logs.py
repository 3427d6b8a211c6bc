"""Log lines of the program and its libraries in one format, for people (console) or for machines (JSON), without secrets."""

import json
import logging.config
import re
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf
from clusteragent.lib.scrub import scrub
from clusteragent.lib.words import escape_controls

HIDDEN = "********"
# Log lines a minute about refused calls with the same status.
MOST_REFUSALS = 10
_OF_SEVERAL_LINES = ("exception", "stack")
_CREDENTIALS = re.compile(
    r"""(?ix) ( authorization ["']? \s* [:=] \s* ["']? (?: (?: bearer|basic|digest|token ) \s+ )? | \b bearer \s+ ) [^\s"',;]+ """
)


def config() -> dict[str, Any]:
    """Return the configuration of the standard library's logging, as `logging.config.dictConfig` takes it."""
    handled_by_us: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": _formatter}},
        "filters": {
            # A 5xx on purpose (unknown node, database away) comes with every call. A crash has a traceback.
            "unexpected": {
                "()": "django.utils.log.CallbackFilter",
                "callback": lambda record: getattr(record, "status_code", 0) < 500 or record.exc_info is not None,
            },
            "refusals": {"()": Refusals},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "ours", "filters": ["refusals"]}},
        "root": {"handlers": ["stderr"], "level": conf.LOG_LEVEL},
        "loggers": {
            "django": handled_by_us,
            "django.request": {**handled_by_us, "filters": ["unexpected"]},
            "django.server": handled_by_us,
            "_granian": handled_by_us,
            "granian.access": handled_by_us,
            # Several lines for every pass.
            "django-q": {**handled_by_us, "level": "WARNING"},
            "watchfiles": {**handled_by_us, "level": "WARNING"},
            # It warns when a signal interrupts the wait for the leader's lock.
            "psycopg": {**handled_by_us, "level": "ERROR"},
            "httpx": {**handled_by_us, "level": "WARNING"},
        },
    }


def configure(logging_config: dict[str, Any]) -> None:
    """Set up logging (Django's LOGGING_CONFIG); structlog's lines go through the standard library's handlers."""
    logging.config.dictConfig(logging_config)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_context_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def hide(line: str) -> str:
    """Return the line without our own secrets and without values of Authorization headers."""
    urls = (conf.DATABASE_URL, conf.DIRECT_DATABASE_URL)
    passwords = (str(conninfo_to_dict(url).get("password") or "") for url in urls)
    ours = (conf.AUTH_TOKEN, conf.LOCAL_TOKEN, conf.SECRET_KEY, conf.WEBHOOK, *conf.RUNNER_TOKENS)
    for secret in (*ours, *conf.TRACES_HEADERS.values(), *passwords):
        # A short password may be an ordinary word: hiding it would damage other lines.
        if len(secret) >= 8:
            line = line.replace(secret, HIDDEN).replace(json.dumps(secret, ensure_ascii=False)[1:-1], HIDDEN)
    return _CREDENTIALS.sub(rf"\g<1>{HIDDEN}", line)


class RateLimit:
    """A limit for lines that others can cause as often as they like: `most` a minute, or in so many seconds. Counts the rest."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic, seconds: float = 60) -> None:
        """clock: returns seconds."""
        self._most, self._clock, self._seconds = most, clock, seconds
        self._lock = threading.Lock()
        self._began = clock()
        self._taken = self._passed_over = 0

    def take(self) -> int | None:
        """Return None if this event is over the limit, else the number of events over it since the last allowed one."""
        with self._lock:
            now = self._clock()
            if now - self._began >= self._seconds:
                self._began, self._taken = now, 0
            if self._taken >= self._most:
                self._passed_over += 1
                return None
            self._taken += 1
            passed_over, self._passed_over = self._passed_over, 0
            return passed_over


class Refusals(logging.Filter):
    """Log a refused call (4xx), which is its caller's mistake, as one line without a traceback, and few of a kind a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._limits: dict[tuple[str, int], RateLimit] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged; `more` is set on it to the number of records left out since the last one."""
        status = getattr(record, "status_code", 0)
        if not 400 <= status < 500:
            return True
        record.exc_info = record.exc_text = None
        passed_over = self._limits.setdefault((record.name, status), RateLimit(MOST_REFUSALS)).take()
        if passed_over:
            record.more = passed_over
        return passed_over is not None


def _context_processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter() -> logging.Formatter:
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False)
    plain = structlog.dev.plain_traceback
    as_text = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_context_processors(), structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _without_secrets,
            as_json if conf.LOG_FORMAT == "json" else as_text,
            # Last, so that it sees the whole line: message, fields and traceback.
            lambda logger, method, line: hide(str(line)),
        ],
    )


def _without_secrets(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Scrub every field: each may hold what others wrote, and a traceback may quote configs or rows of the database."""
    return {name: _scrubbed(value, is_one_line=name not in _OF_SEVERAL_LINES) for name, value in fields.items()}


def _scrubbed(value: Any, *, is_one_line: bool = True) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {name: _scrubbed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(one) for one in value]
    text = scrub(str(value))
    return "\n".join(map(escape_controls, [text] if is_one_line else text.split("\n")))
