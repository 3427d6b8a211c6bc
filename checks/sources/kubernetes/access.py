"""How the API server is reached: from a pod of its cluster, or by a kubeconfig. May take seconds where programs are asked.

Tokens and certificates rotate, so everything is read anew for each call. Messages name files and fields, and quote no secret.
"""

import base64
import binascii
import functools
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import yaml

from checks.sources.kubernetes import plugins
from checks.sources.kubernetes.errors import BadAccess
from checks.sources.kubernetes.plugins import Credentials, Plugin

# Where each pod finds its token and the certificates of its cluster.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_BYTES = 2**20
# Fields of a kubeconfig's user that we don't act on. To ignore them would be to act as somebody else.
_OTHER_WAYS = {
    "auth-provider": "gets its credentials in a way that ended with Kubernetes 1.26 (auth-provider)",
    "username": "logs in by a password",
    "password": "logs in by a password",
    "as": "acts as somebody else (as)",
    "as-uid": "acts as somebody else (as-uid)",
    "as-groups": "acts as somebody else (as-groups)",
    "as-user-extra": "acts as somebody else (as-user-extra)",
}
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Channel:
    """What a connection is made of. Connections are kept while it stays the same.

    ca: PEM; empty: the authorities that this machine trusts. server_name: the name in the server's certificate, if it is not
    the host of the URL.
    """

    server: str
    ca: bytes = b""
    verify: bool = True
    server_name: str = ""
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    proxy: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """How a call is made: over which connection, and with which token."""

    channel: Channel
    token: str = field(default="", repr=False)


Reader = Callable[[], Access]


def choose(kubeconfig: Path | None, environ: Mapping[str, str] = os.environ) -> Reader:
    """Return what reads the access: of the kubeconfig if one is given, else of the pod that we run in.

    Raises BadAccess when there is neither. The reader raises BadAccess for what is wrong at the time of a call.
    """
    if kubeconfig:
        return functools.partial(from_kubeconfig, kubeconfig)
    if not environ.get("KUBERNETES_SERVICE_HOST"):
        raise BadAccess(
            "this is no pod of a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set); elsewhere set"
            " CLUSTERAGENT_KUBECONFIG to a kubeconfig file"
        )
    return functools.partial(from_pod, SERVICE_ACCOUNT, environ)


def from_pod(folder: Path, environ: Mapping[str, str]) -> Access:
    """Return the access of a pod: the cluster's address from its environment, token and certificates from the folder."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT") or "443"
    server = _server(f"https://{f'[{host}]' if ':' in host else host}:{port}", "KUBERNETES_SERVICE_HOST and _PORT")
    return Access(Channel(server, ca=_content(folder / "ca.crt")), _token(folder / "token"))


def from_kubeconfig(path: Path) -> Access:
    """Return the access that the kubeconfig's current context says. Paths in it are relative to its folder."""
    config = _parsed(path)
    current = config.text("current-context")
    if not current:
        raise BadAccess(f"{path}: no current-context; `kubectl config use-context NAME` sets it")
    context = config.named("contexts", current, "context")
    cluster = config.named("clusters", context.required("cluster"), "cluster")
    user = config.named("users", context.text("user"), "user") if context.text("user") else _Part(path, "user", {})
    credentials = _credentials(user)
    return Access(_channel(cluster, credentials), credentials.token)


class _Part(NamedTuple):
    """A mapping of a kubeconfig, and the words by which people find it there."""

    path: Path
    place: str
    values: Mapping[Any, Any]

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.problem(f"{key} is no text")
        return value

    def required(self, key: str) -> str:
        if not self.text(key):
            raise self.problem(f"{key} is missing")
        return self.text(key)

    def flag(self, key: str) -> bool:
        value = self.values.get(key) or False
        if not isinstance(value, bool):
            raise self.problem(f"{key} is neither true nor false")
        return value

    def pem(self, key: str) -> bytes:
        """The content of `<key>-data`, else of the file that `key` names, else nothing."""
        if data := self.text(f"{key}-data"):
            try:
                return base64.b64decode("".join(data.split()), validate=True)
            except (binascii.Error, ValueError):
                raise self.problem(f"{key}-data is not base64") from None
        return _content(self.file(key)) if self.text(key) else b""

    def entries(self, key: str) -> list[Any]:
        values = self.values.get(key) or []
        if not isinstance(values, list):
            raise self.problem(f"{key} is no list")
        return values

    def file(self, key: str) -> Path:
        return self.path.parent / self.text(key)

    def named(self, kind: str, name: str, inner: str) -> "_Part":
        """The part `inner` of the entry of this name in the list `kind`."""
        found = [entry for entry in self.entries(kind) if isinstance(entry, dict)]
        entry = next((entry for entry in found if entry.get("name") == name), None)
        if entry is None:
            names = ", ".join(str(entry.get("name")) for entry in found[:20]) or "nothing"
            raise self.problem(f'{kind} has no "{name}" (it has {names})')
        values = entry.get(inner)
        if not isinstance(values, dict):
            raise self.problem(f'{kind}, "{name}": {inner} is no mapping')
        return _Part(self.path, f'{inner} "{name}"', values)

    def problem(self, error: str) -> BadAccess:
        return BadAccess(f"{self.path}: {f'{self.place}: ' if self.place else ''}{error}")


def _parsed(path: Path) -> _Part:
    try:
        values = yaml.load(_content(path), Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadAccess(f"{path}{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadAccess(f"{path}: not YAML") from None
    if not isinstance(values, dict):
        raise BadAccess(f"{path}: no kubeconfig: its top is no mapping")
    return _Part(path, "", values)


def _channel(cluster: _Part, credentials: Credentials) -> Channel:
    unchecked, ca = cluster.flag("insecure-skip-tls-verify"), cluster.pem("certificate-authority")
    if unchecked and ca:
        raise cluster.problem("certificate-authority and insecure-skip-tls-verify contradict each other")
    return Channel(
        _server(cluster.required("server"), f"{cluster.path}: {cluster.place}: server"),
        ca,
        not unchecked,
        cluster.text("tls-server-name"),
        credentials.certificate,
        credentials.key,
        _proxy(cluster),
    )


def _server(url: str, place: str) -> str:
    if "://" not in url:
        url = f"https://{url}"
    # A user in it has no effect there, and messages name the server.
    if not _is_url(url, {"http", "https"}) or "@" in urlsplit(url).netloc:
        raise BadAccess(f"{place}: not a URL such as https://10.0.0.1:6443")
    return url.rstrip("/")


def _proxy(cluster: _Part) -> str:
    url = cluster.text("proxy-url")
    if url and not _is_url(url, {"http", "https"}):
        raise cluster.problem("proxy-url: only http://host:port and https://host:port are supported")
    return url


def _is_url(url: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable()
        )
    except ValueError:
        return False


def _credentials(user: _Part) -> Credentials:
    for way, what in _OTHER_WAYS.items():
        if user.values.get(way):
            raise user.problem(
                f"it {what}, which is not supported; give it a token (`kubectl create token SERVICEACCOUNT`),"
                " a tokenFile, or client-certificate and client-key"
            )
    if user.values.get("exec"):
        return plugins.ask(_plugin(user))
    certificate, key = user.pem("client-certificate"), user.pem("client-key")
    if bool(certificate) != bool(key):
        raise user.problem("client-certificate and client-key need each other")
    return Credentials(_token_of(user), certificate, key)


def _plugin(user: _Part) -> Plugin:
    values = user.values["exec"]
    part = _Part(user.path, f"{user.place}: exec", values if isinstance(values, dict) else {})
    if part.text("interactiveMode") == "Always":
        raise part.problem("it needs a terminal (interactiveMode: Always)")
    if part.flag("provideClusterInfo"):
        raise part.problem("provideClusterInfo is not supported")
    command = part.required("command")
    variables = [(one.get("name"), one.get("value")) for one in part.entries("env") if isinstance(one, dict)]
    return Plugin(
        str(part.file("command")) if "/" in command else command,
        tuple(map(str, part.entries("args"))),
        tuple((str(name), str(value)) for name, value in variables),
        part.text("apiVersion"),
        f"{part.path}: {part.place}",
        part.text("installHint").strip(),
    )


def _token_of(user: _Part) -> str:
    if user.text("tokenFile"):
        return _token(user.file("tokenFile"))
    token = user.text("token").strip()
    if token and not _TOKEN.fullmatch(token):
        raise user.problem("the token has characters that no token has")
    return token


def _token(path: Path) -> str:
    token = _content(path).strip()
    if not token:
        raise BadAccess(f"{path}: there is no token in it")
    if not token.isascii() or not _TOKEN.fullmatch(token.decode("ascii")):
        raise BadAccess(f"{path}: the token has characters that no token has")
    return token.decode("ascii")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadAccess(f"{path}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise BadAccess(f"{path}: more than {MAX_BYTES >> 20} MiB")
    return content
