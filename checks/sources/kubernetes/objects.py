"""What is kept of API objects: Services, and the slices of their endpoints. Pure.

Anybody in the cluster may write these objects. A field that is missing or of a wrong type counts as empty, and nothing raises.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from checks.sources.kubernetes.gojson import utf8

# Of one object: more than anybody has, and few enough to be looked through for each variable.
MOST_PORTS = 250

_SERVICE_NAME = "kubernetes.io/service-name"
# A copy of the whole object, which `kubectl apply` leaves for itself.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_STANDARD_LABELS = {f"tags.datadoghq.com/{name}": name for name in ("env", "service", "version")}
_NOTHING: dict[str, Any] = {}


class Port(NamedTuple):
    """A port, and its name; the name may be empty."""

    number: int
    name: str = ""


class Endpoint(NamedTuple):
    """An address of a slice. node, pod: the node's name and the UID of the pod behind it; empty when there is none."""

    address: str
    is_ready: bool = True
    is_terminating: bool = False
    node: str = ""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some endpoints of a Service, which have the same ports. Slices that differ only in their version are equal."""

    namespace: str
    service: str
    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    version: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Service:
    """A Service. Services that differ only in their version are equal.

    cluster_ip: empty when it has none. type: as written, such as `ExternalName`. ports: in the order of their numbers. tags:
    those of its standard labels.
    """

    namespace: str
    name: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    type: str = "ClusterIP"
    cluster_ip: str = ""
    is_headless: bool = False
    ports: tuple[Port, ...] = ()
    tags: tuple[str, ...] = ()
    version: str = field(default="", compare=False)


def read_service(data: object) -> Service | None:
    """Return the Service of an object of the API; None when it has no name or namespace."""
    metadata, spec = _map(data, "metadata"), _map(data, "spec")
    namespace, name = _word(metadata, "namespace"), _word(metadata, "name")
    if not (namespace and name):
        return None
    cluster_ip, labels = _text(spec, "clusterIP"), _texts(metadata, "labels")
    is_headless = cluster_ip.lower() == "none"
    return Service(
        namespace=namespace,
        name=name,
        annotations=_annotations(metadata),
        type=_word(spec, "type") or "ClusterIP",
        cluster_ip="" if is_headless else cluster_ip,
        is_headless=is_headless,
        ports=tuple(sorted(_ports(spec), key=lambda port: port.number)),
        tags=tuple(f"{tag}:{labels[label]}" for label, tag in _STANDARD_LABELS.items() if label in labels),
        version=_text(metadata, "resourceVersion"),
    )


def read_slice(data: object) -> Slice | None:
    """Return the Slice of an EndpointSlice; None when it belongs to no Service."""
    metadata = _map(data, "metadata")
    namespace, service = _word(metadata, "namespace"), _word(_map(metadata, "labels"), _SERVICE_NAME)
    if not (namespace and service):
        return None
    return Slice(
        namespace=namespace,
        service=service,
        name=_text(metadata, "name"),
        annotations=_annotations(metadata),
        ports=tuple(_ports(data, named=True)),
        endpoints=tuple(
            _endpoint(address, item) for item in _list(data, "endpoints") for address in _list(item, "addresses")
            if isinstance(address, str) and address
        ),
        version=_text(metadata, "resourceVersion"),
    )  # fmt: skip


def read_endpoints(data: object) -> tuple[Slice, ...]:
    """Return the slices of an Endpoints object, one for each subset. Clusters without EndpointSlices have these objects."""
    metadata = _map(data, "metadata")
    namespace, name = _word(metadata, "namespace"), _word(metadata, "name")
    if not (namespace and name):
        return ()
    return tuple(
        Slice(
            namespace=namespace,
            service=name,
            name=f"{name}-{number}",
            annotations=_annotations(metadata),
            ports=tuple(_ports(subset)),
            endpoints=(
                *_old_endpoints(subset, "addresses", is_ready=True),
                *_old_endpoints(subset, "notReadyAddresses", is_ready=False),
            ),
            version=_text(metadata, "resourceVersion"),
        )
        for number, subset in enumerate(_list(data, "subsets"))
    )


def _endpoint(address: str, item: object) -> Endpoint:
    conditions = _map(item, "conditions")
    return Endpoint(
        address=utf8(address),
        # Unknown counts as ready, as the API says.
        is_ready=conditions.get("ready") is not False,
        is_terminating=conditions.get("terminating") is True,
        node=_word(item, "nodeName"),
        pod=_pod(item),
    )


def _old_endpoints(subset: object, key: str, *, is_ready: bool) -> list[Endpoint]:
    return [
        Endpoint(address, is_ready, node=_word(item, "nodeName"), pod=_pod(item))
        for item in _list(subset, key) if (address := _text(item, "ip"))
    ]  # fmt: skip


def _pod(item: object) -> str:
    target = _map(item, "targetRef")
    return _text(target, "uid") if target.get("kind") == "Pod" else ""


def _ports(data: object, *, named: bool = False) -> list[Port]:
    """The first MOST_PORTS ports, in their order. named: without those whose name is absent; an empty name is a name."""
    found = (
        Port(number, _word(item, "name"))
        for item in _list(data, "ports")
        if type(number := _map(item).get("port")) is int and (not named or isinstance(item.get("name"), str))
    )
    return list(islice(found, MOST_PORTS))


def _annotations(metadata: object) -> dict[str, str]:
    found = _texts(metadata, "annotations")
    found.pop(_LAST_APPLIED, None)
    return found or _NOTHING


def _texts(data: object, key: str) -> dict[str, str]:
    return {
        sys.intern(utf8(name)): utf8(value)
        for name, value in _map(data, key).items() if isinstance(name, str) and isinstance(value, str)
    }  # fmt: skip


def _map(data: object, key: str | None = None) -> Mapping[str, Any]:
    value = data if key is None else data.get(key) if isinstance(data, Mapping) else None
    return value if isinstance(value, Mapping) else _NOTHING


def _list(data: object, key: str) -> list[Any]:
    value = _map(data).get(key)
    return value if isinstance(value, list) else []


def _text(data: object, key: str) -> str:
    value = _map(data).get(key)
    return utf8(value) if isinstance(value, str) else ""


def _word(data: object, key: str) -> str:
    """A text that many objects share, kept once."""
    return sys.intern(_text(data, key))
