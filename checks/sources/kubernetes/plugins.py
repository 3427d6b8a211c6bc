"""Programs that hand out credentials: what kubeconfigs of cloud providers have under `exec`."""

import json
import os
import subprocess
import threading
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from checks.sources.kubernetes.errors import BadAccess
from clusteragent.lib.scrub import scrub

# Seconds that a program may take, and after which it is asked again even if what it handed out lasts longer: it may be revoked.
PATIENCE, LONGEST = 15.0, 300.0
# What expires within so many seconds is asked for anew.
EARLY = 30.0
MAX_TOLD = 300
# Our own options, which have secrets, are none of its business.
_OURS = ("CLUSTERAGENT_", "DATABASE_URL", "DD_")
_APIS = {"client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"}


class Plugin(NamedTuple):
    """A program, as a kubeconfig names it. place: where people find it there. hint: how to install it."""

    command: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    api: str
    place: str
    hint: str = ""


class Credentials(NamedTuple):
    """A token, a client certificate with its key (PEM), or both."""

    token: str = ""
    certificate: bytes = b""
    key: bytes = b""


_kept: dict[Plugin, tuple[float, Credentials]] = {}
_lock = threading.Lock()


def ask(plugin: Plugin) -> Credentials:
    """Return credentials of the program: those of before while they last, for a few minutes. Raises BadAccess.

    It may take as long as the program does, PATIENCE at most.
    """
    with _lock:
        until, credentials = _kept.get(plugin, (0.0, Credentials()))
        if until <= time.time():
            status = _status(plugin, _output(plugin))
            credentials = _credentials(plugin, status)
            _kept[plugin] = min(_end(plugin, status) - EARLY, time.time() + LONGEST), credentials
        return credentials


def _output(plugin: Plugin) -> bytes:
    if plugin.api not in _APIS:
        raise BadAccess(f"{plugin.place}: apiVersion is none of {', '.join(sorted(_APIS))}")
    asked = {"apiVersion": plugin.api, "kind": "ExecCredential", "spec": {"interactive": False}}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environment = {**inherited, **dict(plugin.environment), "KUBERNETES_EXEC_INFO": json.dumps(asked)}
    try:
        # Whoever writes the kubeconfig decides what it says, as for kubectl.
        done = subprocess.run(  # noqa: S603
            [plugin.command, *plugin.arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadAccess(f"{plugin.place}: {plugin.command} took more than {PATIENCE:g} s") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadAccess(f"{plugin.place}: {plugin.command} can't be started: {reason}. {plugin.hint}".strip()) from None
    if done.returncode:
        told = scrub(done.stderr.decode(errors="replace").strip())[-MAX_TOLD:]
        raise BadAccess(f"{plugin.place}: {plugin.command} ended with status {done.returncode}: {told}")
    return done.stdout


def _status(plugin: Plugin, output: bytes) -> dict[str, Any]:
    try:
        told = json.loads(output)
    except (ValueError, RecursionError):
        told = None
    status = told.get("status") if isinstance(told, dict) and told.get("kind") == "ExecCredential" else None
    if not isinstance(status, dict):
        raise BadAccess(f"{plugin.place}: {plugin.command} printed no ExecCredential with a status")
    return status


def _credentials(plugin: Plugin, status: dict[str, Any]) -> Credentials:
    fields = [status.get(name) or "" for name in ("token", "clientCertificateData", "clientKeyData")]
    token, certificate, key = (field if isinstance(field, str) else "" for field in fields)
    if not (token or certificate) or bool(certificate) != bool(key):
        raise BadAccess(f"{plugin.place}: {plugin.command} printed neither a token nor a certificate with its key")
    return Credentials(token, certificate.encode(), key.encode())


def _end(plugin: Plugin, status: dict[str, Any]) -> float:
    text = status.get("expirationTimestamp")
    if not text:
        return float("inf")
    try:
        end = datetime.fromisoformat(str(text))
        return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BadAccess(f"{plugin.place}: {plugin.command}: expirationTimestamp is no time") from None
