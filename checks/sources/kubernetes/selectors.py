"""Config files that are templates for Services or endpoints: `advanced_ad_identifiers` and `cel_selector`. Pure but for reading
the environment where a file names it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import yaml

from checks.sources import fileformat
from checks.sources.kubernetes import cel
from checks.sources.kubernetes.annotations import Template
from checks.sources.kubernetes.cel import InvalidRule, Rule
from checks.sources.kubernetes.configs import (
    AUTO,
    IP,
    Made,
    Options,
    Origin,
    addresses_of,
    for_endpoints,
    for_service,
    is_excluded,
)
from checks.sources.kubernetes.objects import Service, Slice
from checks.wire import yamlnodes
from checks.wire.patching import IntegrationConfig
from checks.wire.yamlnodes import InvalidYAML

SERVICE, ENDPOINTS = "kube_service", "kube_endpoints"
_FIELDS = ("name", "namespace", "annotations")
# The keys of rules, and what the rules call the objects.
_RULES = {"kube_services": "kube_service", "kube_endpoints": "kube_endpoint"}


class Named(NamedTuple):
    """A Service by its names."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Selector:
    """A template of a file, and what it is for.

    services: Services by name. endpoints: those of these Services, and whether a check goes to the node of a pod behind.
    service_rules, endpoint_rules: any of them selects. warnings: what of it has no effect.
    """

    key: str
    template: Template
    services: frozenset[Named] = frozenset()
    endpoints: Mapping[Named, bool] = field(default_factory=dict)
    service_rules: tuple[Rule, ...] = ()
    endpoint_rules: tuple[Rule, ...] = ()
    warnings: tuple[str, ...] = ()


def read(text: str, *, key: str, check: str) -> Selector | None:
    """Return the selector of a file's text; None when it is no template for Kubernetes. Raises InvalidYAML.

    key: the file's path below its folder.
    """
    config = fileformat.parse(text, name=check, source=f"file:{key}", is_file=True)
    rules = _given_rules(text)
    named = config.advanced_ad_identifiers
    if config.node_name or not (named or rules):
        return None
    warnings: list[str] = []
    services, endpoints = _named(named, warnings)
    compiled: dict[str, tuple[Rule, ...]] = {}
    if rules and named:
        warnings.append("cel_selector has no effect beside advanced_ad_identifiers")
    elif rules:
        compiled = _compiled(rules)
    elif not (services or endpoints):
        return None
    return Selector(
        key=key,
        template=_template(config),
        services=services,
        endpoints=endpoints,
        service_rules=compiled.get("kube_services", ()),
        endpoint_rules=compiled.get("kube_endpoints", ()),
        warnings=tuple(warnings),
    )


def make(selector: Selector, service: Service, slices: Iterable[Slice], options: Options) -> Made:
    """Return the configs that a file makes of a Service and the slices of its endpoints. Raises nothing."""
    made = Made()
    if is_excluded(service, options):
        return made
    names = Named(service.namespace, service.name)
    key, source = beginning(selector.key), f"file:{selector.key}"
    if names in selector.services or _selects(selector.service_rules, names, service.annotations):
        origin = Origin(f"{key}service", "kubernetes-services-file", source)
        for_service([selector.template], service, origin, options, made)
    chosen = [
        one for one in slices
        if names in selector.endpoints or _selects(selector.endpoint_rules, names, one.annotations)
    ]  # fmt: skip
    origin = Origin(f"{key}endpoints", "kubernetes-endpoints-file", source)
    looks_behind = selector.endpoints.get(names, True)
    addresses = addresses_of(chosen, options)
    for_endpoints([selector.template], service, addresses, origin, options, made, looks_behind=looks_behind)
    return made


def beginning(key: str) -> str:
    """Return the beginning of the keys of all configs that a file makes."""
    return f"file/{quote(key)}/"


def beginnings(key: str, namespace: str, name: str) -> list[str]:
    """Return the beginnings of the keys of all configs that a file makes of a Service and its endpoints."""
    return [f"{of_kind(key, kind)}{namespace}/{name}/" for kind in ("service", "endpoints")]


def of_kind(key: str, kind: str) -> str:
    """Return the beginning of the keys that a file makes of a kind: `service` or `endpoints`."""
    return f"{beginning(key)}{kind}/"


def _selects(rules: Iterable[Rule], names: Named, annotated: Mapping[str, str]) -> bool:
    return any(rule(names.name, names.namespace, annotated) for rule in rules)


def _template(config: IntegrationConfig) -> Template:
    return Template(
        key=quote(config.name, safe=""),
        name=config.name,
        place=config.source,
        instances=config.instances,
        init_config=config.init_config,
        ignores_tags=config.ignore_autodiscovery_tags,
        metric_config=config.metric_config,
    )


def _named(identifiers: Iterable[Any], warnings: list[str]) -> tuple[frozenset[Named], dict[Named, bool]]:
    """The Services and endpoints that a file names. What is for other programs is left out."""
    services, endpoints = set(), {}
    for kind, fields in _entries(identifiers):
        name, namespace, resolve = (fields.get(key, "") for key in ("name", "namespace", "resolve"))
        if not all(isinstance(each, str) for each in (name, namespace, resolve)) or not (name and namespace):
            raise InvalidYAML(f"advanced_ad_identifiers: {kind} needs a name and a namespace, both as texts")
        if kind == SERVICE:
            services.add(Named(namespace, name))
        else:
            endpoints[Named(namespace, name)] = resolve != IP
            if resolve not in (IP, *AUTO):
                warnings.append(f"{kind}: resolve is neither ip nor auto, so auto is taken")
    return frozenset(services), endpoints


def _entries(identifiers: Iterable[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in identifiers:
        for kind in (SERVICE, ENDPOINTS):
            if isinstance(entry, dict) and kind in entry:
                yield kind, entry[kind] if isinstance(entry[kind], dict) else {}


def _given_rules(text: str) -> dict[str, list[str]]:
    """The rules of `cel_selector` for Services and endpoints. Raises InvalidYAML."""
    root = yamlnodes.read(text)
    node = yamlnodes.get(root, "cel_selector") if isinstance(root, yaml.MappingNode) else None
    if yamlnodes.is_null(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise InvalidYAML("cel_selector is not a map with lists of rules", node)
    return {key: _texts(key, value) for key in _RULES if not yamlnodes.is_null(value := yamlnodes.get(node, key))}


def _texts(key: str, node: yaml.Node | None) -> list[str]:
    if not isinstance(node, yaml.SequenceNode) or not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        raise InvalidYAML(f"cel_selector: {key} is not a list of texts", node)
    return [item.value for item in node.value]


def _compiled(rules: Mapping[str, list[str]]) -> dict[str, tuple[Rule, ...]]:
    compiled = {}
    for key, texts in rules.items():
        kind, place = _RULES[key], f"cel_selector: {key}"
        missing = [name for name in (f"{kind}.name", f"{kind}.namespace") if not any(name in text for text in texts)]
        if missing:
            raise InvalidYAML(f"{place}: rules must ask for {missing[0]}, so that they select no more than meant")
        try:
            compiled[key] = tuple(cel.compile_rule(text, kind, _FIELDS) for text in texts)
        except InvalidRule as error:
            raise InvalidYAML(f"{place}: a rule {error}") from None
    return compiled
