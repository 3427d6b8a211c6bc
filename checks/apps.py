"""Connects the arrival and changes of nodes with the leader."""

from typing import Any

from django.apps import AppConfig


class ChecksConfig(AppConfig):
    """The Django app of configs and their dispatch."""

    name = "checks"

    def ready(self) -> None:
        from nodes.signals import node_arrived, node_changed

        node_arrived.connect(wake_if_dangling, dispatch_uid="checks.wake_if_dangling")
        node_changed.connect(wake, dispatch_uid="checks.wake")


def wake_if_dangling(**kwargs: Any) -> None:
    """Call the leader when a node arrives while configs dangle, so that it places them now and not in a second."""
    from checks.models import ClusterStore, Config

    if Config.objects.dangling().exists():
        ClusterStore.objects.wake()


def wake(**kwargs: Any) -> None:
    """Call the leader when nodes leave, are drained or are no longer eligible, so that it acts now and not in a second."""
    from checks.models import ClusterStore

    ClusterStore.objects.wake()
