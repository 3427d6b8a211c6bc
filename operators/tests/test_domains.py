"""The failure domains of nodes, as people see them."""

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from checks import dispatcher
from checks.dispatcher.eligibility import read_snapshot
from checks.explain import headroom
from checks.models.orders import Rule
from checks.tests import domains
from checks.tests.cast import report, sent
from clusteragent.lib import conf
from nodes.models import Node
from operators.roles import Role
from operators.tests.cast import having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

LIST = "/admin/nodes/node/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture
def zones(warm: None) -> None:
    """ash is in a, birch in b, and cedar in none."""
    domains.zones(a=["ash"], b=["birch"])
    report("cedar")


@pytest.mark.usefixtures("zones")
def test_a_nodes_domain_is_the_label_that_the_option_names(monkeypatch: pytest.MonkeyPatch):
    assert {node.name: node.domain for node in read_snapshot().nodes} == {"ash": "a", "birch": "b", "cedar": ""}
    assert list(Node.objects.domains()) == ["a", "b"]
    monkeypatch.setattr(conf, "DOMAIN_LABEL", "topology.kubernetes.io/zone")
    assert list(Node.objects.domains()) == []
    Node.objects.filter(name="cedar").update(labels={"topology.kubernetes.io/zone": "c"})
    assert list(Node.objects.domains()) == ["c"]


@pytest.mark.usefixtures("zones")
def test_the_list_of_nodes_shows_domains_and_filters_by_them(operator: Client):
    page = operator.get(f"{LIST}?domain=b")
    assert [node.name for node in page.context["cl"].result_list] == ["birch"]
    assert "shown_domain" in page.context["cl"].list_display
    Node.objects.update(labels={})
    assert "shown_domain" not in operator.get(LIST).context["cl"].list_display


@pytest.mark.usefixtures("zones")
def test_a_nodes_page_names_its_domain(operator: Client):
    def facts(name: str) -> dict[str, str]:
        return dict(operator.get(f"{LIST}{Node.objects.get(name=name).pk}/change/").context["facts"])

    assert facts("ash")["Domain"] == "a"
    assert "Domain" not in facts("cedar")


@pytest.mark.usefixtures("zones")
def test_the_api_tells_domains_and_filters_by_them():
    viewer = having(Role.VIEWER)
    assert [(node["name"], node["domain"]) for node in viewer.rows("nodes?domain=a")] == [("ash", "a")]
    assert viewer.get("nodes/cedar")["domain"] == ""


@pytest.fixture
def work(zones: None) -> None:
    """What is to survive: 4 http_checks, spread, and a postgres that only zone a may run."""
    Rule.objects.create(name="near", check_pattern="postgres", required={"zone": "a"})
    Rule.objects.create(name="wide", check_pattern="http_check", spread=True)
    dispatcher.schedule([sent(f"shop-{number}") for number in range(6)])
    dispatcher.schedule([sent("db", name="postgres")])


@pytest.mark.usefixtures("work")
def test_the_list_of_a_domains_nodes_tells_what_its_loss_would_do(operator: Client):
    assert "If zone a were lost now" in operator.get(f"{LIST}?domain=a").content.decode()
    for query in ("", "?domain=nowhere"):
        assert "were lost now" not in operator.get(f"{LIST}{query}").content.decode()
    text = " ".join(operator.get("/admin/nodes/domain-loss/?domain=a").content.decode().split())
    assert "2 configs would go to 2 nodes." in text
    assert "1 config would find no node." in text
    assert "1 config: no node can have it: rule near: it requires zone=a." in text
    assert operator.get("/admin/nodes/domain-loss/?domain=nowhere").status_code == 404
    assert Client().get("/admin/nodes/domain-loss/?domain=a").status_code == 401


@pytest.mark.usefixtures("work")
def test_the_api_tells_what_the_loss_of_each_domain_would_do():
    viewer = having(Role.VIEWER)
    headroom.note()
    domains = viewer.get("domains")
    assert domains[0]["as_of"]
    assert [(one["domain"], one["configs"], one["reach"], one["homeless"]) for one in domains] == [
        ("a", 3, None, 1), ("b", 2, None, 0),
    ]  # fmt: skip
    found = viewer.get("domains/a/loss")
    assert (found["placed"], found["waiting"], found["homeless"]) == ({"birch": 1, "cedar": 1}, 0, 1)
    assert found["reasons"] == {"no node can have it: rule near: it requires zone=a": 1}
    assert viewer.get("nodes/birch/loss")["homeless"] == 0
    assert viewer.call("GET", "domains/nowhere/loss").status_code == 404
    Node.objects.update(labels={})
    headroom.note()
    assert viewer.get("domains") == []


@pytest.mark.usefixtures("work")
def test_a_what_if_loses_a_domain(capsys: pytest.CaptureFixture[str]):
    call_command("whatif", "--lose-domain", "a")
    text = capsys.readouterr().out
    assert text.startswith("3 configs would lose their node\n1 config would find no other\n")
    assert ": ash → nowhere" in text
    with pytest.raises(CommandError, match=r"^no node is in the domain 'c': there are a and b$"):
        call_command("whatif", "--lose-domain", "c")
