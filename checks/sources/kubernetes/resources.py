"""Names of resources, and which of their objects are meant."""

from typing import Any, NamedTuple
from urllib.parse import quote

Object = dict[str, Any]


class Resource(NamedTuple):
    """A resource of the API. group: empty for the core group."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of its objects, in one namespace or in all, or of one object."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", namespace] if namespace else []
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)

    @property
    def api_version(self) -> str:
        """Group and version, as objects name them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural} ({self.group})" if self.group else self.plural


SERVICES = Resource("", "v1", "services")
ENDPOINTS = Resource("", "v1", "endpoints")
ENDPOINTSLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
EVENTS = Resource("", "v1", "events")
CLUSTERCHECKS = Resource("clusteragent.dev", "v1alpha1", "clusterchecks")
INSTRUMENTATIONS = Resource("datadoghq.com", "v1alpha1", "datadoginstrumentations")
SECRETS = Resource("", "v1", "secrets")
PODS = Resource("", "v1", "pods")
NODES = Resource("", "v1", "nodes")


class Selection(NamedTuple):
    """Which objects of a resource are listed and watched. namespace: empty for all. labels, fields: kubectl's selectors."""

    resource: Resource
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    def path(self) -> str:
        """Return the path of these objects."""
        return self.resource.path(self.namespace)

    def query(self) -> dict[str, str]:
        """Return the selectors as parameters of a URL."""
        selectors = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: value for key, value in selectors.items() if value}


class Call(NamedTuple):
    """What a call does, in the words of RBAC."""

    verb: str
    resource: Resource
    namespace: str = ""
    subresource: str = ""

    @property
    def names(self) -> str:
        """The resource as a role names it: `services`, `clusterchecks/status`."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    def __str__(self) -> str:
        return f"{self.verb} {self.names}"
