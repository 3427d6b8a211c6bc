"""What a node may be called."""

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent
from nodes.names import likeness, validate_node_name
from tests.table import table


@pytest.mark.parametrize("name", ["ash", "runner 1", "i-0abc.eu-west-1", "höhe", "50%", "a%20b", "x" * 253])
def test_what_agents_call_themselves_is_a_name(name: str) -> None:
    validate_node_name(name)


@pytest.mark.parametrize("name", ["", " ", "a/b", ".", "..", "a\nb", "a\0b", "a\u202eb", "x" * 254, "%FF", "a%feb"])
def test_what_is_no_readable_segment_of_a_path_is_none(name: str) -> None:
    with pytest.raises(ValidationError, match="a node's name"):
        validate_node_name(name)


@table(
    "blank",
    [" ", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2060", "\ufeff", "\u3164", "\u2800", "\u115f", "\ufe0f"],
)
def test_what_nobody_sees_at_the_ends_of_a_name_is_refused(blank: str) -> None:
    for name in (f"ash{blank}", f"{blank}ash", f"{blank}ash{blank}"):
        with pytest.raises(ValidationError, match="a node's name"):
            validate_node_name(name)


def test_a_blank_within_a_name_is_seen() -> None:
    validate_node_name("runner 1")
    with pytest.raises(ValidationError):
        validate_node_name("runner\u00ad1")


@pytest.mark.parametrize(
    "name",
    ["ASH", "Ash", "аsh", "αsh", "аѕһ", "\uff41sh", "a sh", "ásh", "ash\u0301", "𝐚𝐬𝐡"],  # noqa: RUF001
)
def test_names_that_people_take_for_one_have_one_likeness(name: str) -> None:
    assert likeness(name) == likeness("ash")


@pytest.mark.parametrize(("one", "other"), [("node-1", "node-l"), ("node-0", "node-o"), ("a-b", "a‑b")])  # noqa: RUF001
def test_names_with_digits_and_dashes_that_people_take_for_one_have_one_likeness(one: str, other: str) -> None:
    assert likeness(one) == likeness(other)


@pytest.mark.parametrize("name", ["ash1", "ash-2", "birch", "sha", "a-sh"])
def test_other_names_have_another(name: str) -> None:
    assert likeness(name) != likeness("ash")


def test_a_likeness_is_a_number_that_the_column_takes() -> None:
    assert all(0 <= likeness(chr(code) * 253) < 2**63 for code in range(0x21, 0x3000, 7))


@pytest.mark.django_db
class TestLookalikes:
    @pytest.fixture(autouse=True)
    def trees(self, warm: None) -> None:
        for name in ("ash", "birch", "АSH"):  # noqa: RUF001 - a Cyrillic letter
            note_heartbeat(name, last_change=0)

    def test_they_are_accepted_and_noted_when_they_register(self) -> None:
        noted = NodeEvent.objects.filter(kind=NodeEvent.Kind.LOOKS_ALIKE)
        assert list(noted.values_list("node_name", "cause")) == [("АSH", "ash")]  # noqa: RUF001

    def test_they_are_alike_while_both_are_known(self) -> None:
        assert set(Node.objects.lookalikes().values_list("name", flat=True)) == {"ash", "АSH"}  # noqa: RUF001
        Heartbeat.objects.filter(node__name="ash").delete()
        assert not Node.objects.lookalikes().exists()

    def test_lists_and_pages_of_nodes_say_so(self, admin_client: Client) -> None:
        listed = admin_client.get("/admin/nodes/node/", secure=True).content.decode()
        assert "Looks like" in listed
        some = admin_client.get("/admin/nodes/node/?alike=yes", secure=True).content.decode()
        assert "birch" not in some
        ash = Node.objects.get(name="ash")
        page = admin_client.get(f"/admin/nodes/node/{ash.pk}/change/", secure=True).content.decode()
        assert "Looks like" in page
        assert "АSH" in page  # noqa: RUF001

    def test_without_them_there_is_no_column(self, admin_client: Client) -> None:
        Heartbeat.objects.filter(node__name="ash").delete()
        assert "Looks like" not in admin_client.get("/admin/nodes/node/", secure=True).content.decode()


@pytest.mark.django_db
@pytest.mark.urls("clusteragent.urls.agents")
@pytest.mark.parametrize("path", ["%ff", "%20", "a%0Ab", "a%00b", "ash%20", "%20ash", "ash%E2%80%8B"])
def test_a_bad_name_is_400_and_registers_nothing(path: str) -> None:
    answer = Client().post(
        f"/api/v1/clusterchecks/status/{path}",
        b'{"last_change":0}',
        content_type="application/json",
        headers={"Authorization": f"Bearer {conf.AUTH_TOKEN}"},
    )
    assert answer.status_code == 400
    assert answer.content.startswith(b"a node's name")
    assert not Node.objects.exists()
