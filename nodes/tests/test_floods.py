"""What a holder of the node agents' token can send is bounded: sizes, new names, events."""

import json
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from clusteragent.lib import conf
from clusteragent.lib.database import bulk
from nodes import newcomers
from nodes.declarations import canonical, parse
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, events, nodes
from nodes.models.heartbeats import Report
from nodes.newcomers import TooManyNames
from nodes.parsers import MAX_DECLARED, BadStatus, read_status
from tests.map import tell

AGENT = {"HTTP_AUTHORIZATION": f"Bearer {conf.AUTH_TOKEN}"}


def body(**fields: Any) -> bytes:
    return json.dumps({"last_change": 7, **fields}).encode()


class TestSizes:
    @pytest.mark.parametrize("key", ["include", "exclude"])
    def test_a_declaration_is_bounded(self, key: str) -> None:
        names = [f"check_{number}" for number in range(MAX_DECLARED // 10)]
        with pytest.raises(BadStatus, match=f"check_compatibility takes [0-9]+ bytes, allowed are {MAX_DECLARED}"):
            read_status(body(check_compatibility={key: names}))
        assert read_status(body(check_compatibility={key: names[:3000]})).declared

    @pytest.mark.parametrize("text", ["x" * 254, "a\0b", "a\nb", "\ud800", "\x1b[31m", "a\u202eb"])
    def test_texts_that_nothing_could_show_or_store_are_refused(self, text: str) -> None:
        for fields in ({"group": text}, {"check_compatibility": {"include": ["ntp", text]}}):
            with pytest.raises(BadStatus, match="is not a text of at most 253 printable characters"):
                read_status(body(**fields))

    def test_people_are_told_some_of_very_many_names(self) -> None:
        declaration = parse(canonical(include=[f"check_{number:04}" for number in range(3000)]))
        assert str(declaration).endswith("check_0019 and 2\u202f980 more")
        assert len(str(declaration)) < 400


@pytest.mark.django_db
@pytest.mark.usefixtures("warm")
class TestNewNames:
    @pytest.fixture(autouse=True)
    def three_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(newcomers, "_COUNT_HOLDS", 0)
        monkeypatch.setattr(newcomers.newcomers, "_logged", float("-inf"))
        monkeypatch.setattr(newcomers.newcomers, "_unlogged", 0)
        monkeypatch.setattr(conf, "NEW_NODES_A_MINUTE", 3)

    def report(self, *names: str) -> list[Any]:
        return tell([Report(name, -1) for name in names])

    def test_so_many_are_admitted_in_a_minute_and_the_rest_later(self) -> None:
        outcomes = self.report("ash", "birch", "cedar", "dogwood", "elm")
        assert outcomes[:3] == [True] * 3
        assert [type(outcome) for outcome in outcomes[3:]] == [TooManyNames] * 2
        with pytest.raises(TooManyNames):
            note_heartbeat("dogwood", last_change=0)
        assert Node.objects.count() == 3
        Node.objects.update(first_seen=F("first_seen") - newcomers.timedelta(seconds=61))
        assert self.report("dogwood", "elm") == [True, True]

    def test_five_times_as_many_are_admitted_in_an_hour(self) -> None:
        for number in range(5):
            assert self.report(*(f"{number}-{letter}" for letter in "abc")) == [True] * 3
            Node.objects.update(first_seen=F("first_seen") - newcomers.timedelta(seconds=61))
        assert [type(one) for one in self.report("one too many")] == [TooManyNames]

    def test_known_and_lost_names_are_never_refused(self) -> None:
        self.report("ash", "birch", "cedar")
        Heartbeat.objects.filter(node__name="ash").delete()
        assert self.report("ash", "birch", "cedar") == [True] * 3
        assert note_heartbeat("ash", last_change=-1)

    def test_a_count_holds_for_a_while_and_what_was_admitted_since_is_counted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(newcomers, "_COUNT_HOLDS", 3600)
        gate = newcomers.Newcomers()
        assert [gate.admit(2), gate.admit(2), gate.admit(2)] == [2, 1, 0]

    def test_it_is_said_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        self.report("ash", "birch", "cedar", "dogwood", "elm")
        hearing = Hearing.objects.get()
        assert hearing.names_refused == 2
        assert hearing.names_refused_at is not None
        assert "new_nodes_refused" in caplog.text

    def test_the_answer_says_what_to_do(self, client: Client, settings: Any) -> None:
        settings.ROOT_URLCONF = "clusteragent.urls.agents"
        self.report("ash", "birch", "cedar")
        answer = client.post(
            "/api/v1/clusterchecks/status/dogwood", b'{"last_change":0}', content_type="application/json", **AGENT
        )
        assert (answer.status_code, answer["Retry-After"]) == (503, "10")
        assert answer.content.endswith(b"CLUSTERAGENT_NEW_NODES_A_MINUTE is 3: try again\n")


@pytest.mark.django_db
@pytest.mark.usefixtures("warm")
class TestEvents:
    def of(self, name: str, kind: str) -> int:
        return NodeEvent.objects.filter(node_name=name, kind=kind).count()

    def test_a_long_declaration_is_noted_by_its_beginning_and_a_digest(self) -> None:
        long = [canonical(include=[f"{letter}{number}" for number in range(5000)]) for letter in "ab"]
        for declared in long:
            note_heartbeat("ash", last_change=7, declared=declared)
        causes = list(NodeEvent.objects.filter(kind="declared").values_list("cause", flat=True))
        assert max(map(len, causes)) <= events.MOST_CHARACTERS
        assert len({cause[-30:] for cause in causes}) == 2

    def test_declaring_otherwise_again_and_again_leaves_so_many_rows(self) -> None:
        declarations = [canonical(exclude=[str(number)]) for number in range(60)]
        for declared in declarations:
            note_heartbeat("ash", last_change=7, declared=declared)
        assert NodeEvent.objects.count() == events.MOST_OF_A_NODE
        # The last one is there, with its time: a pass acts on what was declared since the last one.
        assert NodeEvent.objects.filter(kind="declared").first().cause == declarations[-1]

    def test_starting_anew_again_and_again_leaves_so_many_rows(self) -> None:
        for _ in range(60):
            note_heartbeat("ash", last_change=7)
            note_heartbeat("ash", last_change=0)
        assert NodeEvent.objects.count() <= events.MOST_OF_A_NODE + 1
        assert not Node.objects.accepting().filter(intake="open").exists()

    def test_saying_goodbye_and_starting_anew_again_and_again_leaves_so_many_rows(self) -> None:
        for _ in range(60):
            note_heartbeat("ash", last_change=7)
            note_goodbye("ash", "leaving")
            note_heartbeat("ash", last_change=0)
        assert NodeEvent.objects.count() <= events.MOST_OF_A_NODE + 2

    def test_what_others_say_is_kept(self) -> None:
        for number in range(60):
            note_heartbeat("ash", last_change=7, declared=canonical(exclude=[str(number)]))
        note_heartbeat("birch", last_change=7, declared=canonical(exclude=["ntp"]))
        assert self.of("birch", "declared") == 1
        Node.objects.filter(name="ash").cordon(actor="olga")
        assert self.of("ash", "cordoned") == 1

    def test_the_eldest_of_too_many_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(events, "MOST_KEPT", 10)
        monkeypatch.setattr(bulk, "BATCH", 3)
        NodeEvent.objects.note([f"node-{number}" for number in range(25)], NodeEvent.Kind.SILENT)
        kept = list(NodeEvent.objects.values_list("node_name", flat=True)[:10])
        assert NodeEvent.objects.prune(events.ago(events.OF_A_NODE_WITHIN)) == 15
        assert list(NodeEvent.objects.values_list("node_name", flat=True)) == kept

    def test_of_too_many_lost_nodes_those_lost_for_longest_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nodes, "MOST_LOST", 2)
        names = [f"node-{number}" for number in range(5)]
        for name in names:
            note_heartbeat(name, last_change=0)
        for number, name in enumerate(names[:4]):
            Heartbeat.objects.filter(node__name=name).delete()
            lost_at = events.ago(newcomers.timedelta(minutes=10 - number))
            Node.objects.filter(name=name).update(lost_at=lost_at)
        assert Node.objects.prune() == 2
        assert set(Node.objects.values_list("name", flat=True)) == {"node-2", "node-3", "node-4"}
