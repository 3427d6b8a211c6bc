"""Prometheus HTTP service discovery: a URL tells the targets, and a template makes a config of each.

`HTTPDiscovery` is the source; a thread asks the URLs, so that a slow one holds up no scan.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import httpx
import structlog
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from checks.sources import environment
from checks.sources.kubernetes import cel, gojson
from checks.sources.kubernetes.cel import InvalidRule, Rule
from checks.sources.kubernetes.gojson import InvalidJSON
from checks.sources.source import BrokenConfig, ConfigSource, Found, Problem, Read, Scan
from checks.wire import goyaml, scalars, yamlnodes
from checks.wire.patching import IntegrationConfig
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib import bounded, conf
from clusteragent.lib.version import USER_AGENT

SOURCE, PROVIDER = "prometheus_http_sd", "prometheus-http-sd"
OPTION = "DD_PROMETHEUS_HTTP_SD_CONFIGS"
# Seconds between two answers of a URL, and how long one may take.
POLL_INTERVAL, TIMEOUT = 10.0, 30.0
MAX_BYTES = 16 * 1024 * 1024
_FIELDS = ("host", "port", "labels")
_META = "__meta_"

log = structlog.get_logger()


class InvalidDiscovery(ValueError):
    """The option describes no discoveries. The message says what it must be, and holds no value."""


class InvalidTargets(ValueError):
    """An answer is no list of targets."""


class Away(Exception):
    """A URL did not answer, or not with targets. The message says why."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """A URL, and the template of its targets' configs.

    instance, init_config: JSON; of several instances of a template the first. excludes: targets that are left out.

    number: counts those with the same place and check, from 1.
    """

    url: str
    check: str
    instance: str
    init_config: str = "{}"
    excludes: Rule | None = None
    number: int = 1

    @property
    def place(self) -> str:
        """The URL without what may be secret, for keys and messages."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def beginning(self) -> str:
        """The beginning of the keys of its configs."""
        number = f"{self.number}/" if self.number > 1 else ""
        return f"{quote(self.place, safe=':/')}/{quote(self.check, safe='')}/{number}"


class Target(NamedTuple):
    """A target of an answer, with the labels of its group. number: counts those that are equal, from 1."""

    host: str
    port: str
    labels: tuple[tuple[str, str], ...] = ()
    number: int = 1

    @property
    def key(self) -> str:
        """Its part of the key of its config."""
        port = f":{quote(self.port, safe='')}" if self.port else ""
        host = quote(self.host, safe=":")
        return f"{f'[{host}]' if port and ':' in host else host}{port}" + (f"/{self.number}" if self.number > 1 else "")


class HTTPDiscovery(ConfigSource):
    """The targets that URLs tell. While a URL is away, what it told last goes on.

    A thread for each URL begins with the first scan, and ends with the process or with `close`.
    """

    name = SOURCE
    is_leaders = True

    def __init__(self, discoveries: Sequence[Discovery], problem: str = "") -> None:
        """problem: why the options can't be read; everything is kept then."""
        super().__init__()
        self._discoveries, self._problem = discoveries, problem
        self.is_used = bool(discoveries or problem)
        self._told: dict[Discovery, tuple[Target, ...]] = {}
        self._errors: dict[Discovery, str] = {}
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def scan(self) -> Scan:
        """Return what the URLs told last."""
        self._begin()
        scan, found = Scan(), dict[str, Found]()
        for discovery in self._discoveries:
            error = self._errors.get(discovery)
            if error:
                scan.problems.append(Problem(discovery.place, None, error))
            if (targets := self._told.get(discovery)) is None:
                scan.kept_under.add(discovery.beginning)
                if not error:
                    # The first answer comes soon.
                    scan.unsettled.add(discovery.place)
            for target in targets or ():
                if not (discovery.excludes and discovery.excludes(target.host, target.port, dict(target.labels))):
                    read = partial(_read, discovery, target)
                    found[f"{discovery.beginning}{target.key}"] = Found(
                        f"{discovery.beginning}{target.key}", (discovery, target), read
                    )
        scan.found += found.values()
        if self._problem:
            scan.problems.append(Problem(OPTION, None, self._problem))
            scan.kept_under.add("")
        scan.readable = not self._problem and len(self._errors) < max(len(self._discoveries), 1)
        return scan

    def close(self) -> None:
        """End the threads."""
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _begin(self) -> None:
        # None is alive after a fork either.
        if not any(thread.is_alive() for thread in self._threads):
            self._threads = [
                threading.Thread(target=self._poll, args=(discovery,), name=f"{SOURCE}-{number}", daemon=True)
                for number, discovery in enumerate(self._discoveries)
            ]
            for thread in self._threads:
                thread.start()

    def _poll(self, discovery: Discovery) -> None:
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            while not self._closed.is_set():
                try:
                    self._told[discovery] = tuple(read_targets(fetch(client, discovery.url)))
                    self._errors.pop(discovery, None)
                except (Away, InvalidTargets) as error:
                    if self._errors.get(discovery) != str(error):
                        log.warning("discovery_away", place=discovery.place, error=str(error))
                    self._errors[discovery] = str(error)
                self._closed.wait(POLL_INTERVAL)


def fetch(client: httpx.Client, url: str) -> str:
    """Return the text that a URL answers, of at most MAX_BYTES and within TIMEOUT. Raises Away."""
    until = time.monotonic() + TIMEOUT
    try:
        with client.stream("GET", url, headers={"Accept": "application/json", "User-Agent": USER_AGENT}) as response:
            if response.status_code != httpx.codes.OK:
                raise Away(f"it answers {response.status_code}, not 200")
            return bounded.read(response.iter_bytes(), most=MAX_BYTES, until=until).decode()
    except bounded.TooMuch:
        raise Away(f"its answer has more than {MAX_BYTES} bytes") from None
    except bounded.TooSlow:
        raise Away(f"its answer takes longer than {TIMEOUT:g} s") from None
    except UnicodeDecodeError:
        raise Away("its answer is not UTF-8") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise Away(f"it does not answer: {type(error).__name__}") from None


def read_discoveries(text: str) -> tuple[Discovery, ...]:
    """Return the discoveries of a JSON text, as in DD_PROMETHEUS_HTTP_SD_CONFIGS. Raises InvalidDiscovery."""
    if not text.strip():
        return ()
    try:
        entries = gojson.read(text)
    except InvalidJSON as error:
        raise InvalidDiscovery(str(error)) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidDiscovery('is not a list of maps, such as [{"url": "…", "check_template": {…}}]')
    return _numbered([_discovery(entry, f"entry {number}") for number, entry in enumerate(entries, 1)])


def by_options() -> HTTPDiscovery:
    """Return the source that the options ask for. When they can't be read, the system check says so, too."""
    try:
        return HTTPDiscovery(discoveries_of_options())
    except InvalidDiscovery as error:
        return HTTPDiscovery((), str(error))


def discoveries_of_options() -> tuple[Discovery, ...]:
    """Return the discoveries of the options. Raises InvalidDiscovery."""
    found = read_discoveries(conf.HTTP_SD_CONFIGS)
    if not conf.HTTP_SD_URL:
        return found
    older = {"url": conf.HTTP_SD_URL, "check_template": conf.HTTP_SD_CHECK_TEMPLATE}
    return _numbered([_discovery(older, "the older form"), *found])


def read_targets(text: str) -> list[Target]:
    """Return the targets of an answer, each once for each group that has it. Raises InvalidTargets."""
    try:
        groups = gojson.read(text)
    except InvalidJSON as error:
        raise InvalidTargets(f"its answer {error}") from None
    if not isinstance(groups, list | None):
        raise InvalidTargets("its answer is not a list of groups of targets")
    labelled: dict[str, list[tuple[tuple[str, str], ...]]] = defaultdict(list)
    for group in groups or ():
        names, labels = _group(group)
        for name in names:
            labelled[name].append(tuple(sorted(labels.items())))
    # Numbered by their labels, since a server may tell its groups in another order each time.
    return [
        Target(*_split(name), labels, number)
        for name, some in labelled.items()
        for number, labels in enumerate(sorted(some), 1)
    ]


def config_of(discovery: Discovery, target: Target) -> IntegrationConfig:
    """Return the config of a target. Raises BrokenConfig."""
    return IntegrationConfig(
        name=discovery.check,
        instances=(_resolved(discovery.instance, target),),
        init_config=_resolved(discovery.init_config, None),
        provider=PROVIDER,
        cluster_check=True,
        source=f"{SOURCE}:{discovery.place}",
    )


def _read(discovery: Discovery, target: Target) -> Read:
    return Read(config_of(discovery, target))


def tags_of(labels: Mapping[str, str]) -> list[str]:
    """Return labels as tags: those of Prometheus itself are left out, but for `__meta_…`, which lose this beginning."""
    names = {name: name.removeprefix(_META) for name in labels if name.startswith(_META) or not name.startswith("__")}
    return sorted(f"{tag}:{labels[name]}" for name, tag in names.items())


def _numbered(discoveries: Sequence[Discovery]) -> tuple[Discovery, ...]:
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for one in discoveries:
        seen[one.place, one.check] += 1
        numbered.append(replace(one, number=seen[one.place, one.check]))
    return tuple(numbered)


def _discovery(entry: Mapping[str, Any], place: str) -> Discovery:
    url, excludes = entry.get("url"), entry.get("exclude_filter")
    if not isinstance(url, str) or not _is_address(url):
        raise InvalidDiscovery(f"{place}: url is not an address that begins with http:// or https://")
    try:
        check, instance, init_config = _template(entry.get("check_template"))
    except (InvalidDiscovery, InvalidJSON) as error:
        raise InvalidDiscovery(f"{place}: check_template {error}") from None
    return Discovery(url, check, instance, init_config, _rule(excludes, f"{place}: exclude_filter"))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _template(given: object) -> tuple[str, str, str]:
    """The name, the instance and the init_config of a template, which may be JSON in a text."""
    template = gojson.read(given) if isinstance(given, str) else given
    if not isinstance(template, dict) or not isinstance(name := template.get("name"), str) or not name:
        raise InvalidDiscovery("needs the name of a check")
    instances, init_config = template.get("instances"), template.get("init_config")
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise InvalidDiscovery("needs a list with an instance")
    if not isinstance(init_config, dict | None):
        raise InvalidDiscovery("has an init_config that is not a map")
    return name, gojson.write(instances[0]), gojson.write(init_config or {})


def _rule(text: object, place: str) -> Rule | None:
    if not text:
        return None
    try:
        return cel.compile_rule(str(text), "target", _FIELDS)
    except InvalidRule as error:
        raise InvalidDiscovery(f"{place} {error}") from None


def _group(group: object) -> tuple[list[str], dict[str, str]]:
    """The targets and labels of a group."""
    fields = group if isinstance(group, dict) else {"targets": 0}
    names, labels = (fields.get(key) for key in ("targets", "labels"))
    if not isinstance(names, list | None) or not isinstance(labels, dict | None):
        raise InvalidTargets("its answer is not a list of groups of targets")
    names, labels = names or [], labels or {}
    if not all(isinstance(each, str) for each in (*names, *labels.values())):
        raise InvalidTargets("its answer has targets or labels that are no texts")
    return list(map(gojson.utf8, names)), {gojson.utf8(key): gojson.utf8(each) for key, each in labels.items()}


def _split(name: str) -> tuple[str, str]:
    """Host and port of a target; the port is empty when there is none."""
    host, colon, port = name.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return name, ""
    return host.removeprefix("[").removesuffix("]"), port


def _resolved(text: str, target: Target | None) -> str:
    try:
        root = goyaml.read(text)
        for node in _values(root) if root else ():
            _settle(node, target)
        if target and isinstance(root, MappingNode) and (tags := tags_of(dict(target.labels))):
            _refuse_environment("\n".join(tags))
            both = [*_tags(root), *goyaml.texts_node(tags).value]
            goyaml.put(root, "tags", SequenceNode(yamlnodes.SEQ, both, flow_style=False))
        return goyaml.write(root) if root else "{}\n"
    except InvalidYAML as error:
        raise BrokenConfig(f"what it makes {error.problem}") from None


def _values(node: Node) -> Iterator[ScalarNode]:
    """The scalars of a tree that are no keys."""
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for _, value in node.value:
            yield from _values(value)
    else:
        for item in node.value:
            yield from _values(item)


def _tags(root: MappingNode) -> list[Node]:
    tags = yamlnodes.get(root, "tags")
    return list(tags.value) if isinstance(tags, SequenceNode) else []


def _settle(node: ScalarNode, target: Target | None) -> None:
    """Replace variables, which stay texts, and write large numbers with an exponent, as the Datadog Cluster Agent does here."""
    if node.tag == scalars.INT and abs(int(node.value)) >= 10**6:
        node.tag, node.value = scalars.value_of(scalars.FLOAT, node.value)
    elif node.tag == scalars.STR:
        if target and "%%" in node.value:
            in_url = "://%%host%%" in node.value or "%%host%%:" in node.value
            host = f"[{target.host}]" if ":" in target.host and in_url else target.host
            node.value = node.value.replace("%%host%%", host).replace("%%port%%", target.port)
            node.style = scalars.style_of(node.value)
        _refuse_environment(node.value)


def _refuse_environment(text: str) -> None:
    if environment.BEGIN.search(text):
        raise InvalidYAML("names an environment variable, which node agents would resolve in their own environment")
