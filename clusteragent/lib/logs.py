"""Log lines, ours and the libraries', all of one form: for people (console) or for machines (JSON), without secrets."""

import json
import logging.config
import re
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import structlog
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf
from clusteragent.lib.rations import Ration
from clusteragent.lib.scrub import scrub
from clusteragent.lib.terminal import inert

HIDDEN = "********"
# Lines a minute about calls that were refused alike.
MOST_REFUSALS = 10
_OF_SEVERAL_LINES = ("exception", "stack")
_CREDENTIALS = re.compile(
    r"""(?ix) ( authorization ["']? \s* [:=] \s* ["']? (?: (?: bearer|basic|digest|token ) \s+ )? | \b bearer \s+ ) [^\s"',;]+ """
)


def config() -> dict[str, Any]:
    """The configuration of the standard library's logging, for Django and for whatever else takes one."""
    handled_by_us: dict[str, Any] = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": _formatter}},
        "filters": {
            "unexpected": {"()": "django.utils.log.CallbackFilter", "callback": _is_unexpected},
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
            # A signal interrupts the wait for the leader's lock, which it warns of.
            "psycopg": {**handled_by_us, "level": "ERROR"},
            "httpx": {**handled_by_us, "level": "WARNING"},
        },
    }


def configure(logging_config: dict[str, Any]) -> None:
    """Set up logging (Django's LOGGING_CONFIG): structlog's lines go the way of the standard library's."""
    logging.config.dictConfig(logging_config)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_described(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def hide(line: str) -> str:
    """The line without tokens: our secrets, and whatever an Authorization header carried."""
    for secret in _secrets():
        line = line.replace(secret, HIDDEN)
    return _CREDENTIALS.sub(rf"\g<1>{HIDDEN}", line)


class Refusals(logging.Filter):
    """A call that is refused is its caller's mistake: one line without a traceback, and few of a kind a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._rations: dict[tuple[str, int], Ration] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        status = getattr(record, "status_code", 0)
        if not 400 <= status < 500:
            return True
        record.exc_info = record.exc_text = None
        passed_over = self._rations.setdefault((record.name, status), Ration(MOST_REFUSALS)).take()
        if passed_over:
            record.more = passed_over
        return passed_over is not None


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Not a 5xx on purpose (unknown node, database away), which comes as often as agents ask; a crash has a traceback."""
    return getattr(record, "status_code", 0) < 500 or record.exc_info is not None


def _described() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_described(), structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _without_secrets,
            _json() if conf.LOG_FORMAT == "json" else _console(),
            # Last, so that nothing that a line is made of can bring a secret of ours: message, fields, traceback.
            lambda logger, method, line: hide(str(line)),
        ],
    )


def _without_secrets(logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What others wrote may be in any field, and in the errors of a traceback: configs, and rows that a database refused."""
    return {
        name: _scrubbed(value, inert if name not in _OF_SEVERAL_LINES else _lines) for name, value in fields.items()
    }


def _scrubbed(value: Any, written: Callable[[str], str] = inert) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {name: _scrubbed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(one) for one in value]
    return written(scrub(str(value)))


def _lines(text: str) -> str:
    return "\n".join(map(inert, text.split("\n")))


def _json() -> Any:
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _console() -> Any:
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)


def _secrets() -> Iterable[str]:
    urls = (conf.DATABASE_URL, conf.DIRECT_DATABASE_URL)
    passwords = (str(conninfo_to_dict(url).get("password") or "") for url in urls)
    for secret in (conf.AUTH_TOKEN, conf.LOCAL_TOKEN, conf.SECRET_KEY, conf.WEBHOOK, *passwords):
        # Short passwords are ordinary words, which lines may contain anyway.
        if len(secret) >= 8:
            yield secret
            yield json.dumps(secret, ensure_ascii=False)[1:-1]
