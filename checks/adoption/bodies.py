"""What node agents compare of a config, and how two configs that mean the same differ. Pure: no database, no options."""

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from yaml import MappingNode, SequenceNode

from checks.wire import goyaml, yamlnodes
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib.words import cut

# What a cluster agent puts into each instance.
_ADDED = ("tags", "empty_default_hostname")
# The keys of tags that name the cluster, and the options that set them.
_CLUSTER_TAGS = {
    "kube_cluster_name": "DD_CLUSTER_NAME",
    "cluster_name": "DD_CLUSTER_NAME",
    "orch_cluster_id": "DD_ORCHESTRATOR_CLUSTER_ID",
}
# Nodes of all texts that are read at most: within a minute. Those of 20 000 usual configs that all differ are fewer.
MOST_READ = 2_500_000
# Characters that take as long to read as a node.
_CHARACTERS = 40
# How many characters of a check's name an error has.
_SHOWN = 100
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


class TooMuchToCompare(ValueError):
    """The configs that are not equal byte by byte say too much to be compared. The message names the one that is too much."""


class _Said(NamedTuple):
    """What a text says: with sorted keys and tags, the same without what cluster agents add, and its tags as they stand."""

    whole: str
    core: str
    tags: tuple[str, ...] = ()


class Reading:
    """Compares configs by what they say. Each text is read once, and all of them together within a bound.

    A text that is no YAML, or expands beyond what sources may send, says its bytes. Its methods raise TooMuchToCompare.
    """

    def __init__(self) -> None:
        self._read: dict[str, _Said] = {}
        self._left = MOST_READ

    def content(self, body: Body) -> tuple[Any, ...]:
        """Return what a config says, however its author wrote it. Equal for configs that do the same."""
        said = [self._said(body, text) for text in (*body.instances, body.init_config, body.logs)]
        return body.name, _multiset(one.whole for one in said[:-2]), said[-2].whole, said[-1].whole, *body[4:]

    def core(self, body: Body) -> tuple[Any, ...]:
        """Return the check and its instances without what cluster agents add to them."""
        return body.name, _multiset(self._said(body, text).core for text in body.instances)

    def differences(self, there: Body, here: Body) -> tuple[str, ...]:
        """Return in what two configs of equal cores differ for a node agent, without secrets. Empty if in nothing."""
        return () if there == here else tuple(self._differences(there, here))

    def _differences(self, there: Body, here: Body) -> Iterator[str]:
        tags = [{tag for text in one.instances for tag in self._said(one, text).tags} for one in (there, here)]
        if tags[0] != tags[1]:
            yield from _differing_tags(tags[0] - tags[1], tags[1] - tags[0])
        for key in ("init_config", "logs"):
            before, after = getattr(there, key), getattr(here, key)
            if before != after:
                same = self._said(there, before).whole == self._said(here, after).whole
                yield f"{key} is written otherwise" if same else f"{key} differs"
        yield from (f"{key} differs" for key in Body._fields[4:] if getattr(there, key) != getattr(here, key))
        if there.instances != here.instances and tags[0] == tags[1]:
            in_order = sorted(there.instances) == sorted(here.instances)
            yield "the instances stand in another order" if in_order else _written_otherwise(there, here)

    def _said(self, body: Body, text: str) -> _Said:
        said = self._read.get(text)
        if said is None:
            if self._left < 0:
                raise TooMuchToCompare(
                    f"{cut(scrub(body.name), _SHOWN)}: configs differ, and say too much to be compared"
                )
            said, nodes = _read(text)
            self._left -= nodes + len(text) // _CHARACTERS
            self._read[text] = said
        return said


def _read(text: str) -> tuple[_Said, int]:
    """What a text says, and how many nodes it has."""
    try:
        root = goyaml.read(text)
        if root is None or yamlnodes.is_null(root):
            return _Said("", ""), 1
        number = sum(1 for _ in yamlnodes.nodes(root))
        if not isinstance(root, MappingNode):
            written = goyaml.write(root)
            return _Said(written, written), number
        tags = _tags(root)
        core = MappingNode(root.tag, [pair for pair in root.value if pair[0].value not in _ADDED], flow_style=False)
        whole = MappingNode(root.tag, root.value, flow_style=False)
        if tags:
            goyaml.put(whole, "tags", goyaml.texts_node(sorted(set(tags))))
        whole_text, core_text = (goyaml.write(one) if one.value else "" for one in (whole, core))
        return _Said(whole_text, core_text, tuple(tags)), number
    except InvalidYAML:
        return _Said(text, text), 0


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


def _tags(root: MappingNode) -> list[str]:
    node = yamlnodes.get(root, "tags")
    return [goyaml.printed(item) for item in node.value] if isinstance(node, SequenceNode) else []


def _multiset(texts: Iterable[str]) -> frozenset[tuple[str, int]]:
    return frozenset(Counter(texts).items())


def _decoded(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError("a text of a config is no text")
    return base64.b64decode(text, validate=True).decode()
