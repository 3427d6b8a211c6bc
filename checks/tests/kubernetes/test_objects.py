"""What is kept of API objects, whoever wrote them."""

import gc
import json
import tracemalloc
from typing import Any

from checks.sources.kubernetes.objects import Endpoint, Port, Slice, read_endpoints, read_service, read_slice
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, service
from tests.table import table


def test_a_service():
    data = service({"service.checks": "{}"}, ports=[{"name": "b", "port": 443}, {"port": 80}])
    data["metadata"]["labels"] = {"tags.datadoghq.com/env": "prod", "tags.datadoghq.com/version": "2", "app": "web"}
    data["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{…}"
    found = read_service(data)
    assert found is not None
    assert (found.namespace, found.name, found.version) == ("shop", "web", "7")
    assert found.annotations == {"ad.datadoghq.com/service.checks": "{}"}
    assert (found.type, found.cluster_ip, found.is_headless) == ("ClusterIP", "10.96.0.1", False)
    assert found.ports == (Port(80), Port(443, "b"))
    assert found.tags == ("env:prod", "version:2")


def test_objects_that_differ_only_in_their_version_are_equal():
    one, other = service(), service()
    other["metadata"]["resourceVersion"] = "8"
    assert read_service(one) == read_service(other)
    other["spec"]["ports"] = []
    assert read_service(one) != read_service(other)


@table(
    ("cluster_ip", "expected"),
    [("None", ("", True)), ("", ("", False)), (None, ("", False)), ("fd00::1", ("fd00::1", False))],
)
def test_the_address_of_a_service(cluster_ip, expected):
    found = read_service(service(clusterIP=cluster_ip))
    assert found is not None
    assert (found.cluster_ip, found.is_headless) == expected


def test_a_slice():
    found = read_slice(endpoint_slice(endpoint(), endpoint("10.244.0.8", node="birch", pod="")))
    assert found == Slice(
        namespace="shop",
        service="web",
        name="web-abc",
        ports=(Port(8081, "http"),),
        endpoints=(Endpoint("10.244.0.7", node="ash", pod="pod-1"), Endpoint("10.244.0.8", node="birch")),
    )


@table(
    ("conditions", "expected"),
    [
        ({}, (True, False)),
        (None, (True, False)),
        ({"ready": None}, (True, False)),
        ({"ready": True}, (True, False)),
        ({"ready": False}, (False, False)),
        ({"ready": True, "terminating": True}, (True, True)),
        ({"serving": False}, (True, False)),
    ],
)
def test_an_endpoint_of_unknown_readiness_is_ready(conditions, expected):
    found = read_slice(endpoint_slice(endpoint() | {"conditions": conditions}))
    assert found is not None
    assert [(each.is_ready, each.is_terminating) for each in found.endpoints] == [expected]


def test_ports_of_slices_need_a_number_and_a_name_which_may_be_empty():
    ports = [{"name": "b", "port": 2}, {"port": 3}, {"name": None, "port": 4}, {"name": "c"}, {"name": "", "port": 1}]
    found = read_slice(endpoint_slice(endpoint(), ports=ports))
    assert found is not None
    assert found.ports == (Port(2, "b"), Port(1, ""))


def test_an_endpoints_object_has_a_slice_for_each_subset():
    pod = {"targetRef": {"kind": "Pod", "uid": "pod-1"}, "nodeName": "ash"}
    subsets = [
        {"addresses": [{"ip": "10.0.0.1"} | pod], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]},
        {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "x", "port": 81}]},
        {},
    ]
    first, second, third = read_endpoints({"metadata": {"namespace": "shop", "name": "web"}, "subsets": subsets})
    assert (first.service, first.ports) == ("web", (Port(80),))
    assert first.endpoints == (Endpoint("10.0.0.1", node="ash", pod="pod-1"), Endpoint("10.0.0.2", is_ready=False))
    assert (second.endpoints, second.ports) == ((Endpoint("10.0.0.3"),), (Port(81, "x"),))
    assert third.endpoints == ()


@table(
    "data",
    [
        None,
        5,
        [],
        "x",
        {},
        {"metadata": None},
        {"metadata": {"name": "a"}},
        {"metadata": {"name": "a", "namespace": 1}},
    ],
)
def test_what_is_no_map_is_no_object(data):
    assert (read_service(data), read_slice(data), read_endpoints(data)) == (None, None, ())


def test_a_slice_without_a_service_is_none():
    data = endpoint_slice(endpoint())
    data["metadata"]["labels"] = {}
    assert read_slice(data) is None


def test_fields_of_wrong_types_count_as_empty():
    metadata = {"name": "web", "namespace": "shop", "annotations": {"a": 1, "b": "c"}, "labels": []}
    found = read_service(
        {"metadata": metadata, "spec": {"clusterIP": 5, "type": [], "ports": [None, {"port": "x"}, {"port": True}]}}
    )
    assert found is not None
    assert (found.annotations, found.cluster_ip, found.type, found.ports) == ({"b": "c"}, "", "ClusterIP", ())
    strange = endpoint_slice({"addresses": [1, "", "10.0.0.1"], "targetRef": 3}, None, ports={})  # type: ignore[arg-type]
    read = read_slice(strange)
    assert read is not None
    assert (read.endpoints, read.ports) == ((Endpoint("10.0.0.1"),), ())


def test_half_a_surrogate_pair_becomes_the_replacement_character():
    found = read_service(service(json.loads(r'{"service.checks": "\ud800"}')))
    assert found is not None
    assert list(found.annotations.values()) == ["\ufffd"]


def test_thousands_of_objects_fit_into_little_memory():
    """Half a thousand Services with four endpoints each take a tenth of what 5 000 may take, which is 60 MB."""
    checks = {
        "http_check": {"init_config": {}, "instances": [{"name": "web", "url": "http://%%host%%:%%port%%/health"}]}
    }

    def objects_of(number: int) -> Any:
        # As they come: decoded texts, none of which is shared.
        endpoints = [
            endpoint(f"10.{number % 250}.0.{each}", pod=f"{number}-{each}-0000-4111-8111-111111111111")
            for each in range(4)
        ]
        texts = (
            json.dumps(service({"service.checks": checks}, name=f"web-{number}")),
            json.dumps(endpoint_slice(*endpoints)),
        )
        return read_service(json.loads(texts[0])), read_slice(json.loads(texts[1]))

    tracemalloc.start()
    try:
        kept = [objects_of(number) for number in range(500)]
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept) == 500
    assert size < 6_000_000
