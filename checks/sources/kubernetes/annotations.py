"""What the annotations of a Service say: templates of checks, or what is wrong with them. Pure.

There are two forms. One annotation has all checks, each with its instances (`checks`); or three annotations have lists of equal
length (`check_names`, `init_configs`, `instances`). Where the first is, the second is not read.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import quote

from checks.sources.environment import is_true
from checks.sources.kubernetes import gojson
from checks.sources.kubernetes.gojson import InvalidJSON
from checks.wire.patching import MAX_NAME
from clusteragent.lib import spelling, words

PREFIX = "ad.datadoghq.com/"
# Only the second form was ever written with it.
OLD_PREFIX = "service-discovery.datadoghq.com/"
SERVICE, ENDPOINTS = "service", "endpoints"
# Of one object, which anybody in the cluster may annotate.
MOST_INSTANCES, MOST_ERRORS = 500, 20

_LISTS = ("check_names", "init_configs", "instances")
_OTHER_NAMES = ("checks", "logs", "resolve", "ignore_autodiscovery_tags", "check_tag_cardinality")
_KNOWN = [f"{kind}.{name}" for kind in (SERVICE, ENDPOINTS) for name in (*_LISTS, *_OTHER_NAMES)]
# Of a check in the first form.
_FIELDS = ("name", "instances", "init_config", "ignore_autodiscovery_tags", "logs")
_EXCLUDES = [f"{PREFIX}{name}" for name in ("exclude", "metrics_exclude")]
_LOGS = "logs are collected by node agents, not by cluster checks"


@dataclass(frozen=True, slots=True)
class Template:
    """A check whose variables are not resolved yet.

    key: tells it from the others of its object; the same as long as it stands under the same name. place: where it was
    written, for messages. instances, init_config: texts that are read as YAML.
    """

    key: str
    name: str
    place: str
    instances: tuple[str, ...]
    init_config: str | None = "{}"
    ignores_tags: bool = False
    metric_config: str | None = None


@dataclass(slots=True)
class Annotated:
    """The templates of an object.

    errors: {key of the template that is missing: why}; "" when any may be missing. passed_over: what makes no cluster check.
    warnings: what is not read, and may be meant otherwise.
    """

    templates: list[Template] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class InvalidAnnotation(ValueError):
    """An annotation, or a part of it, makes no check. The message names it, and holds no value of it."""


def is_excluded(annotations: Mapping[str, str]) -> bool:
    """Return whether annotations exclude their object from checks."""
    return any(is_true(annotations.get(name, "")) for name in _EXCLUDES)


def read(annotations: Mapping[str, str], kind: str) -> Annotated:
    """Return what is annotated for a kind of target: SERVICE or ENDPOINTS. Raises nothing."""
    found = Annotated()
    checks = f"{PREFIX}{kind}.checks"
    try:
        if checks in annotations:
            _read_checks(checks, annotations[checks], found)
        else:
            _read_lists(annotations, kind, found)
        _bound(found, kind)
    except InvalidAnnotation as error:
        found.templates, found.warnings, found.errors = [], [], {"": str(error)}
    found.passed_over += [
        f"{name}: {_LOGS}" for prefix in (PREFIX, OLD_PREFIX) if (name := f"{prefix}{kind}.logs") in annotations
    ]
    return found


def misspelt(annotations: Mapping[str, str]) -> list[str]:
    """Return a warning for each annotation whose name is nearly one that is read."""
    unknown = sorted(
        name for name in annotations if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in _KNOWN
    )
    meant = {name: spelling.nearest(name.removeprefix(PREFIX), _KNOWN) for name in unknown}
    return [
        f"{name} is not read: {PREFIX}{other} may be meant"
        for name, other in meant.items()
        if other and spelling.is_one_edit(name.removeprefix(PREFIX), other)
    ]


def _bound(found: Annotated, kind: str) -> None:
    """Refuse more instances than allowed, and leave out errors that nobody reads."""
    instances = sum(len(template.instances) for template in found.templates)
    if instances > MOST_INSTANCES:
        raise InvalidAnnotation(f"{PREFIX}{kind} has {instances} instances, allowed are {MOST_INSTANCES}")
    if (more := len(found.errors) - MOST_ERRORS) > 0:
        found.errors = dict(islice(found.errors.items(), MOST_ERRORS)) | {"": f"{PREFIX}{kind}: {more} more are broken"}


def _read_checks(annotation: str, text: str, found: Annotated) -> None:
    if not isinstance(_json(annotation, text), dict):
        raise InvalidAnnotation(
            f'{annotation} is not a map of checks, such as {{"http_check": {{"instances": [{{…}}]}}}}'
        )
    # The last of equal keys counts.
    checks = {_named(check, annotation): raw for check, raw in gojson.members(text)}
    with_logs = []
    for check, raw in checks.items():
        try:
            if _read_check(check, raw, f"{annotation}, {template_key(check)}", found):
                with_logs.append(template_key(check))
        except InvalidAnnotation as error:
            found.errors[template_key(check)] = str(error)
    if with_logs:
        found.passed_over.append(f"{annotation}, {words.listed(with_logs)}: {_LOGS}")


def _read_check(check: str, raw: str, place: str, found: Annotated) -> bool:
    """Add the check's template, and say whether it collects logs, too."""
    if not isinstance(gojson.read(raw), dict | None):
        raise InvalidAnnotation(f'{place} is not a map, such as {{"instances": [{{…}}]}}')
    # Field names of any case are read, and of equal ones the last.
    raws = {name.casefold(): each for name, each in gojson.members(raw)} if raw.startswith("{") else {}
    fields = {name: gojson.read(each) for name, each in raws.items()}
    instances = _field(fields, "instances", list, "a list", place) or []
    name = gojson.utf8(_field(fields, "name", str, "a text", place) or check)
    ignores_tags = _field(fields, "ignore_autodiscovery_tags", bool, "true or false (without quotes)", place) or False
    if instances:
        texts = tuple(_object(each, f"{place}: an instance") for each in instances)
        init_config = raws.get("init_config", "{}")
        found.templates.append(
            Template(template_key(check), _named(name, place), place, texts, init_config, ignores_tags)
        )
    elif not fields.get("logs"):
        raise InvalidAnnotation(f"{place} has no instances{_instead(fields)}")
    found.warnings += [
        f"{place}: {name} is not read: {meant} may be meant"
        for name in sorted(fields)
        if name not in _FIELDS and (meant := spelling.nearest(name, _FIELDS)) and spelling.is_one_edit(name, meant)
    ]
    return bool(fields.get("logs"))


def _instead(fields: Mapping[str, Any]) -> str:
    """What stands where instances are missing."""
    near = spelling.nearest("instances", [name for name in fields if name != "instances"])
    return f": {near} may be meant for them" if near else ""


def _field(fields: Mapping[str, Any], name: str, kind: type, wanted: str, place: str) -> Any:
    """The value of a field; None when it is absent or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidAnnotation(f"{place}: {name} is not {wanted}")
    return value


def _read_lists(annotations: Mapping[str, str], kind: str, found: Annotated) -> None:
    beginnings = [f"{prefix}{kind}." for prefix in (PREFIX, OLD_PREFIX)]
    given = [each for each in beginnings if f"{each}check_names" in annotations]
    given += [each for each in beginnings if any(f"{each}{name}" in annotations for name in _LISTS)]
    if not given:
        return
    missing = [name for each in _LISTS if (name := f"{given[0]}{each}") not in annotations]
    if missing:
        raise InvalidAnnotation(f"{words.listed(missing)} missing: checks need all of {words.listed(_LISTS)}")
    at_names, at_init_configs, at_instances = (f"{given[0]}{name}" for name in _LISTS)
    names = _names(at_names, annotations[at_names])
    init_configs = _groups(at_init_configs, annotations[at_init_configs])
    instances = _groups(at_instances, annotations[at_instances])
    if not len(names) == len(init_configs) == len(instances):
        lengths = f"{len(names)}, {len(init_configs)} and {len(instances)}"
        raise InvalidAnnotation(f"{at_names}, init_configs and instances have different lengths: {lengths}")
    if any(len(group) != 1 for group in init_configs):
        raise InvalidAnnotation(f"{at_init_configs} has not one map for each check")
    ignores_tags = is_true(annotations.get(f"{given[0]}ignore_autodiscovery_tags", ""))
    occurrences: Counter[str] = Counter()
    for name, (init_config,), texts in zip(names, init_configs, instances, strict=True):
        for text in texts:
            occurrences[name] += 1
            key = template_key(name, occurrences[name])
            place = f"{at_instances}, {key}"
            found.templates.append(Template(key, name, place, (text,), init_config, ignores_tags))


def _names(annotation: str, text: str) -> list[str]:
    names = _items(annotation, text)
    if not all(isinstance(each, str | None) for each in names):
        raise InvalidAnnotation(f"{annotation} is not a list of texts")
    return [_named(gojson.utf8(each or ""), annotation) for each in names]


def _groups(annotation: str, text: str) -> list[list[str]]:
    """The maps for each check, as JSON. An entry is a map, or a list of maps; an empty list is no entry."""
    groups = [each if isinstance(each, list) else [each] for each in _items(annotation, text)]
    return [[_object(each, f"{annotation}: an item") for each in group] for group in groups if group]


def _items(annotation: str, text: str) -> list[Any]:
    value = _json(annotation, text)
    if not isinstance(value, list | None):
        raise InvalidAnnotation(f"{annotation} is not a list")
    return value or []


def _json(annotation: str, text: str) -> Any:
    try:
        return gojson.read(text)
    except InvalidJSON as error:
        raise InvalidAnnotation(f"{annotation} {error}") from None


def _object(value: Any, place: str) -> str:
    if not isinstance(value, dict):
        raise InvalidAnnotation(f'{place} is not a map, such as {{"host": "%%host%%"}}')
    try:
        return gojson.write(value)
    except InvalidJSON as error:
        raise InvalidAnnotation(f"{place} {error}") from None


def _named(name: str, place: str) -> str:
    """The name of a check if it can be a part of a key."""
    if not name:
        raise InvalidAnnotation(f"{place}: the name of a check is empty")
    if len(template_key(name)) > MAX_NAME:
        raise InvalidAnnotation(f"{place}: the name of a check is too long")
    return name


def template_key(name: str, number: int = 1) -> str:
    """Return the key of a check's template, of which there may be several. No name can make it look like another's."""
    return quote(name, safe="") + (f"/{number}" if number > 1 else "")
