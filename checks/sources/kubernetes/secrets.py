"""Handles of Kubernetes' Secrets in configs, `ENC[k8s_secret@NAMESPACE/NAME/KEY]`, and what they stand for. Pure.

A handle is a whole value of a map or a list. What it stands for is a text, whatever it looks like. Node agents get that text;
everybody else sees the handle.
"""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from checks.sources.kubernetes.resources import Object
from checks.sources.kubernetes.variables import Unresolved
from checks.wire import goyaml, standins
from checks.wire.patching import IntegrationConfig

# Bytes that all handles of one config stand for together: it could name one large Secret very often.
MOST_BYTES = 256 * 1024
_WORD = "k8s_secret@"
_named = re.compile(rf"[ \t]*ENC\[{_WORD}(.*)\][ \t]*", re.DOTALL).fullmatch
_is_handle = re.compile(r"([a-z0-9][a-z0-9-]{0,62})/([a-z0-9][a-z0-9.-]{0,252})/([\w.-]{1,253})", re.ASCII).fullmatch


class Handle(NamedTuple):
    """A key of a Secret."""

    namespace: str
    name: str
    key: str

    @property
    def secret(self) -> str:
        """The Secret, for messages."""
        return f"Secret {self.namespace}/{self.name}"


class Value(NamedTuple):
    """What a handle stands for: a text, or else the reason why there is none."""

    text: str = ""
    error: str = ""


class Unread(Exception):
    """A Secret was not read yet, so nothing can be said about it."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is known of Secrets, and which ones may be named.

    known: grows and changes as Secrets are read. everywhere: those of all namespaces; else only those of the object's own.
    """

    known: dict[Handle, Value] = field(default_factory=dict, repr=False)
    everywhere: bool = False

    def refuse_others(self, handles: Iterable[Handle], namespace: str) -> None:
        """Raise Unresolved for a Secret of another namespace. Whoever annotates there need not be allowed to read it."""
        for handle in handles:
            if not self.everywhere and handle.namespace != namespace:
                raise Unresolved(
                    f"{handle.secret} is of another namespace: only those of {namespace} may be named here"
                )

    def given_to(self, config: IntegrationConfig, handles: Mapping[str, Handle]) -> IntegrationConfig:
        """Return the config with what its handles stand for. handles: as of `handles_of`. Raises Unread or Unresolved."""
        values = {text: self.known.get(handle) for text, handle in handles.items()}
        for value in values.values():
            if value and value.error:
                raise Unresolved(value.error)
        secrets = tuple(sorted((text, value.text) for text, value in values.items() if value))
        if len(secrets) < len(values):
            raise Unread
        sizes = {text: len(value.encode()) for text, value in secrets}
        if sum(sizes.get(text, 0) for text in _texts(config)) > MOST_BYTES:
            raise Unresolved(f"its Secrets have more than {MOST_BYTES >> 10} KiB together")
        return replace(config, secrets=secrets)


def handles_of(config: IntegrationConfig) -> dict[str, Handle]:
    """Return the texts of a config that are handles of Secrets. Raises Unresolved for one that names none."""
    handles = {}
    for text in _texts(config):
        if named := _named(text):
            if not (parts := _is_handle(named[1])):
                raise Unresolved(f"a handle is not ENC[{_WORD}NAMESPACE/NAME/KEY]")
            handles[text] = Handle(*parts.groups())
    return handles


def _texts(config: IntegrationConfig) -> Iterator[str]:
    """All texts in the values of a config that names a Secret."""
    for text in (*config.instances, config.init_config, config.metric_config):
        if text and _WORD in text and (root := goyaml.read(text)) is not None:
            yield from (node.value for node in standins.texts(root))


def value_of(secret: Object, handle: Handle) -> Value:
    """Return what a handle of this Secret stands for."""
    data = secret.get("data")
    encoded = data.get(handle.key) if isinstance(data, dict) else None
    if not isinstance(encoded, str):
        return Value(error=f"{handle.secret} has no key {handle.key}")
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return Value(error=f"key {handle.key} of {handle.secret} is no text in UTF-8")
    if not text or "\0" in text:
        return Value(error=f"key {handle.key} of {handle.secret} {'holds a NUL character' if text else 'is empty'}")
    if len(text.encode()) > MOST_BYTES:
        return Value(error=f"key {handle.key} of {handle.secret} has more than {MOST_BYTES >> 10} KiB")
    return Value(text)
