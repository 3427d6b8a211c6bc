"""What the watches told last: Services, the slices of their endpoints, and ClusterChecks. In memory, and nowhere else."""

from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from checks.sources.kubernetes.clusterchecks import ClusterCheck, read_clustercheck
from checks.sources.kubernetes.objects import Service, Slice, read_endpoints, read_service, read_slice
from checks.sources.kubernetes.resources import (
    CLUSTERCHECKS,
    ENDPOINTS,
    ENDPOINTSLICES,
    SERVICES,
    Object,
    Resource,
    Selection,
)
from checks.sources.kubernetes.subjects import CLUSTERCHECK, SERVICE, Subject
from checks.sources.kubernetes.watching import Deleted, Kind, Listed, Told

T = TypeVar("T")
# Namespace and name of an object.
Name = tuple[str, str]


class Backend(NamedTuple):
    """An EndpointSlice, or an Endpoints object with a slice for each subset. service: its Service's name; empty for none."""

    namespace: str
    name: str
    service: str
    slices: tuple[Slice, ...]


def keep_slice(data: Object) -> Backend | None:
    """Return what is kept of an EndpointSlice; None when it belongs to no Service."""
    one = read_slice(data)
    return Backend(one.namespace, one.name, one.service, (one,)) if one else None


def keep_endpoints(data: Object) -> Backend:
    """Return what is kept of an Endpoints object. It has the name of its Service."""
    metadata = data["metadata"]
    return Backend(metadata["namespace"], metadata["name"], metadata["name"], read_endpoints(data))


OF_SERVICES = Kind(Selection(SERVICES), read_service)
OF_SLICES = Kind(Selection(ENDPOINTSLICES), keep_slice)
OF_ENDPOINTS = Kind(Selection(ENDPOINTS), keep_endpoints)
OF_CLUSTERCHECKS = Kind(Selection(CLUSTERCHECKS), read_clustercheck)


class Mirror:
    """The Services with the backends of each, and the ClusterChecks. Objects that differ only in their version are the same."""

    def __init__(self) -> None:
        self._services: dict[Name, Service] = {}
        self._backends: dict[Name, Backend] = {}
        self._clusterchecks: dict[Name, ClusterCheck] = {}
        self._of_service: dict[Name, set[Name]] = {}

    def take(self, told: Told) -> set[Subject]:
        """Take over what a watch told. Return the subjects of which something is other than before."""
        known, put = self._kept(told.resource)
        if isinstance(told, Listed):
            fresh = {(one.namespace, one.name): one for one in told.objects}
            names: Collection[Name] = known.keys() | fresh.keys()
            return set().union(*(put(name, fresh.get(name)) for name in names))
        if isinstance(told, Deleted):
            return put((told.namespace, told.name), None)
        return put((told.object.namespace, told.object.name), told.object)

    def subjects(self) -> Iterable[Subject]:
        """Return all that makes configs."""
        services = (Subject(SERVICE, *name) for name in self._services)
        return chain(services, (Subject(CLUSTERCHECK, *name) for name in self._clusterchecks))

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service; None when there is none."""
        return self._services.get((namespace, name))

    def slices(self, namespace: str, name: str) -> list[Slice]:
        """Return the slices of a Service's endpoints."""
        backends = self._of_service.get((namespace, name), ())
        return [one for backend in backends for one in self._backends[backend].slices]

    def clustercheck(self, namespace: str, name: str) -> ClusterCheck | None:
        """Return a ClusterCheck; None when there is none."""
        return self._clusterchecks.get((namespace, name))

    def clusterchecks(self) -> Collection[ClusterCheck]:
        """Return all ClusterChecks."""
        return self._clusterchecks.values()

    def _kept(self, resource: Resource) -> tuple[dict[Name, Any], Callable[[Name, Any], set[Subject]]]:
        """What is known of a resource, and how one more is put there."""
        if resource == SERVICES:
            return self._services, self._put_service
        if resource == CLUSTERCHECKS:
            return self._clusterchecks, self._put_clustercheck
        return self._backends, self._put_backend

    def _put_service(self, name: Name, service: Service | None) -> set[Subject]:
        return _put(self._services, SERVICE, name, service)

    def _put_clustercheck(self, name: Name, declared: ClusterCheck | None) -> set[Subject]:
        return _put(self._clusterchecks, CLUSTERCHECK, name, declared)

    def _put_backend(self, name: Name, backend: Backend | None) -> set[Subject]:
        before = self._backends.pop(name, None)
        of = [(each.namespace, each.service) for each in (before, backend) if each]
        if before:
            others = self._of_service[of[0]]
            others.discard(name)
            if not others:
                del self._of_service[of[0]]
        if backend:
            self._backends[name] = backend
            self._of_service.setdefault(of[-1], set()).add(name)
        return set() if before == backend else {Subject(SERVICE, *each) for each in of}


def _put(known: dict[Name, T], kind: str, name: Name, one: T | None) -> set[Subject]:
    before = known.pop(name, None)
    if one:
        known[name] = one
    return set() if before == one else {Subject(kind, *name)}
