"""What the mirror keeps of what watches tell, and of which Services it says that they changed."""

from typing import Any

from checks.sources.kubernetes.mirror import Backend, Mirror, keep_endpoints, keep_slice
from checks.sources.kubernetes.objects import Service, read_service
from checks.sources.kubernetes.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from checks.sources.kubernetes.subjects import SERVICE, Subject
from checks.sources.kubernetes.watching import Changed, Deleted, Listed
from checks.tests.kubernetes.cast import endpoint, endpoint_slice, service

WEB, OTHER = Subject(SERVICE, "shop", "web"), Subject(SERVICE, "shop", "other")


def read(data: dict[str, Any]) -> Service:
    found = read_service(data)
    assert found
    return found


def kept(data: dict[str, Any]) -> Backend:
    found = keep_slice(data)
    assert found
    return found


def of_service(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The slice, with the label of another Service."""
    return data | {"metadata": data["metadata"] | {"labels": {"kubernetes.io/service-name": name}}}


def test_only_what_is_other_than_before_changed() -> None:
    mirror, web = Mirror(), service({"service.checks": {}})
    assert mirror.take(Changed(SERVICES, read(web))) == {WEB}
    newer = web | {"metadata": web["metadata"] | {"resourceVersion": "8"}}
    assert mirror.take(Changed(SERVICES, read(newer))) == set()
    assert mirror.take(Changed(SERVICES, read(service()))) == {WEB}
    assert mirror.take(Deleted(SERVICES, *WEB[1:])) == {WEB}
    assert mirror.take(Deleted(SERVICES, *WEB[1:])) == set()
    assert not [*mirror.subjects()]


def test_a_list_replaces_what_was_there() -> None:
    mirror = Mirror()
    both = [read(service()), read(service(name="other"))]
    assert mirror.take(Listed(SERVICES, both)) == {WEB, OTHER}
    assert mirror.take(Listed(SERVICES, both)) == set()
    assert mirror.take(Listed(SERVICES, both[:1])) == {OTHER}
    assert set(mirror.subjects()) == {WEB}


def test_a_slice_belongs_to_the_service_that_its_label_names() -> None:
    mirror, one = Mirror(), endpoint_slice(endpoint())
    assert mirror.take(Changed(ENDPOINTSLICES, kept(one))) == {WEB}
    assert [each.name for each in mirror.slices("shop", "web")] == ["web-abc"]
    assert mirror.take(Changed(ENDPOINTSLICES, kept(of_service(one, "other")))) == {WEB, OTHER}
    assert not mirror.slices("shop", "web")
    assert [each.name for each in mirror.slices("shop", "other")] == ["web-abc"]
    assert mirror.take(Deleted(ENDPOINTSLICES, "shop", "web-abc")) == {OTHER}
    assert not mirror.slices("shop", "other")


def test_slices_of_a_service_are_one_beside_the_other() -> None:
    mirror = Mirror()
    slices = [kept(endpoint_slice(endpoint(f"10.0.0.{number}"), name=f"web-{number}")) for number in range(3)]
    assert mirror.take(Listed(ENDPOINTSLICES, slices)) == {WEB}
    assert mirror.take(Listed(ENDPOINTSLICES, slices[1:])) == {WEB}
    assert sorted(one.name for one in mirror.slices("shop", "web")) == ["web-1", "web-2"]


def test_endpoints_are_the_slices_of_the_service_of_their_name() -> None:
    subset = {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}
    data = {"metadata": {"namespace": "shop", "name": "web"}, "subsets": [subset, subset]}
    mirror = Mirror()
    assert mirror.take(Changed(ENDPOINTS, keep_endpoints(data))) == {WEB}
    assert len(list(mirror.slices("shop", "web"))) == 2
    assert mirror.take(Changed(ENDPOINTS, keep_endpoints(data | {"subsets": []}))) == {WEB}
    assert not mirror.slices("shop", "web")


def test_a_slice_of_no_service_is_not_kept() -> None:
    assert keep_slice(of_service(endpoint_slice(endpoint()), "")) is None
