"""What node agents get of a config: patching, digests, check IDs, the bytes.

Formats and formulas are the Datadog Cluster Agent's. The bytes are made once and stored: agents compare them, and
check IDs hash them. Pure: no database, no clock, no options.
"""

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

import mmh3
from fnv_c import fnv1_64
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks import scrub, yamlnodes
from checks.readable import hidden_fields, readable
from checks.yamlnodes import OddYAML

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
    wire: bytes
    scrubbed: bytes
    text: str
    check_ids: tuple[str, ...]
    # Seconds between two runs of each instance, in the order of the check IDs.
    intervals: tuple[float, ...]
    fingerprint: str


class _Instance(NamedTuple):
    """An instance as it is sent, as it counts for the digest, as people see it, the name it gives its check ID, its interval."""

    text: str
    digested: str
    shown: str
    name: str
    interval: float


def patch(config: IntegrationConfig, extra_tags: Sequence[str]) -> PatchedConfig:
    """The config as node agents get it, with the extra tags in each instance. Raises UnpatchableConfig.

    A cluster check loses its AD identifiers and gets `empty_default_hostname: true`; an endpoint check keeps them.
    """
    _refuse_odd_fields(config)
    instances = [
        _at(config, f"instance {number}", _patched_instance, text, extra_tags, not config.is_endpoint)
        for number, text in enumerate(config.instances, 1)
    ]
    body = _body(config) | {"instances": [instance.text for instance in instances], "cluster_check": False}
    if not _keeps_identifiers(config):
        body |= {"ad_identifiers": None, "advanced_ad_identifiers": None}
    hidden = _hidden_texts(config, instances)
    wire = _wire(body)
    return PatchedConfig(
        name=config.name,
        provider=config.provider,
        source=config.source,
        node_name=config.node_name,
        digest=f"{_hash(body, (instance.digested for instance in instances)):x}",
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


def copies(wire: bytes) -> tuple[bytes, str]:
    """The same of bytes that were stored once: `scrubbed` and `text` of a PatchedConfig, without their secrets."""
    came = json.loads(wire)
    texts = {key: came[key] and base64.b64decode(came[key]).decode() for key in _TEXTS}
    body = came | texts | {"instances": [base64.b64decode(text).decode() for text in came["instances"] or ()]}
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
    """The part of the check ID that an instance gives itself: its `name`, else its `namespace`."""
    names = [yamlnodes.get(instance, key) for key in ("name", "namespace")]
    given = [name for name in names if name is not None and not yamlnodes.is_null(name)]
    # The peer gives both up when one can't be a text.
    if not all(isinstance(name, ScalarNode) for name in given):
        return ""
    return next((name.value for name in given if name.value), "")


def collection_interval(instance: MappingNode) -> float:
    """Seconds between two runs: what the instance asks for if that is a positive number, else the agents' default."""
    asked = yamlnodes.get(instance, "min_collection_interval")
    try:
        seconds = float(asked.value) if isinstance(asked, ScalarNode) else 0.0
    except ValueError:
        seconds = 0.0
    # Within bounds, so that nothing overflows that is divided by it.
    return min(max(seconds, 0.001), 1e9) if seconds > 0 else DEFAULT_INTERVAL


def _patched_instance(text: str, extra_tags: Sequence[str], is_cluster_check: bool) -> _Instance:
    root = _map(text)
    if is_cluster_check:
        yamlnodes.put(root, "empty_default_hostname", yamlnodes.true())
    if extra_tags:
        tags = {*_tags(yamlnodes.get(root, "tags")), *extra_tags}
        yamlnodes.put(root, "tags", yamlnodes.sequence(sorted(tags)))
    patched = yamlnodes.write(root)
    name, interval = instance_name(root), collection_interval(root)
    digested = patched if extra_tags else _with_sorted_tags(root, patched)
    return _Instance(patched, digested, _hidden(root, patched), name, interval)


def _map(text: str) -> MappingNode:
    """The instance, which is an empty map when it says nothing."""
    root = yamlnodes.read(text)
    if root is None or root.tag == yamlnodes.NULL:
        return yamlnodes.mapping()
    if not isinstance(root, MappingNode):
        raise OddYAML("is not a map", root)
    return root


def _tags(node: Node | None) -> list[str]:
    """The tags as texts: scalars by their letters, a map like `env: prod` in one line. What is no list has none."""
    items = node.value if isinstance(node, SequenceNode) else []
    return [
        item.value if isinstance(item, ScalarNode) else " ".join(yamlnodes.write(item).split())
        for item in items
        if not yamlnodes.is_null(item)
    ]


def _with_sorted_tags(root: MappingNode, written: str) -> str:
    """The instance's text as if its tags had come sorted."""
    node = yamlnodes.get(root, "tags")
    if not isinstance(node, SequenceNode):
        return written
    tags = _tags(node)
    came = "\ntags:\n" + "".join(f"- {tag}\n" for tag in tags)
    # Nothing but the instance's own tags begins a line with `tags:`, so this spares most instances a second writing.
    if len(tags) == len(node.value) and came in f"\n{written}":
        return f"\n{written}".replace(came, "\ntags:\n" + "".join(f"- {tag}\n" for tag in sorted(tags)), 1)[1:]
    twin = MappingNode(root.tag, root.value, flow_style=False)
    yamlnodes.put(twin, "tags", yamlnodes.sequence(sorted(tags)))
    return yamlnodes.write(twin)


def _digested(instance: str) -> str | None:
    try:
        root = _map(instance)
        return _with_sorted_tags(root, yamlnodes.write(root))
    except OddYAML:
        return None


def _hidden(root: Node, written: str) -> str:
    """What people see of a tree. Changes it."""
    if not scrub.may_hold_secrets(written):
        return written
    scrub.hide(root)
    return yamlnodes.write(root)


def _hidden_texts(config: IntegrationConfig, instances: Sequence[_Instance]) -> dict[str, Any]:
    """What people see otherwise than it is sent, by key."""
    shown = {key: _at(config, key, _shown, getattr(config, key)) for key in _TEXTS}
    hidden: dict[str, Any] = {key: text for key, text in shown.items() if text != getattr(config, key)}
    hidden |= hidden_fields(_body(config))
    if any(instance.shown is not instance.text for instance in instances):
        hidden["instances"] = [instance.shown for instance in instances]
    return hidden


def _shown(text: str | None) -> str | None:
    """What people see of a text that is sent as it came. Its comments are left out, since they may hold anything."""
    if text is None or text.strip() in ("", "{}"):
        return text
    root = yamlnodes.read(text)
    return "" if root is None else _hidden(root, yamlnodes.write(root))


def _check_ids(body: _Body, instances: Sequence[_Instance]) -> tuple[str, ...]:
    name, init_config = body["check_name"], body["init_config"]
    fast = _hash(body, body["instances"])
    ids = tuple(check_id(name, instance.name, fast, instance.text, init_config) for instance in instances)
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
