from typing import Any

from django.apps import AppConfig


class ChecksConfig(AppConfig):
    name = "checks"

    def ready(self) -> None:
        from nodes.signals import node_arrived, node_changed

        node_arrived.connect(wake_if_dangling, dispatch_uid="checks.wake_if_dangling")
        node_changed.connect(wake, dispatch_uid="checks.wake")


def wake_if_dangling(**kwargs: Any) -> None:
    """Nodes that may take work appeared: let the leader give them what dangles now, not in a second."""
    from checks.models import ClusterStore, Config

    if Config.objects.dangling().exists():
        ClusterStore.objects.wake()


def wake(**kwargs: Any) -> None:
    """Nodes leave, are drained, or may no longer run what they have: let the leader act on it now, not in a second."""
    from checks.models import ClusterStore

    ClusterStore.objects.wake()
