from typing import Any

from django.apps import AppConfig


class ChecksConfig(AppConfig):
    name = "checks"

    def ready(self) -> None:
        from nodes.querysets import node_arrived

        node_arrived.connect(wake_if_dangling, dispatch_uid="checks.wake_if_dangling")


def wake_if_dangling(**kwargs: Any) -> None:
    """A node that may take work appeared: let the leader give it what dangles now, not in a second."""
    from checks.models import ClusterStore, Config

    if Config.objects.dangling().exists():
        ClusterStore.objects.wake()
