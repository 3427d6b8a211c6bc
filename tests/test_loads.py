"""A node's load is the same number on every page: the workers that it needs, divided by those it has and by its weight."""

import pytest
from django.test import Client
from django.utils.html import strip_tags
from prometheus_client.parser import text_string_to_metric_families

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.explain import loss
from checks.models import Config, Move
from checks.tests.balance import furnish, join
from checks.tests.cast import owners, sent
from checks.tests.operators import superuser
from clusteragent import metrics
from nodes.models import Node, Runner
from operators.pages import now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

HALF = {"ash": 0.5, "birch": 0.5}


@pytest.fixture(autouse=True)
def _two_halves(warm: None) -> None:
    """Two nodes of weight 0.5 with four workers each, which need one worker."""
    furnish(ash=[0.5, 0.5], birch=[1.0])
    Node.objects.update(weight=0.5)


def of_metric(name: str) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.exposition(exact=True).decode())
    return {
        sample.labels["node"]: sample.value for family in families if family.name == name for sample in family.samples
    }


def of_page(client: Client, name: str) -> str:
    answer = client.get(f"/admin/nodes/node/{Node.objects.get(name=name).pk}/change/")
    return strip_tags(dict(answer.context["facts"])["Load of all workers"]).replace("\u202f", " ")


def config(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def test_on_the_first_page() -> None:
    assert {member.name: member.load for member in now.members()} == HALF


def test_on_its_own_page() -> None:
    client = superuser()
    assert [of_page(client, name) for name in HALF] == ["50 %", "50 %"]


@pytest.mark.parametrize("name", ["clusteragent_expected_load", "cluster_checks_predicted_utilization"])
def test_in_metrics(name: str) -> None:
    assert of_metric(name) == HALF


def test_in_the_plan_of_a_rebalance() -> None:
    assert plans.draft(force=True).spread["peak"][0] == 0.5
    join("cedar")
    Node.objects.filter(name="cedar").update(weight=0.5)
    plan = plans.draft(force=True)
    assert plan.moves
    assert {name: plan.nodes[name]["before"] for name in plan.nodes} == {"ash": 0.5, "cedar": 0.0}


def test_in_the_plan_of_an_order() -> None:
    plan = plans.store(deciding.reassign([config("ash-0")], "birch"), author="eve")
    assert plan.nodes == {"ash": {"before": 0.5, "after": 0.25}, "birch": {"before": 0.5, "after": 0.75}}


def test_in_what_the_loss_of_a_node_would_do() -> None:
    assert plans.what_if(remove=["birch"]).now.peak == 0.5
    assert plans.what_if(remove=["birch"]).plan.spread["peak"][0] == 1.0
    assert loss.of(["birch"]).peak == (0.5, 1.0)


def test_in_the_choice_of_a_node() -> None:
    dispatcher.schedule([sent("one")])
    assert owners()["one"] == "ash"
    assert Move.objects.latest("id").why["best"] == [["ash", 0.5], ["birch", 0.5]]


def test_workers_that_a_runner_tells_count_as_much_everywhere() -> None:
    Runner.objects.create(node=Node.objects.get(name="ash"), workers=8)
    assert {member.name: member.load for member in now.members()} == {"ash": 0.25, "birch": 0.5}
    assert of_metric("clusteragent_expected_load") == {"ash": 0.25, "birch": 0.5}
    assert plans.what_if().now.peak == 0.5
