"""What the watches told last: Services, and the slices of their endpoints. In memory, and nowhere else."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from checks.sources.kubernetes.objects import Service, Slice, read_endpoints, read_service, read_slice
from checks.sources.kubernetes.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object, Selection
from checks.sources.kubernetes.watching import Deleted, Kind, Listed, Told

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


class Mirror:
    """The Services, and the backends of each. Objects that differ only in their version are the same."""

    def __init__(self) -> None:
        self._services: dict[Name, Service] = {}
        self._backends: dict[Name, Backend] = {}
        self._of_service: dict[Name, set[Name]] = {}

    def take(self, told: Told) -> set[Name]:
        """Take over what a watch told. Return the names of the Services of which something is other than before."""
        known, put = (
            (self._services, self._put_service) if told.resource == SERVICES else (self._backends, self._put_backend)
        )
        if isinstance(told, Listed):
            fresh = {(one.namespace, one.name): one for one in told.objects}
            names: Collection[Name] = known.keys() | fresh.keys()
            return set().union(*(put(name, fresh.get(name)) for name in names))
        if isinstance(told, Deleted):
            return put((told.namespace, told.name), None)
        return put((told.object.namespace, told.object.name), told.object)

    def names(self) -> Collection[Name]:
        """Return the names of all Services."""
        return self._services.keys()

    def service(self, name: Name) -> Service | None:
        """Return a Service; None when there is none."""
        return self._services.get(name)

    def slices(self, name: Name) -> Iterable[Slice]:
        """Return the slices of a Service's endpoints."""
        return [one for backend in self._of_service.get(name, ()) for one in self._backends[backend].slices]

    def _put_service(self, name: Name, service: Service | None) -> set[Name]:
        before = self._services.pop(name, None)
        if service:
            self._services[name] = service
        return set() if before == service else {name}

    def _put_backend(self, name: Name, backend: Backend | None) -> set[Name]:
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
        return set() if before == backend else set(of)
