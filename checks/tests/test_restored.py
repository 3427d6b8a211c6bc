"""A database restored from before a rollout: all nodes that it knows are gone, and none that reports is known."""

from datetime import timedelta

import pytest
from django.core.management import call_command

from checks import dispatcher, tasks
from checks.models import Assignment, ClusterStore
from checks.tests.cast import sent
from clusteragent.lib.clock import ago
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat


def owners() -> set[str]:
    return set(Assignment.objects.values_list("node__name", flat=True))


@pytest.mark.usefixtures("warm")
def test_what_nodes_of_before_had_waits_and_an_operator_ends_that() -> None:
    old, new = {"ash", "birch", "cedar"}, {"elm", "fir"}
    for name in old:
        note_heartbeat(name, last_change=0)
    dispatcher.schedule([sent("one"), sent("two"), sent("three")])
    Heartbeat.objects.update(seen_at=ago(timedelta(days=1)))
    Hearing.objects.update(last_pass=ago(timedelta(days=1)))
    for name in new:
        # The version that it got of the database that is gone.
        assert not note_heartbeat(name, last_change=1795396531689733380)
    term = ClusterStore.objects.get().term

    tasks.background_pass(term)
    assert owners() == old

    call_command("expirenodes", "--force")
    tasks.background_pass(term)
    assert owners() == new
