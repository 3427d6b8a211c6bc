"""Warnings about config texts that can be read but probably do not say what their authors meant. They stop nothing.

No message contains a value, and keys are shown without secrets. Pure: no database, no options.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.wire import integrations, yamlnodes
from checks.wire.oddities import Oddity, Place, by_line, oddities, second_document
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib.spelling import differ_in_number, is_one_edit, near_misses, nearest

FLAG = "cluster_check"
TOP_KEYS = (
    "init_config", "instances", "jmx_metrics", "logs", FLAG, "node_name", "ad_identifiers", "advanced_ad_identifiers",
    "cel_selector", "ignore_autodiscovery_tags", "check_tag_cardinality",
)  # fmt: skip
# The most warnings of one config.
MOST = 50
_LONGEST_SHOWN = 60
_SHORTEST_KEY = 3
_YAML = "tag:yaml.org,2002:"
# Keys of instances that every check, or nearly every one, has.
INTERVAL = "min_collection_interval"
_COMMON = {
    "name",
    "namespace",
    "service",
    "tags",
    INTERVAL,
    "empty_default_hostname",
    "timeout",
    "disable_generic_tags",
}
_LONGEST_SHORT = 4
_NUMBERS = {_YAML + "int", _YAML + "float"}
_NO_TEXTS = {_YAML + name for name in ("bool", "float", "int", "null")}


class Keys(NamedTuple):
    """The keys of an instance, and the place of each."""

    names: tuple[str, ...]
    lines: tuple[Place, ...]


def place(where: str, line: object) -> str:
    """Return `where:line`, or `where` when no line is known."""
    return where if line is None else f"{where}:{line}"


def without_secrets(where: str, line: object, said: str) -> str:
    """Return what is said of a place, without secrets. What is said of `passwd.yaml` is no password."""
    return f"{place(scrub(where), line)}: {scrub(said)}"


class Notice(NamedTuple):
    """A warning about a place in a source, with the line if it is known."""

    where: str
    line: int | None
    warning: str

    def __str__(self) -> str:
        return f"{place(self.where, self.line)}: {self.warning}"


class Linted(NamedTuple):
    """The warnings about a text, in the order of its lines, and what is compared with other texts.

    keys: those of each instance. check: the check of its config; empty when it makes none.
    """

    oddities: tuple[Oddity, ...] = ()
    keys: tuple[Keys, ...] = ()
    check: str = ""

    def besides(self, *messages: str) -> "Linted":
        """Return a copy with more warnings about the text as a whole. Empty messages are left out."""
        return self._replace(oddities=(*self.oddities, *(Oddity(None, scrub(one)) for one in messages if one)))

    def in_parts(self, parts: Mapping[int, str]) -> "Linted":
        """Return a copy for a config that came as data: each line is replaced by its part, {line: part}."""

        def part(line: Place) -> Place:
            return parts.get(line) if isinstance(line, int) else line

        found = tuple(oddity._replace(line=part(oddity.line)) for oddity in self.oddities)
        keys = tuple(each._replace(lines=tuple(map(part, each.lines))) for each in self.keys)
        return self._replace(oddities=found, keys=keys)


NOTHING_ODD = Linted()


def lint(text: str, check: str, *, written_here: bool = False) -> Linted:
    """Return the warnings about a text that makes a config of this check. Raises InvalidYAML.

    For a text that makes no cluster check these are only mistakes that may be the cause. written_here: it makes one without
    the flag `cluster_check`.
    """
    root = yamlnodes.compose(text)
    if not isinstance(root, MappingNode):
        return NOTHING_ODD
    flag = _value(root, FLAG)
    is_cluster_check = flag is not None and yamlnodes.is_true(flag)
    if not (written_here or is_cluster_check or not yamlnodes.is_null(_value(root, "node_name"))):
        return Linted(tuple(_first([*_flags(root), *second_document(text)])))
    instances = [node for node in _items(_value(root, "instances")) if isinstance(node, MappingNode)]
    misread = (oddity._replace(message=scrub(oddity.message)) for oddity in oddities(root, text))
    found = [*_flags(root), *misread, *_strays(root, text)]
    for instance in instances:
        found += [*_tags(instance), *_near_common(instance)]
        if interval := wrong_interval(instance):
            found.append(
                Oddity(_line(interval[0]), f"{interval[1]}: agents take their default, or refuse to load the check")
            )
    return Linted(tuple(_first(found)), tuple(map(_keys, instances)), check)


def notices(configs: Iterable[tuple[str, str, Linted]]) -> list[Notice]:
    """Return all warnings of a source, sorted by place. configs: (where, check, Linted).

    Each unknown check name gives one warning. Names are looked up each time, since the list may have grown.
    """
    found: list[Notice] = []
    checks: dict[str, list[tuple[str, Keys]]] = defaultdict(list)
    named: dict[str, str] = {}
    for where, check, linted in configs:
        named.setdefault(linted.check, where)
        found += (_notice(where, oddity) for oddity in linted.oddities)
        checks[check] += ((where, keys) for keys in linted.keys)
    told = {_asked_of(notice) for notice in found}
    for instances in checks.values():
        strange = misspelt_keys([keys for _, keys in instances])
        compared = (_notice(instances[number][0], oddity) for number, oddity in strange)
        found += (notice for notice in compared if _asked_of(notice) not in told)
    for check, where in named.items():
        if meant := integrations.meant_by(check):
            found.append(Notice(where, None, f"no integration is called {shown(check)}: is {meant} meant?"))
    return sorted(found, key=by_place)


def _notice(where: str, oddity: Oddity) -> Notice:
    line, message = oddity
    return Notice(where, None, f"{line}: {message}") if isinstance(line, str) else Notice(where, line, message)


def _asked_of(notice: Notice) -> tuple[str, int | None, str]:
    """Of which key a warning asks what it is meant to be: each is asked of once."""
    return notice.where, notice.line, notice.warning.partition(" meant ")[0]


def by_place(notice: Notice) -> tuple[str, int]:
    """Return the sort key of a warning: place and line."""
    return notice.where, notice.line or 0


def misspelt_keys(instances: Sequence[Keys]) -> Iterator[tuple[int, Oddity]]:
    """Yield (number of the instance, warning) for keys that are one edit away from a key of most other instances.

    instances: all of one check.
    """
    number, shapes = Counter[str](), Counter(keys.names for keys in instances)
    for names, times in shapes.items():
        number.update(dict.fromkeys(names, times))
    usual = _index(key for key, times in number.items() if times > 1)
    meant: dict[tuple[str, ...], dict[str, str]] = {}
    for names in shapes:
        if found := {key: other for key in names if (other := _usual(key, names, number, usual, len(instances)))}:
            meant[names] = found
    for place, keys in enumerate(instances):
        if not (others := meant.get(keys.names)):
            continue
        for key, line in zip(*keys, strict=True):
            if key in others:
                what = f"is {shown(key)} meant to be {shown(others[key])}, as most instances of this check have it?"
                yield place, Oddity(line, what)


def parts_of(text: str) -> dict[int, str]:
    """Return {line: the outermost part that begins there}, such as `instances[3].limit`. Raises InvalidYAML."""
    root, found = yamlnodes.compose(text), dict[int, str]()
    for line, part in _parts(root, "") if root is not None else ():
        found.setdefault(line, part)
    return found


def _parts(node: Node, path: str) -> Iterator[tuple[int, str]]:
    if isinstance(node, MappingNode):
        named = [(key, value, f"{path}.{shown(key.value)}".removeprefix(".")) for key, value in node.value]
    else:
        named = [(item, item, f"{path}[{number}]") for number, item in enumerate(_items(node))]
    for begin, value, name in named:
        yield _line(begin), name
        yield from _parts(value, name)


def unread(root: MappingNode) -> list[ScalarNode]:
    """Return the unknown keys at the top level, at most MOST."""
    keys = (key for key, _ in root.value if isinstance(key, ScalarNode) and key.value not in TOP_KEYS)
    return list(islice(keys, MOST))


def misspelt(root: MappingNode) -> Iterator[tuple[ScalarNode, str]]:
    """Yield (key, known key) for the unknown keys at the top level that are probably misspelt."""
    for key in unread(root):
        if known := nearest(key.value[:_LONGEST_SHOWN], TOP_KEYS):
            yield key, known


def is_private(key: ScalarNode) -> bool:
    """Return whether the key is marked as private, such as a part that aliases refer to."""
    return bool(key.value.startswith(("x-", "_", ".")))


def nested(root: MappingNode, name: str) -> Iterator[tuple[str, ScalarNode]]:
    """Yield (top-level key, key) for the keys of this name below the top level."""
    for top, value in root.value:
        for node in yamlnodes.nodes(value):
            for key, _ in node.value if isinstance(node, MappingNode) else ():
                if isinstance(key, ScalarNode) and key.value == name:
                    yield shown(top.value), key


def _flags(root: MappingNode) -> Iterator[Oddity]:
    """Warnings about the flag `cluster_check`: misspelt, or at a place where nothing reads it."""
    for key, known in misspelt(root):
        if known == FLAG:
            yield _meant(key, known)
    for top, key in nested(root, FLAG):
        if top in ("init_config", "instances"):
            yield Oddity(_line(key), f"nothing reads {FLAG} in {top}: it belongs at the top level")


def _strays(root: MappingNode, text: str) -> Iterator[Oddity]:
    """Warnings about other keys at places where nothing reads them."""
    others = {id(key): known for key, known in misspelt(root)}
    # Aliases may refer to a part with an anchor.
    begins = {id(key): value.start_mark.index for key, value in root.value}
    unmarked = text.removeprefix("\ufeff")
    for key in unread(root):
        known = others.get(id(key))
        if known and known != FLAG:
            yield _meant(key, known)
        elif not known and not is_private(key) and not unmarked.startswith("&", begins[id(key)]):
            yield Oddity(
                _line(key),
                f"nothing reads {shown(key.value)} at the top level: does it belong in an instance?",
            )
    for top, key in nested(root, "instances"):
        if top == "init_config":
            yield Oddity(_line(key), "nothing reads instances in init_config: they belong at the top level")


def _meant(key: ScalarNode, known: str) -> Oddity:
    return Oddity(_line(key), f"nothing reads {shown(key.value)} at the top level: is {known} meant?")


def _tags(instance: MappingNode) -> Iterator[Oddity]:
    """Warnings about tags that are no list of texts: agents refuse to load such checks."""
    tags = _value(instance, "tags")
    if tags is None or tags.tag == yamlnodes.NULL:
        return
    if not isinstance(tags, SequenceNode):
        yield Oddity(_line(tags), "tags are not a list: agents refuse to load the check, or run it without them")
    for item in _items(tags):
        if isinstance(item, MappingNode):
            yield Oddity(_line(item), "a tag is a map, because a space follows its colon: write it as key:value")
        elif isinstance(item, SequenceNode):
            yield Oddity(_line(item), "a tag is a list, not a text: agents refuse to load the check")
        elif item.tag in _NO_TEXTS and ":" not in item.value:
            yield Oddity(_line(item), "a tag is a number, a boolean or null, not a text: put it in quotes")


def _near_common(instance: MappingNode) -> Iterator[Oddity]:
    """Warnings about keys that are one edit away from a key that nearly every check has."""
    keys = list(_own_and_merged(instance))
    names = {key.value for key in keys}
    for key in keys:
        if len(key.value) > _LONGEST_SHOWN:
            continue
        for common in _COMMON - names:
            # Many checks have short keys, and one of many for what others have one of.
            is_swapped = len(common) > _LONGEST_SHORT or sorted(key.value) == sorted(common)
            if is_swapped and is_one_edit(key.value, common) and key.value.rstrip("s") != common.rstrip("s"):
                yield Oddity(_line(key), f"is {shown(key.value)} meant to be {common}, which most checks have?")


def wrong_interval(instance: MappingNode) -> tuple[Node, str] | None:
    """Return what is wrong with the instance's `min_collection_interval`, with its place; None if nothing is."""
    value = _value(instance, INTERVAL)
    if value is None or yamlnodes.is_null(value) or "%%" in str(value.value):
        return None
    try:
        seconds = float(value.value) if isinstance(value, ScalarNode) and value.tag in _NUMBERS else math.nan
    except ValueError:
        # As YAML writes some numbers: 0x10.
        return None
    if math.isnan(seconds):
        return value, f"{INTERVAL} is not a number of seconds"
    return (value, f"{INTERVAL} is negative") if seconds < 0 else None


def _usual(
    key: str, names: Sequence[str], number: Mapping[str, int], usual: Mapping[str, Sequence[str]], instances: int
) -> str:
    """The key that most other instances have in place of this one; empty when there is none."""
    for other in {each for part in near_misses(key) for each in usual.get(part, ())}:
        rest = instances - number[key]
        often = number[other] >= 2 * number[key] and number[other] * 2 > rest
        if often and other not in names and is_one_edit(key, other) and not differ_in_number(key, other):
            return other
    return ""


def _index(keys: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """{part: keys}: keys that are one edit apart have a part in common."""
    found: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if _SHORTEST_KEY <= len(key) <= _LONGEST_SHOWN:
            for part in near_misses(key):
                found[part].append(key)
    return found


def keys_of(text: str) -> Keys:
    """Return the keys of an instance's text; none when it can't be read."""
    try:
        root = yamlnodes.compose(text)
    except InvalidYAML:
        root = None
    return _keys(root) if isinstance(root, MappingNode) else Keys((), ())


def _keys(instance: MappingNode) -> Keys:
    pairs = [(key.value, _line(key)) for key in _own_and_merged(instance) if len(key.value) <= _LONGEST_SHOWN]
    names = dict(sorted(pairs))
    return Keys(_one(tuple(names)), tuple(names.values()))


@lru_cache(maxsize=10_000)
def _one(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same object for equal keys: those of many thousand instances are kept in memory."""
    return names


def _own_and_merged(node: Node) -> Iterator[ScalarNode]:
    """The keys of a map, and those of the maps that it merges."""
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.tag != _YAML + "merge":
            yield key
        elif isinstance(key, ScalarNode):
            for merged in _items(value) or [value]:
                yield from _own_and_merged(merged)


def _value(node: Node, name: str) -> Node | None:
    """The value of a key in a map or in a map that it merges."""
    found: Node | None = None
    for key, value in node.value if isinstance(node, MappingNode) else ():
        if isinstance(key, ScalarNode) and key.value == name:
            found = value
        elif isinstance(key, ScalarNode) and key.tag == _YAML + "merge" and found is None:
            found = next(filter(None, (_value(merged, name) for merged in _items(value) or [value])), None)
    return found


def _items(node: Node | None) -> list[Node]:
    return list(node.value) if isinstance(node, SequenceNode) else []


def _first(found: Iterable[Oddity]) -> list[Oddity]:
    ordered = sorted(set(found), key=by_line)
    left = len(ordered) - MOST
    return ordered if left <= 0 else [*ordered[:MOST], Oddity(None, f"and {left} more warnings")]


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def shown(name: str) -> str:
    """Return a name for a message: without secrets, and `…` when it is long or not printable."""
    shown = scrub(name)
    return shown if shown.isprintable() and len(shown) <= _LONGEST_SHOWN else "…"
