"""What node agents compare of a config, and how two configs that mean the same differ. Pure: no database, no options."""

import base64
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, Self

from yaml import MappingNode, SequenceNode

from checks.wire import goyaml, yamlnodes
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import InvalidYAML

# What a cluster agent puts into each instance.
_ADDED = ("tags", "empty_default_hostname")
# The keys of tags that name the cluster, and the options that set them.
_CLUSTER_TAGS = {
    "kube_cluster_name": "DD_CLUSTER_NAME",
    "cluster_name": "DD_CLUSTER_NAME",
    "orch_cluster_id": "DD_ORCHESTRATOR_CLUSTER_ID",
}
# How many tags a difference names.
_FEW = 3


class Body(NamedTuple):
    """All of a config that is in its FastDigest: a node agent goes on running a config whose body stays the same."""

    name: str
    instances: tuple[str, ...] = ()
    init_config: str = ""
    logs: str = ""
    ad_identifiers: tuple[str, ...] = ()
    node_name: str = ""
    service_id: str = ""
    ignore_autodiscovery_tags: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Return the body of a config of the protocol's JSON. Raises KeyError, TypeError or ValueError when it is none."""
        given = {key: value for key, value in config.items() if value is not None}
        texts: dict[str, Any] = {key: _decoded(given.get(key, "")) for key in ("init_config", "logs")}
        others = {key: given[key] for key in ("node_name", "service_id", "ignore_autodiscovery_tags") if key in given}
        if any(isinstance(value, list | dict) for value in others.values()):
            raise TypeError("a field of a config is a list or map")
        instances = tuple(map(_decoded, given.get("instances", ())))
        identifiers = tuple(map(str, given.get("ad_identifiers", ())))
        return cls(str(given["check_name"]), instances, **texts, ad_identifiers=identifiers, **others)

    def content(self) -> tuple[Any, ...]:
        """Return what the config says, however its author wrote it. Equal for configs that do the same."""
        return (
            self.name,
            _multiset(canonical(text) for text in self.instances),
            canonical(self.init_config),
            canonical(self.logs),
            *self[4:],
        )

    def core(self) -> tuple[Any, ...]:
        """Return the check and its instances without what cluster agents add to them."""
        return self.name, _multiset(canonical(text, without=_ADDED) for text in self.instances)


def canonical(text: str, without: Collection[str] = ()) -> str:
    """Return a YAML text with sorted keys and tags, without these keys of its map. A text that is no YAML is itself."""
    try:
        root = goyaml.read(text)
        if not isinstance(root, MappingNode):
            return "" if root is None or yamlnodes.is_null(root) else goyaml.write(root)
        twin = MappingNode(root.tag, [pair for pair in root.value if pair[0].value not in without], flow_style=False)
        if "tags" not in without and (tags := _tags(root)):
            goyaml.put(twin, "tags", goyaml.texts_node(sorted(set(tags))))
        return goyaml.write(twin) if twin.value else ""
    except InvalidYAML:
        return text


def differences(there: Body, here: Body) -> tuple[str, ...]:
    """Return in what two configs of equal cores differ for a node agent, without secrets. Empty if in nothing."""
    return tuple(_differences(there, here))


def _differences(there: Body, here: Body) -> Iterator[str]:
    tags = [{tag for text in one.instances for tag in _tags_of(text)} for one in (there, here)]
    if tags[0] != tags[1]:
        yield from _differing_tags(tags[0] - tags[1], tags[1] - tags[0])
    for key in ("init_config", "logs"):
        before, after = getattr(there, key), getattr(here, key)
        if before != after:
            same = canonical(before) == canonical(after)
            yield f"{key} is written otherwise" if same else f"{key} differs"
    yield from (f"{key} differs" for key in Body._fields[4:] if getattr(there, key) != getattr(here, key))
    if there.instances != here.instances and tags[0] == tags[1]:
        in_order = sorted(there.instances) == sorted(here.instances)
        yield "the instances stand in another order" if in_order else _written_otherwise(there, here)


def _written_otherwise(there: Body, here: Body) -> str:
    marks = [sum("empty_default_hostname" in text for text in one.instances) for one in (there, here)]
    if marks[0] != marks[1]:
        return "empty_default_hostname is set on one side only"
    return "the instances are written otherwise (quotes, order of keys or tags)"


def _differing_tags(there: set[str], here: set[str]) -> Iterator[str]:
    for tags, place in ((there, "there"), (here, "here")):
        if tags:
            more = f" and {len(tags) - _FEW} more" if len(tags) > _FEW else ""
            yield f"tags only {place}: {', '.join(scrub(tag) for tag in sorted(tags)[:_FEW])}{more}"
    keys = {tag.partition(":")[0] for tag in there | here}
    for option in sorted({_CLUSTER_TAGS[key] for key in keys & _CLUSTER_TAGS.keys()}):
        yield f"set {option} as it is there"
    if not (there or here):
        yield "tags stand at other instances"


def _tags_of(text: str) -> list[str]:
    try:
        root = goyaml.read(text)
    except InvalidYAML:
        return []
    return _tags(root) if isinstance(root, MappingNode) else []


def _tags(root: MappingNode) -> list[str]:
    node = yamlnodes.get(root, "tags")
    return [goyaml.printed(item) for item in node.value] if isinstance(node, SequenceNode) else []


def _multiset(texts: Iterator[str]) -> frozenset[tuple[str, int]]:
    return frozenset(Counter(texts).items())


def _decoded(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError("a text of a config is no text")
    return base64.b64decode(text, validate=True).decode()
