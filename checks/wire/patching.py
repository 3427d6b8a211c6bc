"""What node agents get of a config: patching, digests, check IDs, the bytes.

Formats, formulas and bytes are the Datadog Cluster Agent's. The bytes are made once and stored: agents compare them, and
check IDs hash them. Pure: no database, no clock, no options.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import mmh3
from fnv_c import fnv1_64
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import goyaml, scalars, scrub, yamlnodes
from checks.wire.readable import hidden_fields, readable
from checks.wire.yamlnodes import OddYAML

P = ParamSpec("P")
T = TypeVar("T")

# PostgreSQL refuses index entries above 2 704 bytes, and check IDs are looked up by index.
MAX_CHECK_ID_BYTES = 2000
MAX_NAME = 253
DEFAULT_INTERVAL = 15.0

_FLAGS = ("cluster_check", "ignore_autodiscovery_tags", "metrics_excluded", "logs_excluded")
_LISTS = ("instances", "ad_identifiers", "advanced_ad_identifiers")
_TEXTS = ("init_config", "metric_config", "logs")
_Body = dict[str, Any]  # a config's fields under the wire's keys
# The keys that node agents read of each instance, and what they take for them besides null.
_TEXT = (scalars.STR, scalars.BOOL, scalars.INT, scalars.FLOAT, scalars.BINARY)
_WHOLE = (scalars.INT, scalars.FLOAT)
_FIELD_TYPES: dict[str, tuple[str, ...]] = {
    "name": _TEXT,
    "namespace": _TEXT,
    "service": _TEXT,
    "tags": (yamlnodes.SEQ,),
    "min_collection_interval": _WHOLE,
    "empty_default_hostname": (scalars.BOOL,),
    "no_index": (scalars.BOOL,),
}
_compact_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class UnpatchableConfig(ValueError):
    """The config can't be served. The message names check, instance, line and why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class IntegrationConfig:
    """One config as a source sends it. Texts are YAML (or JSON), never base64."""

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

    @property
    def is_endpoint(self) -> bool:
        """Bound to the node that runs the endpoint's pod, never dispatched."""
        return bool(self.node_name)

    @property
    def is_template(self) -> bool:
        """Waits for a service to be found, so nobody can run it yet."""
        return bool(self.ad_identifiers or self.advanced_ad_identifiers) and not self.is_endpoint

    def to_json(self) -> dict[str, Any]:
        """All fields under the wire's keys, texts as they are."""
        lists = {key: list(getattr(self, key)) for key in _LISTS}
        return _body(self) | lists | {"logs": self.logs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`. What is missing or null is empty, unknown keys are ignored. Raises UnpatchableConfig."""
        given = {key: value for key, value in {**data, "name": data.get("check_name", "")}.items() if value is not None}
        values = {key: given[key] for key in cls.__slots__ if key in given}
        for key, value in values.items():
            if not _is_of_its_type(key, value):
                raise UnpatchableConfig(f"{key} is of a wrong type")
        return cls(**values | {key: tuple(values[key]) for key in _LISTS if key in values})


@dataclass(frozen=True, slots=True)
class PatchedConfig:
    """A config ready to be served. fingerprint: of what came, so that it says nothing of the extra tags."""

    name: str
    provider: str
    source: str
    node_name: str
    digest: str
    fast_digest: str
    # Hash of what it says: equal for configs that differ in nothing but the order of tags, and where they come from.
    contents: str
    wire: bytes
    scrubbed: bytes
    text: str
    check_ids: tuple[str, ...]
    # Seconds between two runs of each instance, in the order of the check IDs.
    intervals: tuple[float, ...]
    fingerprint: str


class _Text(NamedTuple):
    """A text as it is sent, and as people see it: the same object where it holds no secret."""

    sent: str
    shown: str


class _Instance(NamedTuple):
    """An instance as it is sent, as people see it, as it counts for the digest and as what it says, with its tags in order,
    the name that it gives its check ID, its interval.
    """

    sent: str
    shown: str
    digested: str
    said: str
    name: str
    interval: float


def patch(config: IntegrationConfig, extra_tags: Sequence[str], *, apart: int = 0) -> PatchedConfig:
    """The config as node agents get it, with the extra tags in each instance. Raises UnpatchableConfig.

    A cluster check loses its AD identifiers and gets `empty_default_hostname: true`; an endpoint check keeps them.
    apart: empty lines before init_config, which tell it apart from another config that would have the same hashes. No reader
    of YAML sees them.
    """
    _refuse_odd_fields(config)
    instances = [
        _at(config, f"instance {number}", _patched_instance, text, extra_tags, not config.is_endpoint)
        for number, text in enumerate(config.instances, 1)
    ]
    texts = {key: _at(config, key, _rewritten, getattr(config, key)) for key in _TEXTS}
    sent: dict[str, Any] = {key: text and text.sent for key, text in texts.items()}
    body = _body(replace(config, **sent)) | {
        "instances": [instance.sent for instance in instances],
        "cluster_check": False,
    }
    if not _keeps_identifiers(config):
        body |= {"ad_identifiers": None, "advanced_ad_identifiers": None}
    contents = _contents(body, (instance.said for instance in instances))
    if apart:
        body["init_config"] = "\n" * apart + (body["init_config"] or "")
    hidden = _hidden_texts(body, texts, instances)
    wire = _wire(body)
    return PatchedConfig(
        name=config.name,
        provider=config.provider,
        source=config.source,
        node_name=config.node_name,
        digest=f"{_hash(body, (instance.digested for instance in instances)):x}",
        fast_digest=f"{_hash(body, body['instances']):x}",
        contents=contents,
        wire=wire,
        scrubbed=_wire(body | hidden) if hidden else wire,
        text=readable(body | hidden),
        check_ids=_check_ids(body, instances),
        intervals=tuple(instance.interval for instance in instances),
        fingerprint=hashlib.blake2b(_compact_json(config.to_json()).encode(), digest_size=16).hexdigest(),
    )


def sent_by(wire: bytes, source: str, provider: str) -> bytes:
    """The same config as if this source had sent it. Neither is in a digest, so nothing restarts."""
    return _compact_json(json.loads(wire) | {"source": source, "provider": provider}).encode()


def identity(wire: bytes) -> tuple[str, str]:
    """`fast_digest` and `contents` of bytes that were stored once. What is no config of ours says itself alone."""
    try:
        body = _stored(wire)
        fast = f"{_hash(body, body['instances']):x}"
    except (KeyError, TypeError, ValueError):
        alone = hashlib.blake2b(wire, digest_size=16).hexdigest()
        return alone[:16], alone
    try:
        said = [_patched_instance(text, (), is_cluster_check=False).said for text in body["instances"]]
    except OddYAML:
        said = body["instances"]
    return fast, _contents(body | {"init_config": (body["init_config"] or "").lstrip("\n") or None}, said)


def apart(wire: bytes) -> int:
    """With how many empty lines stored bytes are told apart from others."""
    init_config = _stored(wire)["init_config"] or ""
    return len(init_config) - len(init_config.lstrip("\n"))


def copies(wire: bytes) -> tuple[bytes, str]:
    """The same of bytes that were stored once: `scrubbed` and `text` of a PatchedConfig, without their secrets."""
    body = _stored(wire)
    try:
        hidden = {key: _shown(body[key]) for key in _TEXTS} | hidden_fields(body)
        hidden["instances"] = [_shown(text) or "" for text in body["instances"]]
    except OddYAML:
        # What was sent once was read once; what can't be read any more is not shown.
        hidden = dict.fromkeys(_TEXTS) | {"instances": []} | hidden_fields(body)
    return _wire(body | hidden), readable(body | hidden)


def hidden_again(text: str) -> str:
    """What an older version showed of a config, without what is known for a secret by now."""
    try:
        root = yamlnodes.read(text)
        before = "" if root is None else yamlnodes.write(root)
        after = "" if root is None else _hidden(root, before)
    except OddYAML:
        return scrub.scrub(text)
    return text if after == before else after


def extra_tags(
    *,
    global_tags: Iterable[str] | None,
    cluster_name: str,
    cluster_tag_name: str,
    disable_cluster_name_tag_key: bool = False,
    orch_cluster_id: str = "",
) -> list[str]:
    """The tags that every dispatched instance gets, in the peer's order."""
    tags = list(global_tags or ())
    if cluster_name and cluster_tag_name and not disable_cluster_name_tag_key:
        tags.append(f"{cluster_tag_name}:{cluster_name}")
    if cluster_name:
        tags.append(f"kube_cluster_name:{cluster_name}")
    if orch_cluster_id:
        tags.append(f"orch_cluster_id:{orch_cluster_id}")
    return tags


def fast_digest(config: IntegrationConfig) -> int:
    """FastDigest: the hash of the raw texts, as agents compare configs. Unsigned, 64 bits."""
    return _hash(_body(config), config.instances)


def digest(config: IntegrationConfig) -> str:
    """Digest: the same, but blind to the order of tags. Instances that are no maps do not count."""
    return f"{_hash(_body(config), filter(None, map(_digested, config.instances))):x}"


def check_id(name: str, instance_name: str, fast: int, instance: str, init_config: str | None) -> str:
    """The ID under which a runner reports an instance, computed on the texts that are sent."""
    hashed = fnv1_64(struct.pack(">Q", fast) + instance.encode() + (init_config or "").encode())
    return f"{name}:{instance_name}:{hashed:x}" if instance_name else f"{name}:{hashed:x}"


def instance_name(instance: MappingNode) -> str:
    """The part of the check ID that an instance gives itself: its `name`, else its `namespace`.

    Node agents read both with other keys that they know; of an instance where one is of another type they read none.
    """
    fields = {key.value: value for key, value in instance.value if key.value in _FIELD_TYPES}
    if not all(_is_readable(fields[key], _FIELD_TYPES[key]) for key in fields):
        return ""
    names = [fields[key] for key in ("name", "namespace") if key in fields]
    return next((name.value for name in names if name.value and name.tag != yamlnodes.NULL), "")


def collection_interval(instance: MappingNode) -> float:
    """Seconds between two runs: what the instance asks for if that is a positive number, else the agents' default."""
    asked = yamlnodes.get(instance, "min_collection_interval")
    try:
        seconds = float(asked.value) if isinstance(asked, ScalarNode) else 0.0
    except ValueError:
        seconds = 0.0
    # Within bounds, so that nothing overflows that is divided by it.
    return min(max(seconds, 0.001), 1e9) if seconds > 0 else DEFAULT_INTERVAL


def _is_readable(node: Node, types: tuple[str, ...]) -> bool:
    if isinstance(node, SequenceNode) and node.tag in types:
        return all(_is_readable(item, _TEXT) for item in node.value)
    if types is _WHOLE and isinstance(node, ScalarNode) and node.tag in types:
        return goyaml.fits_64_bits(node)
    return node.tag in types or node.tag == yamlnodes.NULL


def _patched_instance(text: str, extra_tags: Sequence[str], is_cluster_check: bool) -> _Instance:
    root = _map(text)
    if is_cluster_check:
        goyaml.put(root, "empty_default_hostname", yamlnodes.true())
    if extra_tags:
        goyaml.put(root, "tags", goyaml.texts_node(sorted({*_tags(yamlnodes.get(root, "tags")), *extra_tags})))
    sent = goyaml.write(root)
    name, interval = instance_name(root), collection_interval(root)
    digested = sent if extra_tags else _with_sorted_tags(root, sent)
    said = digested + _kinds_of_tags(root)
    return _Instance(sent, _hidden(root, sent), digested, said, name, interval)


def _map(text: str) -> MappingNode:
    """The instance, which is an empty map when it says nothing."""
    root = goyaml.read(text)
    if root is None or root.tag == yamlnodes.NULL:
        return yamlnodes.mapping()
    if not isinstance(root, MappingNode):
        raise OddYAML("is not a map", root)
    return root


def _rewritten(text: str | None) -> _Text | None:
    """Another text than an instance. None for one that is null, as node agents read it."""
    if text is None or text.strip() in ("", "{}"):
        return None if text is None else _Text(text, text)
    root = goyaml.read(text)
    if root is None or root.tag == yamlnodes.NULL:
        return None
    sent = goyaml.write(root)
    return _Text(sent, _hidden(root, sent))


def _tags(node: Node | None) -> list[str]:
    """The tags as texts. What is no list has none."""
    return [goyaml.printed(item) for item in node.value] if isinstance(node, SequenceNode) else []


def _with_sorted_tags(root: MappingNode, written: str) -> str:
    """The instance's text as if its tags had come as texts, sorted.

    The peer leaves out an instance whose tags are no list; here it counts, since two that differ are two.
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


def _kinds_of_tags(root: MappingNode) -> str:
    """What the digest does not see: which tags are no texts."""
    node = yamlnodes.get(root, "tags")
    items = node.value if isinstance(node, SequenceNode) else []
    return "".join(sorted(f"{item.tag} {goyaml.printed(item)}\n" for item in items if item.tag != yamlnodes.STR))


def _digested(instance: str) -> str | None:
    try:
        root = _map(instance)
        return _with_sorted_tags(root, goyaml.write(root))
    except OddYAML:
        return None


def _hidden(root: Node, written: str) -> str:
    """What people see of a tree. Changes it."""
    if not scrub.may_hold_secrets(written):
        return written
    scrub.hide(root)
    return goyaml.write(root)


def _hidden_texts(body: _Body, texts: Mapping[str, _Text | None], instances: Sequence[_Instance]) -> dict[str, Any]:
    """What people see otherwise than it is sent, by key."""
    hidden: dict[str, Any] = {key: text.shown for key, text in texts.items() if text and text.shown != text.sent}
    hidden |= hidden_fields(body)
    if any(instance.shown is not instance.sent for instance in instances):
        hidden["instances"] = [instance.shown for instance in instances]
    return hidden


def _shown(text: str | None) -> str | None:
    """What people see of a text. Its comments are left out, since they may hold anything."""
    rewritten = _rewritten(text)
    return rewritten and rewritten.shown


def _check_ids(body: _Body, instances: Sequence[_Instance]) -> tuple[str, ...]:
    name, init_config = body["check_name"], body["init_config"]
    fast = _hash(body, body["instances"])
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
    told = body | {"instances": list(said), "provider": "", "source": ""}
    return hashlib.blake2b(_compact_json(told).encode(), digest_size=16).hexdigest()


def _stored(wire: bytes) -> _Body:
    """A body as it was before it was served."""
    came = json.loads(wire)
    texts = {key: came[key] and base64.b64decode(came[key]).decode() for key in _TEXTS}
    body: _Body = came | texts | {"instances": [base64.b64decode(text).decode() for text in came["instances"] or ()]}
    return body


def _body(config: IntegrationConfig) -> _Body:
    """The fields in the wire's order. Nulls for what would make agents think that there is something."""
    body = {"check_name": config.name} | {key: getattr(config, key) for key in config.__slots__[1:]}
    body["ad_identifiers"] = config.ad_identifiers or None
    body["advanced_ad_identifiers"] = config.advanced_ad_identifiers or None
    body["logs"] = config.logs if config.logs and not config.logs.isspace() else None
    return body


def _wire(body: _Body) -> bytes:
    texts = {key: body[key] if body[key] is None else _base64(body[key]) for key in _TEXTS}
    return _compact_json(body | texts | {"instances": [_base64(text) for text in body["instances"]]}).encode()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _keeps_identifiers(config: IntegrationConfig) -> bool:
    """Endpoint checks do, since their node resolves them; those of Cloud Foundry have no node that could."""
    return config.is_endpoint and config.provider != "cloud-foundry-bbs"


def _at(config: IntegrationConfig, place: str, make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return make(*args, **kwargs)
    except OddYAML as error:
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
    """Refuse what PostgreSQL or JSON can't hold, and a check without a name."""
    if not config.name:
        raise UnpatchableConfig("the check has no name")
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
