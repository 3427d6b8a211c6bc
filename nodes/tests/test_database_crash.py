"""A database that crashed may have forgotten heartbeats that were answered, so silence before it says nothing."""

from datetime import timedelta

from django.db import connection
from django.db.models.functions import Now

from nodes.hearing import listen
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Memory, Node


def silent_for_a_minute(*names: str) -> None:
    for name in names:
        note_heartbeat(name, last_change=0)
    note_heartbeat("cedar", last_change=0)
    silent = Heartbeat.objects.filter(node__name__in=names)
    silent.update(seen_at=Now() - timedelta(minutes=1))
    Hearing.objects.update(last_pass=Now())


def test_after_a_crash_every_node_gets_a_full_timeout(warm):
    silent_for_a_minute("ash")
    Memory.objects.all().delete()
    listen()
    assert not Node.objects.expired()
    assert Hearing.objects.get().hearing_since is not None


def test_a_crash_counts_once(warm):
    silent_for_a_minute("ash")
    Memory.objects.all().delete()
    listen()
    Hearing.objects.update(hearing_since=Now() - timedelta(minutes=1), braked_since=None)
    listen()
    assert [node.name for node in Node.objects.expired()] == ["ash"]


def test_without_a_crash_silence_counts(warm):
    silent_for_a_minute("ash")
    listen()
    assert [node.name for node in Node.objects.expired()] == ["ash"]


def test_a_crash_empties_the_table_by_which_it_is_known(db):
    with connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE oid = 'nodes_memory'::regclass")
        assert cursor.fetchone() == ("u",)
