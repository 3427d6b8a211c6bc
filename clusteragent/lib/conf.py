"""The program's options: typed, with units and defaults, read once from the environment.

Names, defaults and forms are the Datadog Cluster Agent's where it has the option (`DD_...`); our own begin with
`CLUSTERAGENT_`. Every option may also be given as a file, `NAME_FILE`. Code reads `conf.NAME`, never a copy.
"""

import json
import re
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from environs import FileAwareEnv

T = TypeVar("T")

_env = FileAwareEnv(strip_whitespace=True)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class OptionError(Exception):
    """An option has a value that it can't have."""


def _option(name: str, default: T, parse: Callable[[str], T], allowed: str) -> T:
    """The option's value, its default when unset or empty. Raises OptionError naming option, value and what is allowed."""
    try:
        raw = _env.str(name, "")
    except ValueError as error:
        raise OptionError(f"{name}_FILE can't be read: {error}") from error
    if not raw:
        return default
    try:
        return parse(raw)
    except ValueError as error:
        raise OptionError(f"{name} is {raw!r}, allowed is {allowed}") from error


def _text(name: str, default: str) -> str:
    return _option(name, default, str, "any text")


def _flag(name: str, default: bool) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

    def parse(raw: str) -> bool:
        if raw.lower() not in words:
            raise ValueError(raw)
        return words[raw.lower()]

    return _option(name, default, parse, "true or false")


def _whole(name: str, default: int, low: int, high: int) -> int:
    def parse(raw: str) -> int:
        value = int(raw)
        if not low <= value <= high:
            raise ValueError(raw)
        return value

    return _option(name, default, parse, f"a whole number from {low} to {high}")


def _fraction(name: str, default: float) -> float:
    def parse(raw: str) -> float:
        value = float(raw)
        if not 0 <= value <= 1:
            raise ValueError(raw)
        return value

    return _option(name, default, parse, "a number from 0 to 1")


def _duration(name: str, default: timedelta, low: timedelta = timedelta(0)) -> timedelta:
    """A duration: whole seconds (`30`) or Go's form (`10m`, `1h30m`, `500ms`)."""

    def parse(raw: str) -> timedelta:
        if re.fullmatch(r"\d+(\.\d+)?", raw):
            value = timedelta(seconds=float(raw))
        elif re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", raw):
            parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", raw)
            value = timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
        else:
            raise ValueError(raw)
        if not low <= value <= timedelta(days=3650):
            raise ValueError(raw)
        return value

    least = f" of at least {low.total_seconds():g} s" if low else ""
    return _option(name, default, parse, f"seconds or a duration such as 90s, 10m, 1h30m{least}")


def _words(name: str) -> tuple[str, ...]:
    """A list: words separated by spaces, or a JSON array of strings."""

    def parse(raw: str) -> tuple[str, ...]:
        if not raw.startswith("["):
            return tuple(raw.split())
        words = json.loads(raw)
        if not all(isinstance(word, str) for word in words):
            raise ValueError(raw)
        return tuple(words)

    return _option(name, (), parse, 'words separated by spaces, or a JSON array such as ["a", "b"]')


def _bind(name: str, default: str) -> tuple[str, int]:
    """An address and port to listen on: `127.0.0.1:5005`, `0.0.0.0:5005`, `[::]:5005`."""

    def parse(raw: str) -> tuple[str, int]:
        match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+):(\d{1,5})", raw)
        if not match or int(match[2]) > 65535:
            raise ValueError(raw)
        return match[1].strip("[]"), int(match[2])

    return _option(name, parse(default), parse, "host:port, such as 127.0.0.1:5005 or [::]:5005")


def _token(name: str, file: Path) -> str:
    """A secret of at least 32 characters: the option, else the file, else empty (nothing was made yet)."""

    def parse(raw: str) -> str:
        if len(raw) < 32:
            raise OptionError(f"{name} (or the file {file.name}) has {len(raw)} characters, at least 32 are needed")
        return raw

    default = file.read_text().strip() if file.is_file() else ""
    return _option(name, parse(default) if default else "", parse, "at least 32 characters")


# Where things are and listen.
VAR = Path(_text("CLUSTERAGENT_VAR", "var")).absolute()
BIND = _bind("CLUSTERAGENT_BIND", "127.0.0.1:5005")
ADMIN_BIND = _bind("CLUSTERAGENT_ADMIN_BIND", "127.0.0.1:5006")
ADMIN_HOSTS = _words("CLUSTERAGENT_ADMIN_HOSTS") or ("localhost", "127.0.0.1", "[::1]")
WEB_WORKERS = _whole("CLUSTERAGENT_WEB_WORKERS", 2, 1, 256)
DATABASE_URL = _text("DATABASE_URL", "")
CONFD = tuple(Path(folder) for folder in _text("CLUSTERAGENT_CONFD", "conf.d").split(":") if folder)
DEMO_NODES = _whole("CLUSTERAGENT_DEMO_NODES", 0 if DATABASE_URL or _text("CLUSTERAGENT_CONFD", "") else 3, 0, 1000)
REPLICA = _text("CLUSTERAGENT_REPLICA", socket.gethostname())
LOG_FORMAT = _option(
    "CLUSTERAGENT_LOG_FORMAT", "console", {"console": "console", "json": "json"}.__getitem__, "console or json"
)
LOG_LEVEL = _text("DD_LOG_LEVEL", "info").upper()

# Secrets. Empty until the first start made them.
AUTH_TOKEN = _token("DD_CLUSTER_AGENT_AUTH_TOKEN", VAR / "cluster_agent.auth_token")
LOCAL_TOKEN = _token("CLUSTERAGENT_LOCAL_TOKEN", VAR / "auth_token")
SECRET_KEY = _token("CLUSTERAGENT_SECRET_KEY", VAR / "secret_key")

# Who is alive.
NODE_EXPIRATION_TIMEOUT = _duration(
    "DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT", timedelta(seconds=30), low=timedelta(seconds=1)
)
WARMUP_DURATION = _duration("DD_CLUSTER_CHECKS_WARMUP_DURATION", timedelta(seconds=30))
BRAKE_FRACTION = _fraction("CLUSTERAGENT_BRAKE_FRACTION", 0.5)
BRAKE_NODES = _whole("CLUSTERAGENT_BRAKE_NODES", 3, 0, 1_000_000)
LOST_NODE_RETENTION = _duration("CLUSTERAGENT_LOST_NODE_RETENTION", timedelta(days=1))

# What is dispatched, and how it is patched.
CLUSTER_CHECKS_ENABLED = _flag("DD_CLUSTER_CHECKS_ENABLED", True)
EXCLUDE_CHECKS = frozenset(_words("DD_CLUSTER_CHECKS_EXCLUDE_CHECKS"))
UNSCHEDULED_CHECK_THRESHOLD = max(
    _duration("DD_CLUSTER_CHECKS_UNSCHEDULED_CHECK_THRESHOLD", timedelta(seconds=60)), NODE_EXPIRATION_TIMEOUT
)
GLOBAL_TAGS = (*_words("DD_TAGS"), *_words("DD_EXTRA_TAGS"), *_words("DD_CLUSTER_CHECKS_EXTRA_TAGS"))
CLUSTER_NAME = _text("DD_CLUSTER_NAME", "")
CLUSTER_TAG_NAME = _text("DD_CLUSTER_CHECKS_CLUSTER_TAG_NAME", "cluster_name")
DISABLE_CLUSTER_NAME_TAG_KEY = _flag("DD_DISABLE_CLUSTER_NAME_TAG_KEY", False)
ORCH_CLUSTER_ID = _text("DD_ORCHESTRATOR_CLUSTER_ID", "")

# Sources and the ledger.
SCAN_PERIOD = _duration("CLUSTERAGENT_SCAN_PERIOD", timedelta(seconds=10), low=timedelta(seconds=1))
LEDGER_RETENTION = _duration("CLUSTERAGENT_LEDGER_RETENTION", timedelta(days=30), low=timedelta(hours=1))
