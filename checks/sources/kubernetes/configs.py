"""The configs that a Service and its endpoints make: cluster checks, and endpoint checks bound to a node. Pure.

A config's key says where it comes from, and holds neither a port nor the Service's own address: when these change, it is an edit,
and the check stays where it is. An endpoint's address is a part of its key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from checks.sources.kubernetes import annotations, prometheus
from checks.sources.kubernetes.annotations import ENDPOINTS, PREFIX, SERVICE, Annotated, Template
from checks.sources.kubernetes.filters import Filters
from checks.sources.kubernetes.objects import MOST_PORTS, Port, Service, Slice
from checks.sources.kubernetes.prometheus import Scraping
from checks.sources.kubernetes.secrets import Handle, Secrets, Unread, handles_of
from checks.sources.kubernetes.variables import Environment, Target, Unresolved, resolve
from checks.sources.source import PassedOver, Problem
from checks.wire.lint import Notice
from checks.wire.patching import IntegrationConfig

_RESOLVE = f"{PREFIX}{ENDPOINTS}.resolve"
# Of one Service, which anybody in the cluster may annotate and give endpoints: instances of all its endpoints, and the bytes of
# their templates, in which a variable may stand for a host name of 253, and an item of a list takes as long as 16. What is more
# would take minutes to be resolved.
MOST_INSTANCES, MOST_BYTES = 20_000, 8 * 2**20
BYTES_OF_VARIABLE, BYTES_OF_ITEM = 256, 16
# Of one object: each is read again and again.
MOST_HANDLES = 50
# Problems of one object.
MOST_PROBLEMS = 20
# How to resolve an address: as it is, or with the pod behind it.
IP, AUTO = "ip", ("", "auto")


@dataclass(frozen=True, slots=True)
class Options:
    """What decides besides the objects. scraping: None: Services are not scraped by their Prometheus annotations.

    filters: any of them excludes. ignores_readiness: endpoints that are not ready, or are about to end, are checked, too.
    secrets: None: handles of Secrets pass through.
    """

    environment: Environment = field(default_factory=Environment)
    scraping: Scraping | None = None
    filters: tuple[Filters, ...] = ()
    ignores_readiness: bool = False
    secrets: Secrets | None = None


@dataclass(slots=True)
class Made:
    """The configs of an object, {key: config}, and what is wrong with it.

    kept: keys, and beginnings of keys that end in a slash, of configs that can't be made now: they keep what they sent last.
    handles: Secrets that are named, whether they are known or not. size: the characters of all texts that were resolved.
    """

    configs: dict[str, IntegrationConfig] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    handles: set[Handle] = field(default_factory=set)
    size: int = field(default=0, compare=False)
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def add(self, other: "Made") -> None:
        """Add what something else makes of the same object."""
        self.configs |= other.configs
        self.problems += other.problems
        self.warnings += other.warnings
        self.passed_over += other.passed_over
        self.kept |= other.kept
        self.handles |= other.handles

    def put(self, key: str, config: IntegrationConfig, namespace: str, secrets: Secrets | None) -> None:
        """Add a config of an object in this namespace, with what its handles of Secrets stand for. Raises Unresolved.

        While these were not read it keeps what it sent last.
        """
        handles = handles_of(config) if secrets else {}
        if secrets and handles:
            secrets.refuse_others(handles.values(), namespace)
            if len(self.handles.union(handles.values())) > MOST_HANDLES:
                raise Unresolved(f"more than {MOST_HANDLES} handles of Secrets are named")
            self.handles |= set(handles.values())
            try:
                config = secrets.given_to(config, handles)
            except Unread:
                self.kept.add(key)
                return
        self.configs[key] = config

    def fail(self, where: str, error: str) -> None:
        """Add a problem of the object, which is said once for all of its endpoints."""
        if error not in self._said and len(self._said) <= MOST_PROBLEMS:
            self._said.add(error)
            is_last = len(self._said) > MOST_PROBLEMS
            self.problems.append(Problem(where, None, "and more that is not shown" if is_last else error))


class Origin(NamedTuple):
    """Where templates come from. key: the beginning of the keys of their configs. provider, source: what agents show of them.

    names_target: the target's ID follows the source.
    """

    key: str
    provider: str
    source: str
    names_target: bool = False


class Address(NamedTuple):
    """An address behind a Service, of all slices that have it. node, pod: empty when they are not known."""

    ip: str
    ports: tuple[Port, ...] = ()
    node: str = ""
    pod: str = ""


class _Site(NamedTuple):
    """A target, and where its checks run. ids: its names, for keys. id: its name in service IDs. node: where it is bound to."""

    ids: str
    id: str
    target: Target
    node: str = ""
    identifiers: tuple[str, ...] = ()


_SERVICE = Origin("service", "kubernetes-services", "kube_services:", names_target=True)
_SCRAPED = Origin("prometheus/service", "prometheus-services", "prometheus_services:", names_target=True)
_SCRAPED_ENDPOINTS = _SCRAPED._replace(key="prometheus/endpoints")
_UNSCRAPED = (
    f"{prometheus.SCRAPE}: a headless Service has no address;"
    " DD_PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS scrapes its endpoints"
)
# The beginnings of the keys of all endpoints.
OF_ENDPOINTS = ("endpoints/", f"{_SCRAPED_ENDPOINTS.key}/")


def make(service: Service, slices: Iterable[Slice], options: Options) -> Made:
    """Return the configs that a Service makes with the slices of its endpoints. Raises nothing."""
    made = Made()
    if is_excluded(service, options):
        return made
    made.warnings += [Notice(place(service), None, warning) for warning in annotations.misspelt(service.annotations)]
    addresses = addresses_of(slices, options)
    _make_annotated(service, addresses, options, made)
    if options.scraping:
        _make_scraped(service, addresses, options.scraping, options, made)
    return made


def is_excluded(service: Service, options: Options) -> bool:
    """Return whether a Service and its endpoints have no checks, by its annotations or by options."""
    return annotations.is_excluded(service.annotations) or any(
        one.excludes(service.namespace, service.name) for one in options.filters
    )


def place(service: Service) -> str:
    """Return the name of a Service in messages."""
    return f"service {service.namespace}/{service.name}"


def beginnings(namespace: str, name: str) -> list[str]:
    """Return the beginnings of all keys that `make` gives to configs of a Service."""
    origins = (_SERVICE.key, _endpoints(namespace, name).key, _SCRAPED.key, _SCRAPED_ENDPOINTS.key)
    return [f"{key}/{namespace}/{name}/" for key in origins]


def addresses_of(slices: Iterable[Slice], options: Options) -> list[Address]:
    """Return the addresses of slices that may be checked, each once with the ports of all its slices."""
    found: dict[str, Address] = {}
    for one in sorted(slices, key=lambda each: each.name):
        if annotations.is_excluded(one.annotations):
            continue
        for endpoint in one.endpoints:
            if options.ignores_readiness or (endpoint.is_ready and not endpoint.is_terminating):
                known = found.get(endpoint.address, Address(endpoint.address))
                # Node and pod are of one endpoint.
                at = known if known.node and known.pod else endpoint
                found[known.ip] = Address(known.ip, _merged(known.ports, one.ports), at.node, at.pod)
    return list(found.values())


def _merged(known: tuple[Port, ...], more: tuple[Port, ...]) -> tuple[Port, ...]:
    if not known or known is more:
        return more
    return known if len(known) >= MOST_PORTS else tuple(dict.fromkeys((*known, *more)))[:MOST_PORTS]


def for_service(templates: Iterable[Template], service: Service, origin: Origin, options: Options, made: Made) -> None:
    """Add a cluster check of a Service for each template."""
    ids = f"{service.namespace}/{service.name}"
    target = Target(
        namespace=service.namespace,
        host=service.cluster_ip,
        ports=service.ports,
        tags=(*_tags(service), *service.tags),
        hostless=_hostless(service),
        portless="the Service has no ports",
    )
    for template in templates:
        _add(template, _Site(ids, f"kube_service://{ids}", target), origin, options, made, place(service))


def for_endpoints(
    templates: Sequence[Template],
    service: Service,
    addresses: Sequence[Address],
    origin: Origin,
    options: Options,
    made: Made,
    *,
    looks_behind: bool = True,
    where: str = "",
) -> None:
    """Add a check for each template and address.

    looks_behind: a check of a pod's address is bound to the pod's node, and the agent there adds the pod's tags. where: whose
    problems there are; the Service's unless given.
    """
    if not templates:
        return
    most = _most_addresses(templates)
    if len(addresses) > most:
        made.fail(where or place(service), f"has {len(addresses)} endpoints, of which only {most} are checked")
    for number, address in enumerate(addresses[:most]):
        if made.size > MOST_BYTES:
            made.fail(where or place(service), f"has {len(addresses)} endpoints, of which only {number} are checked")
            break
        ids = f"{service.namespace}/{service.name}/{address.ip}"
        target = Target(
            namespace=service.namespace,
            host=address.ip,
            ports=address.ports,
            tags=(*_tags(service), f"kube_endpoint_ip:{address.ip}", *service.tags),
            portless="the endpoint has no ports with names",
        )
        site = _Site(ids, f"kube_endpoint_uid://{ids}", target)
        if looks_behind and address.pod and address.node:
            site = site._replace(node=address.node, identifiers=(site.id, f"kubernetes_pod://{address.pod}"))
        for template in templates:
            _add(template, site, origin, options, made, where or place(service))


def _most_addresses(templates: Sequence[Template]) -> int:
    """Return of how many addresses the templates may make checks."""
    instances = sum(len(template.instances) for template in templates)
    texts = [text for template in templates for text in (*template.instances, template.init_config or "")]
    size = sum(
        len(text) + text.count("%%") // 2 * BYTES_OF_VARIABLE + text.count(",") * BYTES_OF_ITEM for text in texts
    )
    return min(MOST_INSTANCES // max(1, instances), MOST_BYTES // max(1, size))


def _make_annotated(service: Service, addresses: Sequence[Address], options: Options, made: Made) -> None:
    ids = f"{service.namespace}/{service.name}"
    of_service = _annotated(service, SERVICE, [f"{_SERVICE.key}/{ids}/"], made)
    for_service(of_service, service, _SERVICE, options, made)
    origin = _endpoints(service.namespace, service.name)
    of_endpoints = _annotated(service, ENDPOINTS, [f"{origin.key}/{ids}/{address.ip}/" for address in addresses], made)
    if of_endpoints:
        looks_behind = _looks_behind(service, made)
        for_endpoints(of_endpoints, service, addresses, origin, options, made, looks_behind=looks_behind)


def _make_scraped(
    service: Service, addresses: Sequence[Address], scraping: Scraping, options: Options, made: Made
) -> None:
    templates = list(prometheus.templates(service.annotations, scraping))
    if scraping.endpoints:
        # Instead of the Service: else each metric would be there twice.
        for_endpoints(templates, service, addresses, _SCRAPED_ENDPOINTS, options, made)
    elif not service.is_headless:
        for_service(templates, service, _SCRAPED, options, made)
    elif templates:
        made.passed_over.append(PassedOver(place(service), _UNSCRAPED))


def _endpoints(namespace: str, name: str) -> Origin:
    return Origin("endpoints", "kubernetes-endpoints", f"kube_endpoints:kube_endpoint_uid://{namespace}/{name}/")


def _annotated(service: Service, kind: str, keys: Iterable[str], made: Made) -> list[Template]:
    """The templates of a kind. What is broken keeps what it sent under these beginnings of keys."""
    found: Annotated = annotations.read(service.annotations, kind)
    made.passed_over += [PassedOver(place(service), why) for why in found.passed_over]
    made.warnings += [Notice(place(service), None, warning) for warning in found.warnings]
    made.problems += [Problem(place(service), None, error) for error in found.errors.values()]
    made.kept |= {f"{key}{template}" for key in keys for template in found.errors}
    return found.templates


def _looks_behind(service: Service, made: Made) -> bool:
    """Whether checks of endpoints go to the nodes of their pods."""
    mode = service.annotations.get(_RESOLVE, "")
    if mode not in (IP, *AUTO):
        made.warnings.append(Notice(place(service), None, f"{_RESOLVE} is neither ip nor auto, so auto is taken"))
    return mode != IP


def _hostless(service: Service) -> str:
    if service.is_headless:
        return f"the Service is headless, so it has no address: annotate {PREFIX}{ENDPOINTS}.checks, or write its name"
    if service.type == "ExternalName":
        return "the Service is an ExternalName, so it has no address: write the name"
    return "the Service has no cluster IP yet"


def _tags(service: Service) -> tuple[str, str]:
    return f"kube_service:{service.name}", f"kube_namespace:{service.namespace}"


def _add(template: Template, site: _Site, origin: Origin, options: Options, made: Made, where: str) -> None:
    key, target = f"{origin.key}/{site.ids}/{template.key}", site.target
    tags = () if template.ignores_tags else target.tags
    try:
        config = IntegrationConfig(
            name=template.name,
            instances=tuple(resolve(text, target, options.environment, tags) for text in template.instances),
            init_config=template.init_config and resolve(template.init_config, target, options.environment),
            metric_config=template.metric_config,
            ad_identifiers=site.identifiers,
            provider=origin.provider,
            service_id=site.id,
            cluster_check=True,
            node_name=site.node,
            source=f"{origin.source}{site.id if origin.names_target else ''}",
        )
        made.size += sum(map(len, config.instances))
        made.put(key, config, target.namespace, options.secrets)
    except Unresolved as error:
        made.kept.add(key)
        made.fail(where, f"{template.place}: {error}")
