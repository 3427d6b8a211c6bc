"""The vendor's resource DatadogInstrumentation, where its target is a Service: checks of each of its endpoints. Pure.

Targets of other kinds are pods, whose checks node agents run by themselves.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from checks.sources.kubernetes import annotations, configs, gojson
from checks.sources.kubernetes.annotations import ENDPOINTS, MOST_ERRORS, MOST_INSTANCES, Template, template_key
from checks.sources.kubernetes.configs import Made, Options, Origin
from checks.sources.kubernetes.gojson import InvalidJSON
from checks.sources.kubernetes.objects import Service, Slice
from checks.sources.kubernetes.resources import Object
from checks.sources.source import PassedOver
from checks.wire.patching import MAX_NAME
from clusteragent.lib.words import escape_controls

PROVIDER = "kubernetes-endpointslices-cr"
# The beginning of the keys of all of them.
OF_INSTRUMENTATIONS = "instrumentation/"


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """A DatadogInstrumentation. Those that differ only in their status are equal.

    service: the name of the Service that is its target; empty if it is none. errors: {key of the template that is missing:
    why}; "" when any may be missing. passed_over: why it makes no cluster check. status: as it was last seen.
    """

    namespace: str
    name: str
    generation: int = 0
    service: str = ""
    templates: tuple[Template, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    passed_over: str = ""
    status: Object = field(default_factory=dict, compare=False)

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"datadoginstrumentation {self.namespace}/{self.name}"


class InvalidSpec(ValueError):
    """A field of a spec can't be used. The message names it, and holds no value of it."""


def read_instrumentation(data: Object) -> Instrumentation:
    """Return what is kept of a DatadogInstrumentation. Only its names must be there."""
    metadata, spec, status = data["metadata"], data.get("spec"), data.get("status")
    generation = metadata.get("generation")
    known: dict[str, Any] = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "generation": generation if type(generation) is int else 0,
        "status": status if isinstance(status, dict) else {},
    }
    try:
        return Instrumentation(**known, **_spec(spec))
    except InvalidSpec as error:
        return Instrumentation(**known, errors={"": str(error)})


def beginning(namespace: str, name: str) -> str:
    """Return the beginning of the keys of all configs that a DatadogInstrumentation makes."""
    return f"{OF_INSTRUMENTATIONS}{namespace}/{name}/"


def make(declared: Instrumentation, service: Service | None, slices: Iterable[Slice], options: Options) -> Made:
    """Return the configs that a DatadogInstrumentation makes with its Service, None if there is none. Raises nothing."""
    made, its_keys = Made(), beginning(declared.namespace, declared.name)
    if declared.passed_over:
        made.passed_over.append(PassedOver(declared.place, declared.passed_over))
    for error in declared.errors.values():
        made.fail(declared.place, error)
    if "" in declared.errors:
        # What it sent before goes on.
        made.kept.add(its_keys)
    if service is None and declared.service:
        made.passed_over.append(
            PassedOver(declared.place, f"there is no Service {declared.namespace}/{declared.service}")
        )
    if service is None or configs.is_excluded(service, options):
        return made
    addresses = configs.addresses_of(slices, options)
    origin = Origin(f"{its_keys}endpoints", PROVIDER, f"datadoginstrumentation:{declared.namespace}/{declared.name}")
    ids = f"{service.namespace}/{service.name}"
    made.kept |= {f"{origin.key}/{ids}/{address.ip}/{key}" for address in addresses for key in declared.errors if key}
    templates = _not_annotated(declared, service, made)
    configs.for_endpoints(templates, service, addresses, origin, options, made, where=declared.place)
    return made


def _not_annotated(declared: Instrumentation, service: Service, made: Made) -> list[Template]:
    """The templates of checks that are not annotated on the Service for its endpoints: annotations win."""
    annotated = {template.name for template in annotations.read(service.annotations, ENDPOINTS).templates}
    for name in sorted({template.name for template in declared.templates} & annotated):
        why = f"{escape_controls(name)} is annotated on service {service.namespace}/{service.name}, which wins"
        made.passed_over.append(PassedOver(declared.place, why))
    return [template for template in declared.templates if template.name not in annotated]


def _spec(spec: object) -> dict[str, Any]:
    if not isinstance(spec, dict):
        raise InvalidSpec("spec is missing" if spec is None else "spec is no object")
    target, config = spec.get("targetRef"), spec.get("config")
    if not isinstance(target, dict):
        raise InvalidSpec("spec.targetRef is missing" if target is None else "spec.targetRef is no object")
    if target.get("kind") != "Service":
        return {"passed_over": "its target is no Service: node agents run its checks"}
    name = target.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidSpec("spec.targetRef.name is no name of a Service")
    if not isinstance(config, dict | None):
        raise InvalidSpec("spec.config is no object")
    checks = (config or {}).get("checks")
    if not isinstance(checks, list | None):
        raise InvalidSpec("spec.config.checks is no list")
    if not checks:
        return {"service": name, "passed_over": "it has no checks"}
    templates, errors = _templates(checks)
    return {"service": name, "templates": templates, "errors": errors}


def _templates(checks: Iterable[object]) -> tuple[tuple[Template, ...], dict[str, str]]:
    """The templates of the checks, and {key: why} of those that can't be read."""
    templates: list[Template] = []
    errors: dict[str, str] = {}
    occurrences: Counter[str] = Counter()
    for number, check in enumerate(checks):
        place, key = f"spec.config.checks[{number}]", ""
        try:
            name = _integration(check, place)
            occurrences[name] += 1
            key = template_key(name, occurrences[name])
            templates.append(_template(check, name, key, place))
        except InvalidSpec as error:
            # Of several without a name the first is told.
            errors.setdefault(key, str(error))
    if len(errors) > MOST_ERRORS:
        errors = dict(islice(errors.items(), MOST_ERRORS)) | {
            "": f"spec.config.checks: {len(errors) - MOST_ERRORS} more are broken"
        }
    if (instances := sum(len(template.instances) for template in templates)) > MOST_INSTANCES:
        raise InvalidSpec(f"spec.config.checks have {instances} instances, allowed are {MOST_INSTANCES}")
    return tuple(templates), errors


def _integration(check: object, place: str) -> str:
    if not isinstance(check, dict):
        raise InvalidSpec(f"{place} is no object")
    name = check.get("integration")
    if not isinstance(name, str) or not name.strip():
        raise InvalidSpec(f"{place}.integration is no name of an integration, such as nginx")
    if len(template_key(name)) > MAX_NAME:
        raise InvalidSpec(f"{place}.integration is too long")
    return gojson.utf8(name)


def _template(check: Any, name: str, key: str, place: str) -> Template:
    instances, init_config = check.get("instances"), check.get("initConfig")
    if not isinstance(instances, list) or not instances:
        raise InvalidSpec(f"{place}.instances is no list with an instance, which may be {{}}")
    texts = tuple(_json(f"{place}.instances[{number}]", each) for number, each in enumerate(instances))
    init = "{}" if init_config is None else _json(f"{place}.initConfig", init_config)
    return Template(key, name, place, texts, init)


def _json(field: str, value: object) -> str:
    if not isinstance(value, dict):
        raise InvalidSpec(f"{field} is no object")
    try:
        return gojson.write(value)
    except InvalidJSON as error:
        raise InvalidSpec(f"{field} {error}") from None
