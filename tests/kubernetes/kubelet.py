"""What a kubelet tells the API server of pods: they run, they end, they are gone. Nothing runs in them."""

from collections.abc import Mapping

from tests.kubernetes.cluster import Namespace, Object

MACHINES = "/api/v1/nodes"


class Kubelet:
    """Plays the kubelets of a namespace's pods."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def run(self, name: str, address: str, machine: str = "", *, labels: Mapping[str, str] | None = None) -> str:
        """Make a pod and say that it runs; return its UID."""
        metadata = {"name": name, "labels": labels or {"app": "runner"}}
        spec = {"containers": [{"name": "agent", "image": "none"}], "nodeName": machine or f"machine-of-{name}"}
        made = self._call("POST", self.namespace.path("pods"), {"metadata": metadata, "spec": spec})
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        self._call("PATCH", f"{self.namespace.path('pods', name)}/status", {"status": status})
        return str(made["metadata"]["uid"])

    def delete(self, name: str, grace: int = 30) -> None:
        """Ask that a pod is deleted, as kubectl does: it ends within so many seconds."""
        self._call("DELETE", self.namespace.path("pods", name), {"gracePeriodSeconds": grace})

    def end(self, name: str) -> None:
        """Say that a pod that was to be deleted has ended: it is gone."""
        self.delete(name, grace=0)

    def fail(self, name: str) -> None:
        """Evict a pod: it has ended, and its object stays."""
        body = {"status": {"phase": "Failed", "reason": "Evicted"}}
        self._call("PATCH", f"{self.namespace.path('pods', name)}/status", body)

    def label(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Change labels of a pod."""
        self._call("PATCH", self.namespace.path("pods", name), {"metadata": {"labels": labels}})

    def _call(self, method: str, path: str, body: object = None) -> Object:
        return self.namespace.cluster.call(method, path, body)
