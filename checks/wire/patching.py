"""Patches configs: the bytes that node agents get, with digests and check IDs.

Formats, formulas and bytes are the Datadog Cluster Agent's. The bytes are made once and stored, since agents compare them and
check IDs are hashes of them. Pure: no database, no clock, no options.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import mmh3
from yaml import MappingNode, Node, SequenceNode

from checks.wire import goyaml, scrub, standins, yamlnodes
from checks.wire.checkids import MAX_CHECK_ID_BYTES, NAMES, check_id, collection_interval, instance_name
from checks.wire.places import Call, place
from checks.wire.readable import hidden_fields, readable
from checks.wire.yamlnodes import InvalidYAML

P = ParamSpec("P")
T = TypeVar("T")

MAX_NAME = 253
# A hundred microseconds each. Files of the field have hundreds.
MAX_INSTANCES = 10_000

_FLAGS = ("cluster_check", "ignore_autodiscovery_tags", "metrics_excluded", "logs_excluded")
_LISTS = ("instances", "ad_identifiers", "advanced_ad_identifiers")
_TEXTS = ("init_config", "metric_config", "logs")
Secrets = tuple[tuple[str, str], ...]
_Body = dict[str, Any]  # the fields of a config under their JSON keys
_compact_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class UnpatchableConfig(ValueError):
    """The config can't be served. The message names check, instance, line and reason, without secrets."""


@dataclass(frozen=True, slots=True)
class IntegrationConfig:
    """A config as a source sends it. Texts are YAML (or JSON), never base64.

    secrets: (text, what node agents get in its place), for texts that are whole values. Everybody else sees the text.
    """

    name: str
    instances: tuple[str, ...] = ()
    init_config: str | None = None
    metric_config: str | None = None
    logs: str | None = None
    ad_identifiers: tuple[str, ...] = ()
    advanced_ad_identifiers: tuple[Any, ...] = ()
    provider: str = ""
    service_id: str = ""
    cluster_check: bool = False
    node_name: str = ""
    source: str = ""
    ignore_autodiscovery_tags: bool = False
    check_tag_cardinality: str = ""
    metrics_excluded: bool = False
    logs_excluded: bool = False
    secrets: Secrets = field(default=(), repr=False)

    @property
    def is_endpoint(self) -> bool:
        """Whether it is an endpoint check: it belongs to the node of the endpoint's pod and is never dispatched."""
        return bool(self.node_name)

    @property
    def is_template(self) -> bool:
        """Whether it is a template: it can't run before a service is found for it."""
        return bool(self.ad_identifiers or self.advanced_ad_identifiers) and not self.is_endpoint

    def to_json(self) -> dict[str, Any]:
        """Return all fields under their JSON keys. Texts are not encoded."""
        lists = {key: list(getattr(self, key)) for key in _LISTS}
        secrets = {"secrets": dict(sorted(self.secrets))} if self.secrets else {}
        return _body(self) | lists | {"logs": self.logs} | secrets

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the config of `to_json` data. Missing or null fields are empty, unknown keys are ignored.

        Raises UnpatchableConfig for a field of a wrong type.
        """
        given = {key: value for key, value in {**data, "name": data.get("check_name", "")}.items() if value is not None}
        values = {key: given[key] for key in cls.__slots__ if key in given}
        secrets = tuple(values.pop("secrets", {}).items())
        for key, value in values.items():
            if not _is_of_its_type(key, value):
                raise UnpatchableConfig(f"{key} is of a wrong type")
        return cls(**values | {key: tuple(values[key]) for key in _LISTS if key in values}, secrets=secrets)


@dataclass(frozen=True, slots=True)
class PatchedConfig:
    """A config ready to be served.

    wire: the bytes for node agents. scrubbed: the same without secrets. text: the readable form without secrets. fingerprint: a
    hash of the config before patching, so it does not depend on the extra tags.
    """

    name: str
    provider: str
    source: str
    node_name: str
    digest: str
    fast_digest: str
    # Hash of the meaning: equal for configs that differ only in the order of tags, source and provider.
    contents: str
    wire: bytes
    scrubbed: bytes
    text: str
    check_ids: tuple[str, ...]
    # Seconds between two runs of each instance, in the order of the check IDs.
    intervals: tuple[float, ...]
    # How its instances may be called, without secrets.
    calls: tuple[Call, ...]
    fingerprint: str


class _Text(NamedTuple):
    """A text as it is sent, and as it is displayed: the same object when it has no secret."""

    sent: str
    shown: str


class _Instance(NamedTuple):
    """An instance.

    sent: its text for node agents. shown: the text without secrets. digested: the text that the digest hashes, with sorted
    tags. said: the text that `contents` hashes. name: its part of the check ID. call: without secrets. interval: seconds between
    runs.
    """

    sent: str
    shown: str
    digested: str
    said: str
    name: str
    call: Call
    interval: float


def patch(config: IntegrationConfig, extra_tags: Sequence[str], *, apart: int = 0) -> PatchedConfig:
    """Return the config as node agents get it, with the extra tags in each instance. Raises UnpatchableConfig.

    A cluster check loses its AD identifiers and gets `empty_default_hostname: true`; an endpoint check keeps them.
    apart: number of empty lines before init_config. They give a config other hashes than another one that has the same, and
    mean nothing in YAML.
    """
    _refuse_odd_fields(config)
    instances = [
        _at(config, f"instance {number}", _patched_instance, text, extra_tags, not config.is_endpoint, config.secrets)
        for number, text in enumerate(config.instances, 1)
    ]
    texts = {key: _at(config, key, _rewritten, getattr(config, key), config.secrets) for key in _TEXTS}
    sent: dict[str, Any] = {key: text and text.sent for key, text in texts.items()}
    body = _body(replace(config, **sent)) | {
        "instances": [instance.sent for instance in instances],
        "cluster_check": False,
    }
    if not config.is_endpoint or config.provider == "cloud-foundry-bbs":
        # The node of an endpoint resolves them, but not those of Cloud Foundry.
        body |= {"ad_identifiers": None, "advanced_ad_identifiers": None}
    contents = _contents(body, (instance.said for instance in instances))
    if apart:
        body["init_config"] = "\n" * apart + (body["init_config"] or "")
    hidden = _hidden_texts(body, texts, instances)
    wire, fast = _wire(body), _hash(body, body["instances"])
    return PatchedConfig(
        name=config.name,
        provider=config.provider,
        source=config.source,
        node_name=config.node_name,
        digest=f"{_hash(body, (instance.digested for instance in instances)):x}",
        fast_digest=f"{fast:x}",
        contents=contents,
        wire=wire,
        scrubbed=_wire(body | hidden) if hidden else wire,
        text=readable(body | hidden),
        check_ids=_check_ids(body, fast, instances),
        intervals=tuple(instance.interval for instance in instances),
        calls=tuple(instance.call for instance in instances),
        fingerprint=fingerprint(config),
    )


def fingerprint(config: IntegrationConfig) -> str:
    """Return the hash of all that a config says before it is patched."""
    return hashlib.blake2b(_compact_json(config.to_json()).encode(), digest_size=16).hexdigest()


def sent_by(wire: bytes, source: str, provider: str) -> bytes:
    """Return the bytes of a config with another source and provider. Neither is in a digest, so no check restarts."""
    return _compact_json(json.loads(wire) | {"source": source, "provider": provider}).encode()


def identity(wire: bytes) -> tuple[str, str]:
    """Return `fast_digest` and `contents` of stored bytes. Bytes that are no valid config equal only themselves."""
    try:
        body = _stored(wire)
        fast = f"{_hash(body, body['instances']):x}"
    except (KeyError, TypeError, ValueError):
        alone = hashlib.blake2b(wire, digest_size=16).hexdigest()
        return alone[:16], alone
    try:
        said = [_patched_instance(text, (), is_cluster_check=False).said for text in body["instances"]]
    except InvalidYAML:
        said = body["instances"]
    return fast, _contents(body | {"init_config": (body["init_config"] or "").lstrip("\n") or None}, said)


def apart(wire: bytes) -> int:
    """Return the number of empty lines before init_config in stored bytes: see `patch`."""
    init_config = _stored(wire)["init_config"] or ""
    return len(init_config) - len(init_config.lstrip("\n"))


def copies(wire: bytes, secrets: Secrets = ()) -> tuple[bytes, str]:
    """Return `scrubbed` and `text` (see PatchedConfig) of stored bytes. secrets: those of the config."""
    body = _stored(wire)
    try:
        hidden = {key: _shown(body[key], secrets) for key in _TEXTS} | hidden_fields(body)
        hidden["instances"] = [_shown(text, secrets) or "" for text in body["instances"]]
    except InvalidYAML:
        # The texts were valid when they were stored. Texts that can't be read any more are not shown.
        hidden = dict.fromkeys(_TEXTS) | {"instances": []} | hidden_fields(body)
    return _wire(body | hidden), readable(body | hidden)


def calls(scrubbed: bytes) -> tuple[Call, ...]:
    """Return how the instances of a stored display copy may be called; none when it can't be read any more."""
    try:
        return tuple(_call(_map(text)) for text in _stored(scrubbed)["instances"])
    except (KeyError, TypeError, ValueError):
        return ()


def tags(scrubbed: bytes) -> list[list[str]]:
    """Return the tags of each instance of a stored display copy, as agents read them; none when it can't be read any more."""
    try:
        return [_tags(yamlnodes.get(_map(text), "tags")) for text in _stored(scrubbed)["instances"]]
    except (KeyError, TypeError, ValueError):
        return []


def place_of(scrubbed: bytes, number: int, of: int) -> str:
    """Return what an instance of a stored display copy connects to; empty when it does not say so, or has not so many.

    number: from 0. of: how many instances the copy must have.
    """
    try:
        texts = _stored(scrubbed)["instances"]
        return place(_map(texts[number])) if len(texts) == of else ""
    except (KeyError, TypeError, ValueError):
        return ""


def hidden_again(text: str) -> str:
    """Return the display text of an older version without what this version knows to be secret."""
    try:
        root = yamlnodes.read(text)
        before = "" if root is None else yamlnodes.write(root)
        after = "" if root is None else _hidden(root, before)
    except InvalidYAML:
        return scrub.scrub(text)
    return text if after == before else after


def fast_digest(config: IntegrationConfig) -> int:
    """Return the FastDigest: the hash of the raw texts by which agents compare configs. Unsigned, 64 bits."""
    return _hash(_body(config), config.instances)


def digest(config: IntegrationConfig) -> str:
    """Return the Digest, in hexadecimal: like the FastDigest, but it ignores the order of tags and instances that are no maps."""
    texts = []
    for instance in config.instances:
        with suppress(InvalidYAML):
            root = _map(instance)
            texts.append(_with_sorted_tags(root, goyaml.write(root)))
    return f"{_hash(_body(config), texts):x}"


def _patched_instance(text: str, extra_tags: Sequence[str], is_cluster_check: bool, secrets: Secrets = ()) -> _Instance:
    root = _map(text)
    # Neither must tell a secret: an interval is shown, and so are names.
    interval = collection_interval(root)
    _refuse_secret_names(root, secrets)
    standins.replace(root, dict(secrets))
    if is_cluster_check:
        goyaml.put(root, "empty_default_hostname", yamlnodes.true())
    if extra_tags:
        goyaml.put(root, "tags", goyaml.texts_node(sorted({*_tags(yamlnodes.get(root, "tags")), *extra_tags})))
    sent = goyaml.write(root)
    name = instance_name(root)
    digested = sent if extra_tags else _with_sorted_tags(root, sent)
    # The digest ignores the types of tags that are no texts.
    tags = yamlnodes.get(root, "tags")
    others = [tag for tag in tags.value if tag.tag != yamlnodes.STR] if isinstance(tags, SequenceNode) else []
    said = digested + "".join(sorted(f"{tag.tag} {goyaml.printed(tag)}\n" for tag in others))
    shown = _hidden(root, sent, secrets)  # also the tree is without secrets then
    return _Instance(sent, shown, digested, said, name, _call(root), interval)


def _call(root: MappingNode) -> Call:
    return Call(instance_name(root), place(root))


def _map(text: str) -> MappingNode:
    """The instance as a map, which is empty when the text is. Raises InvalidYAML for other values."""
    root = goyaml.read(text)
    if root is None or root.tag == yamlnodes.NULL:
        return yamlnodes.mapping()
    if not isinstance(root, MappingNode):
        raise InvalidYAML("is not a map", root)
    return root


def _rewritten(text: str | None, secrets: Secrets = ()) -> _Text | None:
    """A text other than an instance. None when node agents read it as null."""
    if text is None or text.strip() in ("", "{}"):
        return None if text is None else _Text(text, text)
    root = goyaml.read(text)
    if root is None or root.tag == yamlnodes.NULL:
        return None
    standins.replace(root, dict(secrets))
    sent = goyaml.write(root)
    return _Text(sent, _hidden(root, sent, secrets))


def _tags(node: Node | None) -> list[str]:
    """The tags as texts; none when the node is no list."""
    return [goyaml.printed(item) for item in node.value] if isinstance(node, SequenceNode) else []


def _with_sorted_tags(root: MappingNode, written: str) -> str:
    """The instance's text with its tags as sorted texts.

    The Datadog Cluster Agent leaves out an instance whose tags are no list. Here it counts: else different configs would have
    one digest.
    """
    node = yamlnodes.get(root, "tags")
    tags = _tags(node)
    if node is None or not isinstance(node, SequenceNode):
        return written
    if tags == sorted(tags) and all(item.tag == yamlnodes.STR for item in node.value):
        return written
    twin = MappingNode(root.tag, root.value, flow_style=False)
    goyaml.put(twin, "tags", goyaml.texts_node(sorted(tags)))
    return goyaml.write(twin)


def _refuse_secret_names(root: MappingNode, secrets: Secrets) -> None:
    for name in NAMES:
        node = yamlnodes.get(root, name)
        if node is not None and any(node.value == text for text, _ in secrets):
            raise InvalidYAML(f"its {name} is a secret, which its check ID would show", node)


def _hidden(root: Node, written: str, secrets: Secrets = ()) -> str:
    """The text of a tree without secrets. Changes the tree."""
    if standins.replace(root, {value: text for text, value in secrets}):
        written = goyaml.write(root)
    if not scrub.may_hold_secrets(written):
        return written
    scrub.hide(root)
    return goyaml.write(root)


def _hidden_texts(body: _Body, texts: Mapping[str, _Text | None], instances: Sequence[_Instance]) -> dict[str, Any]:
    """The fields whose display differs from what is sent: {key: displayed value}."""
    hidden: dict[str, Any] = {key: text.shown for key, text in texts.items() if text and text.shown != text.sent}
    hidden |= hidden_fields(body)
    if any(instance.shown is not instance.sent for instance in instances):
        hidden["instances"] = [instance.shown for instance in instances]
    return hidden


def _shown(text: str | None, secrets: Secrets) -> str | None:
    """A text without secrets, and without comments, since those may contain anything."""
    rewritten = _rewritten(text, secrets)
    return rewritten and rewritten.shown


def _check_ids(body: _Body, fast: int, instances: Sequence[_Instance]) -> tuple[str, ...]:
    name, init_config = body["check_name"], body["init_config"]
    ids = tuple(check_id(name, instance.name, fast, instance.sent, init_config) for instance in instances)
    for number, each in enumerate(ids, 1):
        if "\0" in each or len(each.encode()) > MAX_CHECK_ID_BYTES:
            raise UnpatchableConfig(f"{name}: instance {number}: its name is too long or holds a NUL character")
    return ids


def _hash(body: _Body, instances: Iterable[str]) -> int:
    parts = (
        body["check_name"],
        *instances,
        body["init_config"] or "",
        *(body["ad_identifiers"] or ()),
        body["node_name"],
        body["logs"] or "",
        body["service_id"],
        "true" if body["ignore_autodiscovery_tags"] else "false",
    )
    first, _ = mmh3.hash64("".join(parts).encode(), signed=False)
    return first


def _contents(body: _Body, said: Iterable[str]) -> str:
    meaning = body | {"instances": list(said), "provider": "", "source": ""}
    return hashlib.blake2b(_compact_json(meaning).encode(), digest_size=16).hexdigest()


def _stored(wire: bytes) -> _Body:
    """The body of stored bytes, with decoded texts. Raises KeyError, TypeError or ValueError."""
    came = json.loads(wire)
    texts = {key: came[key] and base64.b64decode(came[key]).decode() for key in _TEXTS}
    body: _Body = came | texts | {"instances": [base64.b64decode(text).decode() for text in came["instances"] or ()]}
    return body


def _body(config: IntegrationConfig) -> _Body:
    """The fields in the order of the JSON. Empty lists and logs are null, since agents would take them for given."""
    body = {"check_name": config.name} | {key: getattr(config, key) for key in config.__slots__[1:] if key != "secrets"}
    body["ad_identifiers"] = config.ad_identifiers or None
    body["advanced_ad_identifiers"] = config.advanced_ad_identifiers or None
    body["logs"] = config.logs if config.logs and not config.logs.isspace() else None
    return body


def _wire(body: _Body) -> bytes:
    texts = {key: body[key] if body[key] is None else _base64(body[key]) for key in _TEXTS}
    return _compact_json(body | texts | {"instances": [_base64(text) for text in body["instances"]]}).encode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _at(config: IntegrationConfig, place: str, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return make(*args, **kwargs)
    except InvalidYAML as error:
        raise UnpatchableConfig(f"{config.name}: {place}: {error}") from None


def _is_of_its_type(key: str, value: object) -> bool:
    if key in _FLAGS:
        return isinstance(value, bool)
    if key == "advanced_ad_identifiers":
        return isinstance(value, list | tuple)
    if key in _LISTS:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _refuse_odd_fields(config: IntegrationConfig) -> None:
    """Raise UnpatchableConfig for fields that PostgreSQL or JSON can't hold, for too many instances, and without a name."""
    if not config.name:
        raise UnpatchableConfig("the check has no name")
    if (number := len(config.instances)) > MAX_INSTANCES:
        raise UnpatchableConfig(f"{config.name[:MAX_NAME]}: it has {number} instances, {MAX_INSTANCES} are the most")
    for key in ("name", "provider", "node_name"):
        if len(getattr(config, key)) > MAX_NAME:
            raise UnpatchableConfig(f"{config.name[:MAX_NAME]!r}: {key} is longer than {MAX_NAME} characters")
    named = (config.name, config.provider, config.service_id, config.node_name, config.source)
    try:
        advanced = _compact_json(config.advanced_ad_identifiers) if config.advanced_ad_identifiers else ""
        held = "".join((*named, config.check_tag_cardinality, *config.ad_identifiers)).encode() + advanced.encode()
    except (TypeError, ValueError, RecursionError):
        raise UnpatchableConfig(f"{config.name!r}: a field is not valid UTF-8 or not JSON") from None
    if b"\0" in held or "\\u0000" in advanced:
        raise UnpatchableConfig(f"{config.name!r}: a field holds a NUL character")
