"""What nodes declare in their heartbeats: how it is read, kept and compared."""

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from nodes.declarations import canonical, parse
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent
from nodes.models.heartbeats import Report
from nodes.parsers import BadStatus, read_status
from tests.map import tell

NAMES = st.sets(st.sampled_from("abc"))


def declared(**fields: Any) -> str:
    return read_status(json.dumps({"last_change": 7, **fields}).encode()).declared


@pytest.mark.parametrize(
    ("fields", "meaning"),
    [
        ({}, canonical()),
        ({"check_compatibility": None, "group": None}, canonical()),
        ({"check_compatibility": {}, "group": ""}, canonical()),
        ({"check_compatibility": {"include": [], "exclude": None}}, canonical()),
        ({"check_compatibility": {"include": ["b", "a", "b"]}}, canonical(include=["a", "b"])),
        ({"check_compatibility": {"exclude": ["a"], "new_key": 7}}, canonical(exclude=["a"])),
        ({"Check_Compatibility": {"INCLUDE": ["a"]}, "Group": "kube"}, canonical(include=["a"], group="kube")),
        ({"group": "kube", "capabilities": ["x"], "more": {"deep": [1]}}, canonical(group="kube")),
    ],
)
def test_a_declaration_is_read_as_the_peer_reads_it(fields: dict[str, Any], meaning: str):
    assert declared(**fields) == meaning


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"group": 7}, "group is 7, allowed is a string"),
        ({"check_compatibility": ["a"]}, "check_compatibility is an array, allowed is an object"),
        ({"check_compatibility": {"include": "a"}}, "check_compatibility.include is not a list of strings"),
        ({"check_compatibility": {"exclude": ["a", 7]}}, "check_compatibility.exclude is not a list of strings"),
        ({"check_compatibility": {"exclude": [None]}}, "check_compatibility.exclude is not a list of strings"),
    ],
)
def test_what_can_not_be_read_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(BadStatus, match=message):
        declared(**fields)


@given(include=NAMES, exclude=NAMES)
def test_a_check_must_be_included_and_not_excluded_however_it_is_kept(include: set[str], exclude: set[str]):
    """The stricter of the two wins: an exclude takes away from an include."""
    kept = parse(canonical(include, exclude))
    for check in "abcd":
        assert kept.admits(check) is ((not include or check in include) and check not in exclude)


@given(include=NAMES, exclude=NAMES)
def test_excluding_what_is_not_included_is_no_other_declaration(include: set[str], exclude: set[str]):
    with_it = canonical(include | {"a"}, exclude | {"never included"})
    assert with_it == canonical(include | {"a"}, exclude)
    assert "never included" not in with_it


@pytest.mark.parametrize("lists", [{}, {"include": ["a"]}, {"exclude": ["b", "a"], "group": "g"}])
def test_what_is_kept_means_what_was_said(lists: dict[str, Any]):
    meant = parse(canonical(**lists))
    assert meant.include == set(lists.get("include", []))
    assert meant.exclude == set(lists.get("exclude", []))
    assert meant.group == lists.get("group", "")


@pytest.mark.django_db
@pytest.mark.usefixtures("warm")
class TestKept:
    ONE, OTHER = canonical(include=["ntp"]), canonical(exclude=["ntp"])

    def said(self) -> list[str]:
        return list(NodeEvent.objects.filter(kind="declared").order_by("pk").values_list("cause", flat=True))

    def test_a_node_that_registers_has_it_at_once(self):
        note_heartbeat("ash", last_change=0, declared=self.ONE)
        assert Node.objects.get().declared == self.ONE
        assert self.said() == [self.ONE]

    def test_an_exclude_that_says_nothing_new_is_no_change(self):
        for lists in ({"include": ["ntp"]}, {"include": ["ntp"], "exclude": ["disk"]}):
            note_heartbeat("ash", last_change=0, declared=declared(check_compatibility=lists))
        assert self.said() == [canonical(include=["ntp"])]

    def test_it_is_replaced_and_withdrawn(self):
        for declared in ("", self.ONE, self.ONE, self.OTHER, ""):
            note_heartbeat("ash", last_change=0, declared=declared)
            assert Node.objects.get().declared == declared
        assert self.said() == [self.ONE, self.OTHER, ""]

    def test_heartbeats_that_are_taken_together_say_it_too(self):
        note_heartbeat("ash", last_change=0)
        tell([Report("ash", 0, declared=self.ONE)])
        assert Node.objects.get().declared == self.ONE

    def test_an_extra_heartbeat_says_nothing_of_it(self):
        note_heartbeat("ash", last_change=0, declared=self.ONE)
        note_heartbeat("ash", last_change=-1)
        assert Node.objects.get().declared == self.ONE
        Heartbeat.objects.all().delete()
        note_heartbeat("ash", last_change=-1)
        assert Node.objects.get().declared == self.ONE

    def test_a_node_that_returns_has_what_it_says_then(self):
        note_heartbeat("ash", last_change=0, declared=self.ONE)
        Heartbeat.objects.all().delete()
        note_heartbeat("ash", last_change=0, declared=self.OTHER)
        assert Node.objects.get().declared == self.OTHER

    def test_saying_the_same_again_costs_one_statement(self):
        note_heartbeat("ash", last_change=0, declared=self.ONE)
        with CaptureQueriesContext(connection) as queries:
            note_heartbeat("ash", last_change=0, declared=self.ONE)
        assert len(queries) == 1
