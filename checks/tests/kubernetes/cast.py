"""Objects of a small shop, as the API serves them, and what they make."""

import json
from typing import Any

from checks.sources.kubernetes import objects
from checks.sources.kubernetes.configs import Made, Options, make
from checks.sources.kubernetes.objects import Service, Slice

AD = "ad.datadoghq.com"


def service(annotations: dict[str, Any] | None = None, *, name: str = "web", **spec: Any) -> dict[str, Any]:
    """Return the Service shop/web. Annotations without a slash get the prefix; those that are no texts are written as JSON."""
    written = {
        key if "/" in key else f"{AD}/{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in (annotations or {}).items()
    }
    metadata = {"name": name, "namespace": "shop", "uid": "u-1", "resourceVersion": "7", "annotations": written}
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 8080}]
    return {"kind": "Service", "metadata": metadata, "spec": {"clusterIP": "10.96.0.1", "ports": ports} | spec}


def endpoint(
    address: str = "10.244.0.7", *, node: str = "ash", pod: str = "pod-1", **conditions: bool
) -> dict[str, Any]:
    """Return an endpoint of a slice, with a pod behind it unless `pod` is empty."""
    behind = {"targetRef": {"kind": "Pod", "uid": pod, "name": "web-1"}} if pod else {}
    return {"addresses": [address], "conditions": {"ready": True} | conditions, "nodeName": node} | behind


def endpoint_slice(*endpoints: dict[str, Any], name: str = "web-abc", **fields: Any) -> dict[str, Any]:
    """Return an EndpointSlice of shop/web."""
    labels = {"kubernetes.io/service-name": "web"}
    metadata = {"name": name, "namespace": "shop", "labels": labels, "resourceVersion": "8"}
    ports = [{"name": "http", "port": 8081}]
    return {"kind": "EndpointSlice", "metadata": metadata, "ports": ports, "endpoints": list(endpoints)} | fields


def made_of(data: dict[str, Any], *slices: dict[str, Any], options: Options | None = None) -> Made:
    """Return what a Service and its slices make."""
    read = objects.read_service(data)
    assert read is not None
    return make(read, [one for each in slices if (one := objects.read_slice(each))], options or Options())


def annotated(annotations: dict[str, Any], **spec: Any) -> Made:
    """Return what a Service with these annotations makes without endpoints."""
    return made_of(service(annotations, **spec))


def problems(made: Made) -> list[str]:
    """Return the problems as people read them."""
    return [str(problem) for problem in made.problems]


def instance(text: str, *, host: str = "10.96.0.1", **spec: Any) -> str:
    """Return the instance that an annotated one becomes, without tags."""
    checks = f'{{"http_check": {{"instances": [{text}], "ignore_autodiscovery_tags": true}}}}'
    made = annotated({"service.checks": checks}, clusterIP=host, **spec)
    assert problems(made) == []
    return made.configs["service/shop/web/http_check"].instances[0]


__all__ = [
    "AD",
    "Service",
    "Slice",
    "annotated",
    "endpoint",
    "endpoint_slice",
    "instance",
    "made_of",
    "problems",
    "service",
]
