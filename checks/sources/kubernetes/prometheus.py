"""Services with `prometheus.io/scrape` as openmetrics checks. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from checks.sources.kubernetes import gojson
from checks.sources.kubernetes.annotations import Template
from checks.sources.kubernetes.gojson import InvalidJSON

CHECK = "openmetrics"
SCRAPE = "prometheus.io/scrape"
_PORT, _PATH, _SCHEME = "prometheus.io/port", "prometheus.io/path", "prometheus.io/scheme"
# By the version of the check: the key of its URL, and the pattern of all metrics.
_VERSIONS = {1: ("prometheus_url", "*"), 2: ("openmetrics_endpoint", ".*")}
_URLS = [key for key, _ in _VERSIONS.values()]
# Flags that are sent when they are false, too. Other values are left out when they are empty.
_FLAGS = {
    "health_service_check", "send_histograms_buckets", "send_monotonic_counter", "tls_verify", "tag_by_endpoint",
    "enable_health_service_check", "collect_histogram_buckets", "non_cumulative_histogram_buckets",
    "use_process_start_time", "telemetry", "ignore_connection_errors", "log_requests", "persist_connections",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scrape:
    """One kind of scraping: instances for each object with an annotation of `include` and none of `exclude`."""

    instances: tuple[Mapping[str, Any], ...] = ({},)
    include: Mapping[str, str] = field(default_factory=lambda: {SCRAPE: "true"})
    exclude: Mapping[str, str] = field(default_factory=lambda: {SCRAPE: "false"})


@dataclass(frozen=True, slots=True)
class Scraping:
    """The options of scraping. version: of the check, 1 or 2. endpoints: whether they are scraped instead of the Service."""

    scrapes: tuple[Scrape, ...] = (Scrape(),)
    version: int = 1
    endpoints: bool = False


class InvalidScrapes(ValueError):
    """The text describes no scrapes. The message says what it must be."""


def read_scrapes(text: str) -> tuple[Scrape, ...]:
    """Return the scrapes of a JSON text, as in DD_PROMETHEUS_SCRAPE_CHECKS; the default one when it is empty.

    Those for containers alone are left out: Services have none. Raises InvalidScrapes.
    """
    if not text.strip():
        return (Scrape(),)
    try:
        checks = gojson.read(text)
    except InvalidJSON as error:
        raise InvalidScrapes(str(error)) from None
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        raise InvalidScrapes('is not a list of maps, such as [{"configurations": [{"timeout": 5}]}]')
    read = [_scrape(check) for check in checks]
    return tuple(scrape for scrape in read if scrape) if read else (Scrape(),)


def templates(annotations: Mapping[str, str], scraping: Scraping) -> Iterator[Template]:
    """Yield a template for each scrape that applies to an object with these annotations."""
    for number, scrape in enumerate(scraping.scrapes, 1):
        if _matches(annotations, scrape.include) and not _matches(annotations, scrape.exclude):
            key = CHECK if number == 1 else f"{CHECK}/{number}"
            instances = (_instance(given, annotations, scraping.version) for given in scrape.instances)
            yield Template(key, CHECK, SCRAPE, tuple(map(gojson.write, instances)))


def _scrape(check: Mapping[str, Any]) -> Scrape | None:
    discovery = _map(check, "autodiscovery")
    if discovery.get("kubernetes_container_names"):
        return None
    instances = check.get("configurations") or [{}]
    if not isinstance(instances, list) or not all(isinstance(instance, dict) for instance in instances):
        raise InvalidScrapes("configurations is not a list of maps")
    rules = {name: rule for name, rule in _map(discovery, "kubernetes_annotations").items() if rule is not None}
    for name in ("include", "exclude"):
        if not all(isinstance(value, str) for value in _map(rules, name).values()):
            raise InvalidScrapes(f"{name} is not a map of annotations and their values, both as texts")
    default = Scrape()
    return Scrape(tuple(instances), rules.get("include", default.include), rules.get("exclude", default.exclude))


def _map(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    if not isinstance(value, Mapping | None):
        raise InvalidScrapes(f"{key} is not a map")
    return value or {}


def _matches(annotations: Mapping[str, str], rules: Mapping[str, str]) -> bool:
    return any(annotations.get(name) == value for name, value in rules.items())


def _instance(given: Mapping[str, Any], annotations: Mapping[str, str], version: int) -> dict[str, Any]:
    url, everything = _VERSIONS[version]
    instance: dict[str, Any] = {"namespace": "", "metrics": [everything]}
    instance |= {key: value for key, value in given.items() if value or (key in _FLAGS and value is False)}
    if not any(key in instance for key in _URLS):
        instance[url] = _url(annotations)
    return instance


def _url(annotations: Mapping[str, str]) -> str:
    scheme, port = annotations.get(_SCHEME, "http"), annotations.get(_PORT, "%%port%%")
    path = annotations.get(_PATH, "/metrics")
    return f"{scheme}://%%host%%:{port}{path if path.startswith('/') else f'/{path}'}"
